"""Every error featx raises on purpose, and the exit code each one gives the command line.

::

    FeatxError                      1   failed while working
    ├── UsageError (ValueError)     2   wrong use or bad input
    │   ├── UnknownName                 a name that is not in a list: says the closest ones
    │   ├── RecipeError                 a recipe that does not validate
    │   ├── DataError                   images, labels or splits that cannot be used
    │   ├── WeightsError                weights that do not fit the network
    │   ├── ShapeError                  an image size or pooling that a cut cannot take
    │   └── BudgetExceeded              would not fit the disk or the memory budget
    ├── NonFiniteFeatures           1   NaN or Inf came out of a network
    ├── DownloadError               1   a file could not be fetched or was not the right one
    │   └── DownloadNeeded              a file is not here, and nothing shall be downloaded
    ├── CacheError                  1   the feature cache cannot be used
    │   ├── CacheCorrupt                a digest, shape or manifest does not agree
    │   ├── CacheSchemaMismatch         written by another version of the cache format
    │   └── CacheWriteError (OSError)   the disk refused a write
    ├── HeadError                   1   a saved head that cannot be used
    ├── CheckpointError             1   a checkpoint that cannot be continued
    ├── PredictionsContradict       1   predictions that are not those of the record beside them
    ├── TrainingDiverged            1   the loss was not finite: says the step and the rate
    └── Interrupted               130   stopped by the user; says how to resume

Every message has the same form: what happened, with which value, what is valid, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class FeatxError(Exception):
    """Base of every error featx raises on purpose."""

    exit_code = 1


class UsageError(FeatxError, ValueError):
    """Wrong use or bad input; nothing was started."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is not in a list of valid ones.

    Parameters
    ----------
    what : str
        The kind of thing, capitalized: ``"Cut"``.
    name : str
        The name that was asked for.
    valid : iterable of str
        Every valid name.
    where : str, optional
        What the list belongs to: ``"resnet18"``.
    hint : str, optional
        A last sentence: what to do.
    """

    def __init__(
        self, what: str, name: str, valid: Iterable[str], *, where: str = "", hint: str = ""
    ) -> None:
        self.name = name
        names = list(dict.fromkeys(valid))
        self.closest = closest(name, names)
        text = f"{what} '{name}' is not in {where}." if where else f"{what} '{name}' is not known."
        if self.closest:
            text += f" Closest: {quoted(self.closest)}."
        elif names:
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            text += f" Valid: {quoted(names[:12])}{more}."
        super().__init__(f"{text} {hint}".rstrip())

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the way back from a worker process: the message is all that is needed."""
        return _restore, (type(self), str(self), self.__dict__)


class RecipeError(UsageError):
    """A recipe or a setting that does not validate."""


class DataError(UsageError):
    """Images, labels or splits that cannot be used."""


class WeightsError(UsageError):
    """Weights that do not fit the network, or a file that holds none."""


class ShapeError(UsageError):
    """An image size, pooling or array shape that cannot be used."""


class BudgetExceeded(UsageError):
    """The work would not fit the disk or the memory budget."""


class NonFiniteFeatures(FeatxError):
    """NaN or Inf came out of a network: names the cut, the row and the image.

    Cut, row and value are also its `place`, for whoever knows the image by another row.
    """

    place: tuple[str, int, float] = ("", 0, float("nan"))


class DownloadError(FeatxError):
    """A file could not be fetched, or what came was not the file that was asked for."""


class DownloadNeeded(DownloadError):
    """A file is not here, inside of `featx.fetch.no_downloads`."""


class CacheError(FeatxError):
    """The feature cache cannot be used."""


class CacheCorrupt(CacheError):
    """A digest, a shape or the manifest of a cache entry does not agree with its files."""


class CacheSchemaMismatch(CacheError):
    """A cache entry was written in another version of the cache format: that is its `version`."""

    version: object = None


class CacheWriteError(CacheError, OSError):
    """The disk refused a write: names the path and the reason."""


class HeadError(FeatxError):
    """A saved head that cannot be used."""


class CheckpointError(FeatxError):
    """A checkpoint that is damaged, absent or of another run."""


class PredictionsContradict(FeatxError):
    """Predictions that are not those of the record beside them."""


class TrainingDiverged(FeatxError):
    """The loss was not finite: names epoch, step and learning rate, and what is kept."""


class Interrupted(FeatxError):
    """Stopped by the user; the message holds the line that resumes the work."""

    exit_code = 130


def _restore(kind: type[FeatxError], message: str, state: dict[str, Any]) -> FeatxError:
    error = kind.__new__(kind, message)
    error.__dict__.update(state)
    return error


def closest(name: str, valid: Iterable[str], n: int = 3) -> list[str]:
    """Return the up to `n` valid names most like `name`, the best first."""
    by_lower = {candidate.lower(): candidate for candidate in valid}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=n, cutoff=0.5)
    return [by_lower[match] for match in found]


def quoted(names: Iterable[str]) -> str:
    """Return names as ``'a', 'b'`` for a message."""
    return ", ".join(f"'{name}'" for name in names)
