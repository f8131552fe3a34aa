"""The forms of exported features: npz, HDF5 and Parquet, written and read without featx in them.

A file holds ``features`` (n_rows, n_features) and ``labels`` (n_rows,), Parquet ``label``, and a
JSON text that says what they are. Nothing is compressed but Parquet: no small file can become a
large one in memory.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
import tokenize
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featx.cache.feature_set import FeatureSet
from featx.cache.keys import FeatureKey, canonical_json
from featx.cache.shards import STORED_TYPES, place_of
from featx.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

AnyArray = npt.NDArray[Any]
Blocks = Iterator[tuple[AnyArray, AnyArray]]
Opener = Callable[[Path], AbstractContextManager[tuple[dict[str, Any], Blocks]]]

LABELS = np.dtype("<i8")
"""Type of the labels in a file."""

VERSION = 2
"""Version of exported files: of what they say of themselves, and of what is digested."""

# All that json, zipfile, numpy and h5py raise for files that are not what they seem.
UNREADABLE = (
    OSError, LookupError, ValueError, TypeError, ArithmeticError, EOFError, RuntimeError,
    SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile,
)  # fmt: skip
"""What a reader may raise for a file that is not what it seems."""

_ABOUT = "featx"
# Rows that are read at a time are those of 16 MB.
_BLOCK_BYTES = 2**24
# What a file says about itself has 1 kB.
_ABOUT_BYTES = 2**20


def stored_shards(found: FeatureSet) -> Iterator[tuple[slice, AnyArray]]:
    """Yield rows and features, shard by shard, in their storage type."""
    for rows, values in found.shards():
        yield rows, values.astype(STORED_TYPES[found.key.storage], copy=False)


def _said(text: str | bytes, path: Path) -> dict[str, Any]:
    """Return what a file says about itself.

    Files of version 1 do not say their version; the digest of a key was part of theirs.
    """
    about = json.loads(text)
    if not isinstance(about, dict) or not isinstance(about["key"], dict):
        raise ValueError("it does not say what it holds")
    version = about.get("version", 1)
    if version != VERSION:
        advice = (
            "Its features were computed by an earlier featx, which did not note all that this one "
            "does: extract them again."
            if version == 1
            else "Use the featx that wrote it."
        )
        raise UsageError(
            f"'{path}' was exported in version {version!r} of the form of such files; this featx "
            f"reads version {VERSION} only. {advice}"
        )
    return about


def _write_npz(found: FeatureSet, path: Path, about: dict[str, Any]) -> None:
    shape = (found.n_samples, found.n_features)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as file:
            _write_header(file, shape, STORED_TYPES[found.key.storage])
            for _, values in stored_shards(found):
                file.write(np.ascontiguousarray(values).data)
        for name, array in (("labels", found.y), (_ABOUT, np.array(canonical_json(about)))):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_header(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _write_h5(found: FeatureSet, path: Path, about: dict[str, Any]) -> None:
    """Let HDF5 lay out the file, and write the values into it without HDF5.

    On a full disk HDF5 can end the whole process.
    """
    import h5py

    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    forms = _forms(about, found.key)
    with h5py.File(path, "w") as file:
        file.attrs[_ABOUT] = np.bytes_(canonical_json(about))
        for name, form in forms.items():
            file.create_dataset(name, *form, dcpl=plist, track_times=False)
        places = {name: place_of(file, name, *form) for name, form in forms.items()}
    with path.open("r+b") as values:
        values.seek(places["features"])
        for _, block in stored_shards(found):
            values.write(np.ascontiguousarray(block).data)
        values.seek(places["labels"])
        values.write(found.y.astype(LABELS).data)


def _forms(
    about: dict[str, Any], key: FeatureKey
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and dtype of what a file holds."""
    n_rows = int(about["n_rows"])
    return {
        "features": ((n_rows, int(about["n_features"])), STORED_TYPES[key.storage]),
        "labels": ((n_rows,), LABELS),
    }


