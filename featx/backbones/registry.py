"""Names of networks, and the networks themselves with random weights."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx import networks
from featx.errors import UnknownName
from featx.torchvision_compat import import_timm, import_torchvision

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torchvision", "timm", "featx")

# They bring two more classifiers, for training them as their papers did.
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Network:
    """A network of a library.

    Attributes
    ----------
    library : str
        ``"torchvision"``, ``"timm"`` or ``"featx"`` (the small networks of `featx.networks`).
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
    """Return the names of the image classification networks of a library."""
    if library == "featx":
        return frozenset(networks.zoo_names())
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
        ``"timm/NAME"``, ``"torchvision/NAME"``, ``"featx/NAME"`` or a bare name. Bare names of
        torchvision's networks are torchvision's; featx' own are in no other library.

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
        # featx' own first: the other libraries are slow to import.
        for candidate in ("featx", "torchvision", "timm"):
            if name in library_models(candidate):
                return Network(candidate, name)
        valid = list_networks()
    hint = "Any image classification network of torchvision or timm will do, and featx' own."
    base, dot, tag = name.partition(".")
    if dot and base in {*valid, *library_models("timm")}:
        hint = f"A tag goes with the weights: '{base}' with weights '{tag}'."
    raise UnknownName("Network", name, valid, hint=hint)


def build(
    network: Network,
    n_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> nn.Module:
    """Return `network` with random weights, on the CPU, in training mode as libraries give it.

    Parameters
    ----------
    network : Network
        Which one.
    n_classes : int, optional
        Outputs; as many as the library's own weights have (10 for featx' networks) if not given.
        GoogLeNet and Inception then come without their auxiliary classifiers.
    image_size : int or tuple of int, optional
        Side, or height and width, in pixels, for featx' networks: their dense layers take one
        size. The others do not ask for it.

    Raises
    ------
    UsageError
        For fewer than two classes.
    ShapeError
        When one of featx' networks cannot take images that small.
    """
    if n_classes is not None:
        networks.check_n_classes(n_classes)
    if network.library == "featx":
        return networks.build_zoo(
            network.model, n_classes or networks.N_CLASSES, image_size or networks.SIZE
        )
    options: dict[str, Any] = {} if n_classes is None else {"num_classes": n_classes}
    if network.library == "timm":
        model: nn.Module = import_timm().create_model(network.model, pretrained=False, **options)
        return model
    if network.model in WITH_AUXILIARY_HEADS:
        # As torchvision builds them for its weights: their input is normalized once more inside.
        options |= {"transform_input": True, "init_weights": False}
        if n_classes is not None:
            options["aux_logits"] = False
    models = import_torchvision().models
    built: nn.Module = models.get_model(network.model, weights=None, **options)
    return built
