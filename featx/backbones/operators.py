"""The operators of a forward pass, seen one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Before = Callable[[list[Any]], None]
After = Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None]


@contextlib.contextmanager
def watching_operators(
    *, before: Before | None = None, after: After | None = None
) -> Iterator[None]:
    """Call functions around every operator that torch runs while the ``with`` block lasts.

    In `torch.inference_mode` composite operators, such as linear layers, come whole and not as
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
            output = func(*args, **kwargs)
            if after is not None:
                after(func, args, kwargs, output)
            return output

    with Watch():
        yield
