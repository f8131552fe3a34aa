"""Real pretrained weights, from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from featx.backbones import Capture, load_backbone
from featx.errors import WeightsError

pytestmark = pytest.mark.real


def image() -> torch.Tensor:
    """A smooth image of 64 x 64 px: a gradient with a disc."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((x - 30) ** 2 + (y - 34) ** 2 < 300) * 120.0
    return torch.stack([x * 2 + disc, y * 2, 255 - x * 3 - disc / 2]).clamp(0, 255).byte()


def test_resnet50_without_its_classifier(shared_dir: Path) -> None:
    path = shared_dir / "weights" / "resnet50.IMAGENET1K_V1.nofc.safetensors"
    backbone = load_backbone("resnet50", str(path))
    assert backbone.absent == ("fc",)
    assert backbone.model.conv1.weight.dtype == torch.float32
    file = load_file(path)
    assert file["conv1.weight"].dtype == torch.float16
    assert torch.equal(backbone.model.conv1.weight, file["conv1.weight"].float())
    cuts = ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]
    x = backbone.preprocess.to_input(image().permute(1, 2, 0)[None], "cpu", already_sized=True)
    with Capture(backbone, [*cuts, "avg_pool"]) as capture:
        found = capture(x)
    assert [found[cut].shape[1] for cut in cuts] == [256, 512, 1024, 2048]
    assert torch.allclose(found["conv5_block3_out"], found["avg_pool"])
    # Behind a ReLU, and trained: some channels answer, many are silent.
    assert all((found[cut] >= 0).all() and found[cut].isfinite().all() for cut in cuts)
    with pytest.raises(WeightsError, match="Every cut before 'fc' works"):
        Capture(backbone, ["fc"])


def test_vgg16_of_caffe(shared_dir: Path) -> None:
    path = shared_dir / "weights" / "vgg16.IMAGENET1K_FEATURES.safetensors"
    backbone = load_backbone("vgg16", str(path), preprocess="caffe")
    assert backbone.absent == ("classifier",)
    assert backbone.preprocess.mean == (123.68, 116.779, 103.939)
    x = backbone.preprocess.to_input(image().permute(1, 2, 0)[None], "cpu", already_sized=True)
    cuts = ["block3_conv1", "block4_conv1", "block5_conv1"]
    with Capture(backbone, cuts, pool="flatten") as capture:
        found = capture(x)
    with torch.inference_mode():
        y = x
        for index, layer in enumerate(backbone.model.features[:26]):
            y = layer(y)
            if index in (11, 18, 25):
                assert torch.equal(found[cuts[(index - 11) // 7]], y.flatten(1))
    # Caffe's weights expect values of this size: the activations are in the hundreds.
    assert 100 < found["block3_conv1"].max() < 100_000
    with pytest.raises(WeightsError, match="needs the weights of 'classifier'"):
        Capture(backbone, ["fc1"])


def test_resnet18_with_its_classifier(shared_dir: Path) -> None:
    path = shared_dir / "weights" / "resnet18.IMAGENET1K_V1.safetensors"
    backbone = load_backbone("resnet18", str(path), preprocess="torch")
    assert (backbone.absent, backbone.notes) == ((), ())
    (note,) = load_backbone("resnet18", str(path)).notes
    assert "does not say its preprocessing; that of IMAGENET1K_V1 is assumed" in note
    assert backbone.cut_points(64)[-1].module == "fc"
    assert backbone.weights.digest != load_backbone("resnet18", "none").weights.digest
