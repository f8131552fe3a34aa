"""The text of a manifest, and what it takes to publish the next one."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cache_cases import BATCH, N_ROWS, SHARD_ROWS, make_data, make_key
from xxhash import xxh3_128

from featx.cache import FeatureStore, fsio, manifest


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Name and bytes of every manifest that is published, in order."""
    seen: list[tuple[str, bytes]] = []
    publish = fsio.publish

    def noting(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            seen.append((path.name, data))
        publish(path, data)

    monkeypatch.setattr(fsio, "publish", noting)
    return seen


def write(store: FeatureStore) -> None:
    X, y = make_data()
    with store.writer(make_key(), n_rows=len(X), n_features=X.shape[1]) as writer:
        for start in range(0, len(X), BATCH):
            writer.append(X[start : start + BATCH], y[start : start + BATCH])
        writer.finish()


def test_every_manifest_is_compact_json_with_sorted_names_under_its_digest(
    store: FeatureStore, published: list[tuple[str, bytes]]
) -> None:
    write(store)
    n_shards = -(-N_ROWS // SHARD_ROWS)
    assert [name for name, _ in published] == ["progress.json"] * n_shards + ["manifest.json"]
    for i, (_, data) in enumerate(published, start=1):
        form = re.fullmatch(rb'\{"xxh3":"(\w{32})","manifest":(.*)\}\n', data)
        assert form is not None
        inner = json.loads(form[2])
        assert form[2] == json.dumps(inner, sort_keys=True, separators=(",", ":")).encode()
        assert form[1] == xxh3_128(form[2]).hexdigest().encode()
        assert len(inner["shards"]) == min(i, n_shards)
        assert set(inner["shards"][0]) == {"file", "size_bytes", "digest", "rows"}
        assert (inner["summary"] is None) != inner["complete"]


def test_the_text_of_a_shard_is_made_once(
    store: FeatureStore, published: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[int] = Counter()
    canonical_json = manifest.canonical_json

    def counting(value: Any) -> str:
        made[len(published)] += 1
        return canonical_json(value)

    monkeypatch.setattr(manifest, "canonical_json", counting)
    write(store)
    n_shards = -(-N_ROWS // SHARD_ROWS)
    assert [made[i] for i in range(n_shards)] == [made[0]] * n_shards
