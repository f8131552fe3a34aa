"""`extract`: values equal torchvision's own extractor, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from extraction_cases import CUTS, MODULES, limit_batches

import featx
from featx.backbones import Capture
from featx.errors import BudgetExceeded, NonFiniteFeatures, ShapeError, UnknownName, UsageError
from featx.extraction.forward import is_out_of_memory
from featx.torchvision_compat import import_torchvision


def reference(backbone, x: torch.Tensor, batch_size: int) -> dict[str, np.ndarray]:
    """Features by torchvision's traced extractor, averaged over the map."""
    import_torchvision()
    from torchvision.models.feature_extraction import create_feature_extractor

    model = create_feature_extractor(backbone.model, MODULES)
    with torch.inference_mode():
        outputs = [model(part) for part in x.split(batch_size)]
    return {
        cut: torch.cat([o[module].mean((2, 3)) for o in outputs]).numpy()
        for cut, module in zip(CUTS, MODULES, strict=True)
    }


def test_values_are_those_of_an_independent_extractor(backbone, images) -> None:
    plain = {"channels_last": False, "fold": False}
    found = featx.extract(backbone, CUTS, images, image_size="native", batch_size=8, **plain)
    fast = featx.extract(backbone, CUTS, images, image_size="native", batch_size=8)
    x = backbone.preprocess.with_size(None).to_input(
        torch.from_numpy(images), torch.device("cpu"), already_sized=False
    )
    wanted = reference(backbone, x, 8)
    assert list(found) == CUTS
    for cut in CUTS:
        assert found[cut].dtype == np.float32
        assert np.array_equal(found[cut], wanted[cut])
        error = np.linalg.norm(fast[cut] - wanted[cut]) / np.linalg.norm(wanted[cut])
        assert error < 1e-5


def test_the_input_is_normalized_as_the_weights_were_trained(backbone, images) -> None:
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
    found = featx.extract(backbone, CUTS, images, image_size="native")
    wanted = reference(backbone, x, 64)
    for cut in CUTS:
        # Another order of the same operations: a few units in the last place of the input.
        np.testing.assert_allclose(found[cut], wanted[cut], rtol=1e-4, atol=1e-5)


def test_batches_do_not_matter_beyond_rounding(backbone, images) -> None:
    whole = featx.extract(backbone, CUTS, images, image_size="native", batch_size=64)
    for size in (1, 7, 22):
        parts = featx.extract(backbone, CUTS, images, image_size="native", batch_size=size)
        for cut in CUTS:
            np.testing.assert_allclose(parts[cut], whole[cut], rtol=1e-4, atol=1e-5)


def test_flattened_maps_are_in_channel_height_width_order(backbone, images) -> None:
    found = featx.extract(backbone, ["layer1"], images[:3], image_size="native", pool="flatten")
    pooled = featx.extract(backbone, ["layer1"], images[:3], image_size="native", pool="avg")
    maps = found["layer1"].reshape(3, 64, 8, 8)
    np.testing.assert_allclose(maps.mean((2, 3)), pooled["layer1"], rtol=1e-5, atol=1e-6)


def test_the_input_size_is_the_weights_own_unless_said(backbone, images) -> None:
    found = featx.extract(backbone, ["layer4"], images[:2], pool="flatten")
    assert found["layer4"].shape == (2, 512 * 7 * 7)
    small = featx.extract(backbone, ["layer4"], images[:2], image_size=64, pool="flatten")
    assert small["layer4"].shape == (2, 512 * 2 * 2)


def test_bf16_is_near_fp32_and_float32_comes_out(backbone, images) -> None:
    exact = featx.extract(backbone, CUTS, images, image_size="native")
    rounded = featx.extract(backbone, CUTS, images, image_size="native", precision="bf16")
    for cut in CUTS:
        assert rounded[cut].dtype == np.float32
        error = np.linalg.norm(rounded[cut] - exact[cut]) / np.linalg.norm(exact[cut])
        assert 0 < error < 0.03


def test_the_callers_torch_settings_change_no_number(backbone, images) -> None:
    wanted = featx.extract(backbone, CUTS, images, image_size="native")
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = featx.extract(backbone, CUTS, images, image_size="native")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(matmul)
    for cut in CUTS:
        assert np.array_equal(found[cut], wanted[cut])


