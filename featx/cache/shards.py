"""The two kinds of HDF5 files of a feature set: how they are built, and how they are read.

A shard holds ``features`` (float32 or float16) and ``labels`` (int64), the summary holds
``labels`` of all rows and the moments ``n``, ``mean`` and ``m2``. All are contiguous,
uncompressed and without time stamps: the same content gives the same bytes. On reading, HDF5 only
says where a dataset lies; its values are taken from the verified bytes, so no filter, link or
external file is ever followed.

A shard is never built as a whole. HDF5 lays out a file of its shape once, and what it writes around
the values, some kB, is put before and behind them: rows go to the disk as they come, and from the
disk to where they are wanted.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featx.scaling import Moments

if TYPE_CHECKING:
    import h5py

AnyArray = npt.NDArray[Any]

STORED_TYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
"""The dtype in the file of every storage type."""

_LABELS = np.dtype("<i8")
_FLOAT = np.dtype("<f8")


@dataclass(frozen=True)
class ShardForm:
    """The bytes around the values of a shard.

    Attributes
    ----------
    n_rows, n_features : int
        Shape of the features.
    storage : {"float32", "float16"}
        Their type.
    head : bytes
        What comes before the features.
    between : bytes
        What comes behind the features and before the labels, with which the file ends.
    """

    n_rows: int
    n_features: int
    storage: str
    head: bytes
    between: bytes

    @property
    def features_bytes(self) -> int:
        """Bytes of the features."""
        return self.n_rows * self.n_features * STORED_TYPES[self.storage].itemsize

    @property
    def tail_bytes(self) -> int:
        """Bytes of all that comes behind the features."""
        return len(self.between) + self.n_rows * _LABELS.itemsize

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return len(self.head) + self.features_bytes + self.tail_bytes

    def tail(self, labels: npt.NDArray[np.int64]) -> bytes:
        """Return what comes behind the features: the labels, shape (n_rows,), end the file."""
        return self.between + labels.astype(_LABELS, copy=False).tobytes()


@lru_cache(maxsize=32)
def shard_form(n_rows: int, n_features: int, storage: str) -> ShardForm:
    """Return the form of the shards of one shape, as the installed HDF5 lays them out.

    Parameters
    ----------
    n_rows, n_features : int
        Shape of the features.
    storage : {"float32", "float16"}
        Their type.
    """
    import h5py

    layout = _Layout()
    with h5py.File(layout, "w") as file:
        features_at = _allocate(file, "features", (n_rows, n_features), STORED_TYPES[storage])
        labels_at = _allocate(file, "labels", (n_rows,), _LABELS)
    form = ShardForm(
        n_rows,
        n_features,
        storage,
        layout.content(0, features_at),
        layout.content(
            features_at + n_rows * n_features * STORED_TYPES[storage].itemsize, labels_at
        ),
    )
    assert form.size_bytes == layout.length, "labels end the file"
    return form


def _allocate(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Make a contiguous dataset whose values are not written, and return where they belong."""
    import h5py

    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_layout(h5py.h5d.CONTIGUOUS)
    made.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    made.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    made.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(dtype, logical=True)
    return int(h5py.h5d.create(file.id, name.encode(), kind, space, made).get_offset())


