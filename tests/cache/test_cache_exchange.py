"""Features out to other tools and back: what they read is what is cached."""

from __future__ import annotations

import json
import threading
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_cases import N_FEATURES, N_ROWS, Ears, content, make_data, make_key, write

from featx.cache import (
    FeatureSet,
    FeatureStore,
    FeatureWriter,
    exchange,
    exchange_files,
    export_features,
    import_features,
    keys,
    manifest,
)
from featx.cache.locks import computing
from featx.errors import CacheCorrupt, CacheWriteError, NonFiniteFeatures, UsageError

FORMATS = pytest.mark.parametrize("ending", ["npz", "h5", "parquet"])
STORAGES = pytest.mark.parametrize("storage", ["float32", "float16"])


def as_others_read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Open a file without featx."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return file["features"], file["labels"]
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file["features"][:], file["labels"][:]
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return np.array(table["features"].to_pylist()), table["label"].to_numpy()


@STORAGES
@FORMATS
def test_other_tools_read_what_is_cached(
    store: FeatureStore, tmp_path: Path, ending: str, storage: str
) -> None:
    X, y = make_data()
    found = write(store, make_key(storage=storage), X, y)
    path = export_features(found, tmp_path / "out" / f"features.{ending}")
    features, labels = as_others_read(path)
    np.testing.assert_array_equal(features, X.astype(storage))
    np.testing.assert_array_equal(labels, y)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@STORAGES
@FORMATS
def test_an_import_gives_the_same_entry(
    store: FeatureStore, tmp_path: Path, ending: str, storage: str, monkeypatch
) -> None:
    # Blocks that end within shards.
    monkeypatch.setattr(exchange_files, "_BLOCK_BYTES", 5 * 4 * N_FEATURES)
    key = make_key(storage=storage)
    found = write(store, key, *make_data())
    path = export_features(found, tmp_path / f"features.{ending}")
    other = FeatureStore(tmp_path / "other")
    imported = import_features(other, path)
    assert content(imported) == content(found)
    files = [{f.name: f.read_bytes() for f in entry.path.iterdir()} for entry in (found, imported)]
    assert files[0] == files[1]
    # A second one finds it.
    assert content(import_features(other, path)) == content(found)


@FORMATS
def test_an_import_does_not_touch_what_is_being_written(
    store: FeatureStore, tmp_path: Path, ending: str
) -> None:
    path = export_features(write(store, make_key(), *make_data()), tmp_path / f"f.{ending}")
    damage(path)
    other = FeatureStore(tmp_path / "other")
    X, y = make_data()
    with other.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        writer.append(X[:16], y[:16])
    with pytest.raises((CacheCorrupt, UsageError)):
        import_features(other, path)
    assert other.progress(make_key()) == 16


def damage(path: Path) -> None:
    """Change one value without breaking the file's own form."""
    X, _ = make_data()
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file["features"][30, 3] += 1
    elif path.suffix == ".npz":
        with np.load(path) as file:
            parts = {name: file[name] for name in file.files}
        parts["features"][30, 3] += 1
        np.savez(path, **parts)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        X[30, 3] += 1
        changed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), N_FEATURES)
        pq.write_table(table.set_column(0, table.schema.field(0), changed), path)


@FORMATS
def test_a_changed_value_is_refused(store: FeatureStore, tmp_path: Path, ending: str) -> None:
    path = export_features(write(store, make_key(), *make_data()), tmp_path / f"f.{ending}")
    damage(path)
    other = FeatureStore(tmp_path / "other")
    with pytest.raises(CacheCorrupt, match="its content does not match its SHA-256"):
        import_features(other, path)
    assert other.entries() == []


@FORMATS
def test_a_file_that_is_cut_short_is_refused(
    store: FeatureStore, tmp_path: Path, ending: str
) -> None:
    path = export_features(write(store, make_key(), *make_data()), tmp_path / f"f.{ending}")
    data = path.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises((UsageError, CacheCorrupt), match=f"f.{ending}"):
            import_features(FeatureStore(tmp_path / "other"), path)


