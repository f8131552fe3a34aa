"""What every tracker does: a run in a ``with`` block, whose tracking never ends the run itself."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, get_args

from featx.errors import Interrupted, UnknownName, UsageError
from featx.progress import SILENT, Progress

Kind = Literal["none", "mlflow", "tensorboard"]
Outcome = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words."""

KINDS: tuple[str, ...] = get_args(Kind)
"""Every kind of tracker there is."""

_NOTHING: Mapping[str, str] = {}
_LONGEST_REASON = 300

T = TypeVar("T")


class TrackedRun:
    """One run, tracked nowhere: takes everything and keeps nothing.

    Attributes
    ----------
    id : str or None
        What children give as their `parent`; None where the run is not tracked.
    """

    id: str | None = None

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Track settings, once for each name; nested mappings become names like ``a.b``."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Track numbers, at a step (an epoch) or without; those that are not finite are left out.

        ``{"val_top1": 0.61, "train_loss": 1.2}``
        """

    def files(self, folder: Path, names: Iterable[Path], under: str = "") -> None:
        """Track the files `names` of `folder`, in the same folders as there, below `under`."""

    def _end(self, outcome: Outcome) -> None:
        """Close the run."""


class Tracker:
    """Tracks nothing. Base of those that do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    @contextlib.contextmanager
    def run(
        self, name: str, *, parent: str | None = None, tags: Mapping[str, str] = _NOTHING
    ) -> Iterator[TrackedRun]:
        """Track what happens in the ``with`` block as one run.

        A block that is left by an error is tracked as failed, one that the user stopped as killed.

        Parameters
        ----------
        name : str
            What the run is called.
        parent : str, optional
            The `id` of the run that this one belongs to.
        tags : mapping of str to str, optional
            What the run can be searched by.
        """
        run = self._begin(name, parent, tags)
        outcome: Outcome = "FAILED"
        try:
            yield run
            outcome = "FINISHED"
        except (KeyboardInterrupt, Interrupted):
            outcome = "KILLED"
            raise
        finally:
            run._end(outcome)

    def _begin(self, name: str, parent: str | None, tags: Mapping[str, str]) -> TrackedRun:
        """Return the run that the block gets."""
        return TrackedRun()


class Guard:
    """Lets tracking fail once, with a warning, and keeps it off from then on.

    Parameters
    ----------
    what, where : str
        Of the tracking: ``"MLflow"``, and the place it writes to; a password in it is not told.
    progress : Progress
        Hears the warning.
    """

    def __init__(self, what: str, where: str, progress: Progress) -> None:
        self._what, self._where, self._progress = what, without_password(where), progress
        self._off = False

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Return what `action` returns; None where it failed, now or earlier."""
        if self._off:
            return None
        try:
            return action()
        # Networks, databases and disks fail in ways that no tracking library has one name for;
        # none of them may cost the results of hours.
        except Exception as error:
            self._off = True
            self._progress.warn(
                f"Tracking with {self._what} at {self._where} does not work: "
                f"{without_password(_reason(error))}. "
                "The local records are complete; the run goes on untracked."
            )
            return None


def make_tracker(
    kind: Kind,
    *,
    experiment: str = "featx",
    progress: Progress = SILENT,
    folder: Path | None = None,
) -> Tracker:
    """Return the tracker of a kind. Nothing is connected to before its first run.

    Parameters
    ----------
    kind : {"none", "mlflow", "tensorboard"}
        Where to track.
    experiment : str, optional
        MLflow's experiment, unless ``MLFLOW_EXPERIMENT_NAME`` names another.
    progress : Progress, optional
        Hears the one warning of a tracker that does not work.
    folder : Path, optional
        The report's folder; TensorBoard's files go to its ``tensorboard``.

    Raises
    ------
    UnknownName
        If there is no such kind.
    UsageError
        If what it needs is not installed, or TensorBoard gets no folder.
    """
    if kind == "none":
        return Tracker()
    if kind == "mlflow":
        from featx.tracking.mlflow import MlflowTracker

        return MlflowTracker(experiment, progress)
    if kind == "tensorboard":
        from featx.tracking.tensorboard import TensorBoardTracker

        if folder is None:
            raise UsageError("TensorBoard's files need a folder; none was given.")
        return TensorBoardTracker(folder / "tensorboard", progress)
    raise UnknownName("Tracker", kind, KINDS)


def missing_extra(what: str, extra: str, error: ImportError) -> UsageError:
    """Return the error that says which extra of featx to install."""
    return UsageError(
        f"{what} cannot be imported ({error}). Install it: pip install 'featx[{extra}]'"
    )


def flattened(values: Mapping[str, Any]) -> dict[str, str]:
    """Return nested settings as text by dotted name: ``{"a": {"b": 1}}`` as ``{"a.b": "1"}``."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            inner = flattened(value)
            flat |= {f"{name}.{key}": text for key, text in inner.items()}
        else:
            flat[str(name)] = str(value)
    return flat


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that are neither NaN nor infinite, as Python's floats."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def without_password(text: str) -> str:
    """Return text in which ``https://me:secret@host`` is ``https://host``."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _reason(error: BaseException) -> str:
    """Return the first line of what an error came from: ``[Errno 111] Connection refused``."""
    while source := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        if isinstance(source, LookupError):
            # ``'sftp'`` says less than what was made of it.
            break
        error = source
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:_LONGEST_REASON]
