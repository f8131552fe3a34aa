"""A disk that fails at the k-th operation, put under the one module that writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

OPERATIONS = (
    "open", "write", "fsync", "close", "replace", "unlink", "mkdir", "rmdir", "utime",
)  # fmt: skip


def _closed(descriptor: int) -> None:
    """Stand for the close that has been done already."""


class Disk:
    """Counts the operations of the os module that change files, and does something at one of them.

    Parameters
    ----------
    at : int
        Number of the operation, from 0; -1 only counts.
    happens : callable
        Called instead of the operation, with the real one and its arguments.
    """

    def __init__(self, at: int, happens: Callable[..., Any]) -> None:
        self.at = at
        self.happens = happens
        self.calls: list[str] = []

    def install(self, set_attribute: Callable[[Any, str, Any], None]) -> None:
        for name in OPERATIONS:
            set_attribute(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if number == self.at:
                if name == "close":  # a descriptor is gone whatever close says
                    real(*args, **kwargs)
                return self.happens(real if name != "close" else _closed, *args, **kwargs)
            return real(*args, **kwargs)

        return operation
