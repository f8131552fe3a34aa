"""The operators of a forward pass, seen one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Before = Callable[[list[Any]], None]
After = Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None]


@contextlib.contextmanager
def watching_operators(
    *, before: Before | None = None, after: After | None = None
) -> Iterator[None]:
    """Call functions around every operator that torch runs while the ``with`` block lasts.

    On the meta device the shapes of some operators come from here instead of from torch. In
    `torch.inference_mode` composite operators, such as linear layers, come whole and not as
    what they are made of.

    Parameters
    ----------
    before : callable, optional
        Hears an operator's arguments, those in lists and dicts one by one.
    after : callable, optional
        Hears the operator, its arguments, its keyword arguments and what came out.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            # To be told to skip this method the compiler would be imported, which takes seconds.
            return False

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if before is not None:
                before(tree_leaves((args, kwargs)))
            output = _shapes_on_meta(func, args, kwargs)
            if output is None:
                output = func(*args, **kwargs)
            if after is not None:
                after(func, args, kwargs, output)
            return output

    with Watch():
        yield


def _shapes_on_meta(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what some operators of networks put out on the meta device; None for all else.

    torch has the same rules, in Python that imports the compiler for them, which takes a second.
    """
    import torch

    aten = torch.ops.aten
    rules: dict[Any, Callable[..., Any]] = {
        aten.native_batch_norm.default: _batch_norm,
        aten.native_layer_norm.default: _layer_norm,
        aten.mean.dim: _mean,
        aten.addmm.default: _addmm,
    }
    rule = rules.get(func)
    return rule(*args, **kwargs) if rule is not None and args[0].is_meta else None


def _batch_norm(
    x: torch.Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *_: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Return the output, and in eval mode an empty mean and an empty deviation."""
    import torch

    return None if training else (torch.empty_like(x), x.new_empty(0), x.new_empty(0))


def _layer_norm(
    x: torch.Tensor, normalized: Sequence[int], *_: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the output, and the mean and deviation of each row."""
    n_outer = x.dim() - len(normalized)
    moments = [*x.shape[:n_outer], *[1] * len(normalized)]
    return x.new_empty(x.shape), x.new_empty(moments), x.new_empty(moments)


def _mean(
    x: torch.Tensor,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Return the mean over some dimensions, over all where none is named."""
    over = {d % x.dim() for d in dim or ()} if x.dim() else set()
    over = over or set(range(x.dim()))
    sizes = [1 if d in over else n for d, n in enumerate(x.shape) if keepdim or d not in over]
    return x.new_empty(sizes, dtype=dtype)


def _addmm(bias: torch.Tensor, x: torch.Tensor, y: torch.Tensor, **_: Any) -> torch.Tensor:
    """Return the product of two matrices, whatever is added to it."""
    return x.new_empty(x.shape[0], y.shape[1])
