"""What is fuzzed: how each kind of file is read, and valid files to begin with.

Every loader takes a folder of its own and the bytes of a file. It returns where the file is
accepted and raises a `FeatxError` where it is refused; anything else is a finding. Files of the
cache are made by the package's own writer, so that a change of the format needs no change here.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from fuzz_mutations import mutated, mutated_json

from featx.cache import FeatureKey, FeatureStore, export_features, import_features
from featx.cache import manifest as manifests
from featx.data import cifar, load_dataset
from featx.errors import CacheCorrupt, CacheError, RecipeError
from featx.recipes import load_recipe, load_study, shipped_recipes
from featx.recipes.loading import parse_overrides
from featx.scaling import Moments

N_ROWS, N_FEATURES, SHARD_ROWS = 16, 12, 8
KEY = FeatureKey(
    backbone="net", weights_digest="w" * 64, dataset_digest="d" * 64, split="train",
    preprocess={"size": [32, 32], "mean": [0.5, 0.25]}, module="layer", pool="avg",
    storage="float32", precision="fp32", numerics="channels-last", device_kind="cpu",
    batch_size=4, shard_rows=SHARD_ROWS, versions="made 1.0",
)  # fmt: skip
X = np.random.default_rng(0).random((N_ROWS, N_FEATURES), dtype=np.float32)
Y = np.arange(N_ROWS, dtype=np.int64) % 3


@dataclass(frozen=True)
class Loader:
    """One way in.

    Attributes
    ----------
    read : callable
        Takes a folder and the bytes of a file.
    seeds : sequence of bytes
        Valid files.
    tokens : sequence of bytes
        Pieces that mean something in the format.
    mutate : callable
        Gives a damaged file.
    """

    read: Callable[[Path, bytes], object]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes] = ()
    mutate: Callable[..., bytes] = mutated

    def file(self, name: str, seed: int, number: int) -> bytes:
        """Return the file of a number, the same for the same seed."""
        rng = random.Random(f"{seed} {name} {number}")
        return self.mutate(self.seeds, self.tokens, rng)


class AsItIs(str):
    """A text whose encoding is given: a signed manifest may hold any bytes."""

    raw: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the given bytes."""
        return self.raw


def store_with_entry(folder: Path) -> FeatureStore:
    """Return a store with a complete entry, which is written once per folder."""
    store = FeatureStore(folder / "cache")
    if not store.path_for(KEY).is_dir():
        with store.writer(KEY, n_rows=N_ROWS, n_features=N_FEATURES) as writer:
            writer.append(X, Y)
            writer.finish()
    return store


def use(store: FeatureStore, *, exact: bool) -> None:
    """Read an entry in every way; with `exact`, nothing but the right rows may come out."""
    refused = None
    try:
        found = store.find(KEY)
        if found is not None:
            rows, moments = found.read(), found.moments
            found.verify()
            if exact and (rows.tobytes(), found.y.tobytes()) != (X.tobytes(), Y.tobytes()):
                raise AssertionError("wrong rows were accepted")
            if (
                exact
                and moments.mean.tobytes()
                != Moments.of(X[:8]).merge(Moments.of(X[8:])).mean.tobytes()
            ):
                raise AssertionError("wrong moments were accepted")
    except CacheError as error:
        refused = error
    store.entries()
    for info in store.verify():
        # HDF5 may read a forged file in two ways: only damage must be seen by both.
        if exact and refused and info.problem is None and info.complete:
            raise AssertionError(f"verify does not see what find refuses: {refused}")
    store.orphans(0)
    store.nearest(KEY)
    with store.writer(KEY, n_rows=N_ROWS, n_features=N_FEATURES):
        pass
    if refused:
        raise refused


# --- the cache


def read_manifest(folder: Path, data: bytes) -> None:
    """Put the bytes in the place of each manifest; refused is what both places refuse."""
    store = store_with_entry(folder)
    path = store.path_for(KEY)
    refused = []
    for name in (manifests.PROGRESS, manifests.COMPLETE):
        (path / manifests.PROGRESS).unlink(missing_ok=True)
        (path / manifests.COMPLETE).unlink(missing_ok=True)
        (path / name).write_bytes(data)
        try:
            use(store, exact=True)
        except CacheError as error:
            refused.append(error)
    if len(refused) == 2:
        raise refused[1]


def sign(folder: Path, manifest: manifests.Manifest, text: bytes) -> bytes:
    """Return a manifest with any text inside, its digest right."""
    as_it_is = AsItIs()
    as_it_is.raw = text
    with mock.patch.object(manifests.Manifest, "canonical", return_value=as_it_is):
        manifest.publish(folder)
    name = manifests.COMPLETE if manifest.complete else manifests.PROGRESS
    return (folder / name).read_bytes()


def read_signed_manifest(folder: Path, data: bytes) -> None:
    """Put the bytes into a manifest whose digest agrees: what an attacker would write."""
    store = store_with_entry(folder)
    path = store.path_for(KEY)
    sign(path, SIGNED, data)
    use(store, exact=False)


