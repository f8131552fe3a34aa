"""The two kinds of HDF5 files of a feature set, built and read in memory.

A shard holds ``features`` (float32 or float16) and ``labels`` (int64), the summary holds
``labels`` of all rows and the moments ``n``, ``mean`` and ``m2``. All are contiguous,
uncompressed and without time stamps: the same content gives the same bytes. On reading, HDF5 only
says where a dataset lies; its values are taken from the verified bytes, so no filter, link or
external file is ever followed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
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


def encode_shard(features: AnyArray, labels: AnyArray) -> bytes:
    """Return a shard as the bytes of an HDF5 file.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_features), float32 or float16
        Features in their storage type.
    labels : ndarray of shape (n_rows,), int64
        Labels.
    """
    return _encode({"features": features, "labels": labels.astype(_LABELS, copy=False)})


def decode_shard(
    data: memoryview, n_rows: int, n_features: int, storage: str
) -> tuple[AnyArray, AnyArray]:
    """Return features and labels of a shard, as read-only views of `data`.

    Raises
    ------
    ValueError
        If the file is not the shard that is described: says what differs.
    """
    features, labels = _decode(
        data,
        {
            "features": ((n_rows, n_features), STORED_TYPES[storage]),
            "labels": ((n_rows,), _LABELS),
        },
    )
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
        data,
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
    """The bytes of a file as the file object HDF5 wants, without copying them as BytesIO does."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place counted from the start or, with SEEK_END, from the end."""
        self._at = offset + (len(self._data) if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer and return how many bytes there were."""
        part = self._data[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def _encode(arrays: Mapping[str, AnyArray]) -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.create_dataset(name, data=little_endian, track_times=False)
    return buffer.getvalue()


def _decode(
    data: memoryview, expected: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
) -> list[AnyArray]:
    """Return views of the datasets, each checked for shape and dtype."""
    import h5py

    try:
        with h5py.File(_InMemory(data), "r") as file:
            return [_view(file, name, *form, data) for name, form in expected.items()]
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"it is not an HDF5 file that featx wrote ({error})") from error


def _view(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], data: memoryview
) -> AnyArray:
    """Return one dataset as a read-only view of the file's bytes."""
    place = place_of(file, name, shape, dtype)
    return np.frombuffer(data, dtype, int(np.prod(shape)), place).reshape(shape)


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
