"""Choosing C: the best score, ties to the smallest value, edges warned about."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.errors import UsageError
from featx.heads import C_GRIDS, C_MOST, pick_C

FINITE = st.floats(0, 1)


@given(st.dictionaries(st.floats(1e-9, 1e9), FINITE, min_size=1, max_size=8))
def test_takes_the_smallest_of_the_best(scores: dict[float, float]) -> None:
    choice = pick_C(scores)
    assert scores[choice.C] == max(scores.values())
    assert min(C for C in scores if scores[C] == scores[choice.C]) == choice.C
    assert choice.log == tuple(sorted(scores.items()))
    ends = {min(scores): "low", max(scores): "high"}
    assert choice.edge == (ends.get(choice.C) if len(scores) > 1 else None)
    assert (choice.warning is None) == (choice.edge is None)


def test_order_of_the_scores_does_not_matter() -> None:
    scores = {1.0: 0.5, 0.01: 0.9, 0.1: 0.9}
    assert pick_C(scores) == pick_C(dict(sorted(scores.items())))
    assert pick_C(scores).C == 0.01


@pytest.mark.parametrize(
    ("scores", "edge", "words"),
    [
        ({0.1: 0.9, 1.0: 0.8, 10.0: 0.7}, "low", "C 0.1 is the smallest of the values compared"),
        ({0.1: 0.7, 1.0: 0.8, 10.0: 0.9}, "high", "C 10 is the largest of the values compared"),
    ],
)
def test_an_edge_is_warned_about(scores: dict[float, float], edge: str, words: str) -> None:
    choice = pick_C(scores)
    assert choice.edge == edge
    assert choice.warning is not None
    assert words in choice.warning
    assert "(0.1 to 10)" in choice.warning
    assert ("smaller" if edge == "low" else "larger") + " one may be better" in choice.warning


def test_inside_the_grid_and_alone_nothing_is_warned_about() -> None:
    assert pick_C({0.1: 0.7, 1.0: 0.9, 10.0: 0.8}).warning is None
    assert pick_C({3.0: 0.2}).edge is None


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_cannot_be_compared_is_named(score: float) -> None:
    with pytest.raises(UsageError, match=f"The score of C 0.5 is {score}"):
        pick_C({0.1: 0.9, 0.5: score})


def test_nothing_to_choose_from() -> None:
    with pytest.raises(UsageError, match="No value of C"):
        pick_C({})


def test_grids_are_decades_around_the_best_values_measured() -> None:
    assert set(C_GRIDS) == {"svm", "logistic"}
    for grid in C_GRIDS.values():
        exponents = [math.log10(C) for C in grid]
        assert exponents == pytest.approx(range(round(exponents[0]), round(exponents[-1]) + 1))
    # Two decades are left on either side of the best ones.
    assert C_GRIDS["svm"][0] <= 1e-5
    assert C_GRIDS["svm"][-1] >= 1.0
    assert C_GRIDS["logistic"][0] <= 1e-4
    assert C_GRIDS["logistic"][-1] >= 10.0
    # `auto` goes on by decades, and must be able to.
    assert all(C_MOST[head] >= 100 * grid[-1] for head, grid in C_GRIDS.items())


@pytest.mark.parametrize("head", ["svm", "logistic"])
def test_auto_in_a_recipe_is_the_grid_of_its_head(head: str) -> None:
    from featx.pipeline.fitting import candidates
    from featx.recipes import make_recipe

    recipe = make_recipe(
        {"backbone": "resnet18", "cuts": ["stage1"], "dataset": "digits", "head": head, "C": "auto"}
    )
    assert candidates(recipe) == C_GRIDS[head]
