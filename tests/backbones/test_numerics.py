"""Faster arithmetic gives the same features, and leaves the network as it is."""

from __future__ import annotations

import itertools
import types
from collections.abc import Sequence

import pytest
import torch
from test_capture import forbidden, hooks_of, state_bits
from torch import nn

from featx.backbones import Backbone, Capture, load_backbone
from featx.backbones.numerics import PLAIN, Numerics
from featx.backbones.trunk import _sharing_copy
from featx.backbones.weights import weights_digest
from featx.errors import UnknownName, UsageError
from featx.machine import can_compile

FAST = Numerics(channels_last=True, fold=True, small_maps_first=True)
SIDE = 64


def lively(backbone: Backbone) -> Backbone:
    """Give BatchNorms statistics that matter: those of random weights are 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for module in backbone.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.normal_(0, 0.3, generator=generator)
    return backbone


@pytest.fixture(scope="module")
def residual() -> Backbone:
    with torch.no_grad():
        return lively(load_backbone("resnet18", "none"))


@pytest.fixture(scope="module")
def efficientnet() -> Backbone:
    with torch.no_grad():
        return lively(load_backbone("timm/tf_efficientnet_lite0", "none"))


def features(
    backbone: Backbone, cuts: Sequence[str], x: torch.Tensor, numerics: Numerics = PLAIN
) -> dict[str, torch.Tensor]:
    with Capture(backbone, cuts, "flatten", numerics, batch_size=len(x)) as capture:
        return capture(x)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize(
    ("name", "cuts", "side"),
    [
        ("residual", ["bn1", "layer1", "layer2.0.downsample", "stage4"], SIDE),
        # BatchNorm and activation in one module, and padding as TensorFlow pads.
        ("efficientnet", ["bn1", "blocks.1.0.bn1", "stage3", "stage4"], SIDE),
        ("vgg16", ["features.17", "features.18", "stage5"], SIDE),
        ("vit", ["patch_embed", "blocks.2"], 224),
    ],
)
def test_features_are_the_plain_ones(
    request: pytest.FixtureRequest, name: str, cuts: list[str], side: int
) -> None:
    backbone: Backbone = request.getfixturevalue(name)
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    wanted = features(backbone, cuts, x)
    kinds = [
        Numerics(channels_last=order, fold=folded)
        for order, folded in itertools.product((False, True), repeat=2)
    ]
    for numerics in (*kinds, FAST):
        found = features(backbone, cuts, x, numerics)
        for cut in cuts:
            assert found[cut].dtype == torch.float32
            assert relative(found[cut], wanted[cut]) < 1e-5, (cut, numerics)


@pytest.mark.real
def test_features_of_real_weights_are_the_plain_ones(shared_dir) -> None:
    path = shared_dir / "weights" / "resnet18.IMAGENET1K_V1.safetensors"
    backbone = load_backbone("resnet18", str(path), preprocess="torch")
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    cuts = ["conv1", "stage1", "stage2", "stage3", "stage4", "avgpool"]
    wanted, found = features(backbone, cuts, x), features(backbone, cuts, x, FAST)
    assert all(relative(found[cut], wanted[cut]) < 1e-5 for cut in cuts)


@pytest.mark.parametrize("numerics", [FAST, Numerics("bf16", True, True)], ids=str)
def test_a_cut_between_convolution_and_batchnorm_changes_no_other(
    residual: Backbone, images: torch.Tensor, numerics: Numerics
) -> None:
    """What a cut gives may not depend on its neighbours: each has a cache entry of its own."""
    convolutions = ["conv1", "layer1.0.conv1", "layer2.0.downsample.0"]
    others = ["bn1", "layer1", "layer2.0"]
    together = features(residual, [*convolutions, *others], images, numerics)
    plain = features(residual, convolutions, images)
    for cut in convolutions:
        assert torch.equal(together[cut], features(residual, [cut], images, numerics)[cut])
        assert relative(together[cut], plain[cut]) < (1e-5 if numerics == FAST else 0.02)
    for cut in others:
        assert torch.equal(together[cut], features(residual, [cut], images, numerics)[cut])


def test_the_network_itself_stays_as_it_is(residual: Backbone, images: torch.Tensor) -> None:
    before, digest = state_bits(residual.model), weights_digest(residual.model.state_dict())
    kinds = [type(module) for module in residual.model.modules()]
    with Capture(residual, ["layer2"], numerics=Numerics("bf16", True, True)) as capture:
        assert hooks_of(residual.model) == 0
        capture(images)
        assert state_bits(residual.model) == before
    assert weights_digest(residual.model.state_dict()) == digest
    assert [type(module) for module in residual.model.modules()] == kinds
    assert residual.model.conv1.weight.is_contiguous()


def test_what_stands_behind_the_deepest_cut_is_neither_run_nor_copied(
    residual: Backbone, images: torch.Tensor
) -> None:
    with forbidden(residual, ["layer3", "layer4", "fc"]):
        features(residual, ["layer1", "layer2"], images, FAST)
    trunk = residual.trunk(["layer1", "layer2"], Numerics("bf16", True, True)).model
    own = dict(residual.model.named_parameters())
    shared = {n for n, p in trunk.named_parameters() if n in own and p is own[n]}
    assert {n for n in own if n.startswith(("layer3", "layer4", "fc"))} <= shared
    assert "layer2.0.conv1.weight" not in shared


def test_only_convolutions_that_are_looked_at_are_kept_unfolded(residual: Backbone) -> None:
    trunk = residual.trunk(["layer1.0.conv1", "layer2.0.bn1", "layer2"], FAST)
    assert set(trunk.unfolded) == {"layer1.0.conv1"}
    assert trunk.same["layer2.0.conv1"] == "layer2.0.conv1"


class Noting:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def note(self, module: nn.Module, args: object, output: object) -> None:
        self.seen.append(output)


def test_what_is_bound_to_a_layer_is_bound_to_its_copy() -> None:
    """Functions set on a layer, hooks that write to an object: the original's stay its own."""
    network, noting = load_backbone("resnet18", "none"), Noting()
    conv, relu = network.model.layer1[0].conv1, network.model.relu
    conv.forward = types.MethodType(nn.Conv2d.forward, conv)
    relu.register_forward_hook(noting.note)
    copied = _sharing_copy(network.model)
    assert copied.layer1[0].conv1.forward.__self__ is copied.layer1[0].conv1
    copied(torch.zeros(1, 3, SIDE, SIDE))
    assert noting.seen == []
    first, own = copied.conv1, network.model.conv1
    assert first.weight is own.weight
    assert vars(first).keys() == vars(own).keys()
    shared = [k for k, v in vars(own).items() if isinstance(v, dict | list | set)]
    assert shared
    assert all(vars(first)[key] is not vars(own)[key] for key in shared)


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_bf16_is_autocasts_bit_for_bit(request: pytest.FixtureRequest, name: str) -> None:
    """Weights that are rounded once are those that autocast rounds in every pass."""
    backbone: Backbone = request.getfixturevalue(name)
    cut, side = ("layer2", 32) if name == "resnet18" else ("blocks.1", 224)
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = features(backbone, [cut], x)[cut]
    found = features(backbone, [cut], x, Numerics("bf16"))[cut]
    assert torch.equal(found, wanted)
    assert not torch.equal(found, features(backbone, [cut], x)[cut])


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownName, match="Precision 'fp8'"):
        Numerics("fp8")
    for wrong in (
        {"precision": "bf16", "channels_last": True}, {}, {"channels_last": True, "compile": True},
    ):  # fmt: skip
        with pytest.raises(UsageError, match="small_maps_first is for channels-last fp32"):
            Numerics(**wrong, small_maps_first=True)
    assert str(Numerics("bf16", True, True, True)) == (
        "bf16, channels-last, BatchNorm folded, compiled"
    )


