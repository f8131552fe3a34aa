from __future__ import annotations

import pytest
import torch

from featx.backbones.registry import Network, build, find_network, list_networks
from featx.errors import UnknownName


@pytest.mark.parametrize(
    ("asked", "name", "short"),
    [
        ("resnet50", "torchvision/resnet50", "resnet50"),
        ("torchvision/resnet50", "torchvision/resnet50", "resnet50"),
        ("timm/resnet50", "timm/resnet50", "timm/resnet50"),
        ("tf_efficientnet_lite0", "timm/tf_efficientnet_lite0", "tf_efficientnet_lite0"),
        ("timm/tf_efficientnet_lite0", "timm/tf_efficientnet_lite0", "tf_efficientnet_lite0"),
    ],
)
def test_bare_names_are_torchvisions_first(asked: str, name: str, short: str) -> None:
    network = find_network(asked)
    assert network.name == name
    assert network.short_name == short
    assert find_network(network.short_name) == network


def test_every_core_network_is_listed_and_only_classifiers_are() -> None:
    names = list_networks()
    depths = (18, 34, 50, 101, 152)
    core = [f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn")]
    assert {*core, *(f"resnet{n}" for n in depths)} <= set(names)
    assert {"timm/resnet50", "tf_efficientnet_lite0"} <= set(names)
    assert "fasterrcnn_resnet50_fpn" not in names
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("resnet05", "'resnet50'"),
        ("timm/efficientnet_lite9", "'timm/efficientnet_lite4'"),
        ("resnet50.a1_in1k", "'resnet50' with weights 'a1_in1k'"),
        ("keras/vgg16", "'vgg16'"),
    ],
)
def test_an_unknown_name_gets_the_closest(wrong: str, said: str) -> None:
    with pytest.raises(UnknownName) as caught:
        find_network(wrong)
    assert f"Network '{wrong}' is not known" in str(caught.value)
    assert said in str(caught.value)


def test_inception_is_built_as_for_its_weights() -> None:
    # torchvision normalizes the input once more inside, but only when it loads the weights itself.
    model = build(Network("torchvision", "googlenet"))
    assert model.transform_input is True
    assert isinstance(model, torch.nn.Module)
