"""Cached features as rows of a solver: any block of them is that of all of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.cache import FeatureKey, FeatureSet, FeatureStore
from featx.pipeline.feature_rows import FeatureRows
from featx.scaling import Scaler

N_FEATURES = 5


def written(store: FeatureStore, split: str, X: np.ndarray) -> FeatureSet:
    key = FeatureKey(
        backbone="net", weights_digest="w", dataset_digest="d", split=split, preprocess={},
        module="layer", pool="avg", storage="float32", precision="fp32", device_kind="cpu",
        numerics="plain", batch_size=4, shard_rows=8, versions="made 1.0",
    )  # fmt: skip
    with store.writer(key, n_rows=len(X), n_features=X.shape[1]) as writer:
        writer.append(X, np.zeros(len(X), dtype=np.int64))
        return writer.finish()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureRows, np.ndarray]:
    store = FeatureStore(tmp_path_factory.mktemp("cache"))
    rng = np.random.default_rng(0)
    parts, expected = [], []
    for split, n, scaled in (("train", 21, True), ("val", 8, False), ("test", 3, True)):
        X = rng.standard_normal((n, N_FEATURES), dtype=np.float32)
        found = written(store, split, X)
        scaler = Scaler.from_moments(found.moments) if scaled else None
        parts.append((found, scaler))
        expected.append(X if scaler is None else scaler.transform(X))
    return FeatureRows(parts), np.concatenate(expected)


@settings(deadline=None, max_examples=60)
@given(bounds=st.lists(st.integers(0, 32), min_size=2, max_size=8))
def test_blocks_in_any_order_are_those_of_all_rows(
    rows: tuple[FeatureRows, np.ndarray], bounds: list[int]
) -> None:
    X, expected = rows
    assert X.shape == expected.shape
    for start, stop in itertools.pairwise(bounds):
        np.testing.assert_array_equal(X[start:stop], expected[start:stop])


def test_a_pass_in_small_blocks_reads_every_shard_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = np.random.default_rng(1).standard_normal((40, N_FEATURES), dtype=np.float32)
    found = written(FeatureStore(tmp_path), "train", X)
    read, spans = FeatureSet.read, []

    def counted(self: FeatureSet, rows: slice) -> np.ndarray:
        spans.append((rows.start, rows.stop))
        return read(self, rows)

    monkeypatch.setattr(FeatureSet, "read", counted)
    source = FeatureRows([(found, None)])
    blocks = [source[start : start + 3] for start in range(0, 40, 3)]
    np.testing.assert_array_equal(np.concatenate(blocks), X)
    assert spans == [(0, 8), (8, 16), (16, 24), (24, 32), (32, 40)]
