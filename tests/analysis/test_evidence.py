"""Evidence adds up to the head's own score, and lies where it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heat_cases import head_on, network, noise, settings_for

from featx.analysis.activations import Activation
from featx.analysis.evidence import class_evidence, label_of
from featx.analysis.heatmaps import evidence_maps
from featx.errors import ShapeError, UnknownName, UsageError
from featx.heads import LinearHead

POOLS = ["avg", "mean", "max", "avgmax", "grid:1", "grid:3", "grid:5", "flatten"]


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("pool", POOLS)
def test_the_parts_of_a_map_add_up_to_the_score(pool: str, scaled: bool) -> None:
    resnet18 = network("resnet18")
    images = noise()
    # 8 x 8 places: cells of 3 and 5 a side overlap.
    head, X = head_on(resnet18, "layer2", pool, scaled=scaled)
    scores = head.decision_function(X)
    settings = settings_for(resnet18, pool)
    for row, label in enumerate(head.classes):
        found = evidence_maps(resnet18, {"layer2": head}, images, settings, int(label))["layer2"]
        for image, evidence in enumerate(found):
            assert evidence.values.shape == (8, 8)
            assert evidence.label == label
            # Up to 8,192 products, of features that another pass computed: the score is far smaller
            # than what it is the sum of.
            assert evidence.score == pytest.approx(scores[image, row], rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("pool", ["avg", "mean", "max", "avgmax", "flatten"])
def test_the_parts_of_tokens_add_up_to_the_score(pool: str) -> None:
    vit = network("timm/vit_tiny_patch16_224")
    images = noise()
    head, X = head_on(vit, "blocks.2", pool)
    scores = head.decision_function(X)
    settings = settings_for(vit, pool)
    found = evidence_maps(vit, {"blocks.2": head}, images, settings, 7)["blocks.2"]
    for image, evidence in enumerate(found):
        assert evidence.values.shape == (14, 14)
        assert evidence.score == pytest.approx(scores[image, 1], rel=1e-5, abs=1e-4)


def test_without_a_label_it_is_the_predicted_class() -> None:
    resnet18 = network("resnet18")
    images = noise()
    head, X = head_on(resnet18, "layer3", "avg")
    found = evidence_maps(resnet18, {"layer3": head}, images, settings_for(resnet18))
    assert [e.label for e in found["layer3"]] == head.predict(X).tolist()


def _one_channel(values: list[list[float]]) -> Activation:
    array = np.array([values], dtype=np.float32)
    return Activation("cut", "map", array, (array.shape[1], array.shape[2]), 0, False)


def _head(weights: list[float]) -> LinearHead:
    coef = np.array([weights, [0.0] * len(weights)])
    return LinearHead("svm", coef, np.array([0.5, 0.0]), np.array([0, 1]), ("a", "b"))


def test_a_maximum_lies_where_it_is_and_an_average_everywhere() -> None:
    activation = _one_channel([[1.0, 2.0], [6.0, 3.0]])
    largest = class_evidence(activation, _head([2.0]), "max", 0)
    assert largest.values.tolist() == [[0.0, 0.0], [12.0, 0.0]]
    assert largest.elsewhere == 0.5
    average = class_evidence(activation, _head([2.0]), "avg", 0)
    assert average.values.tolist() == [[0.5, 1.0], [3.0, 1.5]]
    both = class_evidence(activation, _head([2.0, -1.0]), "avgmax", 0)
    assert both.values.tolist() == [[0.5, 1.0], [3.0 - 6.0, 1.5]]


def test_a_cell_has_its_own_weight() -> None:
    activation = _one_channel([[1.0, 2.0], [6.0, 3.0]])
    cells = class_evidence(activation, _head([1.0, 10.0, 100.0, 1000.0]), "grid:2", 0)
    assert cells.values.tolist() == [[1.0, 20.0], [600.0, 3000.0]]


def test_the_means_of_a_scaler_lie_elsewhere_for_averages_and_at_their_place_when_flat() -> None:
    resnet18 = network("resnet18")
    images = noise()
    head, _ = head_on(resnet18, "layer4", "avg")
    assert head.scaler is not None
    settings = settings_for(resnet18)
    evidence = evidence_maps(resnet18, {"layer4": head}, images, settings, 4)["layer4"][0]
    expected = head.intercept[0] - (head.coef[0] * head.scaler.mean_ / head.scaler.scale_).sum()
    assert evidence.elsewhere == pytest.approx(expected)
    flat, _ = head_on(resnet18, "layer4", "flatten")
    evidence = evidence_maps(
        resnet18, {"layer4": flat}, images, replace(settings, pool="flatten"), 4
    )["layer4"][0]
    assert evidence.elsewhere == pytest.approx(flat.intercept[0])


@pytest.mark.parametrize(
    ("pool", "said"),
    [("gem", "a generalized mean is no sum over places"), ("cls", "the class token has no place")],
)
def test_a_pooling_that_is_no_sum_is_refused(pool: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        class_evidence(_one_channel([[1.0]]), _head([1.0]), pool, 0)
    assert "Fit it with pool avg, mean, max, avgmax, grid:N or flatten." in str(caught.value)


def test_a_head_of_another_cut_is_refused() -> None:
    resnet18 = network("resnet18")
    images = noise()
    head, _ = head_on(resnet18, "layer2", "avg")
    said = "takes 128 features, and cut 'layer3' pooled by 'avg' gives 256"
    with pytest.raises(ShapeError, match=said):
        evidence_maps(resnet18, {"layer3": head}, images, settings_for(resnet18))


def test_a_class_is_found_by_name_or_label() -> None:
    head = _head([1.0])
    assert (label_of(head, "b"), label_of(head, "1")) == (1, 1)
    # Sorted as folders are: a name that is another class' label stays a name.
    numbers = replace(head, class_names=["10", "0"])
    assert [label_of(numbers, name) for name in ("10", "0", "1")] == [0, 1, 1]
    with pytest.raises(UnknownName, match=r"Class 'aa' is not in this head\. Closest: 'a'"):
        label_of(head, "aa")
    with pytest.raises(UsageError, match=r"The head has no class 5\. It has 'a', 'b'"):
        class_evidence(_one_channel([[1.0]]), head, "avg", 5)
