"""Cuts for which threads are said not to matter have the same bits with any number of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from featx.backbones import Backbone, Capture, load_backbone
from featx.backbones.numerics import Numerics
from featx.backbones.thread_bits import threads_change_no_bit
from featx.machine import torch_threads

DEFAULT = Numerics(channels_last=True, fold=True, small_maps_first=True)


def features(backbone: Backbone, cuts: list[str], x: torch.Tensor) -> list[dict]:
    """Flattened, with each of several numbers of threads; 3 and 7 leave uneven parts."""
    found = []
    for n in (1, 2, 3, 7):
        with torch_threads(n), Capture(backbone, cuts, "flatten", DEFAULT) as capture:
            found.append({cut: value.clone() for cut, value in capture(x).items()})
    return found


@pytest.mark.parametrize("n_images", [3, 16])
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "densenet121", "timm/cspresnet50"]
)
def test_real_networks(name: str, n_images: int) -> None:
    backbone = load_backbone(name, "none")
    points = backbone.cut_points(72, pool="flatten", all_modules=True)
    sure = [point.module for point in points if not point.threads_matter]
    assert len(sure) > 0.9 * len(points)
    cuts = [*sure[:: len(sure) // 4], sure[-1]]
    x = torch.randn(n_images, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    first, *others = features(backbone, cuts, x)
    for other in others:
        for cut in cuts:
            assert torch.equal(other[cut], first[cut]), cut


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(3, 2), nn.AdaptiveAvgPool2d((5, 4)), nn.MaxPool2d(3, 2), nn.BatchNorm2d(37),
        nn.Hardswish(), nn.Hardsigmoid(), nn.ReLU6(), nn.LeakyReLU(0.1),
        nn.UpsamplingNearest2d(scale_factor=2), nn.ZeroPad2d(1), nn.ChannelShuffle(1),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_single_layers(layer: nn.Module, order: torch.memory_format) -> None:
    """Maps whose parts fill no vector evenly."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(11, 37, 23, 19, generator=generator).contiguous(memory_format=order)
    if isinstance(layer, nn.BatchNorm2d):
        for values in (layer.running_mean, layer.running_var, layer.weight.data, layer.bias.data):
            values.uniform_(0.1, 2.0, generator=generator)
    found = []
    for n in (1, 2, 3, 7):
        with torch_threads(n), torch.inference_mode():
            found.append(layer.eval()(x.clone(memory_format=torch.preserve_format)))
    assert all(torch.equal(other, found[0]) for other in found)


@pytest.mark.parametrize(
    ("operator", "known"),
    [
        (torch.ops.aten.relu_.default, True),
        (torch.ops.aten.relu.default, True),
        (torch.ops.aten.add.Tensor, True),
        (torch.ops.aten._adaptive_avg_pool2d.default, True),
        (torch.ops.aten.sigmoid.default, False),
        (torch.ops.aten.silu_.default, False),
        (torch.ops.aten.gelu.default, False),
        (torch.ops.aten.mv.default, False),
        (torch.ops.aten.addmm.default, False),
        (torch.ops.aten.convolution.default, False),
        (torch.ops.aten.native_group_norm.default, False),
        (torch.ops.prims.add.default, False),
    ],
    ids=str,
)
def test_what_is_not_known_is_not_sure(operator: torch._ops.OpOverload, known: bool) -> None:
    x = torch.ones(1, 2, 3, 4)
    assert threads_change_no_bit(operator, (x, x), {}) is known


def test_what_operators_are_given_counts_too() -> None:
    aten, x = torch.ops.aten, torch.ones(1, 2, 3, 4)
    per_channel = torch.ones(2)
    norm = (x, per_channel, per_channel, per_channel, per_channel)
    assert threads_change_no_bit(aten.native_batch_norm.default, (*norm, False, 0.1, 1e-5), {})
    assert not threads_change_no_bit(aten.native_batch_norm.default, (*norm, True, 0.1, 1e-5), {})
    assert not threads_change_no_bit(aten.add.Tensor, (x, x), {"alpha": 0.5})
    for dims, known in (([2, 3], True), ([-1, -2], True), ([1, 2, 3], False), ([], False)):
        assert threads_change_no_bit(aten.mean.dim, (x, dims), {}) is known
    assert not threads_change_no_bit(aten.mean.default, (x,), {})
    assert not threads_change_no_bit(aten.mean.dim, (x[0], [1, 2]), {})
