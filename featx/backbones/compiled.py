"""A cut network translated by torch.compile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from itertools import chain
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn


_NUMBERS = itertools.count(1)


class CompiledPass:
    """A network whose hooks keep values, compiled as one function from images to these values.

    Nothing ends the pass at the deepest cut: what stands behind it gives no value, and the
    compiler leaves out what nobody asks for. On a GPU the kernels are replayed as a CUDA graph.

    Parameters
    ----------
    model : nn.Module
        A working copy with hooks that fill `values`, for this object alone.
    values : dict of str to Tensor
        What the hooks fill.
    names : sequence of str
        Its keys.
    """

    def __init__(self, model: nn.Module, values: dict[str, torch.Tensor], names: list[str]) -> None:
        import torch

        def run(x: torch.Tensor) -> list[torch.Tensor]:
            model(x)
            # Taken out again, so that every call begins with what the first one began with.
            return [values.pop(name) for name in names]

        # The compiler counts what it has made of a code object, and from the ninth on runs it as it
        # is, in other arithmetic than was asked for: every pass has one of its own.
        run.__code__ = run.__code__.replace(co_name=f"run_{next(_NUMBERS)}")
        self._names = names
        self._is_compiled = False
        self._run: Callable[[torch.Tensor], list[torch.Tensor]] = torch.compile(
            run,
            dynamic=False,
            mode="reduce-overhead" if next(model.parameters()).is_cuda else None,
        )

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the values of a batch; every new shape or memory order is compiled anew.

        Raises
        ------
        UsageError
            When the compiler fails, with its reason, or is turned off.
        """
        from torch._dynamo import config
        from torch._dynamo.utils import counters

        n_graphs = counters["stats"]["unique_graphs"]
        try:
            # Parts of a network that cannot be compiled into one are counted by their own code.
            with config.patch(fail_on_recompile_limit_hit=True, suppress_errors=False):
                found = self._run(x)
        except Exception as error:
            # Errors of the network itself, and of memory, are not the compiler's.
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            # The first line names the compiler's part, the second one what went wrong.
            reason = " ".join(str(error).split("\n")[:2]).strip().rstrip(".")
            raise UsageError(
                f"This network cannot be compiled here: {reason}. Leave --compile out."
            ) from error
        if not self._is_compiled and counters["stats"]["unique_graphs"] == n_graphs:
            raise UsageError(
                "Nothing of this network was compiled: torch.compile is turned off here "
                "(TORCHDYNAMO_DISABLE, TORCH_COMPILE_DISABLE, torch.compiler.set_stance), or has "
                "given up on the network's code. Turn it on, or leave --compile out."
            )
        self._is_compiled = True
        if x.is_cuda:
            # The graph's next replay writes where this one did.
            found = [value.clone() for value in found]
        return dict(zip(self._names, found, strict=True))


class LastCompiled:
    """The compiled pass that was used last: a run of three splits compiles once."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._pass: CompiledPass | None = None

    def __reduce__(self) -> tuple[type[LastCompiled], tuple[()]]:
        """A copy of a backbone in another process compiles for itself."""
        return LastCompiled, ()

    def get(self, key: Hashable, make: Callable[[], CompiledPass]) -> CompiledPass:
        """Return the pass of a key, made anew where the last one was another."""
        if self._pass is None or key != self._key:
            self._pass, self._key = None, None
            self._pass, self._key = make(), key
        return self._pass


def state_of(model: nn.Module) -> tuple[Any, ...]:
    """Return what changes when a tensor of a network is replaced, moved or written to."""
    return tuple(
        (id(tensor), tensor.device, 0 if tensor.is_inference() else tensor._version)
        for tensor in chain(model.parameters(), model.buffers())
    )
