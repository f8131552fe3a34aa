"""Pillow is the reference: the same pixels, level for level."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from featx.data import resample

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
side = st.integers(1, 70)


def by_pillow(images: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    return np.stack(
        [
            np.asarray(Image.fromarray(each).resize((width, height), FILTERS[interpolation]))
            for each in images
        ]
    )


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@given(side, side, side, side, st.sampled_from(["bilinear", "bicubic"]))
@example(4, 2, 1, 1, "bicubic")
@settings(max_examples=60, deadline=None)
def test_every_pixel_is_pillows_in_the_order_that_it_is_asked_for(
    height: int, width: int, new_height: int, new_width: int, interpolation: str
) -> None:
    order = resample.pillow_order(height, width, new_height, new_width, interpolation)
    assert order is not None
    # Other pixels than those that found the order.
    images = noise(2, height, width, 3)
    got = resample.resize(
        torch.from_numpy(images), new_height, new_width, interpolation, order=order
    )
    expected = by_pillow(images, new_height, new_width, interpolation)
    np.testing.assert_array_equal(got.numpy(), expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_extreme_values_do_not_overflow(interpolation: str) -> None:
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    images[:, ::2, ::2] = 255
    order = resample.pillow_order(32, 32, 9, 224, interpolation)
    assert order is not None
    got = resample.resize(torch.from_numpy(images), 9, 224, interpolation, order=order)
    expected = by_pillow(images, 9, 224, interpolation)
    np.testing.assert_array_equal(got.numpy(), expected)


def test_weights_of_a_pixel_sum_to_one() -> None:
    for interpolation in FILTERS:
        for n_in, n_out in ((32, 224), (500, 256), (7, 1), (1, 7)):
            _, values = resample.weights(n_in, n_out, interpolation)
            taps = values.shape[1]
            np.testing.assert_allclose(values.sum(axis=1), 1 << 22, atol=taps)


def test_another_resize_inside_pillow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    resample.pillow_order.cache_clear()
    original = PIL.Image.Image.resize

    def off_by_one(self: Image.Image, *args: object, **kwargs: object) -> Image.Image:
        return original(self, *args, **kwargs).point(lambda value: min(value + 1, 255))

    monkeypatch.setattr(PIL.Image.Image, "resize", off_by_one)
    assert resample.pillow_order(8, 8, 5, 5, "bilinear") is None
    resample.pillow_order.cache_clear()


ENLARGED = [
    # (height, width), (new height, new width), whether torch's 15 bits are enough.
    ((32, 32), (224, 224), True),
    ((8, 16), (64, 32), True),
    ((28, 28), (28, 224), True),
    ((32, 64), (224, 224), False),
    ((40, 40), (61, 61), False),
    ((32, 32), (31, 64), False),
]


@pytest.mark.parametrize(("size", "new_size", "equal"), ENLARGED)
def test_torch_is_asked_only_where_it_is_pillow(
    size: tuple[int, int], new_size: tuple[int, int], equal: bool
) -> None:
    assert resample.torch_is_pillow(*size, *new_size) is equal
    if equal:
        images = noise(3, *size, 3)
        got = resample.resize_by_torch(torch.from_numpy(images), *new_size)
        np.testing.assert_array_equal(got.numpy(), by_pillow(images, *new_size, "bilinear"))


def test_one_wrong_pair_of_levels_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise has 65,536 pairs with luck only; the trial has all of them at every position."""
    resize = resample.resize_by_torch

    def wrong_once(batch: torch.Tensor, height: int, width: int) -> torch.Tensor:
        out = resize(batch, height, width).clone()
        # The last position in a row whose last two pixels are 17 and 200.
        hit = (batch[0, :, -2] == 17) & (batch[0, :, -1] == 200)
        if height == batch.shape[1]:
            out[0, :, -1][hit] += 1
        return out

    resample.torch_is_pillow.cache_clear()
    assert resample.torch_is_pillow(8, 8, 24, 24)
    monkeypatch.setattr(resample, "resize_by_torch", wrong_once)
    resample.torch_is_pillow.cache_clear()
    assert not resample.torch_is_pillow(8, 8, 24, 24)
    resample.torch_is_pillow.cache_clear()
