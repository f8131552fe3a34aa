"""Results of heads as cells and curves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from featx.analysis import results
from featx.analysis.results import Scored, result_exhibits


def scored(head: str, n: int = 200, seed: int = 0) -> Scored:
    rng = np.random.default_rng(seed)
    y = rng.choice([2, 4, 7], n)
    # Of unequal sizes, so that softmax changes the order of the images.
    scores = (rng.standard_normal((n, 3)) + (y[:, None] == [2, 4, 7])) * rng.random((n, 1)) * 9
    predicted = np.array([2, 4, 7])[scores.argmax(axis=1)]
    return Scored("layer1", head, "test", y, predicted, scores, [2, 4, 7])


@pytest.mark.parametrize("head", ["svm", "logistic", "network"])
def test_confidences_are_softmax_and_say_what_they_are(head: str) -> None:
    given = scored(head)
    (found,) = result_exhibits([given])
    assert (found.cut, found.head, found.split) == ("layer1", head, "test")
    confidence = softmax(given.scores, axis=1).max(axis=1)
    for cell in found.cells:
        for image in cell.images:
            assert image.score == pytest.approx(confidence[image.index], abs=1e-4)
    assert found.reliability is not None
    assert sum(found.reliability.n) == 200
    assert ("not calibrated" in found.reliability.probabilities) == (head == "svm")
    # Curves of an SVM are over its margins, those of the others over probabilities.
    ranked = given.scores if head == "svm" else softmax(given.scores, axis=1)
    for column, curve in enumerate(found.curves):
        assert curve.average_precision == pytest.approx(
            average_precision_score(given.y == curve.label, ranked[:, column])
        )


def test_many_results_have_fewer_images_and_points_each(monkeypatch) -> None:
    monkeypatch.setattr(results, "_CELL_IMAGES", 60)
    monkeypatch.setattr(results, "_CURVE_POINTS", 4 * 3 * 10)
    found = result_exhibits([scored("svm", seed=seed) for seed in range(4)])
    for result in found:
        assert sum(len(cell.images) for cell in result.cells) <= 15
        assert all(len(curve.recall) <= 10 for curve in result.curves)


def test_nothing_scored_is_nothing_shown() -> None:
    assert result_exhibits([]) == []
