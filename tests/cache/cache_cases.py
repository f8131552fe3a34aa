"""What the tests of the cache share: small seeded feature sets and their keys."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_128

from featx.cache import FeatureKey, FeatureSet, FeatureStore, streaming
from featx.progress import Progress

N_ROWS, N_FEATURES, BATCH, SHARD_ROWS = 44, 12, 4, 8


class Ears(Progress):
    """Hears what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.heard = threading.Event()

    def say(self, text: str) -> None:
        self.said.append(text)
        self.heard.set()


def make_key(**changes: Any) -> FeatureKey:
    ingredients: dict[str, Any] = {
        "backbone": "resnet18",
        "weights_digest": "w" * 64,
        "dataset_digest": "d" * 64,
        "split": "train",
        "preprocess": {"size": [32, 32], "interpolation": "bilinear", "mean": [0.485, 0.456]},
        "module": "layer3.1",
        "pool": "avg",
        "storage": "float32",
        "precision": "fp32",
        "numerics": "channels-last, BatchNorm folded",
        "device_kind": "cpu",
        "batch_size": BATCH,
        "shard_rows": SHARD_ROWS,
        "versions": "torch 2.13",
    }
    return FeatureKey(**(ingredients | changes))


def make_data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features as behind a ReLU, half of them 0, and labels from 5 to 9."""
    rng = np.random.default_rng(seed)
    X = np.maximum(rng.standard_normal((N_ROWS, N_FEATURES)), 0).astype(np.float32)
    return X, rng.integers(5, 10, N_ROWS)


def write(
    store: FeatureStore, key: FeatureKey, X: np.ndarray, y: np.ndarray, rebuild: bool = False
) -> FeatureSet:
    """Write a set as extraction does: from where the writer stands, batch by batch."""
    with store.writer(key, n_rows=len(X), n_features=X.shape[1], rebuild=rebuild) as writer:
        for start in range(writer.next_row, len(X), key.batch_size):
            rows = slice(start, start + key.batch_size)
            writer.append(X[rows], y[rows])
        return writer.finish()


def of_format(entry: Path, version: int) -> None:
    """Let an entry say that it was written in another version of the format."""
    path = entry / "manifest.json"
    inner = json.loads(path.read_bytes())["manifest"] | {"schema": version}
    text = json.dumps(inner).encode()
    if version == 1:  # whose digest was another one
        name, digest = b"sha256", hashlib.sha256(text).hexdigest()
    else:
        name, digest = b"xxh3", xxh3_128(text).hexdigest()
    path.write_bytes(b'{"%b":"%b","manifest":%b}\n' % (name, digest.encode(), text))


def three_chunks_a_shard() -> Iterator[None]:
    """Let shards go out in several pieces, as large ones do. The body of a fixture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_CHUNK_BYTES", 1)
        patch.setattr(streaming, "_CHUNK_ROWS", 3)
        yield


def content(features: FeatureSet) -> tuple[bytes, ...]:
    """Return everything a set holds, bit for bit."""
    moments = features.moments
    return (
        features.read(dtype=np.float32).tobytes(),
        features.y.tobytes(),
        moments.mean.tobytes(),
        moments.m2.tobytes(),
        str(moments.n).encode(),
    )