@pytest.mark.parametrize("change", [
    {"n_rows": 10**12}, {"n_rows": "44"}, {"n_features": 6}, {"key": {}}, {"key": None},
])  # fmt: skip
def test_a_file_that_lies_about_itself_is_refused(
    store: FeatureStore, tmp_path: Path, change: dict[str, object]
) -> None:
    path = export_features(write(store, make_key(), *make_data()), tmp_path / "f.npz")
    with np.load(path) as file:
        parts = {name: file[name] for name in file.files}
    about = json.loads(str(parts["featx"]))
    np.savez(path, **{**parts, "featx": np.array(json.dumps({**about, **change}))})
    with pytest.raises(UsageError):
        import_features(FeatureStore(tmp_path / "other"), path)


def test_files_of_other_tools_are_refused(tmp_path: Path, store: FeatureStore) -> None:
    np.savez(tmp_path / "a.npz", features=np.ones((2, 2)), labels=np.ones(2))
    (tmp_path / "b.npz").write_bytes(b"PK")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["features"] = np.ones((2, 2))
        file["labels"] = np.ones(2)
    for name in ("a.npz", "b.npz", "c.h5"):
        with pytest.raises(UsageError, match=r"is no file that 'featx cache export' wrote"):
            import_features(store, tmp_path / name)
    with pytest.raises(UsageError, match=r"There is no file '.*gone\.npz' to import"):
        import_features(store, tmp_path / "gone.npz")


class Bomb:
    def __reduce__(self):
        return (Path("tripwire").touch, ())


