"""torchvision, one image at a time, is the reference of every operation on a batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from augment_cases import levels_apart, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.torchvision_compat import import_torchvision
from featx.training import geometry

import_torchvision()

from torchvision.transforms.v2 import InterpolationMode, functional  # noqa: E402

BILINEAR = InterpolationMode.BILINEAR
seeds = st.integers(0, 2**31)
sides = st.integers(2, 24)


def test_chosen_images_are_mirrored_and_the_others_are_not() -> None:
    x = noise(5)
    mirrored = torch.tensor([True, False, True, True, False])
    out = geometry.flip(x, mirrored)
    for i, mirror in enumerate(mirrored):
        expected = functional.horizontal_flip(x[i]) if mirror else x[i]
        assert torch.equal(out[i], expected)
    assert torch.equal(geometry.flip(out, mirrored), x)


@settings(max_examples=40, deadline=None)
@given(height=sides, width=sides, padding=st.integers(1, 6), seed=seeds)
def test_a_crop_is_torchvisions_pad_and_crop(
    height: int, width: int, padding: int, seed: int
) -> None:
    x = noise(4, height, width)
    generator = torch.Generator().manual_seed(seed)
    top, left = torch.randint(0, 2 * padding + 1, (2, 4), generator=generator)
    out = geometry.crop(x, padding, top, left)
    for i in range(4):
        framed = functional.pad(x[i], [padding] * 4)
        assert torch.equal(
            out[i], functional.crop(framed, int(top[i]), int(left[i]), height, width)
        )


def random_affine(n: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    between = 2 * torch.rand((5, n), generator=generator) - 1
    return {
        "angle": math.pi * between[0],
        "shift": 0.3 * between[1:3].T,
        "scale": 1 + 0.5 * between[3],
        "shear": 0.5 * between[4],
    }


@settings(max_examples=25, deadline=None)
@given(height=sides, width=sides, seed=seeds)
def test_an_affine_change_is_torchvisions(height: int, width: int, seed: int) -> None:
    # Smooth, so that the last bit of a coordinate is far less than a level.
    x = torch.nn.functional.avg_pool2d(noise(3, height + 4, width + 4).float(), 5, 1).byte()
    change = random_affine(3, seed)
    out = geometry.warp(x, geometry.affine_map(**change, size=(height, width)))
    for i in range(3):
        expected = functional.affine(
            x[i],
            angle=math.degrees(change["angle"][i]),
            translate=[float(change["shift"][i, 0]) * width, float(change["shift"][i, 1]) * height],
            scale=float(change["scale"][i]),
            shear=[math.degrees(change["shear"][i]), 0.0],
            interpolation=BILINEAR,
        )
        assert levels_apart(out[i], expected) <= 1


@settings(max_examples=25, deadline=None)
@given(height=sides, width=sides, seed=seeds)
def test_a_perspective_is_torchvisions(height: int, width: int, seed: int) -> None:
    x = torch.nn.functional.avg_pool2d(noise(3, height + 4, width + 4).float(), 5, 1).byte()
    inward = 0.65 * torch.rand((3, 4, 2), generator=torch.Generator().manual_seed(seed))
    out = geometry.warp(x, geometry.perspective_map(inward))
    corners = [[0, 0], [width, 0], [width, height], [0, height]]
    for i in range(3):
        moved = []
        for (x_old, y_old), (right, down) in zip(corners, inward[i].tolist(), strict=True):
            x_new = x_old + right * (1 if x_old == 0 else -1) * width / 2
            y_new = y_old + down * (1 if y_old == 0 else -1) * height / 2
            moved.append([x_new, y_new])
        expected = functional.perspective(x[i], corners, moved, interpolation=BILINEAR)
        assert levels_apart(out[i], expected) <= 1


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_a_perspective_puts_the_corners_where_it_says(seed: int) -> None:
    inward = 0.65 * torch.rand((6, 4, 2), generator=torch.Generator().manual_seed(seed))
    maps = geometry.perspective_map(inward).double()
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    moved = corners * (1 - inward)
    seen = torch.cat([moved, torch.ones(6, 4, 1)], -1) @ maps.transpose(1, 2)
    torch.testing.assert_close(
        seen[..., :2] / seen[..., 2:], corners.expand(6, 4, 2), atol=1e-4, rtol=0
    )


def test_coordinates_at_the_horizon_are_finite_and_black(monkeypatch: pytest.MonkeyPatch) -> None:
    grids = []
    original = torch.nn.functional.grid_sample

    def spy(x: torch.Tensor, grid: torch.Tensor, **options: Any) -> torch.Tensor:
        grids.append(grid)
        return original(x, grid, **options)

    monkeypatch.setattr(torch.nn.functional, "grid_sample", spy)
    # The depth is 0 in the fourth of eight columns, and below 0 left of it.
    horizon = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0.125]]])
    out = geometry.warp(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8), horizon)
    assert grids[0].isfinite().all()
    assert int(out[:, :, :, :4].max()) == 0
    assert int(out[:, :, :, 4:].max()) == 255


def test_the_map_of_no_change_changes_nothing() -> None:
    x = noise(2)
    zero = torch.zeros(2)
    still = geometry.affine_map(zero, torch.zeros(2, 2), zero + 1, zero, (20, 26))
    assert torch.equal(geometry.warp(x, still), x)
    assert torch.equal(geometry.warp(x, geometry.perspective_map(torch.zeros(2, 4, 2))), x)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_a_chain_is_one_change_behind_the_other(seed: int) -> None:
    size = (40, 48)
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(48), indexing="ij")
    slope = (60 + 2 * rows + 2 * columns).to(torch.uint8).expand(2, 3, *size)
    change = random_affine(2, seed)
    change["angle"] = change["angle"] / 8
    change["scale"] = 1 + (change["scale"] - 1) / 4
    first = geometry.affine_map(**change, size=size)
    inward = 0.3 * torch.rand((2, 4, 2), generator=torch.Generator().manual_seed(seed))
    second = geometry.perspective_map(inward)
    at_once = geometry.warp(slope, geometry.chain(first, second))
    twice = geometry.warp(geometry.warp(slope, first), second)
    # At the edge of the image two resamplings blend with black twice; within it they agree.
    everything = torch.full_like(slope, 255)
    inner = geometry.warp(geometry.warp(everything, first), second) == 255
    assert inner.float().mean() > 0.1
    assert levels_apart(at_once[inner], twice[inner]) <= 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flip_and_crop_take_any_type_and_keep_channels_last(dtype: torch.dtype) -> None:
    x = noise(3).to(dtype)
    offsets = torch.tensor([0, 1, 2])
    for out in (geometry.flip(x, offsets > 0), geometry.crop(x, 1, offsets, offsets)):
        assert out.dtype == dtype
        assert out.is_contiguous(memory_format=torch.channels_last)
