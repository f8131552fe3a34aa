from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from featx.backbones import Backbone, Capture, load_backbone
from featx.errors import ShapeError, UnknownName, UsageError
from featx.torchvision_compat import import_torchvision


def reference(backbone: Backbone, modules: list[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Values by torchvision's own tracing extractor, which rewires the graph instead of hooking."""
    import_torchvision()
    from torchvision.models.feature_extraction import create_feature_extractor

    extractor = create_feature_extractor(backbone.model, return_nodes={m: m for m in modules})
    with torch.inference_mode():
        return {name: value.clone() for name, value in extractor(x).items()}


def state_bits(model: nn.Module) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in model.state_dict().items()}


@contextmanager
def forbidden(backbone: Backbone, modules: list[str]) -> Iterator[None]:
    """Make modules raise when they run."""

    def refuse(module: nn.Module, args: object) -> None:
        raise AssertionError("a module behind the deepest cut ran")

    handles = [backbone.model.get_submodule(m).register_forward_pre_hook(refuse) for m in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("resnet18", ["conv1_relu", "stage1", "conv3_block1_out", "stage4", "avg_pool"]),
        ("resnet50", ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "stage4"]),
        ("vgg16", ["block1_conv1", "block3_conv1", "block4_conv1", "block5_pool", "fc2"]),
    ],
)
def test_values_are_those_of_torchvisions_extractor_bit_for_bit(
    request: pytest.FixtureRequest, name: str, cuts: list[str], images: torch.Tensor
) -> None:
    backbone: Backbone = request.getfixturevalue(name)
    # A stage is the same tensor as its last block, which the tracer knows by name.
    modules = [backbone.resolve(cut) for cut in cuts]
    leaves = [{"layer1": "layer1.1", "layer4": "layer4.1"}.get(m, m) for m in modules]
    if name == "resnet50":
        leaves = [m.replace("layer4.1", "layer4.2") for m in leaves]
    wanted = reference(backbone, leaves, images)
    with Capture(backbone, cuts, pool="flatten") as capture:
        found = capture(images)
    assert list(found) == cuts
    for cut, leaf in zip(cuts, leaves, strict=True):
        assert found[cut].dtype == torch.float32
        assert torch.equal(found[cut], wanted[leaf].flatten(1)), cut


@pytest.mark.parametrize(("conv", "relu"), [("features.17", "features.18"), ("conv1", "relu")])
def test_a_cut_before_an_in_place_relu_keeps_its_negative_values(
    request: pytest.FixtureRequest, conv: str, relu: str, images: torch.Tensor
) -> None:
    backbone: Backbone = request.getfixturevalue("vgg16" if "features" in conv else "resnet18")
    before = conv if "features" in conv else "bn1"
    assert backbone.model.get_submodule(relu).inplace
    x = images.clone()
    with torch.inference_mode():
        if before == "bn1":
            manual = backbone.model.bn1(backbone.model.conv1(x))
        else:
            manual = x
            for layer in backbone.model.features[:18]:
                manual = layer(manual.clone())
    with Capture(backbone, [before, relu], pool="flatten") as capture:
        found = capture(images)
    assert (found[before] < 0).any()
    assert torch.equal(found[before], manual.flatten(1))
    assert torch.equal(found[relu], manual.relu().flatten(1))


def test_a_pass_changes_neither_the_network_nor_the_images(
    resnet18: Backbone, images: torch.Tensor
) -> None:
    weights, pixels = state_bits(resnet18.model), images.clone()
    with Capture(resnet18, ["stage1", "stage4"]) as capture:
        first = capture(images)
        second = capture(images)
    assert state_bits(resnet18.model) == weights
    assert torch.equal(images, pixels)
    assert all(torch.equal(first[cut], second[cut]) for cut in first)
    assert not resnet18.model.training
    assert not any(p.requires_grad for p in resnet18.model.parameters())


def test_a_pass_that_is_not_at_its_end_disturbs_no_other(
    resnet18: Backbone, images: torch.Tensor
) -> None:
    with Capture(resnet18, ["layer2"]) as capture:
        alone = capture(images)["layer2"]
    with Capture(resnet18, ["layer1"], "flatten"), Capture(resnet18, ["layer2"]) as inner:
        assert torch.equal(inner(images)["layer2"], alone)
    assert not any(m._forward_hooks for m in resnet18.model.modules())


def test_names_give_several_poolings_to_one_cut(resnet18: Backbone, images: torch.Tensor) -> None:
    names = {"a": "layer1", "b": "stage1", "deep": "layer2"}
    with Capture(resnet18, names, {"a": "max", "b": "flatten", "deep": "avg"}) as capture:
        found = capture(images)
    assert list(found) == list(names)
    whole = found["b"].reshape(len(images), 64, -1)
    assert torch.equal(found["a"], whole.amax(2))
    with Capture(resnet18, ["layer2"]) as capture:
        assert torch.equal(found["deep"], capture(images)["layer2"])
    with pytest.raises(UsageError, match=r"No pooling is given for 'b', 'deep'"):
        Capture(resnet18, names, {"a": "max"})


