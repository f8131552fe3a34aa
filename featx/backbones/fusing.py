"""What a convolution can do while it writes its output: add a map to it, and clip it (ReLU).

oneDNN does both for nothing, and with the same bits. Which map is added to which output, and what
clips it, is found by passes that only look, as for `featx.backbones.folding`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx.backbones.deferred import Fusion, ceiling_of
from featx.backbones.operators import watching_operators
from featx.backbones.probe import BATCH, on_meta

if TYPE_CHECKING:
    import torch
    from torch import nn

# Names of aten operators that make no NaN of ordinary numbers, those that write in place without
# their underscore. A division does, of 0 by 0.
_SOUND = frozenset(
    (
        "adaptive_avg_pool2d", "add", "addmm", "alias", "as_strided", "avg_pool2d", "bmm", "cat",
        "chunk", "clamp", "clamp_min", "clone", "constant_pad_nd", "convolution", "copy", "detach",
        "elu", "empty", "expand", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
        "max_pool2d_with_indices", "mean", "mm", "mul", "native_batch_norm", "native_layer_norm",
        "permute", "relu", "select", "sigmoid", "silu", "slice", "softmax", "split",
        "split_with_sizes", "squeeze", "stack", "sub", "sum", "t", "tanh", "transpose", "unbind",
        "unsafe_view", "unsqueeze", "upsample_nearest2d", "view",
    )
)  # fmt: skip


@dataclass(frozen=True)
class _Step:
    """One operator of a pass, or the end of a module, which shows what it gives to hooks.

    A tensor is known by its memory, and so is every view of it. What is copied counts as the same
    memory: in another order of the maps it may be no copy.
    """

    func: Any
    module: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    takes: tuple[int | None, ...] = ()
    gives: int | None = None
    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    shows: frozenset[int] = frozenset()


def find_fusions(model: nn.Module, image_size: tuple[int, int]) -> dict[str, Fusion]:
    """Return what can become part of which convolution, by its name.

    Parameters
    ----------
    model : nn.Module
        In eval mode; the BatchNorms that will be folded pass on what they take.
    image_size : tuple of int
        Height and width that the network can take.
    """

    def seen(forward: Callable[[torch.Tensor], object], device: Any) -> _Pass:
        # What the first pass makes and keeps is there before the second one.
        _Pass(model, forward, image_size, device)
        return _Pass(model, forward, image_size, device)

    try:
        dry, _ = on_meta(model)
        found = seen(dry, "meta")
    except Exception:
        # Not every network runs there, and it may raise anything; the real pass tells.
        found = seen(model, next(model.parameters()).device)
    return found.fusions()


class _Pass:
    """Every operator of a pass that only looks, in order; the network's result is the last step.

    The steps hold their tensors, so that no memory is used for a second one meanwhile.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[torch.Tensor], object],
        image_size: tuple[int, int],
        device: torch.device | str,
    ) -> None:
        import torch

        self.steps: list[_Step] = []
        self._runs: Counter[str] = Counter()
        self._running = [""]
        self._copy_of: dict[int, int] = {}
        handles = []
        try:
            for name, module in model.named_modules():
                handles.append(module.register_forward_pre_hook(self._begin(name)))
                handles.append(module.register_forward_hook(self._end))
            # Made by no step: it is not the pass's to write to.
            images = torch.zeros(BATCH, 3, *image_size, device=device)
            with torch.no_grad(), watching_operators(after=self._note):
                result = forward(images)
        finally:
            for handle in handles:
                handle.remove()
        self.steps.append(_Step(None, "", (), {}, result, reads=self._memories(result)))

    def fusions(self) -> dict[str, Fusion]:
        """Return what can become part of which convolution."""
        lasting = self._lasting()
        # The first step that may make NaN of ordinary numbers; if none does, behind the last one.
        sound_until = next(
            (at for at, step in enumerate(self.steps) if not _is_sound(step)), len(self.steps)
        )
        found = {}
        for at, step in enumerate(self.steps):
            if _is_convolution(step) and self._runs[step.module] == 1:
                fusion = _fusion(self.steps, at, lasting, sound_until)
                if fusion is not None:
                    found[step.module] = fusion
        return found

    def _begin(self, name: str) -> Any:
        return lambda module, args: self._running.append(name)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        name = self._running.pop()
        self._runs[name] += 1
        self.steps.append(_Step(None, name, (), {}, output, shows=self._memories(output)))

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        import torch

        if func in (torch.ops.aten.clone.default, torch.ops.aten._to_copy.default):
            (source,) = self._memories(args[0])
            self._copy_of[output.untyped_storage()._cdata] = source
        arguments = func._schema.arguments
        written = [value for one, value in zip(arguments, args, strict=False) if _is_written(one)]
        written += [kwargs.get(one.name) for one in arguments if _is_written(one)]
        self.steps.append(
            _Step(
                func, self._running[-1], args, kwargs, output,
                takes=tuple(self._memory(arg) for arg in args), gives=self._memory(output),
                reads=self._memories((args, kwargs)), writes=self._memories(written),
            )
        )  # fmt: skip

    def _lasting(self) -> set[int]:
        """Return the memory that outlives a pass: of images, parameters, buffers, the result."""
        made: set[int] = set()
        lasting = set(self.steps[-1].reads)
        for step in self.steps:
            lasting |= step.reads - made
            made |= self._memories(step.output)
        return lasting

    def _memories(self, values: Any) -> frozenset[int]:
        """Return what names the memory of all tensors among some values."""
        from torch.utils._pytree import tree_leaves

        found = {self._memory(leaf) for leaf in tree_leaves(values)}
        return frozenset(memory for memory in found if memory is not None)

    def _memory(self, value: Any) -> int | None:
        """Return what names a tensor's memory; None for anything else."""
        import torch

        if not isinstance(value, torch.Tensor):
            return None
        own = int(value.untyped_storage()._cdata)
        return self._copy_of.get(own, own)


