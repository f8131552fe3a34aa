"""Convolutions that add and clip by themselves give the bits of one operator after the other."""

from __future__ import annotations

import copy
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_numerics import lively
from torch import nn

from featx.backbones import Backbone, Capture, backbone, convolutions, load_backbone
from featx.backbones.convolutions import (
    onednn_fuses_bit_for_bit,
    prepare_convolutions,
    set_fusions,
)
from featx.backbones.deferred import Fusion, is_waiting
from featx.backbones.fusing import find_fusions
from featx.backbones.numerics import Numerics
from featx.backbones.trunk import _hand_on_values
from featx.errors import FeatxError

FP32 = Numerics(channels_last=True, fold=True, small_maps_first=True)
BF16 = Numerics("bf16", channels_last=True, fold=True)
SIDE = 8
RELU, RELU6 = Fusion(False, math.inf), Fusion(False, 6.0)
SUM, SUM_RELU = Fusion(True, None), Fusion(True, math.inf)

pytestmark = pytest.mark.skipif(
    not onednn_fuses_bit_for_bit("fp32"), reason="this torch or processor adds or clips otherwise"
)


@pytest.fixture(autouse=True)
def everything_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "WORTH_WAITING", 1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what oneDNN is asked for."""
    counted: Counter[str] = Counter()
    prepared = convolutions._prepared()
    convolved, onto = prepared.convolved, prepared.convolved_onto

    def alone(conv, x, ceiling):
        counted["plain" if ceiling is None else "clipped"] += 1
        return convolved(conv, x, ceiling)

    def with_other(conv, x, other, clips):
        counted["sum, clipped" if clips else "sum"] += 1
        return onto(conv, x, other, clips)

    monkeypatch.setattr(prepared, "convolved", alone)
    monkeypatch.setattr(prepared, "convolved_onto", with_other)
    return counted


@functools.cache
def network(name: str) -> Backbone:
    with torch.no_grad():
        return lively(load_backbone(name, "none"))


def features(
    name: str, cuts: list[str], x: torch.Tensor, numerics: Numerics
) -> list[dict[str, torch.Tensor]]:
    """Return the features of two batches: the first one is clipped by torch."""
    with Capture(network(name), cuts, "flatten", numerics, batch_size=len(x)) as capture:
        return [{cut: found.clone() for cut, found in capture(x).items()} for _ in range(2)]


@pytest.mark.parametrize("numerics", [FP32, BF16], ids=str)
@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("resnet18", ["conv1", "layer1.0.conv1", "layer1.1.bn2", "layer2.0.downsample", "layer4"]),
        ("resnet50", ["bn1", "layer1.0.bn3", "layer2.0.downsample.0", "layer2", "layer4.2.bn1"]),
        ("vgg16", ["features.5", "features.6", "features.30"]),
        ("mobilenet_v2", ["features.2.conv.2", "features.4", "features.18"]),
        ("regnet_y_400mf", ["trunk_output.block1.block1-0.proj", "trunk_output"]),
        ("googlenet", ["inception3a", "inception5b"]),
        ("timm/resnetv2_50", ["stages.0", "stages.1.blocks.0.conv3", "norm"]),
        ("timm/repvgg_a0", ["stages.1", "stages.3"]),
        ("timm/tf_efficientnet_lite0", ["blocks.1.0.bn1", "blocks.6"]),
    ],
)
def test_features_have_the_bits_of_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, calls: Counter[str], name: str, cuts: list[str],
    numerics: Numerics,
) -> None:  # fmt: skip
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    fused = features(name, cuts, x, numerics)
    # All that RepVGG clips in bf16 is a sum.
    nothing = name == "timm/repvgg_a0" and numerics == BF16
    if onednn_fuses_bit_for_bit(numerics.precision) and not nothing:
        assert calls["clipped"] + calls["sum"]
    calls.clear()
    monkeypatch.setattr(backbone, "onednn_fuses_bit_for_bit", lambda precision: False)
    plain = features(name, cuts, x, numerics)
    assert not calls
    for cut in cuts:
        for found, wanted in zip(fused, plain, strict=True):
            assert torch.equal(found[cut].view(torch.int32), wanted[cut].view(torch.int32)), cut


@pytest.mark.parametrize(
    ("numerics", "n_sums"),
    # At 64 px the last two stages have small maps: to those torch adds.
    [(Numerics(channels_last=True, fold=True), 8), (FP32, 4)],
    ids=str,
)
def test_every_sum_and_relu_of_a_residual_network_is_a_convolutions(
    calls: Counter[str], numerics: Numerics, n_sums: int
) -> None:
    """He et al. 2016: ResNet-18 is a stem and 8 blocks, with a ReLU and a sum with another."""
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with Capture(network("resnet18"), ["layer4"], "avg", numerics) as capture:
        capture(x)
        calls.clear()
        capture(x)
    assert calls == {"clipped": 1 + 8, "sum, clipped": n_sums}


def test_bf16_is_rounded_before_a_sum_as_torch_does(calls: Counter[str]) -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    features("resnet18", ["layer4"], x, BF16)
    assert not calls["sum"] + calls["sum, clipped"]


class Program(nn.Module):
    """A network of steps that each append a tensor: an operator and which tensors it takes.

    Parameters
    ----------
    steps : list of tuple
        ``("conv", i)``, ``("relu", i)``, ``("relu_", i)``, ``("relu6", i)``, ``("add", i, j)``,
        ``("iadd", i, j)``, ``("double_", i)``, ``("row", i)``, ``("twice", i)``; negative numbers
        count from the newest tensor.
    """

    def __init__(self, steps: list[tuple]) -> None:
        super().__init__()
        self.steps = steps
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 1)
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [torch.tanh(self.stem(x))]
        for (op, *at), conv in zip(self.steps, self.convs, strict=True):
            taken = [found[i % len(found)] for i in at]
            found.append(OPERATORS[op](conv, *taken))
        # As a network that returns what it has come to.
        return found[-1] * 1.0


def _iadd(conv: nn.Module, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a += b
    return a


@torch.jit.script
def scripted_relu(a: torch.Tensor) -> torch.Tensor:
    return torch.relu(a)


OPERATORS: dict[str, Callable[..., torch.Tensor]] = {
    "conv": lambda conv, a: conv(a),
    "relu": lambda conv, a: torch.relu(a),
    "relu_": lambda conv, a: nn.functional.relu(a, inplace=True),
    "relu6": lambda conv, a: nn.functional.relu6(a),
    "clip": lambda conv, a: nn.functional.hardtanh(a),
    "add": lambda conv, a, b: a + b,
    "iadd": _iadd,
    "less": lambda conv, a, b: torch.add(a, b, alpha=-1),
    "double_": lambda conv, a: a.mul_(2),
    "row": lambda conv, a: a[:, :, :1],
    "twice": lambda conv, a: conv(conv(a)),
    "last": lambda conv, a: a.contiguous(memory_format=torch.channels_last),
    "scripted": lambda conv, a: scripted_relu(a),
    "by name": lambda conv, a: torch.relu(input=a),
}


def prepare(program: nn.Module, in_use: set[str], fusions: dict[str, Fusion]) -> None:
    """Make a program's convolutions do what comes next."""
    prepare_convolutions(program, in_use, FP32, may_fuse=True)
    set_fusions(program, fusions)


