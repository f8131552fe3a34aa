"""Which modules of a network are its classifier, and which depend on the number of classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from featx.backbones.registry import Network, build
from featx.backbones.weight_files import inside

if TYPE_CHECKING:
    from torch import nn

# What torchvision calls the classifier of a network.
_TORCHVISION_HEADS = ("fc", "classifier", "head", "heads")


def classifier_modules(network: Network, model: nn.Module) -> list[str]:
    """Return the modules of a network's classifier, outermost names."""
    if network.library == "featx":
        return ["output"]
    if network.library == "torchvision":
        return [name for name, _ in model.named_children() if name in _TORCHVISION_HEADS]
    config = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    return [names] if isinstance(names, str) else list(names)


def head_modules(
    network: Network, model: nn.Module, n_classes: int, image_size: tuple[int, int]
) -> tuple[str, ...]:
    """Return the modules whose tensors have other shapes for one class more.

    Parameters
    ----------
    network : Network
        Which one.
    model : nn.Module
        As built for `n_classes` and `image_size`.
    n_classes : int
        Its outputs.
    image_size : tuple of int
        Height and width.
    """
    other = _build_shapes(network, n_classes + 1, image_size).state_dict()
    names = [
        name for name, tensor in model.state_dict().items() if tensor.shape != other[name].shape
    ]
    return outermost(name.rpartition(".")[0] or name for name in names)


def outermost(modules: Iterable[str]) -> tuple[str, ...]:
    """Return names without those that lie inside of another one, in their order."""
    names = list(dict.fromkeys(modules))
    return tuple(
        name for name in names if not inside(name, [other for other in names if other != name])
    )


def _build_shapes(network: Network, n_classes: int, image_size: tuple[int, int]) -> nn.Module:
    """Return a network whose tensors have shapes and no values, where its code allows that."""
    import torch

    try:
        with torch.device("meta"):
            return build(network, n_classes, image_size)
    except Exception:
        # Some networks compute with tensors while they are built.
        with torch.random.fork_rng(devices=[]):
            return build(network, n_classes, image_size)