def read_shard(folder: Path, data: bytes) -> None:
    """Put the bytes in the place of a shard that a manifest lists."""
    store = store_with_entry(folder)
    shard = store.path_for(KEY) / SIGNED.shards[1].file
    before = shard.read_bytes()
    shard.write_bytes(data)
    try:
        use(store, exact=True)
    finally:
        shard.write_bytes(before)


def read_signed_shard(folder: Path, data: bytes) -> None:
    """List the bytes as a shard, with their own digest: HDF5 gets to see them."""
    store = FeatureStore(folder / "forged")
    path = store.path_for(KEY)
    path.mkdir(parents=True, exist_ok=True)
    file = manifests.StoredFile.of("00000", data, SHARD_ROWS)
    (path / file.file).write_bytes(data)
    try:
        manifests.Manifest(KEY, N_ROWS, N_FEATURES, (file,)).publish(path)
        use(store, exact=False)
    finally:
        (path / file.file).unlink()


def read_signed_summary(folder: Path, data: bytes) -> None:
    """List the bytes as the summary of a complete set, with their own digest."""
    store = store_with_entry(folder)
    path = store.path_for(KEY)
    file = manifests.StoredFile.of("summary", data, N_ROWS)
    (path / file.file).write_bytes(data)
    try:
        manifests.Manifest(KEY, N_ROWS, N_FEATURES, SIGNED.shards, file).publish(path)
        use(store, exact=False)
    finally:
        if file != SIGNED.summary:
            (path / file.file).unlink()


def read_export(ending: str) -> Callable[[Path, bytes], None]:
    """Return the import of a file with an ending."""

    def read(folder: Path, data: bytes) -> None:
        path = folder / f"f.{ending}"
        path.write_bytes(data)
        store = FeatureStore(folder / "imported")
        try:
            found = import_features(store, path)
        except CacheCorrupt:
            assert store.entries() == []
            raise
        store.remove(found.key)

    return read


# --- images


def read_npz(folder: Path, data: bytes) -> None:
    """Load the bytes as an npz source, with every image of it."""
    path = folder / "data.npz"
    path.write_bytes(data)
    dataset = load_dataset(f"npz:{path}", val=0)
    for split in dataset.splits.values():
        for _ in split.images.batches(4):
            pass
        assert len(split.digest) == 64


def read_npz_member(folder: Path, data: bytes) -> None:
    """Put the bytes into an archive as the training images."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("train_x.npy", data)
        for name, array in ARRAYS.items():
            if name != "train_x":
                archive.writestr(f"{name}.npy", npy(array))
    read_npz(folder, buffer.getvalue())


def read_cifar(folder: Path, data: bytes) -> None:
    """Unpickle the bytes as a file of CIFAR-10, behind the check of its digest."""
    cifar.read_pickle(data, folder / "data_batch_1")


def read_cifar_archive(folder: Path, data: bytes) -> None:
    """Unpack the bytes, a tar, as CIFAR-10's archive, behind the check of its digest."""
    path = folder / cifar.ARCHIVE
    path.write_bytes(gzip.compress(data, 1, mtime=0))
    cifar.unpack(path, folder / "unpacked")