def fused(program: Program, image: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield what a program gives with fusions and without, for two batches."""
    fusions = find_fusions(program, (SIDE, SIDE))
    in_use = {name for name, _ in program.named_parameters()}
    ours, plain = Program(program.steps), Program(program.steps)
    prepare(ours, in_use, fusions)
    prepare_convolutions(plain, in_use, FP32)
    for turn in range(2):
        x = (image + turn).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            yield ours(x.clone()), plain(x.clone())


# A convolution, as step 1, of something other than what will be added to it.
BRANCH = [("relu", 0), ("conv", 1)]


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([("conv", 0), ("relu", 1)], {0: RELU}),
        ([("conv", 0), ("relu_", 1)], {0: RELU}),
        ([("conv", 0), ("relu6", 1)], {0: RELU6}),
        ([("conv", 0), ("scripted", 1)], {0: RELU}),
        ([("conv", 0), ("by name", 1)], {0: RELU}),
        # What was written in place is used by its old name.
        ([("conv", 0), ("relu_", 1), ("conv", 1), ("relu", 3)], {0: RELU, 2: RELU}),
        ([*BRANCH, ("iadd", 2, 0), ("conv", 2), ("relu", 4)], {1: SUM, 3: RELU}),
        ([("conv", 0), ("clip", 1)], {}),
        ([*BRANCH, ("add", 2, 0)], {1: SUM}),
        ([*BRANCH, ("add", 0, 2)], {1: SUM}),
        ([*BRANCH, ("iadd", 2, 0)], {1: SUM}),
        ([*BRANCH, ("add", 2, 0), ("relu", 3)], {1: SUM_RELU}),
        ([*BRANCH, ("iadd", 2, 0), ("relu_", 3)], {1: SUM_RELU}),
        ([("conv", 0), ("conv", 0), ("add", 1, 2)], {0: SUM, 1: SUM}),
        # The output is needed without what comes next.
        ([("conv", 0), ("relu", 1), ("add", 1, 2)], {}),
        ([("conv", 0), ("row", 1), ("relu_", 1)], {}),
        # The sum is.
        ([*BRANCH, ("add", 2, 0), ("relu", 3), ("add", 3, 4)], {1: SUM}),
        # What is added is read later.
        ([*BRANCH, ("add", 2, 0), ("add", 3, 0)], {}),
        # It is no map of that shape, or not just added.
        ([*BRANCH, ("row", 0), ("add", 2, 3)], {}),
        ([*BRANCH, ("less", 0, 2)], {}),
        ([*BRANCH, ("add", 2, 2)], {}),
        # Its memory has to hold the sum, or holds what the convolution reads.
        ([*BRANCH, ("iadd", 0, 2)], {}),
        ([("conv", 0), ("add", 1, 0)], {}),
        # Channels-first that is a copy, but not in the order of the real pass.
        ([("last", 0), ("conv", 1), ("add", 2, 0)], {}),
        ([("last", 0), ("relu", 0), ("conv", 2), ("add", 3, 1), ("add", 4, 0)], {}),
        # What the convolution takes has changed meanwhile.
        ([("conv", 0), ("double_", 0), ("relu", 1)], {}),
        ([*BRANCH, ("double_", 1), ("add", 2, 0)], {}),
        ([*BRANCH, ("add", 2, 0), ("double_", 1), ("relu", 3)], {1: SUM}),
        # A convolution that runs twice is two.
        ([("twice", 0), ("relu", 1)], {}),
    ],
    ids=str,
)
def test_what_becomes_part_of_a_convolution(
    steps: list[tuple], wanted: dict[int, Fusion], image: torch.Tensor
) -> None:
    program = Program(steps)
    found = find_fusions(program, (SIDE, SIDE))
    assert found == {f"convs.{at}": fusion for at, fusion in wanted.items()}
    for ours, plain in fused(program, image):
        assert torch.equal(ours, plain)


ONE = st.sampled_from(["conv", "conv", "conv", "relu", "relu_", "relu6", "double_", "twice"])
TWO = st.sampled_from(["add", "iadd", "less"])
# Mostly the newest tensors: networks are chains.
PLACES = st.sampled_from([-1, -1, -1, -2, -2, -3, 0])
STEPS = st.one_of(st.tuples(ONE, PLACES), st.tuples(TWO, PLACES, PLACES))


@settings(max_examples=300)
@given(steps=st.lists(STEPS, min_size=2, max_size=9))
def test_any_program_gives_the_bits_of_one_after_the_other(steps: list[tuple]) -> None:
    image = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    for ours, plain in fused(Program(steps), image):
        assert torch.equal(ours.view(torch.int32), plain.view(torch.int32))


@pytest.mark.parametrize("broken", [math.nan, 1e30], ids=["NaN in a weight", "weights overflow"])
@pytest.mark.parametrize(
    "steps",
    [
        [("conv", 0), ("relu", 1), ("conv", 2), ("relu", 3), ("conv", 4), ("relu", 5)],
        [*BRANCH, ("relu", 2), ("conv", 3), ("relu", 4), ("conv", 5), ("add", 6, 0), ("relu_", 7)],
    ],
    ids=["relu", "sum"],
)
def test_nan_is_not_clipped_away(broken: float, steps: list[tuple], image: torch.Tensor) -> None:
    """torch's ReLU keeps NaN; oneDNN's makes 0 of it, and features would look sound."""

    def spoil(program: Program) -> None:
        with torch.no_grad():
            for conv in program.convs:
                conv.weight[:, ::2], conv.weight[:, 1::2] = broken, -broken

    program = Program(steps)
    fusions = find_fusions(program, (SIDE, SIDE))
    assert any(fusion.ceiling for fusion in fusions.values())
    plain = Program(steps)
    for one in (program, plain):
        spoil(one)
    prepare(program, {n for n, _ in program.named_parameters()}, fusions)
    x = image.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(2):
            found, wanted = program(x), plain(x)
            assert wanted.isnan().any()
            assert torch.equal(found.isnan(), wanted.isnan())


def test_a_batch_near_an_overflow_leaves_clipping_to_torch() -> None:
    program = Program([("conv", 0), ("relu", 1)])
    conv = program.convs[0]
    with torch.no_grad():
        conv.weight[:, ::2], conv.weight[:, 1::2] = 1e30, -1e30
    fusions = find_fusions(program, (SIDE, SIDE))
    prepare(program, {"convs.0.weight"}, fusions)
    x = torch.randn(2, 8, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.relu(conv(x)).isfinite().all()
        assert torch.relu(conv(x * math.inf)).isnan().any()


class TakesImage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.tanh(x)) + x


class TakesParameter(TakesImage):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2, 3, SIDE, SIDE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.shift


class KeepsGrid(TakesImage):
    grid: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.grid is None:
            self.grid = torch.ones_like(x)
        return self.conv(x) + self.grid


class ShowsLater(TakesImage):
    """A hook at `tap` is to see what was before the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.tap = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x)
        z = self.conv(x) + y
        self.tap(y)
        return z


