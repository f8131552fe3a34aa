"""What a long job tells its caller: silent here, drawn by the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


class Progress:
    """A listener that hears nothing. Subclass it to draw.

    Every function of featx that takes long takes one of these.
    """

    def say(self, text: str) -> None:
        """Hear one line for the user."""

    def warn(self, text: str) -> None:
        """Hear one warning for the user."""

    @contextlib.contextmanager
    def task(
        self, label: str, total: int, unit: str, done: int = 0
    ) -> Iterator[Callable[[int], None]]:
        """Hear that `total` units of work begin, of which `done` were there before.

        The value yielded is called with the number of further units done.
        """
        yield lambda n: None


SILENT = Progress()
