"""A network layer by layer: what each puts out, holds and costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.backbones.probe import parents, trace

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LayerRow:
    """One layer of a network.

    Attributes
    ----------
    name : str
        The module's own name: ``"layer3.5.conv1"``.
    kind : str
        Its class: ``"Conv2d"``.
    shape : tuple of int
        Of its output for one image; empty for anything but one tensor.
    n_parameters : int
        That were not used before; shared ones count where they come first.
    multiply_adds : int
        Of convolutions, linear layers and matrix products, for one image.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    n_parameters: int
    multiply_adds: int


def layer_rows(
    model: nn.Module,
    image_size: int | tuple[int, int],
    *,
    name: str = "this network",
    native_size: int = 224,
) -> list[LayerRow]:
    """Return the layers of a network in order of execution.

    A layer is a module in which no other one ran. What a block computes by itself between two
    layers counts with the second one, so that the rows add up to the network's totals.

    Parameters
    ----------
    model : nn.Module
        Any network of images; its modules keep their modes.
    image_size : int or tuple of int
        Side of a square, or height and width, in pixels.
    name : str
        What messages call the network.
    native_size : int
        Pixels a side that it takes in any case, for messages.

    Raises
    ------
    ShapeError
        When the network cannot take that size.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    was_training = [module for module in model.modules() if module.training]
    try:
        found = trace(model.eval(), size, native_size=native_size, name=name)
    finally:
        for module in was_training:
            module.training = True
    around = {"", *(parent for ran in found.seen for parent in parents(ran))}
    rows: list[LayerRow] = []
    n_parameters = multiply_adds = 0
    for ran, seen in found.seen.items():
        if ran in around:
            continue
        rows.append(
            LayerRow(
                name=ran,
                kind=type(model.get_submodule(ran)).__name__,
                shape=(seen.output or ())[1:],
                n_parameters=seen.n_parameters - n_parameters,
                multiply_adds=seen.multiply_adds - multiply_adds,
            )
        )
        n_parameters, multiply_adds = seen.n_parameters, seen.multiply_adds
    return rows
