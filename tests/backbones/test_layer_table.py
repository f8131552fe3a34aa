"""Networks layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from featx.backbones import Backbone, load_backbone
from featx.backbones.layer_table import LayerRow, layer_rows
from featx.backbones.registry import Network, build
from featx.errors import ShapeError
from featx.networks import build_zoo


def test_rows_are_the_layers_with_what_each_holds_and_costs() -> None:
    rows = layer_rows(build_zoo("conv2", n_classes=5), 32)
    assert rows[0] == LayerRow("conv1", "Conv2d", (6, 28, 28), 6 * 76, 28 * 28 * 75 * 6)
    assert rows[2] == LayerRow("pool1", "MaxPool2d", (6, 14, 14), 0, 0)
    assert rows[3] == LayerRow("conv2", "Conv2d", (16, 10, 10), 16 * 151, 10 * 10 * 150 * 16)
    assert rows[6] == LayerRow("flatten", "Flatten", (400,), 0, 0)
    assert rows[-1] == LayerRow("output", "Linear", (5,), 84 * 5 + 5, 84 * 5)


def test_height_and_width_may_differ() -> None:
    rows = layer_rows(build_zoo("cnn-a", image_size=(32, 48)), (32, 48))
    assert rows[4].shape == (32, 16, 24)
    assert rows[-1].shape == (10,)


@pytest.mark.parametrize(
    ("name", "giga_multiply_adds", "n_parameters"),
    # Published by torchvision with its weights (`_ops`, `num_params`).
    [
        ("alexnet", 0.714, 61_100_840),
        ("googlenet", 1.498, 6_624_904),
        ("resnet18", 1.814, 11_689_512),
        ("vit_b_32", 4.409, 88_224_232),
    ],
)
def test_rows_add_up_to_the_published_totals(
    name: str, giga_multiply_adds: float, n_parameters: int
) -> None:
    rows = layer_rows(build(Network("torchvision", name), 1000), 224)
    assert round(sum(row.multiply_adds for row in rows) / 1e9, 3) == giga_multiply_adds
    assert sum(row.n_parameters for row in rows) == n_parameters


def test_layers_come_in_order_of_execution_and_blocks_do_not(resnet18: Backbone) -> None:
    names = [row.name for row in layer_rows(resnet18.model, 64)]
    assert names[:4] == ["conv1", "bn1", "relu", "maxpool"]
    assert names.index("layer2.0.bn2") < names.index("layer2.0.downsample.0")
    assert "layer2.0" not in names
    assert len(names) == len(set(names))


def test_a_module_that_runs_no_other_is_a_layer() -> None:
    """The attention's own output layer never runs: its weights are used by what is around it."""
    backbone = load_backbone("vit_b_32", "none")
    rows = {row.name: row for row in layer_rows(backbone.model, 224)}
    attention = rows["encoder.layers.encoder_layer_0.self_attention"]
    assert (attention.kind, attention.shape) == ("MultiheadAttention", ())
    assert attention.n_parameters == 4 * (768 * 768 + 768)
    assert not any("out_proj" in name for name in rows)


class Listed(nn.Module):
    """Runs layers out of a list, which does not run itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 3, 3), nn.ReLU()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_block_with_its_layers_in_a_list_is_no_layer() -> None:
    rows = layer_rows(nn.Sequential(Listed()), 8)
    assert [row.name for row in rows] == ["0.layers.0", "0.layers.1"]


def test_modes_and_statistics_stay_as_they_are() -> None:
    model = build_zoo("grid-relu-bn")
    model.get_submodule("bn2").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer_rows(model, 32)
    modes = {name: module.training for name, module in model.named_modules()}
    assert [name for name, training in modes.items() if not training] == ["bn2"]
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_an_image_that_is_too_small_gets_the_smallest_size_that_works() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 4, 5))
    with pytest.raises(ShapeError) as caught:
        layer_rows(model, 6, name="mine", native_size=32)
    assert "Images of 6 x 6 px do not pass through mine" in str(caught.value)
    assert "The smallest square size that works is 9 x 9" in str(caught.value)
    assert model.training


def test_no_size_is_promised_where_none_is_known_to_work() -> None:
    model = nn.Linear(7, 2)
    with pytest.raises(ShapeError) as caught:
        layer_rows(model, 32, name="mine")
    assert "Images of 32 x 32 px do not pass through mine" in str(caught.value)
    assert "size that works" not in str(caught.value)
