"""An iterator that runs ahead of its reader, in a thread of its own."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """Yield `items` in order, up to `depth` of them made before they are asked for.

    One thread makes them, one after the other. An error of `items` is raised here, as it is, in
    the place of the item that failed. Closing this generator, for whatever reason, waits for the
    item that is being made, ends the thread and closes `items`.

    Parameters
    ----------
    items : generator
        Only the thread runs it.
    depth : int
        1 or more.
    """
    end: object = object()
    with (
        contextlib.closing(items),
        ThreadPoolExecutor(1, thread_name_prefix="featx-ahead") as thread,
    ):
        made = deque(thread.submit(next, items, end) for _ in range(depth))
        try:
            while (item := made.popleft().result()) is not end:
                made.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            for future in made:
                future.cancel()