def _write_parquet(found: FeatureSet, path: Path, about: dict[str, Any]) -> None:
    pa, pq = _pyarrow()
    kind = {"float32": pa.float32(), "float16": pa.float16()}[found.key.storage]
    fields = [pa.field("features", pa.list_(kind, found.n_features)), pa.field("label", pa.int64())]
    schema = pa.schema(fields, {_ABOUT: canonical_json(about)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows, values in stored_shards(found):
            flat = pa.array(np.ascontiguousarray(values).ravel())
            columns = [
                pa.FixedSizeListArray.from_arrays(flat, found.n_features),
                pa.array(found.y[rows]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


@contextlib.contextmanager
def _read_npz(path: Path) -> Iterator[tuple[dict[str, Any], Blocks]]:
    with zipfile.ZipFile(path) as archive:
        with _member(archive, _ABOUT) as (file, shape, dtype):
            if shape or dtype.kind != "U" or dtype.itemsize > _ABOUT_BYTES:
                raise ValueError(f"'{_ABOUT}' is no text")
            about = _said(str(np.frombuffer(_read(file, dtype.itemsize), dtype)[0]), path)
        with _member(archive, "labels") as (file, labels_shape, dtype):
            _check_shape(about, None, labels_shape)
            labels = np.frombuffer(_read(file, labels_shape[0] * dtype.itemsize), dtype)
        with _member(archive, "features") as (file, shape, dtype):
            _check_shape(about, shape, labels_shape)
            yield about, _blocks(file, (shape[0], shape[1]), dtype, labels)


@contextlib.contextmanager
def _member(
    archive: zipfile.ZipFile, name: str
) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    """Open an array of an archive behind its header; yield file, shape and dtype."""
    if archive.getinfo(f"{name}.npy").compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"'{name}' is compressed")
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"'{name}' is in version {version} of the npy format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if fortran or dtype.hasobject:
            raise ValueError(f"'{name}' is stored as {dtype}, not row by row")
        yield file, shape, dtype


def _blocks(
    file: IO[bytes], shape: tuple[int, int], dtype: np.dtype[Any], labels: AnyArray
) -> Blocks:
    for rows in _row_blocks(*shape, dtype.itemsize):
        data = _read(file, (rows.stop - rows.start) * shape[1] * dtype.itemsize)
        yield np.frombuffer(data, dtype).reshape(-1, shape[1]), labels[rows]


def _read(file: IO[bytes], n_bytes: int) -> bytes:
    data = file.read(n_bytes)
    if len(data) < n_bytes:
        raise ValueError("it ends before its last row")
    return data


@contextlib.contextmanager
def _read_h5(path: Path) -> Iterator[tuple[dict[str, Any], Blocks]]:
    import h5py

    with h5py.File(path, "r") as file:
        about = _said(_text(file, _ABOUT), path)
        forms = _forms(about, FeatureKey.from_dict(about["key"]))
        places = {name: place_of(file, name, *form) for name, form in forms.items()}
    # HDF5 only says where the values lie: no filter, link or other file is followed.
    size = path.stat().st_size
    for name, (shape, dtype) in forms.items():
        if places[name] + math.prod(shape) * dtype.itemsize > size:
            raise ValueError("it ends before its last row")
    with path.open("rb") as values:
        shape, dtype = forms["labels"]
        values.seek(places["labels"])
        labels = np.frombuffer(_read(values, shape[0] * dtype.itemsize), dtype)
        shape, dtype = forms["features"]
        values.seek(places["features"])
        yield about, _blocks(values, (shape[0], shape[1]), dtype, labels)


def _text(file: Any, name: str) -> bytes:
    """Return an attribute of fixed length.

    One of variable length lies in a heap, in whose damaged form HDF5 can search without end.
    """
    import h5py

    attribute = h5py.h5a.open(file.id, name.encode())
    kind, size = attribute.get_type(), attribute.get_type().get_size()
    fixed = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    if not fixed or attribute.shape or size > _ABOUT_BYTES:
        raise ValueError(f"'{name}' is no text of fixed length")
    value = np.empty((), f"S{size}")
    attribute.read(value)
    return bytes(value[()])


@contextlib.contextmanager
def _read_parquet(path: Path) -> Iterator[tuple[dict[str, Any], Blocks]]:
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            about = _said((file.schema_arrow.metadata or {})[_ABOUT.encode()], path)
            n_features = int(about["n_features"])
            kind = file.schema_arrow.field("features").type
            if not pa.types.is_fixed_size_list(kind) or kind.list_size != n_features:
                raise ValueError(f"its features are {kind}")
            _check_shape(about, (file.metadata.num_rows, n_features), (file.metadata.num_rows,))
            yield about, _parquet_blocks(file, n_features)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _parquet_blocks(file: Any, n_features: int) -> Blocks:
    for batch in file.iter_batches(batch_size=max(1, _BLOCK_BYTES // (4 * n_features))):
        features: pa.FixedSizeListArray = batch.column("features")
        values = features.flatten().to_numpy(zero_copy_only=False)
        labels = batch.column("label").to_numpy(zero_copy_only=False)
        yield values.reshape(-1, n_features), labels.astype(LABELS, copy=False)


def _check_shape(
    about: dict[str, Any], shape: tuple[int, ...] | None, labels: tuple[int, ...]
) -> None:
    """Refuse what is not as large as it says; None is a shape that is not known yet."""
    expected = (about["n_rows"], about["n_features"])
    if min(expected) < 1:
        raise ValueError("it holds nothing")
    if (shape is not None and tuple(shape) != expected) or tuple(labels) != expected[:1]:
        raise ValueError(
            f"it holds features of shape {shape} and labels of shape {labels} instead of "
            f"{expected} and {expected[:1]}"
        )


def _row_blocks(n_rows: int, n_features: int, item_bytes: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // max(1, n_features * item_bytes))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f"Parquet files need pyarrow, which cannot be imported ({error}). Install it: pip "
            "install 'featx[parquet]', or take .npz or .h5."
        ) from error
    return pa, pq


WRITERS: dict[str, Callable[[FeatureSet, Path, dict[str, Any]], None]] = {
    "npz": _write_npz,
    "h5": _write_h5,
    "parquet": _write_parquet,
}
"""What writes a set and what is said of it into a file, by the file's ending."""

READERS: dict[str, Opener] = {"npz": _read_npz, "h5": _read_h5, "parquet": _read_parquet}
"""What opens a file for what it says and its blocks of features and labels, by its ending."""
