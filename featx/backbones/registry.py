"""Names of networks, and the networks themselves with random weights."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx.errors import UnknownName
from featx.torchvision_compat import import_timm, import_torchvision

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class Network:
    """A network of a library.

    Attributes
    ----------
    library : str
        ``"torchvision"`` or ``"timm"``.
    model : str
        The library's own name of it: ``"resnet50"``.
    """

    library: str
    model: str

    @property
    def name(self) -> str:
        """The canonical name: ``"torchvision/resnet50"``."""
        return f"{self.library}/{self.model}"

    @property
    def short_name(self) -> str:
        """The shortest name that finds it again: bare unless torchvision has the name too."""
        shadowed = self.library == "timm" and self.model in library_models("torchvision")
        return self.name if shadowed else self.model


@functools.cache
def library_models(library: str) -> frozenset[str]:
    """Return the names of the image classification networks of ``torchvision`` or ``timm``."""
    if library == "torchvision":
        models = import_torchvision().models
        # Detection, segmentation, video and quantized networks live in modules of their own.
        return frozenset(models.list_models(module=models))
    return frozenset(import_timm().list_models())


def list_networks() -> list[str]:
    """Return the short name of every network, torchvision's first, each library's sorted."""
    return [
        Network(library, model).short_name
        for library in LIBRARIES
        for model in sorted(library_models(library))
    ]


def find_network(name: str) -> Network:
    """Return the network called `name`.

    Parameters
    ----------
    name : str
        ``"timm/NAME"``, ``"torchvision/NAME"`` or a bare name, which is looked for in torchvision
        first and in timm then.

    Raises
    ------
    UnknownName
        Names the closest networks.
    """
    library, slash, model = name.partition("/")
    if slash and library in LIBRARIES:
        if model in library_models(library):
            return Network(library, model)
        valid = [f"{library}/{known}" for known in sorted(library_models(library))]
    else:
        for candidate in LIBRARIES:
            if name in library_models(candidate):
                return Network(candidate, name)
        valid = list_networks()
    hint = "Any image classification network of torchvision or timm will do."
    base, dot, tag = name.partition(".")
    if dot and base in {*valid, *library_models("timm")}:
        hint = f"A tag goes with the weights: '{base}' with weights '{tag}'."
    raise UnknownName("Network", name, valid, hint=hint)


def build(network: Network) -> nn.Module:
    """Return `network` with random weights, on the CPU, in training mode as libraries give it."""
    if network.library == "timm":
        model: nn.Module = import_timm().create_model(network.model, pretrained=False)
        return model
    options: dict[str, Any] = {}
    if network.model in ("googlenet", "inception_v3"):
        # As torchvision builds them for its weights: their input is normalized once more inside.
        options = {"transform_input": True, "init_weights": False}
    models = import_torchvision().models
    built: nn.Module = models.get_model(network.model, weights=None, **options)
    return built