@pytest.mark.parametrize("network", [TakesImage, TakesParameter, KeepsGrid, ShowsLater])
def test_memory_that_outlives_a_pass_takes_no_sum(network: type[nn.Module]) -> None:
    assert find_fusions(network(), (SIDE, SIDE)) == {}


class Divides(TakesImage):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x / x.amax((1, 2, 3), keepdim=True)))


class DividesBesides(TakesImage):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.relu(y + x / x.amax((1, 2, 3), keepdim=True))


class DividesBeforeSum(TakesImage):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x / x.amax((1, 2, 3), keepdim=True))
        return torch.relu(self.conv(x) + y)


def test_behind_a_division_clipping_is_torchs() -> None:
    """A black image gives 0/0, which no first batch tells."""
    assert find_fusions(Divides(), (SIDE, SIDE)) == {}
    assert find_fusions(DividesBeforeSum(), (SIDE, SIDE)) == {"conv": SUM}
    assert find_fusions(DividesBesides(), (SIDE, SIDE)) == {"conv": SUM}


class AddsAgainIfSmall(nn.Module):
    """As networks that do something else for small images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x)
        z = self.conv(x) + y
        return z + y if x.shape[-1] < 20 else z


def test_fusions_are_those_of_the_images_size(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for fuses in (True, False):
        monkeypatch.setattr(
            backbone, "onednn_fuses_bit_for_bit", lambda precision, is_on=fuses: is_on
        )
        resnet = load_backbone("resnet18", "none")
        torch.manual_seed(0)
        resnet.model.layer1[1] = AddsAgainIfSmall().eval().requires_grad_(False)
        with Capture(resnet, ["layer1"], "flatten", FP32) as capture:
            for side in (128, 64, 128, 64):
                x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
                found.setdefault(side, []).append(capture(x)["layer1"])
    for features in found.values():
        assert all(torch.equal(features[0], other) for other in features[1:])


def test_what_is_handed_on_is_an_ordinary_tensor() -> None:
    resnet, seen = load_backbone("resnet18", "none"), []
    trunk = resnet.trunk(["layer4"], BF16)
    resnet.fuse(trunk, BF16, (64, 64))
    trunk.model.relu.register_forward_hook(lambda module, args, output: seen.append(type(output)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        trunk.model(torch.zeros(2, 3, 64, 64))
    assert seen == [torch.Tensor]


class ByModule(nn.Module):
    """A convolution and a ReLU; behind the ReLU the network goes on with what it gave to it."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(2)])
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convs[0](x)
        self.relu(x)
        return self.convs[1](x)