def test_a_pickle_inside_is_not_loaded(
    tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("bomb.npz", featx=np.array([Bomb()], dtype=object), features=np.ones((2, 2)))
    with pytest.raises(UsageError):
        import_features(store, Path("bomb.npz"))
    assert not Path("tripwire").exists()


def test_links_and_values_elsewhere_are_not_followed(tmp_path: Path, store: FeatureStore) -> None:
    export_features(write(store, make_key(), *make_data()), tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink("/etc/passwd", "features")
    with pytest.raises(UsageError, match="dataset 'features' is missing or only a link"):
        import_features(FeatureStore(tmp_path / "other"), tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        del file["features"]
        file.create_dataset(
            "features", (N_ROWS, N_FEATURES), "f4", external=[("/etc/passwd", 0, 4 * 528)]
        )
    with pytest.raises(UsageError, match="not stored contiguously in the file itself"):
        import_features(FeatureStore(tmp_path / "other"), tmp_path / "f.h5")


def test_a_changed_key_is_refused(tmp_path: Path, store: FeatureStore) -> None:
    """HDF5 has no checksum of its own: a flipped bit must not put features under another key."""
    path = export_features(write(store, make_key(), *make_data()), tmp_path / "f.h5")
    with h5py.File(path, "r+") as file:
        about = json.loads(file.attrs["featx"])
        about["key"]["pool"] = "max"
        file.attrs["featx"] = np.bytes_(json.dumps(about))
    other = FeatureStore(tmp_path / "other")
    with pytest.raises(CacheCorrupt, match="does not match its SHA-256"):
        import_features(other, path)
    assert other.entries() == []


def test_the_ending_says_the_format(tmp_path: Path, store: FeatureStore) -> None:
    found = write(store, make_key(), *make_data())
    with pytest.raises(UsageError, match=r"has the ending '\.csv': expected \.npz, \.h5 or"):
        export_features(found, tmp_path / "f.csv")


def test_a_disk_that_refuses_leaves_nothing(
    tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = write(store, make_key(), *make_data())

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(
        CacheWriteError, match=r"Cannot write '.*f\.npz': No space left on device\. Free: "
    ):
        export_features(found, tmp_path / "out" / "f.npz")
    assert list((tmp_path / "out").iterdir()) == []


def test_parquet_names_its_extra(
    tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    found = write(store, make_key(), *make_data())
    with pytest.raises(UsageError, match=r"pip install 'featx\[parquet\]'"):
        export_features(found, tmp_path / "f.parquet")


# --- versions


def rewrite(path: Path, **changes: object) -> None:
    """Change what an npz file says about itself; None leaves a part out."""
    with np.load(path) as file:
        parts = {name: file[name] for name in file.files}
    about = json.loads(str(parts["featx"])) | changes
    about = {name: value for name, value in about.items() if value is not None}
    np.savez(path, **{**parts, "featx": np.array(json.dumps(about))})


@FORMATS
def test_a_file_outlives_the_format_of_the_cache(
    store: FeatureStore, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = write(store, make_key(), *make_data())
    path = export_features(found, tmp_path / f"f.{ending}")
    before = content(found)
    for module in (keys, manifest):
        monkeypatch.setattr(module, "SCHEMA_VERSION", 99)
    assert make_key().digest[:16] not in found.path.name
    assert content(import_features(FeatureStore(tmp_path / "other"), path)) == before


def test_the_version_of_a_file_is_named(store: FeatureStore, tmp_path: Path) -> None:
    path = export_features(write(store, make_key(), *make_data()), tmp_path / "f.npz")
    other = FeatureStore(tmp_path / "other")
    rewrite(path, version=3)
    with pytest.raises(UsageError, match=r"exported in version 3 .* version 2 only.*wrote it\."):
        import_features(other, path)
    key = make_key().describe()
    del key["numerics"]
    rewrite(path, version=None, key=key, sha256="0" * 64)
    with pytest.raises(UsageError, match=r"in version 1 .* version 2 only.*extract them again"):
        import_features(other, path)
    assert not other.root.exists()


# --- a refused import leaves nothing, and nobody's work is lost


def forged(found: FeatureSet, path: Path, X: np.ndarray) -> Path:
    """Export other values than those of a set, under a digest that agrees."""
    export_features(found, path)
    digest = exchange._digest(found.key, iter([(X, found.y)]))
    with np.load(path) as file:
        parts = {name: file[name] for name in file.files}
    about = json.loads(str(parts["featx"])) | {"sha256": digest}
    np.savez(path, features=X, labels=parts["labels"], featx=np.array(json.dumps(about)))
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_refused_before_anything_is_written(
    store: FeatureStore, tmp_path: Path, value: float
) -> None:
    X, y = make_data()
    X[20, 3] = value
    path = forged(write(store, make_key(), *make_data()), tmp_path / "f.npz", X)
    other = FeatureStore(tmp_path / "other")
    with other.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
        writer.append(X[:8], y[:8])
    with pytest.raises(NonFiniteFeatures, match=r"f\.npz.*feature 3 of row 20 is (nan|inf)\."):
        import_features(other, path)
    assert other.progress(make_key()) == 8
    other.remove(make_key())
    with pytest.raises(NonFiniteFeatures):
        import_features(other, path)
    assert not list(other.root.rglob("*.h5"))


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_an_error_while_it_is_written_leaves_nothing(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = export_features(write(store, make_key(), *make_data()), tmp_path / "f.npz")
    other = FeatureStore(tmp_path / "other")
    monkeypatch.setattr(exchange_files, "_BLOCK_BYTES", 4 * N_FEATURES)

    class Failing(FeatureWriter):
        def append(self, features: np.ndarray, labels: np.ndarray) -> None:
            if self.next_row == 16:
                raise error
            super().append(features, labels)

    monkeypatch.setattr("featx.cache.store.FeatureWriter", Failing)
    with pytest.raises((UsageError, KeyboardInterrupt)):
        import_features(other, path)
    assert other.entries() == []
    assert not list(other.root.rglob("*.h5"))


def test_an_import_waits_for_who_computes_the_same(store: FeatureStore, tmp_path: Path) -> None:
    path = export_features(write(store, make_key(), *make_data()), tmp_path / "f.npz")
    other = FeatureStore(tmp_path / "other")
    ears = Ears()
    with computing(other.root, [make_key()]):
        thread = threading.Thread(target=import_features, args=(other, path), kwargs={
            "progress": ears})  # fmt: skip
        thread.start()
        assert ears.heard.wait(20)
        X, y = make_data()
        with other.writer(make_key(), n_rows=N_ROWS, n_features=N_FEATURES) as writer:
            writer.append(X[:16], y[:16])
        write(other, make_key(), X, y)
    thread.join(20)
    assert "waiting for it" in ears.said[0]
    assert "is in the cache already and stays" in ears.said[1]
