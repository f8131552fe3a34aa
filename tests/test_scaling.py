"""Moments against numpy in float64 and extended precision, Scaler against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler

from featx.errors import DataError, ShapeError, UnknownName
from featx.scaling import STANDARDIZE, Moments, Scaler, scalers_for

quick = settings(deadline=None, max_examples=150)

matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(-(2.0**20), 2.0**20, width=32),
)


def difficult_columns(n: int = 2000, seed: int = 0) -> np.ndarray:
    """Columns on which a careless variance goes wrong."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(n)
    columns = {
        "plain": noise,
        "relu": np.maximum(noise, 0),
        "rare": np.where(rng.random(n) < 0.002, 5.0, 0.0),
        "mean 1e3": 1e3 + noise,
        "mean -1e4": -1e4 + noise,
        "mean 1e5": 1e5 + noise,
        "mean 1e6": 1e6 + 3 * noise,
        "outlier first": np.concatenate([[1e6], noise[1:]]),
        "tiny": 1e-30 * noise,
        "huge": 1e30 * noise,
        "zero": np.zeros(n),
        "constant .1": np.full(n, 0.1),
        "constant 1e6": np.full(n, 1e6 + 0.1),
        "two neighbours": np.where(rng.random(n) < 0.5, 1e6, np.nextafter(np.float32(1e6), 2e6)),
        "one differs": np.where(np.arange(n) == 7, 1.0 + 2**-20, 1.0),
    }
    return np.stack(list(columns.values()), axis=1).astype(np.float32)


def deviation_in_extended_precision(X: np.ndarray) -> np.ndarray:
    wide = X.astype(np.longdouble)
    return np.sqrt(((wide - wide.mean(axis=0)) ** 2).mean(axis=0)).astype(np.float64)


@pytest.mark.parametrize("chunk", [1, 7, 64, 128, 2000])
def test_deviation_of_difficult_columns_is_exact_to_eight_digits(chunk: int) -> None:
    X = difficult_columns()
    moments = Moments.empty(X.shape[1])
    for start in range(0, len(X), chunk):
        moments.update(X[start : start + chunk])
    np.testing.assert_allclose(
        np.sqrt(moments.var), deviation_in_extended_precision(X), rtol=1e-8, atol=0
    )
    np.testing.assert_allclose(moments.mean, X.mean(axis=0, dtype=np.longdouble), rtol=1e-12)
    assert moments.n == len(X)


def test_columns_and_rows_beyond_one_block_are_all_seen() -> None:
    X = np.random.default_rng(1).standard_normal((150, 9001)).astype(np.float32)
    moments = Moments.of(X)
    np.testing.assert_allclose(moments.var, X.astype(np.float64).var(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        moments.mean, X.astype(np.float64).mean(axis=0), rtol=1e-9, atol=1e-15
    )


@quick
@given(matrices, st.lists(st.integers(0, 12), max_size=4), st.booleans())
def test_any_chunking_gives_the_moments_of_the_whole(
    X: np.ndarray, cuts: list[int], merged: bool
) -> None:
    moments = Moments.empty(X.shape[1])
    for part in np.split(X, sorted(min(cut, len(X)) for cut in cuts)):
        if merged:
            moments = moments.merge(Moments.of(part))
        else:
            moments.update(part)
    wide = X.astype(np.float64)
    largest = np.abs(wide).max()
    rounding = len(X) * np.finfo(np.float64).eps * largest
    assert moments.n == len(X)
    np.testing.assert_allclose(moments.mean, wide.mean(axis=0), rtol=1e-12, atol=rounding)
    np.testing.assert_allclose(moments.var, wide.var(axis=0), rtol=1e-10, atol=rounding**2)


@quick
@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
)
def test_a_constant_column_has_exactly_no_variance(value: float, chunks: list[int]) -> None:
    moments = Moments.empty(2)
    for rows in chunks:
        moments.update(np.full((rows, 2), value, dtype=np.float32))
    assert moments.m2.tolist() == [0.0, 0.0]
    assert moments.mean.tolist() == [value, value]


def test_merge_leaves_its_operands_alone() -> None:
    X = difficult_columns(40)
    left, right = Moments.of(X[:30]), Moments.of(X[30:])
    before = left.mean.copy(), left.m2.copy(), right.mean.copy()
    both = left.merge(right)
    assert (left.n, right.n, both.n) == (30, 10, 40)
    for now, then in zip((left.mean, left.m2, right.mean), before, strict=True):
        np.testing.assert_array_equal(now, then)
    unchanged = left.merge(Moments.empty(X.shape[1]))
    np.testing.assert_array_equal(unchanged.m2, left.m2)


def test_arrays_round_trip_bit_for_bit() -> None:
    moments = Moments.of(difficult_columns(33))
    again = Moments.from_arrays(moments.to_arrays())
    assert again.n == moments.n == 33
    assert again.mean.tobytes() == moments.mean.tobytes()
    assert again.m2.tobytes() == moments.m2.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_shows_in_its_column_only(value: float) -> None:
    X = np.ones((100, 3), dtype=np.float32)
    X[50, 1] = value
    assert np.isfinite(Moments.of(X).m2).tolist() == [True, False, True]