@pytest.mark.parametrize("ceiling", [math.inf, 6.0])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_relu_module_clips_what_it_was_given_only_in_place(
    calls: Counter[str], ceiling: float, in_place: bool
) -> None:
    kind = {math.inf: nn.ReLU, 6.0: nn.ReLU6}[ceiling]
    model = ByModule(kind(inplace=in_place)).eval().requires_grad_(False)
    for conv in model.convs:
        conv.weight *= 10
    x = torch.randn(2, 8, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    wanted = copy.deepcopy(model)(x)
    _hand_on_values(model)
    # Not in place, the ReLU is not the last one to read the output: nothing is part of it.
    fusions = {"convs.0": Fusion(False, ceiling)} if in_place else {}
    prepare(model, {"convs.0.weight", "convs.1.weight"}, fusions)
    with torch.inference_mode():
        for n_clipped in (0, int(in_place)):
            calls.clear()
            found = model(x)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
            assert calls["clipped"] == n_clipped


def test_an_empty_batch_gives_no_features() -> None:
    with Capture(network("resnet18"), ["layer1"], "avg", FP32) as capture:
        assert capture(torch.zeros(0, 3, 64, 64))["layer1"].shape == (0, 64)


def test_a_map_that_was_summed_over_is_not_read_again(image: torch.Tensor) -> None:
    program = Program([*BRANCH, ("add", 2, 0), ("relu", 3)])
    prepare(program, {"convs.1.weight"}, {"convs.1": SUM_RELU})
    x = torch.randn(2, 8, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        waiting = program.convs[1](x)
        torch.relu(waiting + torch.tanh(x))
        with pytest.raises(FeatxError, match="after the sum or ReLU behind it has taken its place"):
            waiting + 1


def test_a_sum_is_not_written_into_what_the_convolution_reads(image: torch.Tensor) -> None:
    """As where a network does something else for images of another size."""
    program, plain = (Program([("conv", 0), ("add", 1, 0)]) for _ in range(2))
    prepare(program, {"convs.0.weight"}, {"convs.0": SUM})
    prepare_convolutions(plain, {"convs.0.weight"}, FP32)
    with torch.inference_mode():
        x = image.contiguous(memory_format=torch.channels_last)
        assert torch.equal(program(x), plain(x))


def test_nan_in_a_later_batch_is_kept() -> None:
    sound = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    broken = sound.clone()
    broken[1, 0, 5, 5] = math.nan
    with Capture(network("resnet18"), ["layer1", "layer4"], "avg", FP32) as capture:
        for x, finite in ((sound, True), (broken, False), (sound, True)):
            found = capture(x)["layer4"]
            assert found[0].isfinite().all()
            assert found[1].isfinite().all() == finite


def test_small_outputs_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program([("conv", 0), ("relu", 1)])
    fusions = find_fusions(program, (SIDE, SIDE))
    prepare(program, {"convs.0.weight"}, fusions)
    x = torch.zeros(2, 8, SIDE, SIDE)
    with torch.inference_mode():
        monkeypatch.setattr(convolutions, "WORTH_WAITING", x.numel())
        assert is_waiting(program.convs[0](x))
        monkeypatch.setattr(convolutions, "WORTH_WAITING", x.numel() + 1)
        assert not is_waiting(program.convs[0](x[:1]))


def test_what_waits_can_be_looked_at() -> None:
    program = Program([("conv", 0), ("relu", 1)])
    fusions = find_fusions(program, (SIDE, SIDE))
    plain = Program(program.steps).convs[0]
    prepare(program, {"convs.0.weight"}, fusions)
    x = torch.randn(2, 8, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = program.convs[0](x)
        assert tuple(found.shape) == (2, 8, SIDE, SIDE)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert is_waiting(found)
        torch.testing.assert_close(found + 0.0, plain(x))
        assert not is_waiting(found)
        # Nothing reads something else instead.
        assert program.convs[0](x).data_ptr() == 0


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_a_torch_without_these_operators_computes_as_ever(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def gone(*args: object) -> None:
        raise error("no such operator")

    monkeypatch.setattr(convolutions._prepared(), "convolved", gone)
    assert not onednn_fuses_bit_for_bit.__wrapped__("fp32")
    monkeypatch.setattr(backbone, "onednn_fuses_bit_for_bit", onednn_fuses_bit_for_bit.__wrapped__)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    first, second = features("resnet18", ["layer2"], x, FP32)
    assert torch.equal(first["layer2"], second["layer2"])


def test_other_bits_are_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = convolutions._prepared()
    convolved = prepared.convolved
    monkeypatch.setattr(
        prepared, "convolved", lambda conv, x, c: convolved(conv, x, c) * (1 + 2e-7)
    )
    assert not onednn_fuses_bit_for_bit.__wrapped__("fp32")


def test_one_thread_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert onednn_fuses_bit_for_bit.__wrapped__("fp32")
    finally:
        torch.set_num_threads(threads)
