"""Runs as TensorBoard's event files: ``tensorboard --logdir FOLDER`` draws them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.progress import Progress
from featx.tracking.base import (
    Guard,
    Outcome,
    TrackedRun,
    Tracker,
    finite,
    flattened,
    missing_extra,
)

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardTracker(Tracker):
    """Tracks each run in a folder of its own name; files stay where the report has them.

    Parameters
    ----------
    folder : Path
        Of the runs' folders; made if it is not there.
    progress : Progress
        Hears the warning if the folder cannot be written to.

    Raises
    ------
    UsageError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise missing_extra("TensorBoard", "tensorboard", error) from error
        self._folder = folder
        self._guard = Guard("TensorBoard", str(folder), progress)

    def _begin(self, name: str, parent: str | None, tags: Mapping[str, str]) -> TrackedRun:
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard shows folders in folders as runs of a run.
        place = Path(parent) if parent is not None else self._folder

        def create() -> TensorBoardRun:
            folder = place / (re.sub(r"[^\w.\- ]", "_", name).strip(".") or "run")
            run = TensorBoardRun(SummaryWriter(str(folder)), folder, self._guard)
            run.texts("tags", tags)
            return run

        return self._guard.attempt(create) or TrackedRun()


class TensorBoardRun(TrackedRun):
    """One run's event files."""

    def __init__(self, writer: SummaryWriter, folder: Path, guard: Guard) -> None:
        self.id: str = str(folder)
        self._writer = writer
        self._guard = guard

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Track settings as a table in TensorBoard's text tab."""
        self._guard.attempt(lambda: self.texts("parameters", values))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Track numbers as scalars."""

        def write() -> None:
            for name, value in finite(values).items():
                self._writer.add_scalar(name, value, step)

        self._guard.attempt(write)

    def texts(self, title: str, values: Mapping[str, Any]) -> None:
        """Write a Markdown table of names and values, if there are any."""
        rows = [f"| {name} | {text} |" for name, text in flattened(values).items()]
        if rows:
            self._writer.add_text(title, "\n".join(["| name | value |", "|---|---|", *rows]))

    def _end(self, outcome: Outcome) -> None:
        self._guard.attempt(self._writer.close)
