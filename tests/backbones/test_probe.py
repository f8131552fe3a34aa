from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from featx.backbones import Backbone, CutPoint, load_backbone
from featx.backbones.probe import (
    Trace,
    kind_and_shape,
    modules_up_to,
    parameters_up_to,
    trace,
)
from featx.errors import ShapeError, UnknownName, UsageError


def by_module(points: list[CutPoint]) -> dict[str, CutPoint]:
    return {point.module: point for point in points}


@pytest.mark.parametrize(
    ("name", "giga_multiply_adds", "n_parameters"),
    # Published by torchvision with its weights (`_ops`, `num_params`).
    [("vgg16", 15.470, 138_357_544), ("resnet50", 4.089, 25_557_032), ("resnet18", 1.814, None)],
)
def test_totals_are_the_published_ones(
    request: pytest.FixtureRequest, name: str, giga_multiply_adds: float, n_parameters: int | None
) -> None:
    backbone: Backbone = request.getfixturevalue(name)
    last = backbone.cut_points(224)[-1]
    assert round(last.multiply_adds / 1e9, 3) == giga_multiply_adds
    total = sum(p.numel() for p in backbone.model.parameters())
    assert last.n_parameters == total
    assert n_parameters in (total, None)


def test_costs_add_up_layer_by_layer(vgg16: Backbone) -> None:
    points = by_module(vgg16.cut_points(32))
    # 3x3 convolutions with bias, at 32 and 16 px: positions x 9 x in x out.
    first = 32 * 32 * 9 * 3 * 64
    second = first + 32 * 32 * 9 * 64 * 64
    third = second + 16 * 16 * 9 * 64 * 128
    assert points["features.1"].multiply_adds == first
    assert points["features.3"].multiply_adds == second
    assert points["features.6"].multiply_adds == third
    assert points["features.1"].n_parameters == 3 * 64 * 9 + 64
    assert points["features.4"].n_parameters == points["features.3"].n_parameters
    assert points["features.4"].shape == (64, 16, 16)
    assert points["features.4"].n_flat == 64 * 16 * 16


def test_points_come_in_order_of_execution(resnet50: Backbone) -> None:
    points = resnet50.cut_points(64, all_modules=True)
    assert [p.order for p in points] == sorted(p.order for p in points)
    for before, after in itertools.pairwise(points):
        assert before.multiply_adds <= after.multiply_adds
        assert before.n_parameters <= after.n_parameters
    modules = [p.module for p in points]
    # Registered before, but run behind: the shortcut of a block.
    assert modules.index("layer2.0.bn3") < modules.index("layer2.0.downsample.0")
    # The shared ReLU of a block runs three times and is no single place.
    assert "layer2.0.relu" not in modules
    assert "relu" in modules


class Transposed(nn.Module):
    """A product of matrices without weights, as in attention."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x.transpose(2, 3)


class Borrowing(nn.Module):
    """A convolution that never runs: what takes its weights is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.conv.weight)


