from __future__ import annotations

import pytest
import torch
from torch import nn

from featx.backbones import Backbone, load_backbone
from featx.backbones.cuts import CutNames
from featx.backbones.registry import Network, build
from featx.errors import UnknownName, UsageError

# Keras' names, by hand: keras.applications' layers and where torchvision has them.
VGG16 = {
    "block1_conv1": "features.1",
    "block1_conv2": "features.3",
    "block1_pool": "features.4",
    "block2_conv1": "features.6",
    "block2_conv2": "features.8",
    "block2_pool": "features.9",
    "block3_conv1": "features.11",
    "block3_conv2": "features.13",
    "block3_conv3": "features.15",
    "block3_pool": "features.16",
    "block4_conv1": "features.18",
    "block4_conv2": "features.20",
    "block4_conv3": "features.22",
    "block4_pool": "features.23",
    "block5_conv1": "features.25",
    "block5_conv2": "features.27",
    "block5_conv3": "features.29",
    "block5_pool": "features.30",
    "fc1": "classifier.1",
    "fc2": "classifier.4",
}


def names_of(network: str, library: str = "torchvision") -> CutNames:
    # Names need no numbers, and a VGG has many.
    with torch.device("meta" if network.startswith("vgg") else "cpu"):
        return CutNames(build(Network(library, network)), network, network)


def test_vgg16_has_keras_names_in_keras_order(vgg16: Backbone) -> None:
    assert {alias: vgg16.resolve(alias) for alias in VGG16} == VGG16
    listed = [alias for p in vgg16.cut_points(32) for alias in p.aliases if "stage" not in alias]
    assert listed == list(VGG16)
    for alias, module in VGG16.items():
        wanted = nn.MaxPool2d if alias.endswith("pool") else nn.ReLU
        assert isinstance(vgg16.model.get_submodule(module), wanted)


def test_batch_norm_moves_the_modules_not_the_names() -> None:
    names = names_of("vgg11_bn")
    assert names.resolve("block3_conv1") == "features.10"
    with torch.device("meta"):
        layers = build(Network("torchvision", "vgg11_bn")).features
    assert [type(layers[n]).__name__ for n in (8, 9, 10)] == ["Conv2d", "BatchNorm2d", "ReLU"]


def test_resnet50_has_keras_names(resnet50: Backbone) -> None:
    wanted = {
        "conv1_relu": "relu",
        "pool1_pool": "maxpool",
        "conv2_block3_out": "layer1.2",
        "conv3_block4_out": "layer2.3",
        "conv4_block6_out": "layer3.5",
        "conv5_block3_out": "layer4.2",
        "avg_pool": "avgpool",
        "stage1": "layer1",
        "stage4": "layer4",
        "layer3.5": "layer3.5",
    }
    assert {alias: resnet50.resolve(alias) for alias in wanted} == wanted
    assert resnet50.aliases_of("layer3.5") == ("conv4_block6_out",)
    assert resnet50.aliases_of("layer3") == ("stage3",)
    assert resnet50.aliases_of("layer3.5.conv1") == ()
    # 2 in front, 16 blocks, the average behind: as many as Keras' ResNet50 has.
    assert len([p for p in resnet50.cut_points(32) if "_" in "".join(p.aliases)]) == 19


@pytest.mark.parametrize(
    ("library", "network", "cut", "module"),
    [
        ("timm", "resnet18", "conv1_relu", "act1"),
        ("timm", "resnet18", "avg_pool", "global_pool"),
        ("timm", "resnet18", "stage1", "layer1"),
        ("timm", "vgg11", "fc1", "pre_logits.act1"),
        ("timm", "vgg11", "stage5", "features.20"),
        ("timm", "tf_efficientnet_lite0", "stage5", "blocks.6"),
        ("timm", "convnext_atto", "stage4", "stages.3"),
        ("torchvision", "densenet121", "stage4", "features.denseblock4"),
        ("torchvision", "efficientnet_b0", "stage7", "features.7"),
        ("torchvision", "regnet_x_400mf", "stage2", "trunk_output.block2"),
        # Their own modules of that name.
        ("torchvision", "shufflenet_v2_x0_5", "stage2", "stage2"),
        ("timm", "hrnet_w18_small", "stage2", "stage2"),
    ],
)
def test_families(library: str, network: str, cut: str, module: str) -> None:
    assert names_of(network, library).resolve(cut) == module


def test_keras_names_are_for_the_networks_keras_has() -> None:
    names = names_of("resnext50_32x4d")
    assert names.keras == {}
    assert names.resolve("stage3") == "layer3"


@pytest.mark.parametrize(
    ("cut", "closest"), [("layer5", "'layer4'"), ("conv4_blok2_out", "'conv4_block2_out'")]
)
def test_an_unknown_cut_gets_the_closest(resnet18: Backbone, cut: str, closest: str) -> None:
    with pytest.raises(UnknownName) as caught:
        resnet18.resolve(cut)
    text = str(caught.value)
    assert text.startswith(f"Cut '{cut}' is not in resnet18. Closest: ")
    assert closest in text
    assert text.endswith("List them all: featx layers resnet18")


def test_a_network_without_stages_says_so() -> None:
    backbone = load_backbone("mobilenet_v3_small", "none")
    with pytest.raises(UsageError, match="mobilenet_v3_small has no named stages"):
        backbone.resolve("stage1")
