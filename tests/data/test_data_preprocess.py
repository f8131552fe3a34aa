"""torchvision's and timm's own evaluation transforms are the reference, bit for bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from featx.data import CAFFE, TORCH, Preprocess, resample, resolve_crop
from featx.data import preprocess as preprocess_module
from featx.errors import ShapeError, UnknownName
from featx.machine import torch_threads
from featx.torchvision_compat import import_torchvision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# (height, width): small, landscape, portrait, odd, exactly the size, a very long one.
SIZES = [(32, 32), (300, 451), (451, 300), (257, 255), (224, 224), (90, 700)]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), np.uint8)


def both_paths(preprocess: Preprocess, pixels: np.ndarray) -> list[torch.Tensor]:
    """Return what one image becomes by the way of files and by the way of batches."""
    sized = torch.from_numpy(preprocess.geometry(Image.fromarray(pixels)).copy())[None]
    batch = torch.from_numpy(np.stack([pixels, pixels[::-1]]))
    return [
        preprocess.to_input(sized, "cpu", already_sized=True)[0],
        preprocess.to_input(batch, "cpu", already_sized=False)[0],
        preprocess.to_input(batch, "cpu", False, torch.channels_last)[0],
    ]


@pytest.mark.parametrize(
    ("model", "tag", "resize", "interpolation"),
    [
        ("ResNet50_Weights", "IMAGENET1K_V1", 256, "bilinear"),
        ("ResNet50_Weights", "IMAGENET1K_V2", 232, "bilinear"),
        ("EfficientNet_B0_Weights", "IMAGENET1K_V1", 256, "bicubic"),
    ],
)
def test_equals_the_transforms_of_torchvisions_weights(
    model: str, tag: str, resize: int, interpolation: Any
) -> None:
    transform = getattr(import_torchvision().models, model)[tag].transforms()
    preprocess = Preprocess(tag, MEAN, STD, resize_size=resize, interpolation=interpolation)
    for size in SIZES:
        expected = transform(Image.fromarray(noise(*size)))
        for got in both_paths(preprocess, noise(*size)):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("own_size", "own_resize", "crop_pct", "image_size"),
    # 256 is 224 / 0.875; 303 is 288 / 0.95, rounded down.
    [(224, 256, 0.875, 224), (224, 256, 0.875, 64), (288, 303, 0.95, 288), (288, 303, 0.95, 96)],
)
def test_equals_timms_transform_at_any_size(
    own_size: int, own_resize: int, crop_pct: float, image_size: int
) -> None:
    import_torchvision()
    from timm.data import create_transform

    transform = create_transform(
        (3, image_size, image_size), interpolation="bicubic", crop_pct=crop_pct, mean=MEAN, std=STD
    )
    own = Preprocess(
        "timm", MEAN, STD, image_size=own_size, resize_size=own_resize, interpolation="bicubic"
    )
    preprocess = own.with_size(image_size)
    for size in SIZES:
        expected = transform(Image.fromarray(noise(*size)))
        for got in both_paths(preprocess, noise(*size)):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_whole_image_equals_torchvisions_resize_to_a_square() -> None:
    import_torchvision()
    from torchvision.transforms import Compose, Normalize, Resize, ToTensor

    transform = Compose([Resize((64, 64)), ToTensor(), Normalize(MEAN, STD)])
    preprocess = TORCH.with_size(64, crop="none")
    for size in SIZES:
        expected = transform(Image.fromarray(noise(*size)))
        for got in both_paths(preprocess, noise(*size)):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("side", "by_torch"), [(224, True), (75, False), (200, False)])
def test_many_small_images_are_those_of_torchvision_whoever_resizes(
    side: int, by_torch: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_torchvision()
    from torchvision.transforms import Compose, Normalize, Resize, ToTensor

    transform = Compose([Resize((side, side)), ToTensor(), Normalize(MEAN, STD)])
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    expected = torch.stack([transform(Image.fromarray(image)) for image in images])
    preprocess = TORCH.with_size(side, crop="none")
    if by_torch:
        monkeypatch.setattr(Preprocess, "_pillow_geometry", refuse)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        with torch_threads(threads):
            got = preprocess.to_input(torch.from_numpy(images), "cpu", False, memory_format)
        assert got.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_images_of_the_right_size_are_cut_without_a_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Preprocess, "_pillow_geometry", refuse)
    pixels = noise(256, 300)
    got = TORCH.sized(torch.from_numpy(pixels)[None], "cpu")
    np.testing.assert_array_equal(got[0].numpy(), pixels[16:240, 38:262])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (2, 300, 200), (50, 64, 33)])
def test_blocks_are_normalized_as_the_whole_batch(
    shape: tuple[int, int, int], memory_format: torch.memory_format
) -> None:
    batch = torch.from_numpy(noise(shape[0] * shape[1], shape[2]).reshape(*shape, 3))
    for preprocess in (TORCH.with_size(None), CAFFE.with_size(None)):
        expected = preprocess.normalized(batch.permute(0, 3, 1, 2))
        got = preprocess.to_input(batch, "cpu", False, memory_format)
        assert got.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_normalizing_neither_writes_to_its_input_nor_heeds_the_default_dtype() -> None:
    x = torch.rand(2, 3, 4, 5) * 255
    before = x.clone()
    expected = (x / 255 - torch.tensor(TORCH.mean).view(3, 1, 1)) / torch.tensor(TORCH.std).view(
        3, 1, 1
    )
    preprocess_module._constants.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        found = [TORCH.normalized(x)]
    finally:
        torch.set_default_dtype(torch.float32)
    found.append(TORCH.normalized(x))
    assert torch.equal(x, before)
    for each in found:
        assert each.dtype == torch.float32
        torch.testing.assert_close(each, expected, rtol=0, atol=0)


@pytest.mark.parametrize("crop", ["center", "none"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(32, 32), (40, 61), (61, 40), (260, 300)])
def test_an_accelerators_pixels_are_those_of_the_cpu(
    crop: str, interpolation: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = TORCH.with_size(56, crop=crop, interpolation=interpolation)
    batch = torch.from_numpy(np.stack([noise(*size), noise(*size)[::-1]]))
    expected = preprocess.to_input(batch, "cpu", already_sized=False)
    # The accelerator's integer arithmetic, run where this test is: any other type than "cpu"
    # chooses it, and tensors are then moved to a device that exists.
    monkeypatch.setattr(Preprocess, "_pillow_geometry", refuse)
    device = OtherDevice()
    sized = preprocess._batch_geometry(batch, device)  # type: ignore[arg-type]
    got = preprocess.to_input(sized, "cpu", already_sized=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def refuse(*_: object) -> None:
    raise AssertionError("Pillow was asked")


class OtherDevice(str):
    """The CPU under a name that is not its own."""

    type = "other"

    def __new__(cls) -> OtherDevice:
        return super().__new__(cls, "cpu")


def test_pillow_does_the_work_where_its_order_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "pillow_order", lambda *_: None)
    batch = torch.from_numpy(noise(40, 61))[None]
    preprocess = TORCH.with_size(24)
    got = preprocess._batch_geometry(batch, OtherDevice())  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        got[0].numpy(), preprocess.geometry(Image.fromarray(noise(40, 61)))
    )


def test_caffe_is_rgb_minus_the_mean_pixel() -> None:
    pixels = np.array([[[255, 0, 10], [0, 128, 255]]], dtype=np.uint8)
    got = CAFFE.with_size(None).to_input(torch.from_numpy(pixels)[None], "cpu", already_sized=False)
    expected = pixels.astype(np.float64) - [123.68, 116.779, 103.939]
    assert got.dtype == torch.float32
    assert got.is_contiguous()
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), expected, rtol=1e-6)


def test_native_size_leaves_the_pixels_alone() -> None:
    native = TORCH.with_size(None)
    assert native.output_size((17, 31)) == (17, 31)
    np.testing.assert_array_equal(native.geometry(Image.fromarray(noise(17, 31))), noise(17, 31))


def test_another_size_keeps_the_proportion_of_the_resize() -> None:
    assert TORCH.with_size(64).resize_size == 73  # 64 * 256 / 224 = 73.1
    assert TORCH.with_size(32).resize_size == 36  # 36.6; timm: floor(32 / 0.875) = 36
    assert TORCH.with_size(224).resize_size == 256
    assert Preprocess("x", MEAN, STD).with_size(96).as_dict()["resize_size"] == 96


def test_equal_work_has_equal_dicts_and_different_work_different_ones() -> None:
    other_name = Preprocess("other", MEAN, STD, resize_size=256)
    assert other_name.as_dict() == TORCH.as_dict()
    whole = TORCH.with_size(224, crop="none")
    assert whole.as_dict() == Preprocess("x", MEAN, STD, crop="none").as_dict()
    assert TORCH.with_size(None).as_dict() == TORCH.with_size(None, "none", "bicubic").as_dict()
    different = [
        TORCH,
        CAFFE,
        whole,
        TORCH.with_size(None),
        TORCH.with_size(225),
        TORCH.with_size(224, interpolation="bicubic"),
        Preprocess("torch", MEAN, STD, resize_size=257),
    ]
    texts = {json.dumps(each.as_dict(), sort_keys=True) for each in different}
    assert len(texts) == len(different)


@pytest.mark.parametrize(
    ("asked", "size", "expected"),
    [
        ("auto", (32, 32), "none"),
        ("auto", (32, 48), "center"),
        ("auto", None, "center"),
        ("center", (32, 32), "center"),
        ("none", None, "none"),
    ],
)
def test_crop_auto(asked: str, size: tuple[int, int] | None, expected: str) -> None:
    assert resolve_crop(asked, size) == expected


def test_bad_values_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"Crop 'centre' is not known. Closest: 'center'"):
        resolve_crop("centre", None)
    with pytest.raises(UnknownName, match="Crop 'middle' is not known"):
        TORCH.with_size(64, crop="middle")
    with pytest.raises(UnknownName, match=r"Interpolation 'cubic'.*'bicubic'"):
        TORCH.with_size(64, interpolation="cubic")
    with pytest.raises(ShapeError, match="Image size 0 is not possible"):
        TORCH.with_size(0)
    with pytest.raises(ShapeError, match="A crop of 224 pixels does not fit images resized to 200"):
        Preprocess("x", MEAN, STD, resize_size=200)
