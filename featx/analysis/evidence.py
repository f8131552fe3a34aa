"""The score of a linear head, split over the places of the map that its features come from.

A head on features x has the score ``b + sum_j w_j (x_j - mu_j) / sigma_j`` for a class, with the
scaler's mu and sigma. Where every x_j is a sum over places, so is the score, and the split is exact
(Zhou et al., "Learning deep features for discriminative localization", CVPR 2016, eq. 2, for
average pooling without a scaler):

========== =========================== =====================================================
pooling    x_j                         what place p gets
========== =========================== =====================================================
avg, mean  mean of channel c over n    ``sum_c w_c a_cp / (sigma_c n)``
           places
max        largest value of channel c  ``w_c a_cp / sigma_c`` of the channels that are largest
                                       (first) at p
avgmax     both                        the sum of both
grid:N     mean of c over a cell       ``sum_c w_c (a_cp - mu_c) / (sigma_c n)`` of its cells
flatten    channel c at p              ``sum_c w_cp (a_cp - mu_cp) / sigma_cp``
========== =========================== =====================================================

The means of features of the whole map belong to no place. With the intercept (and with class token
and registers where tokens were flattened) they are what lies elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import parse_pooling
from featx.errors import ShapeError, UnknownName, UsageError, quoted

if TYPE_CHECKING:
    from featx.analysis.activations import Activation
    from featx.backbones import Pooling
    from featx.heads import LinearHead

_REASONS = {
    "gem": "a generalized mean is no sum over places",
    "cls": "the class token has no place in the image",
}


@dataclass(frozen=True, eq=False)
class Evidence:
    """A head's score of one class for one image.

    Attributes
    ----------
    label : int
        The class.
    values : ndarray of shape (rows, columns), float64
        What each place adds to the score.
    elsewhere : float
        The rest of the score: of no place.
    """

    label: int
    values: np.ndarray
    elsewhere: float

    @property
    def score(self) -> float:
        """The head's score of the class: everything added up."""
        return float(self.values.sum() + self.elsewhere)


def check_has_places(pool: str) -> None:
    """Refuse a pooling whose features are no sums over places.

    Raises
    ------
    UsageError
        Says why, and which poolings can be taken.
    """
    name = parse_pooling(pool).name
    if name in _REASONS:
        raise UsageError(
            f"A head on features pooled by '{name}' cannot be projected back on the map: "
            f"{_REASONS[name]}. Fit it with pool avg, mean, max, avgmax, grid:N or flatten."
        )


def label_of(head: LinearHead, name: str) -> int:
    """Return the label of a class of a head, from its name; where no name fits, from the label.

    Raises
    ------
    UnknownName
        Names the closest classes.
    """
    labels = [int(label) for label in head.classes]
    # Folders may be called 1, 10, 2: names of classes, and not their labels.
    for known in (list(head.class_names), [str(label) for label in labels]):
        if name in known:
            return labels[known.index(name)]
    raise UnknownName("Class", name, head.class_names, where="this head")


def class_evidence(
    activation: Activation, head: LinearHead, pool: str, label: int | None = None
) -> Evidence:
    """Return what each place adds to a head's score of a class.

    Parameters
    ----------
    activation : Activation
        Of one image.
    head : LinearHead
        Fitted on features of the same cut.
    pool : str
        How those were pooled.
    label : int, optional
        The class; the one with the largest score otherwise.

    Returns
    -------
    Evidence
        Its `score` equals the head's `decision_function` but for rounding (the head rounds scaled
        features to float32).

    Raises
    ------
    UsageError
        For a pooling that cannot be projected back, or a label that the head does not know.
    ShapeError
        When the head was fitted on another number of features.
    """
    check_has_places(pool)
    pooling = parse_pooling(pool)
    _check_fits(activation, head, pooling)
    if label is None:
        label = int(head.predict(activation.pooled(pool)[None])[0])
    rows = np.flatnonzero(head.classes == label)
    if not len(rows):
        raise UsageError(f"The head has no class {label}. It has {quoted(head.class_names)}.")
    row = int(rows[0])
    weight, mean = head.coef[row], np.zeros(head.coef.shape[1])
    if head.scaler is not None:
        weight, mean = weight / head.scaler.scale_, head.scaler.mean_
    intercept = float(head.intercept[row])
    if pooling.name == "flatten":
        values, elsewhere = _flattened(activation, weight, mean)
    elif pooling.grid:
        values, elsewhere = _cells(activation.places(), weight, mean, pooling.grid), 0.0
    else:
        values = _whole_map(activation.places(), weight, pooling.name)
        elsewhere = -float(weight @ mean)
    return Evidence(label, values, intercept + elsewhere)


def _check_fits(activation: Activation, head: LinearHead, pooling: Pooling) -> None:
    given = pooling.n_features(activation.kind, activation.values.shape)
    expected = head.coef.shape[1]
    if given != expected:
        raise ShapeError(
            f"The head takes {expected} features, and cut '{activation.cut}' pooled by "
            f"'{pooling.name}' gives {given}: it was fitted on another cut, pooling or image size. "
            "Give those it was fitted with."
        )


def _flattened(
    activation: Activation, weight: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the sum over each place's own features, and that over tokens without a place."""
    parts = (activation.values.ravel() - mean) * weight
    if activation.kind == "map":
        return parts.reshape(activation.values.shape).sum(axis=0), 0.0
    tokens = parts.reshape(activation.values.shape).sum(axis=1)
    n_prefix = activation.prefix_tokens
    return tokens[n_prefix:].reshape(activation.grid), float(tokens[:n_prefix].sum())


def _cells(places: np.ndarray, weight: np.ndarray, mean: np.ndarray, n: int) -> np.ndarray:
    """Return what each place adds to the means of n x n cells; where cells overlap, to all."""
    channels, height, width = places.shape
    weight, mean = weight.reshape(channels, n, n), mean.reshape(channels, n, n)
    values = np.zeros((height, width))
    # Cells as PyTorch's adaptive_avg_pool2d cuts them: from floor(i h / n) to ceil((i + 1) h / n).
    rows = [slice(i * height // n, -(-(i + 1) * height // n)) for i in range(n)]
    columns = [slice(j * width // n, -(-(j + 1) * width // n)) for j in range(n)]
    for i, of_rows in enumerate(rows):
        for j, of_columns in enumerate(columns):
            cell = places[:, of_rows, of_columns] - mean[:, i, j, None, None]
            size = cell.shape[1] * cell.shape[2]
            values[of_rows, of_columns] += np.tensordot(weight[:, i, j], cell, axes=1) / size
    return values


def _whole_map(places: np.ndarray, weight: np.ndarray, name: str) -> np.ndarray:
    """Return what each place adds to averages, to maxima, or to the averages and then maxima."""
    channels, height, width = places.shape
    flat = places.reshape(channels, -1).astype(np.float64)
    values = np.zeros(height * width)
    if name != "max":
        values += weight[:channels] @ flat / (height * width)
    if name in ("max", "avgmax"):
        largest = flat.argmax(axis=1)
        np.add.at(values, largest, weight[-channels:] * flat[np.arange(channels), largest])
    return values.reshape(height, width)
