"""Names for places in a network: Keras' names and stages, mapped to the library's own modules.

An alias promises the position in the network, nothing more: weights and preprocessing may differ
from Keras'. Keras' VGG convolutions contain their ReLU, so ``block4_conv1`` of VGG16 is
torchvision's ``features.18``, the output of the ReLU, while ``features.17`` is the convolution
alone. Keras' ResNet-50 is version 1, with the stride on the first 1x1 convolution of a block;
torchvision's and timm's is "v1.5", with the stride on the 3x3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from featx.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from torch import nn

# Keras knows these depths; of the others (ResNeXt, wide) only the stages get names.
_KERAS_RESNET = re.compile(r"resnet(18|34|50|101|152)")

# Keras' name of what stands before and behind the stages -> its name in torchvision, in timm.
_RESNET_ENDS = {
    "conv1_relu": ("relu", "act1"),
    "pool1_pool": ("maxpool", "maxpool"),
    "avg_pool": ("avgpool", "global_pool"),
}

# Keras' name -> torchvision's Sequential, timm's convolutional form of the same layer.
_VGG_DENSE = {
    "fc1": ("classifier.1", "pre_logits.act1"),
    "fc2": ("classifier.4", "pre_logits.act2"),
}

# Class of a torchvision network -> its modules that end a stage (one resolution).
_TORCHVISION_STAGES = {
    "ConvNeXt": r"features\.[1357]",
    "DenseNet": r"features\.denseblock\d+",
    "EfficientNet": r"features\.[1-7]",
    "MaxVit": r"blocks\.\d+",
    "RegNet": r"trunk_output\.block\d+",
    "SwinTransformer": r"features\.[1357]",
}


class CutNames:
    """The names by which a network can be cut.

    Parameters
    ----------
    model : nn.Module
        The network.
    network : str
        The library's name of it: ``"resnet50"``.
    where : str
        What messages call it.

    Attributes
    ----------
    keras, stages : dict of str to str
        Alias to module name, in order from the input.
    modules : tuple of str
        Every module's own name.
    """

    def __init__(self, model: nn.Module, network: str, where: str) -> None:
        self.where = where
        self.modules = tuple(name for name, _ in model.named_modules() if name)
        self.keras = _keras_names(model, network, self.modules)
        self.stages = _stage_names(model, self.keras, self.modules)

    def resolve(self, cut: str) -> str:
        """Return the module a cut stands for.

        Raises
        ------
        UnknownName
            Names the closest cuts.
        UsageError
            When a stage is asked of a network that has no named ones.
        """
        if cut in self.keras:
            return self.keras[cut]
        if cut in self.stages:
            return self.stages[cut]
        if cut in self.modules:
            return cut
        hint = f"List them all: featx layers {self.where}"
        if re.fullmatch(r"stage\d+", cut) and not self.stages:
            raise UsageError(
                f"Cut '{cut}': {self.where} has no named stages. Use a module's name. {hint}"
            )
        # Short names first: among equally close ones they are what was meant.
        raise UnknownName(
            "Cut", cut, [*self.keras, *self.stages, *self.modules], where=self.where, hint=hint
        )

    def aliases_of(self, module: str) -> tuple[str, ...]:
        """Return Keras' name of a module, then its stage's."""
        names = {**self.keras, **self.stages}
        return tuple(alias for alias, target in names.items() if target == module)


def _keras_names(model: nn.Module, network: str, modules: Sequence[str]) -> dict[str, str]:
    """Return alias to module for the families Keras has: VGG and ResNet."""
    if _is_vgg(model):
        names = _vgg_features(model)
        names |= _first_there(_VGG_DENSE, modules)
    elif _is_resnet(model) and _KERAS_RESNET.fullmatch(network):
        names = {}
        for module in modules:
            if found := re.fullmatch(r"layer(\d)\.(\d+)", module):
                stage, block = int(found[1]) + 1, int(found[2]) + 1
                names[f"conv{stage}_block{block}_out"] = module
        ends = _first_there(_RESNET_ENDS, modules)
        last = {"avg_pool": ends.pop("avg_pool")}
        names = {**ends, **names, **last}
    else:
        names = {}
    return names


def _stage_names(
    model: nn.Module, keras: dict[str, str], modules: tuple[str, ...]
) -> dict[str, str]:
    """Return ``stage1``... to the module that ends each stage."""
    if _is_vgg(model):
        ends = [module for alias, module in keras.items() if alias.endswith("_pool")]
    elif _is_resnet(model):
        ends = [name for name in ("layer1", "layer2", "layer3", "layer4") if name in modules]
    elif isinstance(infos := getattr(model, "feature_info", None), list):
        ends = [info["module"] for info in infos if info.get("module") in modules]
    else:
        pattern = _TORCHVISION_STAGES.get(type(model).__name__)
        ends = [name for name in modules if pattern and re.fullmatch(pattern, name)]
    stages = {f"stage{number}": name for number, name in enumerate(ends, 1)}
    # Where the library's own modules are called stage2, ... those names are theirs.
    return {} if any(alias in modules for alias in stages) else stages


def _is_vgg(model: nn.Module) -> bool:
    return type(model).__name__ == "VGG"


def _is_resnet(model: nn.Module) -> bool:
    return type(model).__name__ == "ResNet"


def _vgg_features(model: nn.Module) -> dict[str, str]:
    """Walk a VGG's features: each ReLU ends a convolution, each pooling ends a block."""
    names = {}
    block, conv = 1, 0
    for index, layer in model.get_submodule("features").named_children():
        kind = type(layer).__name__
        if kind == "ReLU":
            conv += 1
            names[f"block{block}_conv{conv}"] = f"features.{index}"
        elif kind == "MaxPool2d":
            names[f"block{block}_pool"] = f"features.{index}"
            block, conv = block + 1, 0
    return names


def _first_there(table: Mapping[str, Sequence[str]], modules: Sequence[str]) -> dict[str, str]:
    """Return alias to the first of its candidate modules that exists."""
    return {
        alias: next(name for name in candidates if name in modules)
        for alias, candidates in table.items()
    }