def test_moments_of_no_rows_have_no_variance() -> None:
    empty = Moments.empty(2)
    empty.update(np.empty((0, 2), dtype=np.float32))
    assert empty.n == 0
    assert np.isnan(empty.var).all()
    with pytest.raises(DataError, match="at least one row"):
        Scaler.from_moments(empty)


def test_wrong_shapes_are_refused_with_both_shapes() -> None:
    moments = Moments.empty(3)
    with pytest.raises(ShapeError, match=r"\(4, 2\): expected \(n_samples, 3\)"):
        moments.update(np.zeros((4, 2), dtype=np.float32))
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        Moments.of(np.zeros(4, dtype=np.float32))
    with pytest.raises(ShapeError, match="3 and of 2"):
        moments.merge(Moments.empty(2))
    with pytest.raises(ShapeError, match="-1 rows"):
        Moments(-1, np.zeros(2), np.zeros(2))
    scaler = Scaler.from_moments(Moments.of(np.ones((2, 3), dtype=np.float32)))
    with pytest.raises(ShapeError, match=r"expects \(n_samples, 3\)"):
        scaler.transform(np.zeros((4, 2), dtype=np.float32))


def test_scaler_agrees_with_scikit_learn_on_difficult_columns() -> None:
    X = difficult_columns()
    reference = StandardScaler().fit(X.astype(np.float64))
    scaler = Scaler.from_moments(Moments.of(X))
    np.testing.assert_allclose(scaler.mean_, reference.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaler.scale_, reference.scale_, rtol=1e-9)
    assert scaler.n_samples_ == reference.n_samples_seen_
    expected = reference.transform(X.astype(np.float64))
    result = scaler.transform(X)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("base", "step", "is_constant"),
    [
        (1.0, 0.0, True),
        (1.0, 2.0**-52, True),  # the rounding of a mean of 1
        (1e8, 2.0**-26, True),  # the same, relative to 1e8
        (1.0, 1e-9, False),
        (1e8, 1e-1, False),
        (0.0, 1e-300, False),  # tiny, but not next to a larger mean
    ],
)
def test_near_constant_features_follow_the_rule_of_scikit_learn(
    base: float, step: float, is_constant: bool
) -> None:
    X = base + step * (np.arange(1000) % 2)[:, None]
    scaler = Scaler.from_moments(Moments.of(X))
    # 1e-300 squared is 0 in float64: that column is constant for both.
    is_constant = is_constant or step * step == 0
    assert (scaler.scale_[0] == 1.0) == is_constant
    assert (StandardScaler().fit(X).scale_[0] == 1.0) == is_constant


@quick
@given(matrices)
def test_transformed_features_are_finite_and_standard(X: np.ndarray) -> None:
    moments = Moments.of(X)
    scaler = Scaler.from_moments(moments)
    result = scaler.transform(X).astype(np.float64)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(
        result * scaler.scale_ + scaler.mean_,
        X,
        rtol=1e-6,
        # Below float32's smallest normal number, processors may round to 0.
        atol=max(1e-6 * float(np.abs(X).max()), float(np.finfo(np.float32).tiny)),
    )


def test_transform_can_reuse_memory_and_takes_float16() -> None:
    X = np.random.default_rng(2).standard_normal((130, 5000)).astype(np.float16)
    scaler = Scaler.from_moments(Moments.of(X))
    expected = scaler.transform(X)
    wide = X.astype(np.float32)
    assert scaler.transform(wide, out=wide) is wide
    np.testing.assert_array_equal(wide, expected)
    np.testing.assert_allclose(expected.std(axis=0), 1.0, rtol=1e-5)


@pytest.fixture
def three_splits() -> dict[str, Moments]:
    rng = np.random.default_rng(3)
    return {
        name: Moments.of((shift + rng.standard_normal((50, 4))).astype(np.float32))
        for name, shift in [("train", 0.0), ("val", 10.0), ("test", 20.0)]
    }


def test_train_statistics_serve_every_split(three_splits: dict[str, Moments]) -> None:
    scalers = scalers_for("train", three_splits)
    assert list(scalers) == ["train", "val", "test"]
    for scaler in scalers.values():
        assert scaler is not None
        np.testing.assert_array_equal(scaler.mean_, three_splits["train"].mean)


def test_per_split_statistics_are_each_split_its_own(three_splits: dict[str, Moments]) -> None:
    scalers = scalers_for("per-split", three_splits)
    for name, scaler in scalers.items():
        assert scaler is not None
        np.testing.assert_array_equal(scaler.mean_, three_splits[name].mean)


def test_no_standardization_has_no_scalers(three_splits: dict[str, Moments]) -> None:
    assert scalers_for("none", three_splits) == {"train": None, "val": None, "test": None}


def test_unknown_mode_and_missing_train_split_say_what_is_valid(
    three_splits: dict[str, Moments],
) -> None:
    with pytest.raises(UnknownName, match=r"'trian' is not known\. Closest: 'train'"):
        scalers_for("trian", three_splits)
    del three_splits["train"]
    with pytest.raises(DataError, match=r"\['val', 'test'\]"):
        scalers_for("train", three_splits)
    assert STANDARDIZE == ("train", "per-split", "none")
