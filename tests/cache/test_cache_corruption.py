"""Nothing that is wrong is ever used: seeded damage to real entries, and entries that lie."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cache_cases import content, make_data, make_key, write
from campaign import note, rounds
from xxhash import xxh3_128

from featx.cache import FeatureSet, FeatureStore, shards
from featx.cache.manifest import Manifest, StoredFile
from featx.cache.shards import encode_summary
from featx.errors import CacheCorrupt, CacheError, CacheSchemaMismatch

ROUNDS = rounds(36, 834)
"""Seeds per kind of damage; of all twelve kinds together 10,008."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Two entries; the first has been rebuilt, and `before/` keeps what it was."""
    store = FeatureStore(tmp_path_factory.mktemp("original"))
    old = write(store, make_key(), *make_data(seed=1))
    shutil.copytree(old.path, store.root / "before")
    shutil.rmtree(old.path)
    write(store, make_key(), *make_data())
    write(store, make_key(split="test"), *make_data(seed=2))
    return store


@pytest.fixture(scope="module")
def right(original: FeatureStore) -> tuple[bytes, ...]:
    found = original.find(make_key())
    assert found is not None
    return content(found)


def use(store: FeatureStore) -> FeatureSet:
    """Take everything from an entry, as a run does."""
    features = store.find(make_key())
    assert features is not None, "the entry is gone"
    content(features)
    return features


def pick(entry: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(entry.iterdir()))


def flip_a_bit(entry: Path, rng: random.Random) -> set[str]:
    path = pick(entry, rng)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return {path.name}


def truncate(entry: Path, rng: random.Random) -> set[str]:
    path = pick(entry, rng)
    data = path.read_bytes()
    path.write_bytes(data[: rng.choice([0, len(data) - 1, rng.randrange(len(data))])])
    return {path.name}


def lengthen(entry: Path, rng: random.Random) -> set[str]:
    path = pick(entry, rng)
    with path.open("ab") as file:
        file.write(bytes(rng.randrange(1, 5000)))
    return {path.name}


def run_of(value: int) -> Callable[[Path, random.Random], set[str]]:
    def damage(entry: Path, rng: random.Random) -> set[str]:
        path = pick(entry, rng)
        data = bytearray(path.read_bytes())
        before = bytes(data)
        while data == before:  # a run of 00 over zeros damages nothing
            start = rng.randrange(len(data))
            stop = min(start + rng.randrange(1, 512), len(data))
            data[start:stop] = bytes([value]) * (stop - start)
        path.write_bytes(data)
        return {path.name}

    return damage


