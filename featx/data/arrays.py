"""Sources that are arrays: ``npz:PATH`` and scikit-learn's digits."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featx.data.images import ArrayImages, as_rgb
from featx.data.raw import Part, Raw, Request
from featx.data.stored import read_stored
from featx.errors import DataError, quoted
from featx.machine import available_memory_bytes
from featx.text import human_bytes

_REQUIRED = ("train_x", "train_y", "test_x", "test_y")
_OPTIONAL = ("val_x", "val_y", "classes")


def load_npz(request: Request) -> Raw:
    """Return the arrays of one NumPy file.

    ``train_x``, ``test_x`` and optionally ``val_x``: uint8 (n, height, width, 3), or greys without
    the last axis. ``train_y``, ``test_y``, ``val_y``: integers (n,), 0 or more. ``classes``: names,
    label k is ``classes[k]``; without them a class is called by its label.

    Raises
    ------
    DataError
        When the file does not exist, holds Python objects, lacks an array, or has arrays of a wrong
        dtype, shape or length, or labels without a class name.
    """
    path = Path(request.path).expanduser()
    if not path.is_file():
        raise DataError(f"File {path} does not exist. {_wanted()}")
    arrays = _read(path)
    lacking = [key for key in _REQUIRED if key not in arrays]
    lacking += [key for key in ("val_x", "val_y") if key not in arrays and _has_val(arrays)]
    if lacking:
        raise DataError(f"{path} lacks {quoted(lacking)}; it has {quoted(arrays)}. {_wanted()}")
    parts = {}
    for split in ("train", "val", "test") if _has_val(arrays) else ("train", "test"):
        x = as_rgb(arrays[f"{split}_x"], f"The images '{split}_x' of {path}")
        # In Fortran's order every batch would be gathered from all over the array.
        x = np.ascontiguousarray(x)
        y = _labels(arrays[f"{split}_y"], len(x), f"'{split}_y' of {path}")
        parts[split] = Part(ArrayImages(x), y)
    present = np.unique(np.concatenate([part.y for part in parts.values()])).tolist()
    return Raw(
        name=f"npz:{path.stem}",
        classes=_names(arrays.get("classes"), present, path),
        parts=parts,
        origin={"path": request.path},
    )


def _wanted() -> str:
    return f"An npz source has {quoted(_REQUIRED)}, optionally {quoted(_OPTIONAL)}."


def _has_val(arrays: Mapping[str, np.ndarray]) -> bool:
    return "val_x" in arrays or "val_y" in arrays


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays featx knows by name; of others only the name is kept."""
    known = (*_REQUIRED, *_OPTIONAL)
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no npz file, or a damaged one. {_wanted()}")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_memory(path, archive)
            with np.load(path, allow_pickle=False) as file:
                arrays = {
                    key: _array(path, archive, file, key) if key in known else np.empty(0)
                    for key in file.files
                }
        for key, array in arrays.items():
            # What does not begin as an array does comes as bytes.
            if not isinstance(array, np.ndarray):
                raise ValueError(f"'{key}' is no array")
        return arrays
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} does not fit in memory: {error}. {_wanted()}") from error
    except (
        ValueError, TypeError, OSError, EOFError, RuntimeError, ArithmeticError, LookupError,
        SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        reason = (
            "Python objects are refused: they would need pickle, which can run code."
            if "pickle" in str(error)
            else "Get it again, or write it anew."
        )
        raise DataError(f"{path} cannot be read: {error}. {_wanted()} {reason}") from error


def _array(
    path: Path, archive: zipfile.ZipFile, file: Mapping[str, np.ndarray], key: str
) -> np.ndarray:
    """Return an array of an npz file, which is open as what it is and by NumPy."""
    stored = read_stored(path, archive, key)
    return file[key] if stored is None else stored


def _check_memory(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that unpacks to more than there is: the system would end the process."""
    needed = sum(info.file_size for info in archive.infolist())
    free = available_memory_bytes()
    if needed > free:
        raise DataError(
            f"{path} unpacks to {human_bytes(needed)}, and {human_bytes(free)} of memory are free: "
            "keep the images in files, and read them as folder:PATH."
        )


def _labels(y: np.ndarray, n: int, what: str) -> np.ndarray:
    """Return labels as int64 (n,)."""
    if y.dtype.kind not in "iu":
        raise DataError(f"The labels {what} are {y.dtype}: featx takes integers, 0 or more.")
    if y.ndim != 1:
        raise DataError(f"The labels {what} have shape {y.shape}: featx takes (n,). ravel() them.")
    if len(y) != n:
        raise DataError(f"There are {n} images and {len(y)} labels in {what}: give one per image.")
    if int(y.min()) < 0 or int(y.max()) >= 2**31:
        raise DataError(
            f"The labels {what} run from {y.min()} to {y.max()}: featx takes 0 to 2147483647."
        )
    return y.astype(np.int64)


def _names(names: np.ndarray | None, present: list[int], path: Path) -> dict[int, str]:
    """Return label -> name for the labels that are present."""
    if names is None:
        return {label: str(label) for label in present}
    if names.dtype.kind not in "US" or names.ndim != 1:
        raise DataError(
            f"'classes' of {path} is {names.dtype} of shape {names.shape}: give one string per "
            "class, in label order."
        )
    texts = [str(name) for name in (np.char.decode(names) if names.dtype.kind == "S" else names)]
    if len(set(texts)) != len(texts):
        raise DataError(f"'classes' of {path} has a name twice: {quoted(texts)}.")
    if present[-1] >= len(texts):
        raise DataError(
            f"Label {present[-1]} of {path} has no name: 'classes' has {len(texts)}, for labels "
            f"0 to {len(texts) - 1}."
        )
    return {label: texts[label] for label in present}


def load_digits(request: Request) -> Raw:
    """Return scikit-learn's digits: 1,797 scans of 8 x 8 greys, ten classes, no test split.

    The greys 0 to 16 are scaled to 0 to 255 and repeated over the channels.
    """
    from sklearn.datasets import load_digits as load

    bunch = load()
    greys = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return Raw(
        name="digits",
        classes={label: str(label) for label in range(10)},
        parts={"train": Part(ArrayImages(greys), bunch.target.astype(np.int64))},
        origin={"package": "scikit-learn", "url": "https://archive.ics.uci.edu/dataset/80"},
        stratify_test=True,
    )
