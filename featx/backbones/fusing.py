"""What a convolution can do while it writes its output: add a map to it, and clip it (ReLU).

oneDNN does both for nothing, and with the same bits. Which map is added to which output, and what
clips it, is found by one pass that only looks, as for `featx.backbones.folding`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx.backbones.deferred import Fusion
from featx.backbones.operators import watching_operators
from featx.backbones.probe import BATCH, on_meta

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class _Step:
    """One operator of a pass; a tensor is known by its memory, and so is every view of it."""

    func: Any
    module: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    reads: frozenset[int]
    writes: frozenset[int]
    output: Any


def find_fusions(model: nn.Module, image_size: tuple[int, int]) -> dict[str, Fusion]:
    """Return what can become part of which convolution, by its name.

    Parameters
    ----------
    model : nn.Module
        In eval mode; the BatchNorms that will be folded pass on what they take.
    image_size : tuple of int
        Height and width that the network can take.
    """
    try:
        dry, _ = on_meta(model)
        steps, runs = _steps(model, dry, image_size, "meta")
    except Exception:
        # Not every network runs there, and it may raise anything; the real pass tells.
        device = next(model.parameters()).device
        steps, runs = _steps(model, model, image_size, device)
    lasting = _lasting(steps)
    found = {}
    for at, step in enumerate(steps):
        if _is_convolution(step) and runs[step.module] == 1:
            fusion = _fusion(steps, at, lasting)
            if fusion is not None:
                found[step.module] = fusion
    return found


def _steps(
    model: nn.Module,
    forward: Callable[[torch.Tensor], object],
    image_size: tuple[int, int],
    device: torch.device | str,
) -> tuple[list[_Step], Counter[str]]:
    """Return every operator of a pass, the network's result as a last one, and who ran how often.

    The steps hold their tensors, so that no memory is used for a second one meanwhile.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    steps: list[_Step] = []
    running = [""]
    runs: Counter[str] = Counter()

    def tensors(values: Any) -> list[torch.Tensor]:
        return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]

    def note(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        reads = frozenset(map(_memory, tensors((args, kwargs))))
        named = zip(func._schema.arguments, args, strict=False)
        written = [
            *(value for argument, value in named if _is_written(argument)),
            *(kwargs.get(argument.name) for argument in func._schema.arguments
              if _is_written(argument)),
        ]  # fmt: skip
        writes = frozenset(map(_memory, tensors(written)))
        steps.append(_Step(func, running[-1], args, kwargs, reads, writes, output))

    def before(name: str) -> Any:
        return lambda module, args: running.append(name)

    def after(module: nn.Module, args: Any, output: Any) -> None:
        runs[running.pop()] += 1

    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(before(name)))
            handles.append(module.register_forward_hook(after))
        # Made by no step: it is not the pass's to write to.
        images = torch.zeros(BATCH, 3, *image_size, device=device)
        with torch.no_grad(), watching_operators(after=note):
            result = forward(images)
    finally:
        for handle in handles:
            handle.remove()
    last = tuple(tensors(result))
    steps.append(_Step(None, "", last, {}, frozenset(map(_memory, last)), frozenset(), None))
    return steps, runs


def _fusion(steps: Sequence[_Step], at: int, lasting: set[int]) -> Fusion | None:
    """Return what can become part of the convolution that is step `at`."""
    given = steps[at].output
    behind = _first_to_read(steps, at, given)
    next_one = steps[behind]
    if not (_may_wait(steps, at, behind) and _is_forgotten(steps, behind, given)):
        return None
    ceiling = _ceiling(next_one)
    if ceiling is not None:
        return Fusion(False, ceiling)
    other = _other_summand(next_one, given)
    if (
        other is None
        or not _is_forgotten(steps, behind, other)
        or _memory(other) in lasting | next_one.writes | steps[at].reads
    ):
        return None
    clips = _first_to_read(steps, behind, next_one.output)
    waits_on = (
        _ceiling(steps[clips]) == math.inf
        and _may_wait(steps, at, clips)
        and _is_forgotten(steps, clips, next_one.output)
    )
    return Fusion(True, math.inf if waits_on else None)


def _may_wait(steps: Sequence[_Step], at: int, until: int) -> bool:
    """Return whether nobody writes to what convolution `at` takes before step `until`."""
    memory = _memory(steps[at].args[0])
    return not any(memory in step.writes for step in steps[at + 1 : until])


def _first_to_read(steps: Sequence[_Step], after: int, tensor: torch.Tensor) -> int:
    """Return the first step that reads a tensor; the last one of all where none does."""
    memory = _memory(tensor)
    later = range(after + 1, len(steps))
    return next((at for at in later if memory in steps[at].reads), len(steps) - 1)


def _is_forgotten(steps: Sequence[_Step], at: int, tensor: torch.Tensor) -> bool:
    """Return whether nobody reads a tensor after step `at`, but for what that step puts there."""
    memory = _memory(tensor)
    if memory in steps[at].writes:
        return True
    return not any(memory in step.reads for step in steps[at + 1 :])


def _is_convolution(step: _Step) -> bool:
    import torch

    return bool(step.func is torch.ops.aten.convolution.default)


def _ceiling(step: _Step) -> float | None:
    """Return up to where a step clips from 0; None if it does anything else."""
    import torch

    aten = torch.ops.aten
    if step.func in (aten.relu.default, aten.relu_.default):
        return math.inf
    if step.func in (aten.hardtanh.default, aten.hardtanh_.default):
        low, high = step.args[1:3] if len(step.args) == 3 else (-1.0, 1.0)
        return float(high) if low == 0 and high > 0 else None
    return None


def _other_summand(step: _Step, tensor: torch.Tensor) -> torch.Tensor | None:
    """Return what a step adds to a tensor, if it is another one of that shape and nothing else."""
    import torch

    aten = torch.ops.aten
    if step.func not in (aten.add.Tensor, aten.add_.Tensor) or step.kwargs:
        return None
    others = [arg for arg in step.args if _memory_of_tensor(arg) != _memory(tensor)]
    if len(step.args) != 2 or len(others) != 1 or not isinstance(others[0], torch.Tensor):
        return None
    (other,) = others
    same = other.shape == tensor.shape and other.dtype == tensor.dtype
    return other if same and step.output.shape == tensor.shape else None


def _lasting(steps: Sequence[_Step]) -> set[int]:
    """Return the memory that outlives a pass: of images, parameters, buffers and the result."""
    from torch.utils._pytree import tree_leaves

    made: set[int | None] = set()
    lasting = set(steps[-1].reads)
    for step in steps:
        lasting |= step.reads - made
        made |= {_memory_of_tensor(leaf) for leaf in tree_leaves(step.output)}
    return lasting


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _memory_of_tensor(value: Any) -> int | None:
    import torch

    return _memory(value) if isinstance(value, torch.Tensor) else None


def _memory(tensor: torch.Tensor) -> int:
    """Return what names a tensor's memory; views of it have the same."""
    return int(tensor.untyped_storage()._cdata)