class Subclass(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("layer", "matter"),
    [
        (nn.Conv2d(3, 4, 3), False),
        (nn.Conv2d(3, 4, 1, padding="same"), False),
        (nn.Conv2d(3, 4, 3, padding="same"), True),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), True),
        (Subclass(3, 4, 3), True),
        (Borrowing(), True),
        (Transposed(), True),
        (nn.BatchNorm2d(3), False),
        (nn.GroupNorm(1, 3), True),
        (nn.SiLU(), True),
        (nn.GELU(), True),
        (nn.Hardswish(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_threads_matter_behind_what_they_may_change(layer: nn.Module, matter: bool) -> None:
    """And before it they do not."""
    layers = [nn.ReLU(), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU6()]
    found = trace(nn.Sequential(*layers).eval(), (8, 8), native_size=8, name="net")
    behind = {"1", "1.conv", "2", "3", "4", ""} if matter else set()
    assert {name for name, seen in found.seen.items() if seen.threads_matter} == behind & set(
        found.seen
    )


def test_the_short_list_is_the_named_top_and_block_modules(resnet18: Backbone) -> None:
    modules = [p.module for p in resnet18.cut_points(32)]
    assert modules[:4] == ["conv1", "bn1", "relu", "maxpool"]
    assert "layer2.0" in modules
    assert "layer2.0.conv1" not in modules
    assert "layer2.0.downsample" not in modules
    assert modules[-2:] == ["avgpool", "fc"]
    point = by_module(resnet18.cut_points(32))["layer3.1"]
    assert (point.aliases, point.stage, point.kind) == (("conv4_block2_out",), "stage3", "map")
    assert (point.shape, point.n_flat, point.n_pooled) == ((256, 2, 2), 1024, 256)
    assert by_module(resnet18.cut_points(32))["fc"].stage is None


def test_pooling_decides_the_third_column(resnet18: Backbone) -> None:
    assert by_module(resnet18.cut_points(64, pool="avgmax"))["layer1"].n_pooled == 128
    assert by_module(resnet18.cut_points(64, pool="grid:3"))["layer1"].n_pooled == 64 * 9
    # No map has a class token: only the vector is left.
    assert list(by_module(resnet18.cut_points(64, pool="cls"))) == ["fc"]


def test_describe_cuts_keeps_the_order_that_was_asked(resnet18: Backbone) -> None:
    points = resnet18.describe_cuts(["stage4", "conv1_relu"], (64, 96), pool="flatten")
    assert [(p.module, p.shape) for p in points] == [
        ("layer4", (512, 2, 3)),
        ("relu", (64, 32, 48)),
    ]
    pools = {"stage4": "max", "conv1_relu": "grid:2"}
    points = resnet18.describe_cuts(["stage4", "conv1_relu"], 64, pool=pools)
    assert [p.n_pooled for p in points] == [512, 256]
    with pytest.raises(UsageError, match="No pooling is given for 'conv1_relu'"):
        resnet18.describe_cuts(["stage4", "conv1_relu"], 64, pool={"stage4": "max"})
    with pytest.raises(UnknownName, match="Closest: 'stage4'"):
        resnet18.describe_cuts(["stage44"], 64)


def test_a_module_that_runs_twice_names_the_block_around_it(resnet18: Backbone) -> None:
    with pytest.raises(UsageError) as caught:
        resnet18.describe_cuts(["layer1.0.relu"], 32)
    assert "'layer1.0.relu' runs 2 times" in str(caught.value)
    assert "'layer1.0'" in str(caught.value)


def test_modules_that_never_run_or_give_no_tensor_are_refused() -> None:
    backbone = load_backbone("vit_b_32", "none")
    block = "encoder.layers.encoder_layer_0.self_attention"
    with pytest.raises(UsageError, match="puts out a tuple"):
        backbone.describe_cuts([block], 224)
    with pytest.raises(UsageError, match="never runs in vit_b_32"):
        backbone.describe_cuts([f"{block}.out_proj"], 224)
    # Its weights are used all the same, by the module around it; torchvision publishes 4.41 G.
    last = backbone.cut_points(224)[-1]
    assert last.n_parameters == 88_224_232
    assert round(last.multiply_adds / 1e9, 2) == 4.41


def test_too_small_an_image_gets_the_smallest_size_that_works(vgg16: Backbone) -> None:
    with pytest.raises(ShapeError) as caught:
        vgg16.cut_points(16)
    assert "Images of 16 x 16 px do not pass through vgg16" in str(caught.value)
    assert "smallest square size that works is 32 x 32" in str(caught.value)
    assert vgg16.cut_points(32)
    with pytest.raises(ShapeError):
        vgg16.cut_points(31)
    with pytest.raises(ShapeError, match="Image size 0 x 0 px is not possible"):
        vgg16.cut_points(0)


def test_a_network_of_one_size_says_which(vit: Backbone) -> None:
    with pytest.raises(ShapeError, match="smallest square size that works is 224 x 224"):
        vit.cut_points(64)
    with pytest.raises(ShapeError, match="Its own size is 224 x 224"):
        vit.cut_points(384)


def test_transformer_tokens(vit: Backbone) -> None:
    point = by_module(vit.cut_points(224))["blocks.3"]
    assert (point.kind, point.shape, point.n_flat, point.n_pooled) == (
        "tokens",
        (197, 192),
        197 * 192,
        192,
    )
    # The patch embedding has no class token yet.
    with pytest.raises(ShapeError, match="class token"):
        vit.describe_cuts(["patch_embed"], 224, pool="cls")
    assert vit.describe_cuts(["blocks.3"], 224, pool="cls")[0].n_pooled == 192


def test_channels_last_maps_are_shown_as_c_h_w() -> None:
    backbone = load_backbone("swin_t", "none")
    points = by_module(backbone.cut_points(64))
    assert points["features.1"].shape == (96, 16, 16)
    assert points["permute"].shape == (768, 2, 2)
    assert points["features.7"].aliases == ("stage4",)


@pytest.mark.parametrize(
    ("output", "size", "believe", "wanted"),
    [
        ((2, 64, 8, 8), (32, 32), True, ("map", (64, 8, 8), False)),
        ((2, 8, 8, 64), (32, 32), False, ("map", (64, 8, 8), True)),
        ((2, 8, 8, 8), (32, 32), False, ("map", (8, 8, 8), False)),
        ((2, 8, 8, 8), (32, 32), True, ("map", (8, 8, 8), True)),
        ((2, 16, 8, 16), (32, 64), True, ("map", (16, 8, 16), False)),
        ((2, 8, 16, 16), (32, 64), False, ("map", (16, 8, 16), True)),
        ((2, 5, 7), (32, 32), False, ("tokens", (5, 7), False)),
        ((2, 5), (32, 32), False, ("vector", (5,), False)),
        ((2, 1, 2, 3, 4), (32, 32), False, ("", (1, 2, 3, 4), False)),
    ],
)
def test_shapes_tell_what_an_output_is(
    output: tuple[int, ...], size: tuple[int, int], believe: bool, wanted: tuple[object, ...]
) -> None:
    assert kind_and_shape(output, size, channels_last=believe) == wanted


def test_what_has_one_row_for_all_images_is_no_cut() -> None:
    backbone = load_backbone("swin_v2_t", "none")
    # The bias of the relative positions, computed once for the whole batch.
    inside = "features.1.0.attn.cpb_mlp"
    with pytest.raises(UsageError, match="for 2 images: no map, tokens or vector per image"):
        backbone.describe_cuts([inside], 64)
    assert inside not in by_module(backbone.cut_points(64, all_modules=True))


class Stubborn(nn.Module):
    """Looks at its numbers, which the meta device does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.again = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if float(y.sum()) > 0:
            y = y + 1
        tokens = y.flatten(2)
        tokens = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.again(self.conv(nn.functional.pad(tokens[:, :3].view(-1, 3, 6, 6), [1] * 4)))


def test_a_network_that_needs_numbers_is_probed_with_numbers() -> None:
    model = Stubborn().eval()
    found = trace(model, (8, 8), native_size=8, name="stubborn")
    assert found.seen["conv"].output == (2, 4, 6, 6)
    assert found.seen["conv"].multiply_adds == 36 * 27 * 4
    assert found.seen["conv"].n_parameters == 4 * 27 + 4
    assert list(found.seen) == ["conv", "again", ""]
    assert found.runs["conv"] == 2
    # The attention of 4 tokens of 36 values, both ways; the shared weights count once.
    last = found.seen[""]
    assert last.multiply_adds == 2 * 36 * 27 * 4 + 2 * 4 * 4 * 36
    assert last.n_parameters == 4 * 27 + 4
    assert not model._forward_hooks
    assert not model.conv._forward_hooks


def traced(backbone: Backbone, size: int) -> Trace:
    return trace(backbone.model, (size, size), native_size=size, name=backbone.short_name)


def test_what_is_used_up_to_a_cut_has_names(resnet18: Backbone) -> None:
    found = traced(resnet18, 64)
    before = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2")
    model = resnet18.model
    assert parameters_up_to(found, "layer2") == {
        name for name, _ in model.named_parameters() if name.split(".")[0] in before
    }
    modules = modules_up_to(found, "layer2")
    assert set(modules) == {
        name for name, _ in model.named_modules() if name.split(".")[0] in before
    }
    assert len(modules) == len(set(modules))
    assert modules[:2] == ("conv1", "bn1")
    assert modules[-1] == "layer2"
    # Inside of a block: its shortcut runs behind its convolutions.
    inside = parameters_up_to(found, "layer2.0.conv2")
    assert "layer2.0.conv2.weight" in inside
    assert "layer2.0.downsample.0.weight" not in inside
    assert parameters_up_to(found, "conv1") == {"conv1.weight"}
    assert modules_up_to(found, "conv1") == ("conv1",)
    assert parameters_up_to(found, "fc") == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("vit", 224)])
def test_names_and_numbers_of_parameters_agree(
    request: pytest.FixtureRequest, name: str, size: int
) -> None:
    backbone: Backbone = request.getfixturevalue(name)
    found = traced(backbone, size)
    n = {name: parameter.numel() for name, parameter in backbone.model.named_parameters()}
    for module, seen in found.seen.items():
        assert sum(n[name] for name in parameters_up_to(found, module)) == seen.n_parameters


def test_parameters_outside_of_modules_are_named_where_they_are_used(vit: Backbone) -> None:
    found = traced(vit, 224)
    assert not {"cls_token", "pos_embed"} & parameters_up_to(found, "patch_embed")
    assert {"cls_token", "pos_embed"} <= parameters_up_to(found, "blocks.0")


class Tied(nn.Module):
    """Two layers with one weight, and one that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 3, 1)
        self.two = nn.Conv2d(3, 3, 1)
        self.two.weight = self.one.weight
        self.idle = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x))


def test_a_shared_parameter_is_known_by_all_its_names() -> None:
    found = trace(Tied().eval(), (4, 4), native_size=4, name="tied")
    assert found.first_use == {"one.weight": 0, "one.bias": 0, "two.weight": 0, "two.bias": 1}
    assert parameters_up_to(found, "one") == {"one.weight", "one.bias", "two.weight"}
    assert found.seen[""].n_parameters == 9 + 3 + 3


def test_a_module_with_two_names_has_its_tensors_back_after_a_pass() -> None:
    class TwoNames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.around = nn.Sequential(self.conv)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.around(x)

    model = TwoNames().eval().requires_grad_(False)
    wanted = model.conv.weight.clone()
    trace(model, (8, 8), native_size=8, name="two names")
    assert torch.equal(model.conv.weight, wanted)


def test_a_real_pass_names_parameters_too() -> None:
    found = trace(Stubborn().eval(), (8, 8), native_size=8, name="stubborn")
    assert parameters_up_to(found, "conv") == {"conv.weight", "conv.bias"}