def test_a_compiled_pass_is_made_once_for_batches_of_one_size(
    residual: Backbone, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a compiler that does nothing: what goes in has one shape and order, and rows fit."""
    from torch._dynamo.utils import counters

    seen: list[tuple[int, ...]] = []

    def translate(function, **options):
        def run(x):
            counters["stats"]["unique_graphs"] += 1
            seen.append((*x.shape, *x.stride()))
            return function(x)

        translated.append(options)
        return run

    translated: list[dict] = []
    monkeypatch.setattr(torch, "compile", translate)
    numerics = Numerics("fp32", True, True, True)
    wanted = features(residual, ["conv1", "layer1"], images, FAST)
    for _ in range(2):
        with Capture(residual, ["conv1", "layer1"], "flatten", numerics, batch_size=3) as capture:
            whole, part = capture(images), capture(images[:2])
        for cut in wanted:
            assert torch.equal(whole[cut], wanted[cut])
            assert torch.equal(part[cut], wanted[cut][:2])
    assert len(translated) == 1
    assert len(set(seen)) == 1
    with torch.no_grad():
        residual.model.conv1.weight.mul_(2)
    try:
        assert not torch.equal(
            features(residual, ["conv1"], images, numerics)["conv1"], wanted["conv1"]
        )
    finally:
        with torch.no_grad():
            residual.model.conv1.weight.div_(2)


def test_what_the_compiler_cannot_do_is_said(
    residual: Backbone, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def fails(function, **options):
        def run(x):
            raise BackendCompilerFailed(function, RuntimeError("Python.h: No such file"), None)

        return run

    monkeypatch.setattr(torch, "compile", fails)
    numerics = Numerics("fp32", True, True, True)
    with (
        Capture(residual, ["conv1"], numerics=numerics, batch_size=3) as capture,
        pytest.raises(
            UsageError, match=r"cannot be compiled here: .*Python\.h.*\. Leave --compile out"
        ),
    ):
        capture(images)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="there is no C++ compiler")
def test_compiled_features_are_the_plain_ones() -> None:
    """The layers behind the cut are taken out of the network, to have little to translate."""
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    cuts = ["conv1", "maxpool"]
    with torch.no_grad():
        residual = lively(load_backbone("resnet18", "none"))
    wanted = features(residual, cuts, x)
    for layer in ("layer1", "layer2", "layer3", "layer4", "fc"):
        setattr(residual.model, layer, nn.Identity())
    numerics = Numerics("fp32", True, True, True)
    with Capture(residual, cuts, "flatten", numerics, batch_size=4) as c:
        found, part = c(x), c(x[:3])
    for cut in cuts:
        assert relative(found[cut], wanted[cut]) < 1e-5
        assert torch.equal(part[cut], found[cut][:3])
