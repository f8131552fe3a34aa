"""The store: what is written is what is read, what is listed, what is removed."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_cases import N_FEATURES, N_ROWS, SHARD_ROWS, content, make_data, make_key, write
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featx.cache import FeatureSet, FeatureStore, shard_rows_for, size_bytes_for, streaming
from featx.errors import CacheCorrupt, CacheError, NonFiniteFeatures, ShapeError, UnknownName
from featx.scaling import Moments


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_what_is_read_is_what_was_written(store: FeatureStore, storage: str) -> None:
    X, y = make_data()
    stored = X.astype(storage)
    key = make_key(storage=storage)
    assert store.find(key) is None
    written = write(store, key, X, y)
    found = store.find(key)
    assert found is not None
    assert content(found) == content(written)
    result = found.read()
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, stored.astype(np.float32))
    np.testing.assert_array_equal(found.read(dtype=np.float64), stored.astype(np.float64))
    np.testing.assert_array_equal(found.y, y)
    assert found.y.dtype == np.int64
    assert (found.n_samples, found.n_features, len(found)) == (N_ROWS, N_FEATURES, N_ROWS)
    assert found.key == key
    assert repr(found) == "FeatureSet(resnet18, layer3.1, avg, train: 44 x 12)"


def test_moments_are_those_of_the_stored_values(store: FeatureStore) -> None:
    X, y = make_data()
    moments = write(store, make_key(storage="float16"), X, y).moments
    stored = X.astype(np.float16).astype(np.float64)
    assert moments.n == N_ROWS
    np.testing.assert_allclose(moments.mean, stored.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.var, stored.var(axis=0), rtol=1e-12)
    assert np.abs(moments.mean - X.mean(axis=0, dtype=np.float64)).max() > 1e-7


def test_shards_are_plain_hdf5_that_other_tools_open(store: FeatureStore) -> None:
    X, y = make_data()
    features = write(store, make_key(), X, y)
    names = sorted(path.name for path in features.path.glob("0*.h5"))
    assert [name[:5] for name in names] == [f"{i:05d}" for i in range(6)]
    with h5py.File(features.path / names[1]) as shard:
        np.testing.assert_array_equal(shard["features"], X[8:16])
        np.testing.assert_array_equal(shard["labels"], y[8:16])


def test_equal_content_gives_equal_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    first = write(FeatureStore(tmp_path / "a"), make_key(), X, y).path
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    second = write(FeatureStore(tmp_path / "b"), make_key(), X, y).path
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    assert files == {path.name: path.read_bytes() for path in second.iterdir()}


def test_a_moved_cache_is_the_same_cache(store: FeatureStore, tmp_path: Path) -> None:
    before = content(write(store, make_key(), *make_data()))
    store.root.rename(tmp_path / "elsewhere")
    moved = FeatureStore(tmp_path / "elsewhere").find(make_key())
    assert moved is not None
    assert content(moved) == before


def test_shards_are_yielded_in_order_as_arrays_of_their_own(store: FeatureStore) -> None:
    X, y = make_data()
    features = write(store, make_key(storage="float16"), X, y)
    rows = []
    for span, part in features.shards():
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, X[span].astype(np.float16).astype(np.float32))
        part[:] = 0  # its own memory: the caller may standardize in place
        rows.append((span.start, span.stop))
    assert rows == [(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 44)]


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    store = FeatureStore(tmp_path_factory.mktemp("readable"))
    return write(store, make_key(), *make_data())


row_choices = (
    st.slices(N_ROWS)
    | st.lists(st.integers(-N_ROWS, N_ROWS - 1), max_size=60)
    | hnp.arrays(np.int32, st.integers(0, 60), elements=st.integers(-N_ROWS, N_ROWS - 1))
    | hnp.arrays(np.bool_, N_ROWS)
    | st.none()
)


@settings(deadline=None, max_examples=150)
@given(rows=row_choices)
def test_reading_rows_is_indexing(readable: FeatureSet, rows: slice | np.ndarray | None) -> None:
    X, _ = make_data()
    index = np.array(rows, dtype=int) if isinstance(rows, list) else rows
    expected = X if index is None else X[index]
    np.testing.assert_array_equal(readable.read(rows), expected)


def test_rows_outside_the_set_are_refused(readable: FeatureSet) -> None:
    for row in (N_ROWS, -N_ROWS - 1):
        with pytest.raises(IndexError, match=str(row)):
            readable.read([0, row])


def test_only_shards_that_are_needed_are_opened(store: FeatureStore) -> None:
    X, y = make_data()
    features = write(store, make_key(), X, y)
    for index in (0, 2, 5):
        next(features.path.glob(f"{index:05d}-*")).unlink()
    np.testing.assert_array_equal(features.read([31, 8, 15, 24]), X[[31, 8, 15, 24]])
    with pytest.raises(CacheCorrupt, match=r"00002-.* is missing"):
        features.read([31, 16])


# --- writing and resuming


def test_a_writer_left_early_resumes_behind_its_last_shard(store: FeatureStore) -> None:
    X, y = make_data()
    key = make_key()

    def stop_at_22() -> None:
        with store.writer(key, n_rows=N_ROWS, n_features=N_FEATURES) as writer:
            assert writer.next_row == 0
            writer.append(X[:22], y[:22])
            assert writer.next_row == 16
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_at_22()
    assert store.find(key) is None
    assert store.progress(key) == 16
    with store.writer(key, n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        assert writer.next_row == 16
        writer.append(X[16:], y[16:])
        resumed = writer.finish()
    assert store.progress(key) == N_ROWS
    undisturbed = write(FeatureStore(store.root / "other"), key, X, y)
    assert content(resumed) == content(undisturbed)
    names = {path.name for path in resumed.path.iterdir()}
    assert names == {path.name for path in undisturbed.path.iterdir()}


@pytest.mark.parametrize("sizes", [[44], [1] * 44, [3, 20, 21], [8] * 5 + [4]])
def test_the_size_of_appended_pieces_changes_nothing(store: FeatureStore, sizes: list[int]) -> None:
    X, y = make_data()
    with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        start = 0
        for size in sizes:
            writer.append(X[start : start + size], y[start : start + size])
            start += size
        features = writer.finish()
    reference = write(FeatureStore(store.root / "other"), make_key(), X, y)
    assert content(features) == content(reference)


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("chunk_rows", [1, 3, 7])
def test_shards_of_many_chunks_hold_the_same(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, chunk_rows: int, storage: str
) -> None:
    X, y = make_data()
    key = make_key(storage=storage)
    whole = write(FeatureStore(store.root / "whole"), key, X, y)
    monkeypatch.setattr(streaming, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(streaming, "_CHUNK_ROWS", chunk_rows)
    with store.writer(key, n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        writer.append(X[:21], y[:21])
    chunked = write(store, key, X, y)
    shards = [{p.name: p.read_bytes() for p in f.path.glob("0*.h5")} for f in (whole, chunked)]
    assert shards[0] == shards[1]
    np.testing.assert_allclose(chunked.moments.mean, whole.moments.mean, rtol=1e-14)
    np.testing.assert_allclose(chunked.moments.m2, whole.moments.m2, rtol=1e-13)
    undisturbed = write(FeatureStore(store.root / "undisturbed"), key, X, y)
    assert content(chunked) == content(undisturbed)


def test_a_writer_left_by_an_error_leaves_no_thread_and_no_file(store: FeatureStore) -> None:
    X, y = make_data()

    def fail() -> None:
        with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
            writer.append(X[:13], y[:13])
            raise RuntimeError("the network failed")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the network failed"):
        fail()
    assert threading.active_count() == before
    names = sorted(path.name[:5] for path in store.path_for(make_key()).iterdir())
    assert names == ["00000", "progr"]


def test_a_writer_of_a_complete_set_has_nothing_to_do(store: FeatureStore) -> None:
    X, y = make_data()
    before = content(write(store, make_key(), X, y))
    with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        assert writer.next_row == N_ROWS
        with pytest.raises(ShapeError, match="Row 45 appended to a set of 44 rows"):
            writer.append(X[:1], y[:1])
        assert content(writer.finish()) == before


def test_rebuild_forgets_what_is_there(store: FeatureStore) -> None:
    X, y = make_data()
    write(store, make_key(), X, y)
    with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES, rebuild=True) as writer:
        assert writer.next_row == 0
        assert store.find(make_key()) is None
    other, labels = make_data(seed=1)
    rebuilt = write(store, make_key(), other, labels, rebuild=True)
    np.testing.assert_array_equal(rebuilt.read(), other)


def test_a_set_of_another_shape_is_not_continued(store: FeatureStore) -> None:
    X, y = make_data()
    with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        writer.append(X[:8], y[:8])
    with pytest.raises(
        CacheCorrupt, match=r"progress\.json: it holds 44 x 12 values, not the 44 x 1"
    ):
        store.writer(make_key(), n_rows=N_ROWS, n_features=13)


def test_finishing_needs_every_row(store: FeatureStore) -> None:
    X, y = make_data()
    with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        writer.append(X[:20], y[:20])
        with pytest.raises(CacheError, match="has 20 of 44 rows"):
            writer.finish()
    with pytest.raises(CacheError, match="closed; a new one goes on at row 16"):
        writer.finish()


def test_rows_that_were_not_announced_are_refused(store: FeatureStore) -> None:
    X, y = make_data()
    with pytest.raises(ShapeError, match="0 x 3"):
        store.writer(make_key(), n_rows=0, n_features=3)
    with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        for features in (X[:3, :5], X[:3].astype(np.float64), X[0]):
            with pytest.raises(ShapeError, match=r"expected \(n, 12\) and float32"):
                writer.append(features, y[:3])
        for labels in (y[:2], y[:3].astype(float), y[:3, None]):
            with pytest.raises(ShapeError, match=r"expected \(3,\) and int64"):
                writer.append(X[:3], labels)
        assert writer.next_row == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 7e4])
def test_values_that_cannot_be_kept_are_named(store: FeatureStore, value: float) -> None:
    X, y = make_data()
    X[21, 7] = value
    key = make_key(storage="float16")
    with store.writer(key, n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        with pytest.raises(
            NonFiniteFeatures, match=r"Feature 7 of row 21 at 'layer3\.1' .*'train'.* (inf|nan)\."
        ):
            writer.append(X, y)
        # The rows behind the failed shard cannot be appended in its place.
        with pytest.raises(CacheError, match="a new one goes on at row 16"):
            writer.append(X[24:], y[24:])
    assert store.progress(key) == 16


# --- listing, verifying, removing


def test_entries_say_what_is_there(store: FeatureStore) -> None:
    assert store.entries() == []
    X, y = make_data()
    features = write(store, make_key(), X, y)
    unfinished = make_key(split="test", backbone="timm/convnext_tiny")
    with store.writer(unfinished, n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        writer.append(X[:9], y[:9])
    (store.root / "README.md").write_text("not an entry")
    complete, incomplete = store.entries()
    assert complete.path == features.path == store.path_for(make_key())
    assert complete.key == make_key()
    assert (complete.rows, complete.n_rows, complete.n_features) == (44, 44, 12)
    assert complete.complete
    assert complete.problem is None
    assert complete.n_bytes == sum(path.stat().st_size for path in features.path.iterdir())
    manifest = (features.path / "manifest.json").stat().st_size
    assert features.bytes_on_disk == complete.n_bytes - manifest
    assert incomplete.key == unfinished
    assert (incomplete.rows, incomplete.n_rows, incomplete.complete) == (8, 44, False)
    assert store.verify() == [complete, incomplete]
    assert store.verify(unfinished) == [incomplete]
    assert store.verify(make_key(pool="max")) == []


def test_an_entry_in_the_place_of_another_is_listed_with_its_problem(store: FeatureStore) -> None:
    features = write(store, make_key(), *make_data())
    other = store.path_for(make_key(split="test"))
    features.path.rename(other)
    (info,) = store.entries()
    assert info.problem is not None
    assert "belongs to" in info.problem
    with pytest.raises(
        CacheCorrupt, match=r"manifest\.json: it belongs to another key.*\['split'\]"
    ):
        store.find(make_key(split="test"))


def test_verify_lists_a_damaged_shard_of_an_unfinished_set(store: FeatureStore) -> None:
    X, y = make_data()
    with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        writer.append(X[:16], y[:16])
    shard = sorted(store.path_for(make_key()).glob("0*.h5"))[1]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    (info,) = store.verify()
    assert info.problem is not None
    assert shard.name in info.problem
    with pytest.raises(CacheCorrupt, match=shard.name):
        store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES)


def test_remove_takes_the_entry_and_nothing_else(store: FeatureStore) -> None:
    kept = write(store, make_key(split="test"), *make_data())
    gone = write(store, make_key(), *make_data())
    store.remove(make_key())
    assert not gone.path.exists()
    assert content(kept)
    (kept.path / "notes.txt").write_text("mine")
    store.remove(make_key(split="test"))
    assert [path.name for path in kept.path.iterdir()] == ["notes.txt"]
    store.remove(make_key())
    assert store.progress(make_key()) == 0


def test_gc_removes_what_no_manifest_lists_once_it_is_old(store: FeatureStore) -> None:
    X, y = make_data()
    features = write(store, make_key(), X, y)
    orphans = {
        features.path / ".00001-0123456789abcdef.h5.77-a1.tmp",
        features.path / "00001-0123456789abcdef.h5",
        features.path / "summary-0123456789abcdef.h5",
        features.path / "progress.json",
    }
    for path in orphans:
        path.write_bytes(b"left over")
    (features.path / "notes.txt").write_text("mine")
    for path in [*orphans, features.path / "notes.txt"]:
        os.utime(path, (0, time.time() - 3500))
    assert store.gc() == []
    for path in [*orphans, *features.path.iterdir()]:
        os.utime(path, (0, time.time() - 3700))
    assert set(store.gc()) == orphans
    assert (features.path / "notes.txt").exists()
    assert content(features) == content(write(store, make_key(), X, y))
    assert store.gc(older_than_s=0) == []


def test_gc_keeps_the_shards_of_a_set_in_progress(store: FeatureStore) -> None:
    X, y = make_data()
    with store.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        writer.append(X[:16], y[:16])
    assert store.gc(older_than_s=0) == []
    assert store.progress(make_key()) == 16
    (store.path_for(make_key()) / "progress.json").unlink()
    assert len(store.gc(older_than_s=0)) == 2
    assert not store.path_for(make_key()).exists()


def test_gc_keeps_every_shard_where_the_manifest_cannot_be_read(store: FeatureStore) -> None:
    features = write(store, make_key(), *make_data())
    (features.path / "manifest.json").write_bytes(b"{}")
    left = features.path / ".00002.h5.77-a1.tmp"
    left.write_bytes(b"")
    (features.path / ".mine.tmp").write_bytes(b"")
    assert store.gc(older_than_s=0) == [left]
    assert len(list(features.path.glob("*.h5"))) == 7


@pytest.mark.parametrize(
    ("ingredients", "folder", "name"),
    [
        ({"backbone": "timm/vit:b?16*"}, "timm_vit_b_16_", "layer3.1-avg-train"),
        ({"pool": "grid:4", "module": "a\\b|c<d>"}, "resnet18", "a_b_c_d_-grid_4-train"),
        ({"backbone": "../../etc"}, "_.._etc", "layer3.1-avg-train"),
        ({"backbone": "CON", "module": "nul.1"}, "_CON", "_nul.1-avg-train"),
        ({"backbone": "...", "module": " "}, "_", "_-avg-train"),
        ({"backbone": "日本", "split": "x" * 99}, "_", "layer3.1-avg-" + "x" * 40),
    ],
)
def test_folders_have_names_that_every_system_takes(
    store: FeatureStore, ingredients: dict[str, str], folder: str, name: str
) -> None:
    key = make_key(**ingredients)
    path = store.path_for(key)
    assert path == store.root / folder / f"{name}-{key.digest[:16]}"
    write(store, key, *make_data())
    assert [entry.key for entry in store.entries()] == [key]


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize(
    ("n_rows", "n_features"), [(1, 1), (40, 12), (2000, 64), (3, 70_000), (9000, 2)]
)
def test_the_announced_size_is_close_to_the_real_one(
    store: FeatureStore, storage: str, n_rows: int, n_features: int
) -> None:
    rows = shard_rows_for(n_features, min(n_rows, 2100), storage)
    key = make_key(storage=storage, batch_size=rows, shard_rows=rows)
    X = np.ones((n_rows, n_features), dtype=np.float32)
    write(store, key, X, np.zeros(n_rows, dtype=np.int64))
    (info,) = store.entries()
    announced = size_bytes_for(n_rows, n_features, storage)
    assert info.n_bytes <= announced <= info.n_bytes + 16384


def test_the_announced_size_of_an_unknown_storage_type() -> None:
    with pytest.raises(UnknownName, match="float64"):
        size_bytes_for(1, 1, "float64")


def test_free_space_is_known_before_the_folder_is_made(tmp_path: Path) -> None:
    free = FeatureStore(tmp_path / "not" / "yet").free_bytes()
    stat = os.statvfs(tmp_path)
    assert free == pytest.approx(stat.f_bavail * stat.f_frsize, rel=0.05)


def test_a_set_cannot_be_made_of_an_unfinished_manifest(store: FeatureStore) -> None:
    features = write(store, make_key(), *make_data())
    unfinished = dataclasses.replace(features._manifest, summary=None)
    with pytest.raises(CacheCorrupt, match=r"manifest\.json: it is not complete"):
        FeatureSet(features.path, unfinished)


def test_moments_do_not_depend_on_where_a_run_was_resumed(store: FeatureStore) -> None:
    """They are merged shard by shard, so each resumed run repeats the same sums."""
    X, y = make_data()
    merged = Moments.empty(N_FEATURES)
    for start in range(0, N_ROWS, SHARD_ROWS):
        merged = merged.merge(Moments.of(X[start : start + SHARD_ROWS]))
    for stop in (0, 8, 24, 40):
        key = make_key(split=f"split{stop}")
        with store.writer(key, n_rows=N_ROWS, n_features=N_FEATURES) as writer:
            writer.append(X[:stop], y[:stop])
        moments = write(store, key, X, y).moments
        assert moments.mean.tobytes() == merged.mean.tobytes()
        assert moments.m2.tobytes() == merged.m2.tobytes()
