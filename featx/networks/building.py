"""From the plan of a small network to the network."""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from featx.errors import ShapeError, UsageError
from featx.networks.plans import N_CLASSES, SIZE, Layer, Plan, find_plan

if TYPE_CHECKING:
    from torch import nn


def build_zoo(
    name: str, n_classes: int = N_CLASSES, image_size: int | tuple[int, int] = SIZE
) -> nn.Module:
    """Return one of the small networks with torch's default initialization.

    Layers are named by their kind and counted: ``conv1``, ``relu1``, ``bn1``, ``pool1``,
    ``dropout1``, ``fc1``; ``flatten`` stands between maps and vectors, and the last dense layer is
    ``output``. Nothing works in place.

    Parameters
    ----------
    name : str
        One of `zoo_names`.
    n_classes : int
        Outputs, 2 or more.
    image_size : int or tuple of int
        Side of a square, or height and width, in pixels; the dense layers take no other.

    Returns
    -------
    nn.Sequential
        In training mode, on torch's default device; takes (N, 3, height, width) float32 and gives
        (N, n_classes) logits.

    Raises
    ------
    UnknownName
        When there is no such network.
    ShapeError
        When the images are too small; names the smallest square that is not.
    UsageError
        For fewer than two classes.

    Examples
    --------
    >>> model = build_zoo("cnn-a", n_classes=5)
    >>> model.get_submodule("output").out_features
    5
    """
    plan = find_plan(name)
    check_n_classes(n_classes)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not all(_left(plan, side) for side in size):
        smallest = next(side for side in itertools.count(1) if _left(plan, side))
        raise ShapeError(
            f"Images of {size[0]} x {size[1]} px are too small for {name}: nothing is left behind "
            f"its poolings. The smallest square size that works is {smallest} x {smallest}."
        )
    return _build(plan, n_classes, size)


def check_n_classes(n_classes: int) -> None:
    """Raise UsageError unless there are two classes or more to tell apart."""
    if n_classes < 2:
        raise UsageError(
            f"A network for {n_classes} class{'' if n_classes == 1 else 'es'} has nothing to tell "
            "apart. Give images of 2 classes or more."
        )


def _after(layer: Layer, side: int) -> int:
    """Return the side of a map behind a layer; below 1 where nothing is left."""
    if layer.kind == "conv":
        return side + 2 * layer.padding - layer.kernel + 1
    return side // 2 if layer.kind == "pool" else side


def _left(plan: Plan, side: int) -> int:
    """Return the side of the maps that are flattened, for images of that side; 0 for nothing."""
    for layer in plan.maps:
        side = max(_after(layer, side), 0)
    return side


def _build(plan: Plan, n_classes: int, size: tuple[int, int]) -> nn.Module:
    """Put the layers of a plan together for images of (height, width) pixels that fit."""
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    count: Counter[str] = Counter()
    width = 3

    def add(layer: Layer, *, flat: bool) -> None:
        nonlocal width
        count[layer.kind] += 1
        layers[f"{layer.kind}{count[layer.kind]}"] = _module(layer, width, flat=flat)
        width = layer.width or width

    for layer in plan.maps:
        add(layer, flat=False)
    layers["flatten"] = nn.Flatten()
    width *= _left(plan, size[0]) * _left(plan, size[1])
    for layer in plan.vectors:
        add(layer, flat=True)
    layers["output"] = nn.Linear(width, n_classes)
    for layer in plan.behind:
        add(layer, flat=True)
    return nn.Sequential(layers)


def _module(layer: Layer, width: int, *, flat: bool) -> nn.Module:
    """Return torch's module for a layer that takes `width` channels or values."""
    from torch import nn

    match layer.kind:
        case "conv":
            return nn.Conv2d(width, layer.width, layer.kernel, padding=layer.padding)
        case "fc":
            return nn.Linear(width, layer.width)
        case "bn":
            return nn.BatchNorm1d(width) if flat else nn.BatchNorm2d(width)
        case "pool":
            return nn.MaxPool2d(2)
        case "dropout":
            return nn.Dropout(layer.p)
        case "leaky":
            return nn.LeakyReLU()
        case "gelu":
            return nn.GELU()
        case _:
            return nn.ReLU()
