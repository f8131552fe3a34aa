"""Convolutions with many weights take small maps channels-first, all others channels-last."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from featx.backbones import Capture, load_backbone
from featx.backbones.map_order import LARGE_KERNEL, to_channels_last
from featx.backbones.numerics import Numerics

N_IN = 256
WIDE = LARGE_KERNEL // (9 * N_IN) + 1  # channels out, for just enough weights of a 3 x 3 kernel


def order_of(conv: nn.Conv2d, side: int, *, small_maps_first: bool = True) -> str:
    """Return in which order a convolution gives a map, and that its numbers stay."""
    x = torch.randn(3, conv.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    conv.requires_grad_(False)
    wanted = conv(x)
    model = nn.Sequential(conv)
    to_channels_last(model, {"0.weight"}, small_maps_first=small_maps_first)
    found = model(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    first, last = (
        found.is_contiguous(memory_format=order)
        for order in (torch.contiguous_format, torch.channels_last)
    )
    return {(True, False): "first", (False, True): "last"}[first, last]


@pytest.mark.parametrize(
    ("settings", "side", "order"),
    [
        ({"padding": 1}, 4, "first"),
        ({"padding": 1}, 5, "last"),
        ({"padding": 1, "stride": 2}, 8, "first"),
        ({"padding": 1, "stride": 2}, 9, "last"),
        ({}, 6, "first"),
        ({}, 7, "last"),
        ({"padding": "valid"}, 6, "first"),
        ({"padding": "valid"}, 7, "last"),
        ({"padding": "same"}, 4, "first"),
        ({"padding": "same"}, 5, "last"),
        ({"padding": "same", "dilation": 2}, 4, "first"),
        ({"dilation": 2}, 8, "first"),
        ({"dilation": 2}, 9, "last"),
    ],
    ids=str,
)
def test_the_columns_of_the_output_decide(settings: dict, side: int, order: str) -> None:
    assert order_of(nn.Conv2d(N_IN, WIDE, 3, **settings), side) == order


def test_few_weights_stay_channels_last() -> None:
    assert order_of(nn.Conv2d(N_IN, WIDE - 1, 3, padding=1), 4) == "last"
    grouped = nn.Conv2d(2 * N_IN, 2 * WIDE, 3, padding=1, groups=2)
    assert grouped.weight.numel() >= LARGE_KERNEL
    assert order_of(grouped, 4) == "last"


def test_nothing_is_decided_by_the_map_unless_asked() -> None:
    assert order_of(nn.Conv2d(N_IN, WIDE, 3, padding=1), 4, small_maps_first=False) == "last"


def test_a_subclass_is_left_channels_last() -> None:
    class Own(nn.Conv2d):
        pass

    assert order_of(Own(N_IN, WIDE, 3, padding=1), 4) == "last"


def test_one_trunk_takes_maps_of_every_size() -> None:
    conv = nn.Conv2d(N_IN, WIDE, 3, padding=1).requires_grad_(False)
    plain, weight = conv.weight, conv.weight.clone()
    model = nn.Sequential(nn.Conv2d(N_IN, WIDE, 3, padding=1).requires_grad_(False))
    model[0].weight, model[0].bias = conv.weight, conv.bias
    to_channels_last(model, {"0.weight"}, small_maps_first=True)
    for side in (4, 8, 2, 16):
        x = torch.randn(2, N_IN, side, side, generator=torch.Generator().manual_seed(side))
        torch.testing.assert_close(model(x), conv(x), rtol=1e-4, atol=1e-4)
    assert conv.weight is plain
    assert torch.equal(conv.weight, weight)


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_threads_change_no_bit(name: str) -> None:
    """Their number is not in the key of the cache."""
    backbone = load_backbone(name, "none")
    x = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    numerics = Numerics(channels_last=True, fold=True, small_maps_first=True)
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            with Capture(backbone, ["stage5" if name == "vgg16" else "stage4"], "flatten",
                         numerics) as capture:  # fmt: skip
                found += capture(x).values()
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
