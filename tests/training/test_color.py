"""torchvision's colour functions and the standard library's YIQ are the references."""

from __future__ import annotations

import colorsys
import math

import pytest
import torch
from augment_cases import levels_apart, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.torchvision_compat import import_torchvision
from featx.training.color import jitter

import_torchvision()

from torchvision.transforms.v2 import functional  # noqa: E402

CHAIN = {
    "brightness": functional.adjust_brightness,
    "contrast": functional.adjust_contrast,
    "saturation": functional.adjust_saturation,
}
factors = st.lists(st.floats(0, 2), min_size=3, max_size=3)
turns = st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3)


def jittered(x: torch.Tensor, **change: list[float]) -> torch.Tensor:
    """Return the images with some of the four changed."""
    n = len(x)
    still = {"brightness": [1.0] * n, "contrast": [1.0] * n, "saturation": [1.0] * n}
    all_four = still | {"hue": [0.0] * n} | change
    return jitter(x, **{name: torch.tensor(values) for name, values in all_four.items()})


def by_torchvision(x: torch.Tensor, **change: list[float]) -> torch.Tensor:
    """Return the same by torchvision, each image on its own, in floats from end to end."""
    images = []
    for i, image in enumerate(x.float() / 255):
        for name, function in CHAIN.items():
            if name in change:
                image = function(image, change[name][i])  # noqa: PLW2901
        images.append(image * 255)
    return torch.stack(images)


@pytest.mark.parametrize("name", CHAIN)
@settings(max_examples=25, deadline=None)
@given(values=factors)
def test_each_alone_is_torchvisions(name: str, values: list[float]) -> None:
    x = noise(3)
    assert levels_apart(jittered(x, **{name: values}), by_torchvision(x, **{name: values})) <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.6, 1.4), min_size=9, max_size=9))
def test_together_they_are_torchvisions_chain_where_nothing_is_clipped(nine: list[float]) -> None:
    x = noise(3, low=100, high=120)
    change = {"brightness": nine[:3], "contrast": nine[3:6], "saturation": nine[6:]}
    assert levels_apart(jittered(x, **change), by_torchvision(x, **change)) <= 1


def test_no_change_changes_nothing() -> None:
    x = noise(4)
    assert torch.equal(jittered(x), x)
    assert torch.equal(jittered(x, hue=[0.0, 1.0, -1.0, 2.0]), x)


@settings(max_examples=25, deadline=None)
@given(values=turns)
def test_hue_is_a_turn_in_the_plane_of_i_and_q(values: list[float]) -> None:
    x = noise(3, 4, 5, low=100, high=156)
    got = jittered(x, hue=values)
    for i, turn in enumerate(values):
        pixels = (x[i] / 255).flatten(1).T.tolist()
        new_pixels = (got[i] / 255).flatten(1).T.tolist()
        cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
        for pixel, new in zip(pixels, new_pixels, strict=True):
            y, i_old, q_old = colorsys.rgb_to_yiq(*pixel)
            turned = colorsys.yiq_to_rgb(y, i_old * cos + q_old * sin, q_old * cos - i_old * sin)
            # Three levels: colorsys rounds its coefficients to two digits.
            assert max(abs(a - b) for a, b in zip(turned, new, strict=True)) < 3 / 255


@settings(max_examples=25, deadline=None)
@given(saturation=factors, hue=turns)
def test_greys_stay_grey_and_luma_stays(saturation: list[float], hue: list[float]) -> None:
    grey = noise(3)[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(jittered(grey, saturation=saturation, hue=hue), grey)
    colours = noise(3, low=100, high=140)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    turned = jittered(colours, hue=hue)
    assert ((turned - colours.float()) * luma).sum(1).abs().max() <= 0.51


@pytest.mark.parametrize("turn", [1 / 6, 1 / 3, -1 / 3])
def test_hues_turn_the_way_torchvisions_do(turn: float) -> None:
    """A dull red becomes yellow, green, blue: the same channels lead."""
    red = torch.tensor([150, 100, 100], dtype=torch.uint8).view(1, 3, 1, 1)
    got = jittered(red, hue=[turn]).flatten().float()
    expected = functional.adjust_hue(red[0], turn).flatten().float()
    assert torch.equal(got > got.mean(), expected > expected.mean())