def test_a_gpu_would_compute_whole_fp32_and_keep_cudnn(backbone, images, monkeypatch) -> None:
    seen = []
    run = Capture.__call__

    def call(self, x):
        cudnn = torch.backends.cudnn
        seen.append((cudnn.enabled, cudnn.allow_tf32, torch.get_float32_matmul_precision()))
        return run(self, x)

    monkeypatch.setattr(Capture, "__call__", call)
    before = (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    featx.extract(backbone, CUTS, images, image_size="native")
    assert set(seen) == {(True, False, "highest")}
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == before


@pytest.mark.parametrize(
    ("error", "out_of_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, out_of_memory: bool) -> None:
    assert is_out_of_memory(error) is out_of_memory


def test_memory_that_runs_out_halves_the_batch(backbone, images, monkeypatch) -> None:
    sizes = limit_batches(monkeypatch, 5)
    wanted = featx.extract(backbone, CUTS, images, image_size="native", batch_size=4)
    sizes.clear()
    found = featx.extract(backbone, CUTS, images, image_size="native")
    # 64, 32, 16, 8 fail (22 images: the first three try all of them at once).
    assert sizes == [22, 22, 16, 8, 4, 4, 4, 4, 4, 2]
    for cut in CUTS:
        assert np.array_equal(found[cut], wanted[cut])


def test_a_fixed_batch_that_does_not_fit_says_what_to_do(backbone, images, monkeypatch) -> None:
    limit_batches(monkeypatch, 5)
    with pytest.raises(
        featx.FeatxError, match=r"batches of 16 images\. Use --batch-size auto or 8"
    ):
        featx.extract(backbone, CUTS, images, image_size="native", batch_size=16)


def test_one_image_that_does_not_fit_says_what_to_do(backbone, images, monkeypatch) -> None:
    limit_batches(monkeypatch, 0)
    with pytest.raises(featx.FeatxError, match=r"batches of 1 images\. Use a smaller --image-size"):
        featx.extract(backbone, CUTS, images, image_size="native")


def test_nan_names_cut_row_and_image(images) -> None:
    broken = featx.load_backbone("resnet18", "none")
    with torch.no_grad():
        broken.model.layer2[0].conv1.weight[3] = float("nan")
    with pytest.raises(NonFiniteFeatures) as caught:
        featx.extract(broken, ["layer1", "layer2"], images, image_size="native")
    assert "Cut 'layer2' gave nan in row 0 (" in str(caught.value)
    assert "image 0" in str(caught.value)


def test_what_does_not_fit_in_memory_is_refused_with_a_way_out(backbone, images) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        featx.extract(
            backbone, ["layer1"], images, image_size="native", pool="flatten", memory_budget=1000
        )
    assert "--pool avg (64 instead of 4096 values an image)" in str(caught.value)
    assert "takes 1/64 of it" in str(caught.value)


def test_one_cut_may_be_given_as_it_is(backbone, images) -> None:
    found = featx.extract(backbone, "layer4", images, image_size="native")
    assert found["layer4"].shape == (22, 512)


def test_bad_input(backbone, images) -> None:
    with pytest.raises(UsageError, match=r"give what load_backbone"):
        featx.extract("resnet18", ["layer4"], images)
    with pytest.raises(UsageError, match=r"one colour image\? Give a batch of one: image\[None\]"):
        featx.extract(backbone, ["layer4"], images[0])
    with pytest.raises(UnknownName, match="Cut 'layer5' is not in resnet18"):
        featx.extract(backbone, ["layer5"], images)
    with pytest.raises(UsageError, match="are the same place"):
        featx.extract(backbone, ["layer3.1", "conv4_block2_out"], images)
    with pytest.raises(UsageError, match="uint8"):
        featx.extract(backbone, ["layer4"], images.astype(np.float32))
    with pytest.raises(UsageError, match="Precision 'fp64'"):
        featx.extract(backbone, ["layer4"], images, precision="fp64")
    with pytest.raises(UsageError, match="Device 'tpu'"):
        featx.extract(backbone, ["layer4"], images, device="tpu")


def test_native_size_needs_images_of_one_size(backbone, tmp_path) -> None:
    from PIL import Image

    from featx.data import FileImages

    for i, size in enumerate([(20, 30), (40, 30)]):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    many = FileImages(sorted(tmp_path.glob("*.png")), root=tmp_path)
    with pytest.raises(ShapeError, match="many sizes"):
        featx.extract(backbone, ["layer4"], many, image_size="native")
    found = featx.extract(backbone, ["layer4"], many, image_size=64, workers=0)
    assert found["layer4"].shape == (2, 512)