def _fusion(steps: Sequence[_Step], at: int, lasting: set[int], sound_until: int) -> Fusion | None:
    """Return what can become part of the convolution that is step `at`.

    Nothing is clipped behind step `sound_until`: what oneDNN clips might be NaN there.
    """
    behind = _first_to_read(steps, at)
    next_one = steps[behind]
    if not (_may_wait(steps, at, behind) and _is_forgotten(steps, behind, steps[at].gives)):
        return None
    ceiling = ceiling_of(next_one.func, next_one.args)
    if ceiling is not None:
        return Fusion(False, ceiling) if behind < sound_until else None
    other = _other_summand(next_one, steps[at])
    if (
        other is None
        or not _is_forgotten(steps, behind, other)
        or other in lasting | next_one.writes | steps[at].reads
    ):
        return None
    clips = _first_to_read(steps, behind)
    waits_on = (
        clips < sound_until
        and ceiling_of(steps[clips].func, steps[clips].args) == math.inf
        and _may_wait(steps, at, clips)
        and _is_forgotten(steps, clips, next_one.gives)
    )
    return Fusion(True, math.inf if waits_on else None)


def _may_wait(steps: Sequence[_Step], at: int, until: int) -> bool:
    """Return whether nobody writes to what convolution `at` takes before step `until`."""
    return not any(steps[at].takes[0] in step.writes for step in steps[at + 1 : until])


def _first_to_read(steps: Sequence[_Step], at: int) -> int:
    """Return the first step that reads what step `at` gives; the last one of all if none does."""
    later = range(at + 1, len(steps))
    return next((i for i in later if steps[at].gives in steps[i].reads), len(steps) - 1)


def _is_forgotten(steps: Sequence[_Step], at: int, memory: int | None) -> bool:
    """Return whether nobody reads some memory after step `at`, but for what that step puts there.

    Nor does a module show it to its hooks.
    """
    if memory in steps[at].writes:
        return True
    return not any(memory in step.reads | step.shows for step in steps[at + 1 :])


def _is_sound(step: _Step) -> bool:
    return step.func is None or step.func.overloadpacket.__name__.strip("_") in _SOUND


def _is_convolution(step: _Step) -> bool:
    import torch

    return bool(step.func is torch.ops.aten.convolution.default)


def _other_summand(step: _Step, conv: _Step) -> int | None:
    """Return the memory of what a step adds to a convolution's output.

    None if it does anything else, or that is no other tensor of the same shape and type.
    """
    import torch

    aten = torch.ops.aten
    if step.func not in (aten.add.Tensor, aten.add_.Tensor) or step.kwargs:
        return None
    others = [i for i, memory in enumerate(step.takes) if memory != conv.gives]
    if len(step.args) != 2 or len(others) != 1:
        return None
    other = step.args[others[0]]
    if not isinstance(other, torch.Tensor):
        return None
    same = other.shape == conv.output.shape == step.output.shape
    return step.takes[others[0]] if same and other.dtype == conv.output.dtype else None


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write
