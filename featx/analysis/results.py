"""What heads gave for the images of a split, as cells and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.analysis.cells import confusion_cells
from featx.analysis.curves import POINTS, class_curves, reliability, softmax
from featx.evaluate.exhibits import ResultExhibit

PROBABILITIES = {
    "svm": "softmax of the SVM's scores, not calibrated",
    "logistic": "the logistic head's own probabilities: softmax of its scores",
    "network": "softmax of the network's outputs",
}

# Images in cells, points of curves, over all results: a hundred cuts and a hundred classes come to
# about 10 MB of JSON.
_CELL_IMAGES = 30_000
_CURVE_POINTS = 300_000
_FEWEST_POINTS = 8


@dataclass(frozen=True)
class Scored:
    """What a head, or a whole network, gave for one split.

    Attributes
    ----------
    cut : str
        ``""`` for a whole network.
    head : str
        A key of `PROBABILITIES`.
    split : str
    y, predicted : ndarray of shape (n,), int64
        True and predicted labels.
    scores : ndarray of shape (n, n_labels), float
    labels : sequence of int
        The columns of the scores.
    """

    cut: str
    head: str
    split: str
    y: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    labels: Sequence[int]


def result_exhibits(scored: Sequence[Scored]) -> list[ResultExhibit]:
    """Return cells and curves of every result.

    Parameters
    ----------
    scored : sequence of Scored
        The more there are, the fewer images and points each has.
    """
    n_curves = sum(len(s.labels) for s in scored)
    found = []
    for s in scored:
        probabilities = softmax(s.scores)
        confidence = probabilities.max(axis=1)
        # A logistic head is compared over images by its probabilities, an SVM has only margins.
        ranked = s.scores if s.head == "svm" else probabilities
        found.append(
            ResultExhibit(
                cut=s.cut,
                head=s.head,
                split=s.split,
                cells=confusion_cells(s.y, s.predicted, confidence, _CELL_IMAGES // len(scored)),
                curves=class_curves(
                    s.y,
                    ranked,
                    s.labels,
                    max(_FEWEST_POINTS, min(POINTS, _CURVE_POINTS // n_curves)),
                ),
                reliability=reliability(confidence, s.y == s.predicted, PROBABILITIES[s.head]),
            )
        )
    return found
