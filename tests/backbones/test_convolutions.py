"""Convolutions with many weights take small maps channels-first; threads change no bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from featx.backbones import Backbone, Capture, load_backbone
from featx.backbones.convolutions import LARGE_KERNEL, prepare_convolutions
from featx.backbones.numerics import Numerics

FAST = Numerics(channels_last=True, fold=True, small_maps_first=True)
EVERYWHERE_LAST = Numerics(channels_last=True, fold=True)
N_IN = 256
WIDE = LARGE_KERNEL // (9 * N_IN) + 1  # channels out, for just enough weights of a 3 x 3 kernel


def order_of(conv: nn.Conv2d, side: int, numerics: Numerics = FAST) -> str:
    """Return in which order a convolution reads its weights, and so gives its map."""
    x = torch.randn(3, conv.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    conv.requires_grad_(False)
    wanted = conv(x)
    model = nn.Sequential(conv)
    prepare_convolutions(model, {"0.weight"}, numerics)
    found = model(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    return written(model[0].weight)


def written(tensor: torch.Tensor) -> str:
    """Return in which order the strides of a tensor say that it lies."""
    orders = {"first": torch.contiguous_format, "last": torch.channels_last}
    (order,) = (
        name
        for name, kind in orders.items()
        if tensor.stride() == torch.empty(tensor.shape, memory_format=kind).stride()
    )
    return order


@pytest.mark.parametrize(
    ("settings", "side", "order"),
    [
        ({"padding": 1}, 4, "first"),
        ({"padding": 1}, 5, "last"),
        ({"padding": 1, "stride": 2}, 8, "first"),
        ({"padding": 1, "stride": 2}, 9, "last"),
        ({"padding": 1, "stride": 2}, 2, "first"),
        ({"padding": 1}, 1, "first"),
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
    assert order_of(nn.Conv2d(N_IN, WIDE, 3, padding=1), 4, EVERYWHERE_LAST) == "last"


def test_a_subclass_is_left_channels_last() -> None:
    class Own(nn.Conv2d):
        pass

    assert order_of(Own(N_IN, WIDE, 3, padding=1), 4) == "last"


@pytest.mark.parametrize("kernel", [1, 3])
def test_one_trunk_takes_maps_of_every_size(kernel: int) -> None:
    conv = nn.Conv2d(9 * N_IN if kernel == 1 else N_IN, WIDE, kernel, padding=kernel // 2)
    conv.requires_grad_(False)
    kept = conv.weight.clone()
    model = nn.Sequential(nn.Conv2d(conv.in_channels, WIDE, kernel, padding=kernel // 2))
    model[0].weight, model[0].bias = conv.weight, conv.bias
    prepare_convolutions(model, {"0.weight"}, FAST)
    for side, order in ((4, "first"), (8, "last"), (2, "first"), (16, "last")):
        noise = torch.Generator().manual_seed(side)
        x = torch.randn(2, conv.in_channels, side, side, generator=noise)
        found = model(x)
        torch.testing.assert_close(found, conv(x), rtol=1e-4, atol=1e-4)
        assert written(found) == written(model[0].weight) == order
    assert torch.equal(conv.weight, kept)


def test_maps_that_are_not_square_and_images_without_a_batch() -> None:
    model = nn.Sequential(nn.Conv2d(N_IN, WIDE, 3, padding=1).requires_grad_(False))
    prepare_convolutions(model, {"0.weight"}, FAST)
    for shape, order in (((2, N_IN, 9, 3), "first"), ((2, N_IN, 3, 9), "last")):
        assert written(model(torch.randn(shape))) == order
    assert model(torch.randn(N_IN, 3, 3)).shape == (WIDE, 3, 3)
    assert model[0](input=torch.randn(1, N_IN, 9, 1)).shape == (1, WIDE, 9, 1)


def test_strides_and_padding_that_were_set_as_one_number() -> None:
    conv = nn.Conv2d(N_IN, WIDE, 3)
    conv.stride, conv.padding = 2, 1
    assert order_of(conv, 8) == "first"


def test_a_map_of_one_place_says_its_order_whatever_its_strides_said() -> None:
    model = nn.Sequential(nn.Conv2d(N_IN, WIDE, 3, padding=1).requires_grad_(False))
    prepare_convolutions(model, {"0.weight"}, FAST)
    x = torch.randn(2, N_IN, 1, 1, generator=torch.Generator().manual_seed(0))
    for order in (torch.contiguous_format, torch.channels_last):
        strided = torch.empty_like(x, memory_format=order).copy_(x)
        assert written(model(strided)) == "first"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 1}, {"kernel_size": 1, "padding": 1}, {"kernel_size": 1, "padding": "same"},
        {"kernel_size": 3, "padding": "valid"}, {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "stride": 2},
        {"kernel_size": 3, "padding": (0, 1), "groups": 4},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("n_images", [1, 3])
def test_convolutions_of_few_images_are_the_plain_ones(
    n_images: int, settings: dict, bias: bool
) -> None:
    conv = nn.Conv2d(32, 16, bias=bias, **settings).requires_grad_(False)
    x = torch.randn(n_images, 32, 6, 5, generator=torch.Generator().manual_seed(0))
    wanted = conv(x)
    prepare_convolutions(nn.Sequential(conv), {"0.weight"}, FAST)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        torch.testing.assert_close(conv(x), wanted, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


def test_autocast_of_the_caller_is_heeded_with_one_thread_too() -> None:
    conv = nn.Conv2d(8, 4, 1).requires_grad_(False)
    prepare_convolutions(nn.Sequential(conv), {"0.weight"}, FAST)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(torch.randn(1, 8, 3, 3)).dtype == torch.bfloat16


def test_a_weight_that_is_made_anew_in_every_pass_is_left_alone() -> None:
    with pytest.warns(FutureWarning):
        conv = torch.nn.utils.weight_norm(nn.Conv2d(N_IN, WIDE, 3, padding=1))
    model = nn.Sequential(conv)
    prepare_convolutions(model, dict(model.named_parameters()), FAST)
    x = torch.randn(2, N_IN, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(x), model(x))


def test_a_pass_has_small_maps_first_where_its_numerics_say_so(resnet18: Backbone) -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for numerics, order in ((FAST, "first"), (EVERYWHERE_LAST, "last")):
        seen: list[str] = []
        trunk = resnet18.trunk(["layer4"], numerics)
        for name in ("layer2.0.conv1", "layer4.0.conv1"):
            trunk.model.get_submodule(name).register_forward_hook(
                lambda module, args, output, seen=seen: seen.append(written(output))
            )
        with torch.inference_mode():
            trunk.model(x)
        assert seen == ["last", order]


def test_strides_that_say_nothing_change_no_bit() -> None:
    """Weights of 1 x 1 lie alike in both orders, and a network may come with either's strides."""
    found = []
    for order in (torch.contiguous_format, torch.channels_last):
        backbone = load_backbone("resnet50", "none")
        backbone.model.to(memory_format=order)
        x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with Capture(backbone, ["layer4"], "flatten", FAST) as capture:
            found.append(capture(x)["layer4"])
    assert torch.equal(*found)


@pytest.mark.parametrize("numerics", [Numerics(fold=True), FAST], ids=str)
@pytest.mark.parametrize(
    ("name", "cuts"), [("resnet50", ["layer4.1.conv1", "layer4"]), ("resnet18", ["layer4"])]
)
@pytest.mark.parametrize("n_images", [1, 5])
def test_threads_change_no_bit(
    request: pytest.FixtureRequest, name: str, cuts: list[str], n_images: int, numerics: Numerics
) -> None:
    """Their number is not in the key of the cache; the last batch of a pass may be small."""
    backbone = request.getfixturevalue(name)
    x = torch.randn(n_images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            with Capture(backbone, cuts, "flatten", numerics) as capture:
                found.append(capture(x))
    finally:
        torch.set_num_threads(before)
    for cut in cuts:
        assert torch.equal(found[0][cut], found[1][cut]), cut