def npy(array: np.ndarray) -> bytes:
    """Return an array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


# --- recipes


def read_recipe(folder: Path, data: bytes) -> None:
    """Read the bytes as a recipe and as a study, and as a value of --set."""
    path = folder / "r.yaml"
    path.write_bytes(data)
    # A study is refused as a recipe.
    with contextlib.suppress(RecipeError):
        load_recipe(path)
    with contextlib.suppress(RecipeError):
        parse_overrides([f"limit={data.decode('utf-8', 'replace')}"])
    load_study(path)


# --- valid files

ARRAYS = {
    "train_x": np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3),
    "train_y": np.arange(6) % 2,
    "test_x": np.zeros((4, 4, 4, 3), np.uint8),
    "test_y": np.arange(4) % 2,
}
YAML = (
    b'[', b']', b'{', b'}', b': ', b'- ', b'\n', b'\n  ', b'&a ', b'*a',
    b'!!python/name:os.system', b'!!binary ', b'!!set ', b'!!timestamp ', b'!!int ', b'? ',
    b'|\n', b'<<: ', b'---\n', b'...\n', b'%TAG ! tag:x,2000:\n', b'0x', b'1e999', b'.nan',
    b'0o7', b'2001-01-01', b'60:60:60', b'~', b'"\\x00"', b'"\\ud800"', b'#', b'\xef\xbb\xbf',
    b'\xff\xfe', b'a, b', b'yes', b'1_000',
)  # fmt: skip
PICKLE = (
    b'c', b'cos\nsystem\n', b'cnumpy\nndarray\n', b'cnumpy\ndtype\n', b'R', b'b', b'o', b'i',
    b'\x81', b'\x93', b'(', b')', b']', b'}', b'e', b'u', b'0', b'1', b'2', b'N', b'K\x01',
    b'J\xff\xff\xff\x7f', b'\x8a\x08', b'\x8b\xff\xff\xff\x7f', b'T\xff\xff\xff\x7f',
    b'r\xff\xff\xff?', b'q\x00', b'h\x00', b'\x80\x04',
    b'\x95\xff\xff\xff\xff\xff\xff\xff\x7f', b'\x97', b'\x98', b'P1\n', b'Q', b't', b'.',
    b'\x87', b'\x86', b'\x85', b'U\x01', b'X\xff\xff\xff\x7f', b'I10\n', b'L1L\n', b'\x82\x01',
)  # fmt: skip
NPY = (
    b'\x93NUMPY\x01\x00', b'\x93NUMPY\x02\x00', b'\x93NUMPY\x03\x00', b"'|O'", b"'|u1'",
    b"'<i8'", b'True', b'(1000000000000, 4, 4, 3)', b'(0, 4, 4, 3)', b'(-1, 4, 4, 3)', b'()',
    b'(6,)', b"[('a', 'u1')]", b'PK\x03\x04', b'PK\x01\x02', b'PK\x05\x06', b"'shape': ", b'{',
    b'}', b"'<U1000000000'",
)  # fmt: skip
JSON = (
    b'[', b']', b'{', b'}', b'"', b'null', b'true', b'-1', b'1e999', b'NaN', b'0', b'\\u0000',
    b'\\ud800', b',', b':', b'"../../x"', b'99999999999999999999',
)  # fmt: skip


# Kinds of members, and a size in base 256.
TAR = (b"0", b"2", b"S", b"L", b"x", b"g", b"\x80\0\0\1")


def _python2_pickle() -> bytes:
    """Return a file of CIFAR-10 as Python 2 wrote it, with two images of four values."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array += b"(K\x01K\x02K\x04\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
    array += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array += b"\x89T\x08\x00\x00\x0012345678tb"
    return b"\x80\x02}q\x01(U\x04dataq\x02" + array + b"U\x06labelsq\x03]q\x04(K\x03K\x05eu."


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in cifar.FILES:
            info = tarfile.TarInfo(f"{cifar.FOLDER}/{name}")
            info.size = 600
            archive.addfile(info, io.BytesIO(bytes(600)))
    return buffer.getvalue()


def _npz(**more: np.ndarray) -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **ARRAYS, **more)
        found.append(buffer.getvalue())
    return found


SIGNED: manifests.Manifest


def make_loaders(folder: Path) -> dict[str, Loader]:
    """Return every loader, with valid files that are made in a folder."""
    global SIGNED  # noqa: PLW0603
    store = store_with_entry(folder)
    path = store.path_for(KEY)
    complete = (path / manifests.COMPLETE).read_bytes()
    loaded = manifests.load_manifest(path, manifests.COMPLETE)
    assert loaded is not None
    assert loaded.summary is not None
    SIGNED = loaded
    shards = [(path / shard.file).read_bytes() for shard in SIGNED.shards]
    summary = (path / SIGNED.summary.file).read_bytes()
    found = store.find(KEY)
    assert found is not None
    exports = {
        ending: export_features(found, folder / f"seed.{ending}").read_bytes()
        for ending in ("npz", "h5")
    }
    recipes = [file.read_bytes() for file in shipped_recipes().values()]
    as_json = json.dumps(
        {"backbone": "resnet18", "weights": "none", "dataset": "digits", "cuts": ["layer1"],
         "C": [0.1, 1], "seed": 3, "limit": 5, "val": 0.2, "pool": "avg", "image_size": 32}
    ).encode()  # fmt: skip
    inner = [SIGNED.canonical().encode()]
    val = {"val_x": ARRAYS["test_x"], "val_y": ARRAYS["test_y"]}
    npz = [*_npz(), *_npz(**val, classes=np.array(["a", "b"]))]
    return {
        "manifest": Loader(read_manifest, [complete], JSON),
        "signed manifest": Loader(read_signed_manifest, inner, JSON),
        "signed manifest, values": Loader(read_signed_manifest, inner, mutate=mutated_json),
        "shard": Loader(read_shard, shards[1:]),
        "signed shard": Loader(read_signed_shard, shards[:1]),
        "signed summary": Loader(read_signed_summary, [summary]),
        "exported npz": Loader(read_export("npz"), [exports["npz"]], NPY),
        "exported HDF5": Loader(read_export("h5"), [exports["h5"]]),
        "npz": Loader(read_npz, npz, NPY),
        "npz, an array": Loader(read_npz_member, [npy(ARRAYS["train_x"])], NPY),
        "CIFAR-10": Loader(read_cifar, [_python2_pickle()], PICKLE),
        "CIFAR-10, archive": Loader(read_cifar_archive, [_tar()], TAR),
        "recipe": Loader(read_recipe, [*recipes, as_json], YAML),
        "recipe, values": Loader(read_recipe, [as_json], mutate=mutated_json),
    }  # fmt: skip