def swap_shards(entry: Path, rng: random.Random) -> set[str]:
    one, two = rng.sample(sorted(entry.glob("0*.h5")), 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return {one.name, two.name}


def delete_a_file(entry: Path, rng: random.Random) -> set[str]:
    path = rng.choice(sorted(entry.glob("*.h5")))
    path.unlink()
    return {path.name}


def shard_of_another_set(entry: Path, rng: random.Random) -> set[str]:
    other = next(path for path in entry.parent.iterdir() if path != entry)
    path = rng.choice(sorted(entry.glob("0*.h5")))
    path.write_bytes(next(other.glob(f"{path.name[:5]}-*")).read_bytes())
    return {path.name}


def shard_of_another_schema(entry: Path, rng: random.Random) -> set[str]:
    path = rng.choice(sorted(entry.glob("0*.h5")))
    with h5py.File(path, "w") as file:
        file["X"] = np.ones((8, 12), dtype=np.float32)
        file.attrs["schema"] = rng.random()
    return {path.name}


def manifest_of_another_key(entry: Path, rng: random.Random) -> set[str]:
    other = next(path for path in entry.parent.iterdir() if path != entry)
    for path in other.iterdir():
        if path.name == "manifest.json" or rng.random() < 0.5:
            shutil.copy(path, entry)
    return {"manifest.json"}


def old_manifest(entry: Path, rng: random.Random) -> set[str]:
    before = entry.parent.parent / "before"
    shutil.copy(before / "manifest.json", entry)
    lost = rng.choice(sorted(path for path in before.glob("*.h5")))
    for path in before.glob("*.h5"):
        if path != lost:
            shutil.copy(path, entry)
    return {lost.name}


def unfinished_manifest(entry: Path, rng: random.Random) -> set[str]:
    whole = json.loads((entry / "manifest.json").read_bytes())["manifest"]
    kept = whole["shards"][: rng.randrange(1, 6)]
    forge(entry, whole | {"shards": kept, "summary": None, "complete": False})
    return {"manifest.json"}


def forge(entry: Path, inner: Any) -> None:
    """Write a manifest whose own digest is right."""
    text = inner if isinstance(inner, bytes) else json.dumps(inner).encode()
    digest = xxh3_128(text).hexdigest().encode()
    (entry / "manifest.json").write_bytes(b'{"xxh3":"%b","manifest":%b}\n' % (digest, text))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip_a_bit, id="bit"),
        pytest.param(truncate, id="truncation"),
        pytest.param(lengthen, id="longer"),
        pytest.param(run_of(0), id="run of 00"),
        pytest.param(run_of(255), id="run of FF"),
        pytest.param(swap_shards, id="swapped"),
        pytest.param(delete_a_file, id="deleted"),
        pytest.param(shard_of_another_set, id="other shard"),
        pytest.param(shard_of_another_schema, id="other schema"),
        pytest.param(manifest_of_another_key, id="other key"),
        pytest.param(old_manifest, id="old manifest"),
        pytest.param(unfinished_manifest, id="unfinished manifest"),
    ],
)
def test_damage_is_refused_with_the_file_named(
    damage: Callable[[Path, random.Random], set[str]],
    original: FeatureStore,
    right: tuple[bytes, ...],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    shutil.copytree(original.root, tmp_path / "cache")
    store = FeatureStore(tmp_path / "cache")
    entry = store.path_for(make_key())
    whole = {path.name: path.read_bytes() for path in entry.iterdir()}
    for seed in range(ROUNDS):
        names = damage(entry, random.Random(seed))
        with pytest.raises(CacheCorrupt) as caught:
            use(store)
        message = str(caught.value)
        assert any(name in message for name in names), (seed, message)
        assert str(entry) in message
        assert "--rebuild" in message
        (info,) = store.verify(make_key())
        assert info.problem is not None, seed
        assert any(name in info.problem for name in names), (seed, info.problem)
        if seed % 12 == 0:
            rebuilt = write(store, make_key(), *make_data(), rebuild=True)
            assert content(rebuilt) == content(use(store)) == right
            assert store.verify(make_key())[0].problem is None
        restore(entry, whole)
    note("Never used when wrong", kind=request.node.callspec.id, damaged=ROUNDS, refused=ROUNDS)


def restore(entry: Path, whole: dict[str, bytes]) -> None:
    for path in entry.iterdir():
        if path.name not in whole:
            path.unlink()
    for name, data in whole.items():
        path = entry / name
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_shard_that_changes_its_length_after_it_was_found_is_refused(
    entry: Path, change: int
) -> None:
    features = find_in(entry)
    assert features is not None
    shard = min(entry.glob("0*.h5"))
    data = shard.read_bytes()
    shard.write_bytes(data[:change] if change < 0 else data + b"x")
    with pytest.raises(CacheCorrupt, match=f"{shard.name}: it has .* instead of"):
        features.read([0])


def test_a_set_without_its_manifest_is_not_there(original: FeatureStore, tmp_path: Path) -> None:
    shutil.copytree(original.root, tmp_path / "cache")
    store = FeatureStore(tmp_path / "cache")
    (store.path_for(make_key()) / "manifest.json").unlink()
    assert store.find(make_key()) is None
    assert store.progress(make_key()) == 0


def test_a_change_of_any_byte_of_the_manifest_is_refused(entry: Path) -> None:
    path = entry / "manifest.json"
    data = bytearray(path.read_bytes())
    rng = random.Random(0)
    for place, byte in enumerate(data):
        data[place] = byte ^ (1 << rng.randrange(8))
        path.write_bytes(data)
        with pytest.raises(CacheCorrupt, match=r"manifest\.json"):
            find_in(entry)
        data[place] = byte


# --- manifests with a right digest that still cannot be believed


@pytest.fixture
def entry(original: FeatureStore, tmp_path: Path) -> Path:
    shutil.copytree(original.root, tmp_path / "cache")
    return FeatureStore(tmp_path / "cache").path_for(make_key())


def find_in(entry: Path) -> FeatureSet | None:
    return FeatureStore(entry.parent.parent).find(make_key())


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_schema_names_both_versions(entry: Path, version: Any) -> None:
    inner = json.loads((entry / "manifest.json").read_bytes())["manifest"]
    forge(entry, inner | {"schema": version})
    with pytest.raises(CacheSchemaMismatch, match=rf"version {version!r} .* version 2 only"):
        find_in(entry)
    store = FeatureStore(entry.parent.parent)
    listed = next(info for info in store.entries() if info.path == entry)
    assert listed.problem is not None
    assert "version 2 only" in listed.problem
    write(store, make_key(), *make_data(), rebuild=True)
    assert find_in(entry) is not None


@pytest.mark.parametrize("missing", ["complete", "key", "shards", "summary", "n_rows"])
def test_a_signed_manifest_without_a_part_is_refused(entry: Path, missing: str) -> None:
    inner = json.loads((entry / "manifest.json").read_bytes())["manifest"]
    del inner[missing]
    forge(entry, inner)
    with pytest.raises(CacheCorrupt, match=r"manifest\.json: it is not a manifest"):
        find_in(entry)


def test_hdf5_sees_zeros_behind_the_end_of_a_file() -> None:
    part = memoryview(b"abc")
    file = shards._InMemory([part[:2], part[2:]])
    file.seek(1)
    buffer = bytearray(b"\xff" * 5)
    assert file.readinto(buffer) == 5
    assert buffer == b"bc\0\0\0"


def test_a_manifest_of_the_first_version_is_of_another_schema(entry: Path) -> None:
    """It had SHA-256 where this one has XXH3-128."""
    data = (entry / "manifest.json").read_bytes()
    (entry / "manifest.json").write_bytes(data.replace(b'{"xxh3":', b'{"sha256":', 1))
    with pytest.raises(CacheSchemaMismatch, match=r"version 1 .* version 2 only"):
        find_in(entry)


def edit(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(inner: dict[str, Any]) -> None:
        place: Any = inner
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        edit("n_rows", value=10**12),
        edit("n_features", value=10**12),
        edit("n_features", value=-12),
        edit("n_rows", value="44"),
        edit("shards", value={}),
        edit("shards", value=None),
        edit("shards", 0, value="00000"),
        edit("shards", 0, "file", value="../../../etc/passwd"),
        edit("shards", 0, "file", value="00001-0123456789abcdef.h5"),
        edit("shards", 0, "file", value=3),
        edit("shards", 0, "digest", value="abc"),
        edit("shards", 0, "size_bytes", value=1),
        edit("shards", 0, "rows", value=7),
        edit("shards", 0, "rows", value=True),
        edit("shards", 0, "extra", value=1),
        edit("summary", "file", value="/etc/passwd"),
        edit("summary", "rows", value=43),
        edit("summary", value=None),
        edit("complete", value=False),
        edit("key", value=[]),
        edit("key", "batch_size", value=0),
        edit("key", "pool", value="max"),
        edit("key", "extra", value=1),
        lambda inner: inner["shards"].pop(),
        lambda inner: inner["shards"].reverse(),
        lambda inner: inner.pop("n_rows"),
        lambda inner: inner.pop("schema"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    entry: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    inner = json.loads((entry / "manifest.json").read_bytes())["manifest"]
    change(inner)
    forge(entry, inner)
    with pytest.raises(CacheCorrupt, match=r"manifest\.json"):
        find_in(entry)


@pytest.mark.parametrize("text", [b"{}", b"{1}", b'{"schema":' + b"[" * 10**5 + b"]}", b"{\xff}"])
def test_text_that_is_no_manifest_is_refused(entry: Path, text: bytes) -> None:
    forge(entry, text)
    with pytest.raises(CacheCorrupt, match=r"manifest\.json: it is not a manifest"):
        find_in(entry)


# --- shards with a right digest that featx did not write


def hdf5(build: Callable[[h5py.File], None]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["labels"] = np.arange(8)
        build(file)
    return buffer.getvalue()


def external_file(file: h5py.File) -> None:
    file.create_dataset("features", (8, 12), "f4", external=[("/etc/passwd", 0, 384)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((8, 12), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "features", (8, 12))
    file.create_virtual_dataset("features", layout)


def soft_link(file: h5py.File) -> None:
    file["real"] = np.zeros((8, 12), dtype=np.float32)
    file["features"] = h5py.SoftLink("/real")


def external_link(file: h5py.File) -> None:
    file["features"] = h5py.ExternalLink("/etc/passwd", "features")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (hdf5(external_file), "not stored contiguously in the file itself"),
        (hdf5(virtual), "not stored contiguously"),
        (hdf5(soft_link), "missing or only a link"),
        (hdf5(external_link), "missing or only a link"),
        (hdf5(lambda f: None), "'features' is missing"),
        (hdf5(lambda f: f.create_group("features")), "'features' is not a dataset"),
        (hdf5(lambda f: f.create_dataset("features", (8, 12), "f8")), "float64 instead of"),
        (hdf5(lambda f: f.create_dataset("features", (8, 12), ">f4")), "type >f4 instead of"),
        (hdf5(lambda f: f.create_dataset("features", (12, 8), "f4")), r"shape \(12, 8\)"),
        (hdf5(lambda f: f.create_dataset("features", (8, 12), "f4")), "cannot be used: 00000"),
        (
            hdf5(lambda f: f.create_dataset("features", data=np.zeros((8, 12), "f4"), chunks=True)),
            "not stored contiguously",
        ),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "not an HDF5 file that featx wrote"),
        (bytes(500), "not an HDF5 file that featx wrote"),
    ],
    # HDF5 leaves some bytes of a file to chance, and with them a name made of all of them.
    ids=range(13),
)
def test_a_shard_of_another_form_is_refused(entry: Path, data: bytes, message: str) -> None:
    found = find_in(entry)
    assert found is not None
    data = data.ljust(1000, b"\0")
    shard = StoredFile.of("00000", data, 8)
    (entry / shard.file).write_bytes(data)
    manifest: Manifest = found._manifest
    dataclasses.replace(manifest, shards=(shard, *manifest.shards[1:])).publish(entry)
    features = find_in(entry)
    assert features is not None
    with pytest.raises(CacheCorrupt, match=message):
        features.read([0])
    with pytest.raises(CacheCorrupt, match=shard.file):
        features.verify()


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_shard_that_another_hdf5_has_laid_out_is_read(store: FeatureStore, storage: str) -> None:
    X, y = make_data()
    written = write(store, make_key(storage=storage), X, y)

    def laid_out(file: h5py.File) -> None:
        file["labels"][:] = y[:8]
        file["more"] = np.arange(999)
        file["features"] = X[:8].astype(storage)

    data = hdf5(laid_out)
    shard = StoredFile.of("00000", data, 8)
    (written.path / shard.file).write_bytes(data)
    manifest = written._manifest
    dataclasses.replace(manifest, shards=(shard, *manifest.shards[1:])).publish(written.path)
    found = store.find(make_key(storage=storage))
    assert found is not None
    np.testing.assert_array_equal(found.read(), X.astype(storage).astype(np.float32))
    np.testing.assert_array_equal(found.read([3, 9]), X[[3, 9]].astype(storage))
    found.verify()


def test_a_summary_of_other_rows_is_refused(entry: Path) -> None:
    found = find_in(entry)
    assert found is not None
    data = encode_summary(found.y, found.moments.merge(found.moments))
    summary = StoredFile.of("summary", data, 44)
    (entry / summary.file).write_bytes(data)
    dataclasses.replace(found._manifest, summary=summary).publish(entry)
    features = find_in(entry)
    assert features is not None
    with pytest.raises(CacheError, match="moments are of 88 rows instead of 44"):
        _ = features.moments
