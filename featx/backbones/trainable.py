"""Names in, a network out that is ready to be trained: weights where they came, a new head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.backbones.classifiers import classifier_modules, head_modules, outermost
from featx.backbones.cuts import CutNames
from featx.backbones.load import (
    build_seeded,
    checked_preprocess,
    find_source,
    preprocess_notes,
    read_source,
    weights_info,
)
from featx.backbones.preprocessing import preprocess_of_tag
from featx.backbones.probe import Trace, trace
from featx.backbones.registry import WITH_AUXILIARY_HEADS, Network
from featx.backbones.saved import SavedModel
from featx.backbones.weight_files import fit, inside, load
from featx.backbones.weights import WeightsInfo
from featx.errors import ShapeError
from featx.machine import prefer_huge_pages

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from featx.data import Preprocess

# What torchvision calls the auxiliary classifiers.
_AUXILIARY = {"aux1", "aux2", "AuxLogits"}


@dataclass(frozen=True, eq=False)
class Trainable:
    """A network in training mode, all of it to be trained; made by `load_trainable`.

    Attributes
    ----------
    network : Network
        Which one.
    model : nn.Module
        On the CPU, in training mode; every parameter requires a gradient.
    weights : WeightsInfo
        What it begins with; the digest leaves out the modules in `new`.
    preprocess : Preprocess or None
        What the weights want images to go through, with their own geometry. None where the
        weights are random and none was asked for: then the training images have to say it.
    n_classes : int
        Outputs.
    image_size : tuple of int
        Height and width in pixels.
    head : tuple of str
        Modules whose tensors depend on the number of classes, and those of the classifier whose
        weights did not come.
    new : tuple of str
        Modules (or parameters outside of any) that begin with random weights.
    trace : Trace
        What one pass at `image_size` shows: see `featx.backbones.probe.parameters_up_to`.
    notes : tuple of str
        What a user should know of the weights, one sentence each.
    """

    network: Network
    model: nn.Module
    weights: WeightsInfo
    preprocess: Preprocess | None
    n_classes: int
    image_size: tuple[int, int]
    head: tuple[str, ...]
    new: tuple[str, ...]
    trace: Trace
    notes: tuple[str, ...]

    def resolve(self, cut: str) -> str:
        """Return the module a cut stands for, as `featx.backbones.Backbone.resolve`.

        Raises
        ------
        UnknownName
            Names the closest cuts.
        """
        return CutNames(self.model, self.network.model, self.network.short_name).resolve(cut)


def load_trainable(
    name: str,
    weights: str = "default",
    *,
    n_classes: int,
    image_size: tuple[int, int],
    preprocess: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Trainable:
    """Return a network with its weights and a new head, ready to be trained.

    Parameters
    ----------
    name, weights, preprocess, progress
        As `featx.backbones.load_backbone` takes them. A trained network's file keeps its head where
        it has as many classes as are asked for; every other head is new, whatever its size.
    n_classes : int
        Outputs, 2 or more.
    image_size : tuple of int
        Height and width in pixels.
    seed : int
        Of all random weights.

    Raises
    ------
    UnknownName
        For a network, tag, package or preprocessing that does not exist.
    UsageError
        For fewer than two classes, or weights beside a trained network that brings its own.
    ShapeError
        When the network cannot take that size; names one that works.
    WeightsError, DownloadError
        When weights cannot be had or do not fit.

    Examples
    --------
    >>> load_trainable("resnet18", "none", n_classes=5, image_size=(32, 32)).head
    ('fc',)
    """
    prefer_huge_pages()
    network, saved = find_source(name, weights)
    chosen = checked_preprocess(preprocess, network, saved)
    model = build_seeded(network, n_classes, image_size, seed)
    found = _trace(network, model, image_size, saved)
    source = read_source(network, weights, model, saved, seed=seed, progress=progress)
    head = head_modules(network, model, n_classes, image_size)
    classifier = classifier_modules(network, model)
    if source.tensors is None:
        head = outermost([*head, *classifier])
        new = _top_names(model)
        notes: tuple[str, ...] = ()
    else:
        what = f"Weights {source.tag} for {network.short_name}"
        tensors = _without_auxiliary(network, source.tensors)
        _check_size(model, tensors, head, saved, image_size)
        fitted = fit(model, tensors, outermost([*head, *classifier]), what)
        # The head of a trained network goes on where it fits.
        new = outermost([*fitted.absent, *(() if saved else head)])
        head = outermost([*head, *fitted.absent])
        load(model, {n: t for n, t in fitted.tensors.items() if not inside(n, new)})
        notes = preprocess_notes(source, what, preprocess)
        if new:
            quoted = ", ".join(f"'{module}'" for module in new)
            notes = (f"{what}: {quoted} is new, with the random weights of seed {seed}.", *notes)
    random = source.tensors is None
    return Trainable(
        network=network,
        model=model.train().requires_grad_(True),
        weights=weights_info(source, model, () if random else new),
        preprocess=chosen or (None if random else source.preprocess),
        n_classes=n_classes,
        image_size=image_size,
        head=head,
        new=new,
        trace=found,
        notes=notes,
    )


def _trace(
    network: Network, model: nn.Module, image_size: tuple[int, int], saved: SavedModel | None
) -> Trace:
    """Return what a pass shows; ShapeError where the network cannot take the size."""
    native: int | tuple[int, int] = image_size
    if network.library != "featx":
        own = preprocess_of_tag(network, "default").image_size
        native = saved.image_size if saved else own or 224
    return trace(model.eval(), image_size, native_size=native, name=network.short_name)


def _top_names(model: nn.Module) -> tuple[str, ...]:
    """Return the outermost modules with tensors, and the tensors outside of any module."""
    return tuple(dict.fromkeys(name.partition(".")[0] for name in model.state_dict()))


def _without_auxiliary(
    network: Network, tensors: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Leave out the auxiliary classifiers, which training here does without."""
    if network.library != "torchvision" or network.model not in WITH_AUXILIARY_HEADS:
        return tensors
    return {n: tensor for n, tensor in tensors.items() if not _AUXILIARY & set(n.split("."))}


def _check_size(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    head: tuple[str, ...],
    saved: SavedModel | None,
    image_size: tuple[int, int],
) -> None:
    """Raise ShapeError where a trained network's layers are of another image size."""
    if saved is None or saved.image_size == image_size:
        return
    state = model.state_dict()
    other = [
        name
        for name, tensor in tensors.items()
        if name in state and tensor.shape != state[name].shape and not inside(name, head)
    ]
    if other:
        height, width = saved.image_size
        raise ShapeError(
            f"The model in '{saved.path}' takes images of {height} x {width} px, not of "
            f"{image_size[0]} x {image_size[1]}: '{other[0]}' is of that size. Give --image-size "
            f"{height}, or begin with random weights (--weights none)."
        )
