"""One forward pass that only looks: order of execution, shapes and costs of every module.

The pass runs on torch's "meta" device where the network allows it, so it finds shapes and counts
multiply-adds without touching a weight; elsewhere two black images go through the network.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from featx.backbones.convolutions import convolutions_for_onednn
from featx.backbones.operators import watching_operators
from featx.backbones.thread_bits import threads_change_no_bit
from featx.errors import ShapeError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Two images, so that what has one row per image can be told from what has one for all.
BATCH = 2


@dataclass(frozen=True)
class CutPoint:
    """A place where a network can be cut, for images of one size.

    Attributes
    ----------
    module : str
        The library's own name: ``"layer3.5"``.
    aliases : tuple of str
        Keras' name and the stage's: ``("conv4_block6_out", "stage3")``.
    stage : str or None
        The stage it lies in, ``"stage3"``; None behind the last one or where there are none.
    kind : str
        ``"map"``, ``"tokens"`` or ``"vector"``.
    shape : tuple of int
        Of the output for one image, maps always as (C, H, W).
    n_flat : int
        Values per image, flattened.
    pool : str
        The pooling that was asked for: ``"avg"``, ``"grid:2"``, ...
    n_pooled : int
        Values per image after it.
    multiply_adds : int
        Of convolutions, linear layers and matrix products up to and with this cut, for one image.
    n_parameters : int
        Used up to and with this cut; shared ones count once.
    order : int
        Place in the order of completion, from 0.
    threads_matter : bool
        Whether on a CPU its last digits may be others with other numbers of threads: before it
        comes an operator that is not known to be without that (`featx.backbones.thread_bits`), or
        a convolution that `featx.backbones.convolutions` leaves alone.
    """

    module: str
    aliases: tuple[str, ...]
    stage: str | None
    kind: str
    shape: tuple[int, ...]
    n_flat: int
    pool: str
    n_pooled: int
    multiply_adds: int
    n_parameters: int
    order: int
    threads_matter: bool


@dataclass(frozen=True)
class Seen:
    """What a module's first completion looked like.

    Attributes
    ----------
    order : int
        Place in the order of completion, from 0.
    output : tuple of int or None
        Shape with the batch, as the module gave it; None for anything but one tensor.
    output_type : str
        The type's name, for messages.
    multiply_adds, n_parameters : int
        Up to and with this module, for one image.
    threads_matter : bool
        As of `CutPoint`.
    """

    order: int
    output: tuple[int, ...] | None
    output_type: str
    multiply_adds: int
    n_parameters: int
    threads_matter: bool


@dataclass
class Trace:
    """What one forward pass showed.

    Attributes
    ----------
    image_size : tuple of int
        Height and width.
    seen : dict of str to Seen
        By module name, in order of completion.
    runs : Counter
        How often each module ran.
    first_use : dict of str to int
        By parameter name, each name of a shared one: how many modules had completed when an
        operator first took it. Parameters that nothing took are not in it.
    """

    image_size: tuple[int, int]
    seen: dict[str, Seen] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    first_use: dict[str, int] = field(default_factory=dict)


def modules_up_to(found: Trace, module: str) -> tuple[str, ...]:
    """Return the modules that have completed when `module` has, in that order, itself the last.

    Parameters
    ----------
    found : Trace
        Of the network.
    module : str
        The library's own name: ``"layer2"``.
    """
    order = found.seen[module].order
    return tuple(name for name, seen in found.seen.items() if seen.order <= order)


def parameters_up_to(found: Trace, module: str) -> frozenset[str]:
    """Return the names of the parameters that an operator has taken when `module` completes.

    Parameters
    ----------
    found : Trace
        Of the network.
    module : str
        The library's own name: ``"layer2"``.
    """
    order = found.seen[module].order
    return frozenset(name for name, before in found.first_use.items() if before <= order)


def parents(module: str) -> list[str]:
    """Return the names of the modules around a module, the innermost first."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def trace(
    model: nn.Module,
    image_size: tuple[int, int],
    *,
    native_size: int | tuple[int, int],
    name: str,
) -> Trace:
    """Run `model` once on an image of (height, width) pixels and note what happens.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    image_size : tuple of int
        Height and width.
    native_size : int or tuple of int
        The size its weights were made for, as a side or height and width: known to work.
    name : str
        For messages.

    Raises
    ------
    ShapeError
        When the network cannot take that size; names the smallest square one that works.
    """
    try:
        return _trace(model, image_size)
    except Exception as error:
        height, width = image_size
        native = (native_size, native_size) if isinstance(native_size, int) else native_size
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ShapeError(
            f"Images of {height} x {width} px do not pass through {name}: {reason}. "
            f"{_size_hint(model, min(image_size), native)}".rstrip()
        ) from error


def _trace(model: nn.Module, image_size: tuple[int, int]) -> Trace:
    """Run on the meta device, or for real where that fails."""
    parameters = dict(model.named_parameters())
    first_name = {id(parameter): name for name, parameter in parameters.items()}
    try:
        dry, shapes = on_meta(model)
        found = _watch(model, image_size, dry, shapes, "meta")
    except Exception:
        # Data-dependent code, or tensors that are no buffers: only a real pass tells.
        device = next(iter(parameters.values())).device
        found = _watch(model, image_size, model, parameters, device)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = first_name[id(parameter)]
        if first in found.first_use:
            found.first_use[name] = found.first_use[first]
    return found