def test_several_cuts_cost_one_pass_and_nothing_behind_runs(
    resnet18: Backbone, images: torch.Tensor
) -> None:
    passes: list[int] = []
    handle = resnet18.model.conv1.register_forward_pre_hook(lambda m, a: passes.append(1))
    try:
        # Asked for in another order than they run in.
        capture = Capture(resnet18, ["stage3", "stage1", "conv3_block1_out"])
        passes.clear()
        with forbidden(resnet18, ["layer4", "avgpool", "fc"]), capture:
            found = capture(images)
    finally:
        handle.remove()
    assert len(passes) == 1
    assert {cut: tuple(value.shape) for cut, value in found.items()} == {
        "stage3": (3, 256),
        "stage1": (3, 64),
        "conv3_block1_out": (3, 128),
    }


def test_the_guard_of_the_test_above_bites(resnet18: Backbone, images: torch.Tensor) -> None:
    with (
        forbidden(resnet18, ["layer4"]),
        Capture(resnet18, ["stage4"]) as capture,
        pytest.raises(AssertionError, match="behind the deepest cut"),
    ):
        capture(images)


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_go_even_after_an_error(resnet18: Backbone, images: torch.Tensor) -> None:
    capture = Capture(resnet18, ["stage1", "stage4"])
    assert hooks_of(resnet18.model) == 0
    with capture, pytest.raises(RuntimeError, match="channels"):
        capture(images[:, :1])
    assert hooks_of(resnet18.model) == 0
    with pytest.raises(KeyboardInterrupt), capture:
        raise KeyboardInterrupt
    assert hooks_of(resnet18.model) == 0
    with pytest.raises(RuntimeError, match="'with' block"):
        capture(images)
    with capture:
        assert set(capture(images)) == {"stage1", "stage4"}


def test_one_place_under_two_names_with_two_poolings(
    resnet18: Backbone, images: torch.Tensor
) -> None:
    with Capture(
        resnet18, ["stage2", "layer2"], pool={"stage2": "avg", "layer2": "max"}
    ) as capture:
        found = capture(images)
    assert (found["layer2"] >= found["stage2"]).all()
    assert not torch.equal(found["layer2"], found["stage2"])


def test_values_stay_when_the_next_batch_runs(resnet18: Backbone, images: torch.Tensor) -> None:
    with Capture(resnet18, ["stage1"], pool="flatten") as capture:
        first = capture(images)["stage1"]
        kept = first.clone()
        capture(images * 2)
    assert torch.equal(first, kept)


def test_what_cannot_be_cut_is_refused_before_any_image(resnet18: Backbone) -> None:
    with pytest.raises(UsageError, match="runs 2 times"):
        Capture(resnet18, ["layer1.0.relu"])
    with pytest.raises(UnknownName, match="Closest: 'stage1'"):
        Capture(resnet18, ["stage11"])
    with pytest.raises(UsageError, match="No cut is given"):
        Capture(resnet18, [])


def test_class_token_and_mean_of_a_transformer(vit: Backbone) -> None:
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = vit.model.forward_features(x)
    with Capture(vit, ["norm"], pool="cls") as capture:
        assert torch.equal(capture(x)["norm"], tokens[:, 0])
    with Capture(vit, ["norm"], pool="mean") as capture:
        torch.testing.assert_close(capture(x)["norm"], tokens[:, 1:].mean(1))
    with (
        Capture(vit, ["patch_embed"], pool="cls") as capture,
        pytest.raises(ShapeError, match="class token"),
    ):
        capture(x)


def test_registers_are_no_patches() -> None:
    backbone = load_backbone("timm/vit_small_patch14_reg4_dinov2", "none")
    assert backbone.prefix_tokens("blocks.2") == (5, True)
    assert backbone.prefix_tokens("patch_embed") == (0, False)
    registers_only = load_backbone("timm/vit_medium_patch16_reg4_gap_256", "none")
    assert registers_only.prefix_tokens("blocks.2") == (4, False)
    mixer = load_backbone("timm/mixer_s32_224", "none")
    assert mixer.prefix_tokens("blocks.0") == (0, False)


def test_channels_last_maps_are_pooled_over_positions() -> None:
    backbone = load_backbone("swin_t", "none")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = backbone.model.features[:2](x)
    assert wanted.shape == (2, 16, 16, 96)
    with Capture(backbone, ["stage1"], pool="flatten") as capture:
        flat = capture(x)["stage1"]
    assert torch.equal(flat.view(2, 96, 16, 16), wanted.permute(0, 3, 1, 2))
    with Capture(backbone, ["stage1"]) as capture:
        torch.testing.assert_close(capture(x)["stage1"], wanted.mean((1, 2)))


def test_pooling_is_float32_under_autocast(resnet18: Backbone, images: torch.Tensor) -> None:
    maps: list[torch.Tensor] = []
    handle = resnet18.model.layer1.register_forward_hook(lambda m, a, out: maps.append(out.clone()))
    try:
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            Capture(resnet18, ["stage1"], pool="gem") as capture,
        ):
            found = capture(images)["stage1"]
    finally:
        handle.remove()
    assert maps[0].dtype == torch.bfloat16
    assert found.dtype == torch.float32
    wanted = maps[0].double().clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
