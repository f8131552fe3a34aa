"""Who goes where: properties of the draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from featx.data.splits import (
    check_classes,
    choose_classes,
    hold_out,
    hold_out_count,
    limit_rows,
    limits_per_split,
)
from featx.errors import DataError, UnknownName, UsageError

labels = st.lists(st.integers(5, 9), min_size=4, max_size=80).map(np.array)
amounts = st.one_of(st.floats(0.2, 0.8), st.integers(1, 3))


@given(labels, amounts, st.booleans(), st.integers(0, 2**32 - 1))
def test_the_two_sides_are_disjoint_and_cover(
    y: np.ndarray, amount: float, stratified: bool, seed: int
) -> None:
    rest, held = hold_out(y, amount, split="val", stratified=stratified, seed=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, held])), np.arange(len(y)))
    assert len(held) == (amount if isinstance(amount, int) else round(len(y) * amount))
    assert (np.diff(rest) > 0).all()
    assert (np.diff(held) > 0).all()


@given(labels, amounts, st.integers(0, 100))
def test_a_stratified_hold_out_gives_each_class_its_share(
    y: np.ndarray, amount: float, seed: int
) -> None:
    _, held = hold_out(y, amount, split="test", stratified=True, seed=seed)
    for label in np.unique(y):
        share = (y == label).sum() * len(held) / len(y)
        assert abs((y[held] == label).sum() - share) < 1


def test_stratified_counts_equal_those_of_scikit_learn() -> None:
    y = np.repeat([0, 1, 2, 3, 4], [14, 12, 14, 6, 14])
    _, held = hold_out(y, 15, split="test", stratified=True, seed=0)
    _, theirs = train_test_split(y, test_size=15, stratify=y, random_state=0)
    # The remainders of three classes tie; only who of them gives the extra image may differ.
    assert sorted(np.bincount(y[held])) == sorted(np.bincount(theirs))


def test_draws_are_pinned_and_depend_on_seed_and_purpose() -> None:
    """These numbers are a promise: the same seed gives the same split in every version."""
    y = np.zeros(12, dtype=int)

    def held(seed: int, split: str) -> list[int]:
        return hold_out(y, 4, split=split, stratified=False, seed=seed)[1].tolist()

    assert held(0, "val") == sorted(np.random.RandomState([0, 2]).permutation(12)[:4].tolist())
    assert len({tuple(held(seed, split)) for seed in (0, 1) for split in ("val", "test")}) == 4


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (1.0, "val fraction of 1.0 is not possible: take one between 0 and 1"),
        (-0.1, "val fraction of -0.1"),
        (float("nan"), "val fraction of nan"),
        (0.01, "takes 0 of 10 images"),
        (0.99, "takes 10 of 10 images"),
        (10, "val split of 10 images cannot be held out of 10: take 1 to 9"),
        (-1, "val split of -1 images"),
    ],
)
def test_impossible_amounts(amount: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        hold_out_count(10, amount, "val")


def test_amounts() -> None:
    assert hold_out_count(25_000, 0.2, "val") == 5000
    assert hold_out_count(10, 1, "val") == 1
    assert hold_out_count(10, 0, "val") == hold_out_count(10, 0.0, "val") == 0


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_impossible_seeds(seed: int) -> None:
    with pytest.raises(UsageError, match=f"Seed {seed} is not possible"):
        hold_out(np.zeros(4, int), 2, split="val", stratified=False, seed=seed)


@given(labels, st.integers(1, 6), st.integers(1, 6), st.integers(0, 50))
def test_limits_are_nested_and_exact(y: np.ndarray, a: int, b: int, seed: int) -> None:
    small = limit_rows(y, min(a, b), split="train", seed=seed)
    large = limit_rows(y, max(a, b), split="train", seed=seed)
    assert set(small) <= set(large)
    assert (np.diff(large) > 0).all()
    for label in np.unique(y):
        assert (y[large] == label).sum() == min((y == label).sum(), max(a, b))


def test_what_a_class_keeps_does_not_depend_on_the_other_classes() -> None:
    y = np.repeat([5, 6, 7], 20)
    together = limit_rows(y, 4, split="train", seed=3)
    alone = limit_rows(y[:20], 4, split="train", seed=3)
    np.testing.assert_array_equal(together[:4], alone)
    assert not np.array_equal(together[:4], together[4:8] - 20)
    assert not np.array_equal(together, limit_rows(y, 4, split="test", seed=3))


def test_limits_per_split() -> None:
    assert limits_per_split(3, ["train", "test"]) == {"train": 3, "test": 3}
    assert limits_per_split({"train": 3}, ["train", "test"]) == {"train": 3, "test": None}
    assert limits_per_split(None, ["train"]) == {"train": None}
    with pytest.raises(UnknownName, match=r"Split 'trian'.*'train'"):
        limits_per_split({"trian": 3}, ["train"])
    with pytest.raises(DataError, match="limit of 0 images per class"):
        limits_per_split(0, ["train"])


def test_class_filter() -> None:
    classes = {5: "dog", 6: "frog", 7: "horse"}
    assert choose_classes(classes, ["horse", "dog", "dog"], "pets") == {5: "dog", 7: "horse"}
    with pytest.raises(UnknownName, match=r"Class 'hrose' is not in pets. Closest: 'horse'"):
        choose_classes(classes, ["dog", "hrose"], "pets")
    with pytest.raises(DataError, match="class filter is empty"):
        choose_classes(classes, [], "pets")


def test_missing_classes_are_named_with_the_splits_that_lack_them() -> None:
    y = {"train": np.array([0, 0, 1]), "val": np.array([0]), "test": np.array([0, 2])}
    with pytest.raises(DataError) as caught:
        check_classes(y, {0: "a", 1: "b", 2: "c"}, drawn=True)
    text = str(caught.value)
    assert "'b' (1 in all) in val and test; 'c' (1 in all) in train and val." in text
    assert "stratified" in text
    with pytest.raises(DataError, match="Add images of it"):
        check_classes(y, {0: "a", 1: "b"}, drawn=False)
    check_classes(y, {0: "a"}, drawn=True)