def on_meta(
    model: nn.Module,
) -> tuple[Callable[[torch.Tensor], object], dict[str, torch.Tensor]]:
    """Return the network as a function of images on the meta device, and its parameters there."""
    import torch

    shapes = {name: tensor.to("meta") for name, tensor in model.named_parameters()}
    moved = {id(tensor): shapes[name] for name, tensor in model.named_parameters()}
    moved |= {id(tensor): tensor.to("meta") for tensor in model.buffers()}
    # Every place that holds a tensor, once: with a module that has two names functional_call's own
    # handling of tied tensors would put back what it has put in.
    places = {
        f"{prefix}.{key}" if prefix else key: moved[id(tensor)]
        for prefix, module in model.named_modules()
        for key, tensor in chain(module._parameters.items(), module._buffers.items())
        if tensor is not None
    }

    def dry(x: torch.Tensor) -> object:
        return torch.func.functional_call(model, places, (x,), tie_weights=False)

    return dry, shapes


def _watch(
    model: nn.Module,
    image_size: tuple[int, int],
    forward: Callable[[torch.Tensor], object],
    parameters: Mapping[str, torch.Tensor],
    device: torch.device | str,
) -> Trace:
    """Run `forward` under hooks that write down what each module does."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import flop_registry

    found = Trace(image_size)
    unused = {id(parameter): name for name, parameter in parameters.items()}
    by_onednn = convolutions_for_onednn(model)
    running: list[str] = []
    threads_matter = False
    used = flops = 0

    def note_use(arguments: list[Any]) -> None:
        # Some modules with parameters never run themselves: an operator takes these.
        nonlocal used
        for leaf in arguments:
            name = unused.pop(id(leaf), None)
            if name is not None:
                used += leaf.numel()
                found.first_use[name] = len(found.seen)

    def add_up(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # By the formulas of torch's own counter, which would import the compiler.
        nonlocal flops, threads_matter
        if formula := flop_registry.get(func.overloadpacket):
            flops += formula(*args, **kwargs, out_val=output)
        in_convolution = bool(running) and running[-1] in by_onednn
        threads_matter = threads_matter or not (
            in_convolution or threads_change_no_bit(func, args, kwargs)
        )

    def before(name: str) -> Any:
        return lambda module, args: running.append(name)

    def after(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            running.pop()
            found.runs[name] += 1
            if name not in found.seen:
                is_tensor = isinstance(output, torch.Tensor)
                found.seen[name] = Seen(
                    order=len(found.seen),
                    output=tuple(output.shape) if is_tensor else None,
                    output_type=type(output).__name__,
                    # The formulas' unit is one multiplication or one addition.
                    multiply_adds=flops // 2 // BATCH,
                    n_parameters=used,
                    threads_matter=threads_matter,
                )

        return hook

    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(before(name)))
            handles.append(module.register_forward_hook(after(name)))
        # no_grad, not inference_mode: the latter hands over linear layers whole, without a formula.
        # The plain attention kernel is the one that can be counted on every device.
        with (
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            watching_operators(before=note_use, after=add_up),
        ):
            forward(torch.zeros(BATCH, 3, *image_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _size_hint(model: nn.Module, failed: int, native: tuple[int, int]) -> str:
    """Return the sentence that names a size that works, found by trying on the meta device."""

    def works(height: int, width: int) -> bool:
        try:
            _trace(model, (height, width))
        except Exception:
            return False
        return True

    if not works(*native):
        return ""
    if failed >= min(native) or native[0] != native[1]:
        return f"Its own size is {native[0]} x {native[1]}."
    low, high = failed, native[0]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle, middle) else (middle, high)
    return f"The smallest square size that works is {high} x {high}."


def kind_and_shape(
    output: tuple[int, ...], image_size: tuple[int, int], *, channels_last: bool
) -> tuple[str, tuple[int, ...], bool]:
    """Return what an output is, its shape without the batch, and whether it is N, H, W, C.

    Parameters
    ----------
    output : tuple of int
        Shape with the batch.
    image_size : tuple of int
        Height and width of the input.
    channels_last : bool
        What to believe of a map when its shape does not tell.

    Returns
    -------
    kind : str
        ``"map"``, ``"tokens"``, ``"vector"``, or ``""`` for anything else.
    shape : tuple of int
        Maps always as (C, H, W).
    nhwc : bool
        Whether the map came as (N, H, W, C).
    """
    if len(output) == 2:
        return "vector", output[1:], False
    if len(output) == 3:
        return "tokens", output[1:], False
    if len(output) != 4:
        return "", output[1:], False
    _, a, b, c = output
    height, width = image_size
    # A map's sides are in the image's proportion; three equal sides say nothing.
    misfit_nchw = abs(math.log(b * width / (c * height)))
    misfit_nhwc = abs(math.log(a * width / (b * height)))
    nhwc = channels_last if misfit_nchw == misfit_nhwc else misfit_nhwc < misfit_nchw
    return ("map", (c, a, b), True) if nhwc else ("map", (a, b, c), False)