class _Layout(io.RawIOBase):
    """The file object HDF5 lays a file out in: keeps what is written, which is not the values."""

    def __init__(self) -> None:
        self.length = 0
        self._at = 0
        self._parts: dict[int, bytes] = {}

    def content(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`; zeros where nothing was written."""
        found = bytearray(end - start)
        for at, part in self._parts.items():
            if start <= at < end:
                found[at - start : at - start + len(part)] = part
        return bytes(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place counted from the start or, with SEEK_END, from the end."""
        self._at = offset + (self.length if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        """Return the place of the next write."""
        return self._at

    def write(self, data: Any, /) -> int:
        """Keep some bytes and return how many."""
        self._parts[self._at] = bytes(data)
        self._at += len(data)
        self.length = max(self.length, self._at)
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length of the file."""
        self.length = self._at if size is None else size
        return self.length


def decode_shard(parts: Sequence[memoryview], form: ShardForm) -> tuple[AnyArray, AnyArray]:
    """Return features and labels of a shard, as read-only views.

    Parameters
    ----------
    parts : sequence of memoryview
        Head, features and tail of the file, of the lengths that `form` has.
    form : ShardForm
        Its form.

    Raises
    ------
    ValueError
        If the file is not the shard that is described: says what differs.
    """
    expected = {
        "features": ((form.n_rows, form.n_features), STORED_TYPES[form.storage]),
        "labels": ((form.n_rows,), _LABELS),
    }
    if parts[0] == form.head and parts[-1][: len(form.between)] == form.between:
        # What HDF5 would say is known: these are its own bytes for this shape.
        places = {
            "features": len(form.head),
            "labels": len(form.head) + form.features_bytes + len(form.between),
        }
        features, labels = (_view(parts, places[name], *to) for name, to in expected.items())
    else:
        features, labels = _decode(parts, expected)
    return features, labels


def encode_summary(labels: AnyArray, moments: Moments) -> bytes:
    """Return labels, shape (n_rows,), and moments of a whole set as the bytes of an HDF5 file."""
    return _encode({"labels": labels.astype(_LABELS, copy=False), **moments.to_arrays()})


def decode_summary(data: memoryview, n_rows: int, n_features: int) -> tuple[AnyArray, Moments]:
    """Return labels (read-only, int64) and moments of a summary.

    Raises
    ------
    ValueError
        If the file is not the summary that is described: says what differs.
    """
    labels, n, mean, m2 = _decode(
        [data],
        {
            "labels": ((n_rows,), _LABELS),
            "n": ((), _LABELS),
            "mean": ((n_features,), _FLOAT),
            "m2": ((n_features,), _FLOAT),
        },
    )
    if n != n_rows:
        raise ValueError(f"its moments are of {n} rows instead of {n_rows}")
    return labels, Moments.from_arrays({"n": n, "mean": mean, "m2": m2})


class _InMemory(io.RawIOBase):
    """Pieces of memory as the file object HDF5 wants, without copying them as BytesIO does."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._length = sum(map(len, parts))
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place counted from the start or, with SEEK_END, from the end."""
        self._at = offset + (self._length if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer and return how many bytes there were."""
        filled, start = 0, 0
        for part in self._parts:
            found = part[max(0, self._at + filled - start) :][: len(buffer) - filled]
            buffer[filled : filled + len(found)] = found
            filled += len(found)
            start += len(part)
        # h5py does not look at how many bytes came: behind the end it would take what lies in the
        # buffer, which is something else every time.
        buffer[filled:] = bytes(len(buffer) - filled)
        self._at += len(buffer)
        return len(buffer)


def _encode(arrays: Mapping[str, AnyArray]) -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.create_dataset(name, data=little_endian, track_times=False)
    return buffer.getvalue()


def _decode(
    parts: Sequence[memoryview], expected: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
) -> list[AnyArray]:
    """Return views of the datasets, each checked for shape and dtype."""
    import h5py

    try:
        with h5py.File(_InMemory(parts), "r") as file:
            places = {name: place_of(file, name, *form) for name, form in expected.items()}
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"it is not an HDF5 file that featx wrote ({error})") from error
    return [_view(parts, places[name], *form) for name, form in expected.items()]


def _view(
    parts: Sequence[memoryview], place: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> AnyArray:
    """Return one dataset as a read-only view of the piece that holds it."""
    count = int(np.prod(shape))
    start = 0
    for part in parts:
        if start <= place and place + count * dtype.itemsize <= start + len(part):
            values = np.frombuffer(part.toreadonly(), dtype, count, place - start)
            return values.reshape(shape)
        start += len(part)
    # Another HDF5 has put other bytes around the values: no piece holds them all.
    if len(parts) > 1:
        return _view([memoryview(b"".join(parts))], place, shape, dtype)
    raise ValueError("its values are not inside of the file")


def place_of(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the byte of the file at which the values of a dataset begin, one behind the other.

    Raises
    ------
    ValueError
        If the dataset is a link, has another form, or its values are elsewhere, in chunks or
        behind a filter.
    """
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"dataset '{name}' is missing or only a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"'{name}' is not a dataset")
    if dataset.shape != shape or dataset.dtype != dtype:
        raise ValueError(
            f"dataset '{name}' has shape {dataset.shape} and type {dataset.dtype} instead of "
            f"{shape} and {dtype}"
        )
    layout = dataset.id.get_create_plist()
    place = dataset.id.get_offset()
    if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_external_count() or place is None:
        raise ValueError(f"dataset '{name}' is not stored contiguously in the file itself")
    return int(place)
