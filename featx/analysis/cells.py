"""The images of a confusion matrix's cells, and samples of every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.evaluate.exhibits import CellExhibit, ShownImage

WRONG = 6
"""Images of a cell beside the diagonal at most."""

CORRECT = 2
"""Images of a cell on the diagonal at most."""

SAMPLES = 5
"""Images of a class in a split at most."""


def confusion_cells(
    y: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    confidence: npt.NDArray[np.floating[Any]],
    most: int | None = None,
) -> list[CellExhibit]:
    """Return the cells that are not empty, each with its most confident images.

    Parameters
    ----------
    y, predicted : ndarray of shape (n,), int64
        True and predicted labels.
    confidence : ndarray of shape (n,), any float type
        In what was predicted, from 0 to 1. Of equal ones the earlier image stands first.
    most : int, optional
        Images of all cells at most: cells behind them are left out.

    Returns
    -------
    list of CellExhibit
        Wrong ones first, the most frequent first; then the diagonal. Of equal ones those of the
        smaller true, then predicted, label stand first.
    """
    order = np.lexsort((-confidence, predicted, y))
    pairs = np.stack((y[order], predicted[order]), axis=1)
    starts = np.flatnonzero(np.any(np.diff(pairs, axis=0), axis=1)) + 1
    groups = [group for group in np.split(order, starts) if len(group)]
    groups.sort(key=lambda rows: (y[rows[0]] == predicted[rows[0]], -len(rows)))
    cells = []
    left = len(y) if most is None else most
    for rows in groups:
        label, found = int(y[rows[0]]), int(predicted[rows[0]])
        best = rows[: CORRECT if label == found else WRONG]
        if len(best) > left:
            break
        left -= len(best)
        cells.append(
            CellExhibit(
                label=label,
                predicted=found,
                n=len(rows),
                images=[shown(int(i), y, predicted, confidence) for i in best],
            )
        )
    return cells


def shown(
    i: int,
    y: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64] | None = None,
    confidence: npt.NDArray[np.floating[Any]] | None = None,
) -> ShownImage:
    """Return image `i` of a split as it is shown, with what was predicted where that is known."""
    return ShownImage(
        index=i,
        label=int(y[i]),
        predicted=None if predicted is None else int(predicted[i]),
        score=None if confidence is None else round(float(confidence[i]), 4),
    )


def class_samples(
    y: npt.NDArray[np.int64], labels: Sequence[int], per_class: int = SAMPLES
) -> list[ShownImage]:
    """Return images of every class, evenly spread over a split: the first of each, the next, ...

    Parameters
    ----------
    y : ndarray of shape (n,), int64
        Labels of the split.
    labels : sequence of int
        The classes.
    per_class : int
        Images of a class at most.
    """
    chosen = []
    for label in labels:
        rows = np.flatnonzero(y == label)
        chosen.append(rows[spread(len(rows), per_class)].tolist())
    return [shown(rows[k], y) for k in range(per_class) for rows in chosen if k < len(rows)]


def spread(n: int, most: int) -> npt.NDArray[np.intp]:
    """Return up to `most` different numbers below `n`, evenly spread, ascending, from 0 on."""
    if n <= most:
        return np.arange(n)
    return np.arange(most) * n // most
