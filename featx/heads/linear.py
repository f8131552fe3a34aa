"""A linear head with its scaler and classes: predicts from raw features, saved without pickle."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.cache import fsio
from featx.errors import HeadError, ShapeError
from featx.heads.blocks import Features, FloatArray, row_blocks
from featx.heads.fitting import HeadKind
from featx.scaling import Scaler

FORMAT = "featx.linear-head"
FORMAT_VERSION = 1
_KINDS = ("svm", "logistic")
_ARRAYS = {"coef": "F64", "intercept": "F64", "classes": "I64"}
_SCALER_ARRAYS = {"scaler_mean": "F64", "scaler_scale": "F64"}


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier of raw features.

    Parameters
    ----------
    kind : {"svm", "logistic"}
        The loss it was fitted with.
    coef : ndarray of shape (n_classes, n_features), float64
        Weights on the scaled features.
    intercept : ndarray of shape (n_classes,), float64
        Intercepts.
    classes : ndarray of shape (n_classes,), int64
        Label of each row.
    class_names : tuple of str
        Name of each row.
    scaler : Scaler or None
        Applied to the features first; None if the head takes them as they are.
    provenance : dict
        Where the head comes from: JSON values.

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    """

    kind: HeadKind
    coef: FloatArray
    intercept: FloatArray
    classes: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    scaler: Scaler | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        K = len(self.classes)
        of_classes = (
            self.coef.shape[:1],
            self.intercept.shape,
            self.classes.shape,
            (len(self.class_names),),
        )
        scaler = () if self.scaler is None else (self.scaler.mean_, self.scaler.scale_)
        of_features = [array.shape for array in scaler]
        if (
            self.coef.ndim != 2
            or any(shape != (K,) for shape in of_classes)
            or any(shape != self.coef.shape[1:] for shape in of_features)
        ):
            raise ShapeError(
                f"A head of classes {self.classes.shape} with coef {self.coef.shape}, intercept "
                f"{self.intercept.shape}, {len(self.class_names)} class names and scaler "
                f"{of_features or None}: these do not belong together."
            )

    def decision_function(self, X: Features) -> FloatArray:
        """Return the score of each class.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), any float type
            Raw features, as they were extracted.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            One column per class, for two classes as well. For a logistic head their softmax is
            the probability.

        Raises
        ------
        ShapeError
            If `X` has another number of features.
        """
        d = self.coef.shape[1]
        if X.ndim != 2 or X.shape[1] != d:
            raise ShapeError(f"Features of shape {X.shape}: this head expects (n_samples, {d}).")
        result = np.empty((X.shape[0], len(self.classes)))
        for rows, block in row_blocks(X):
            # The scaler's float32 is what the head was fitted on.
            scaled = block if self.scaler is None else self.scaler.transform(block)
            result[rows] = scaled.astype(np.float64, copy=False) @ self.coef.T + self.intercept
        return result

    def predict(self, X: Features) -> npt.NDArray[np.int64]:
        """Return the label with the largest score for each row of raw features, shape (n_samples,).

        Raises
        ------
        ShapeError
            If `X` has another number of features.
        """
        return self.classes[self.decision_function(X).argmax(axis=1)]

    def save(self, path: str | Path) -> Path:
        """Write the head to a safetensors file, complete or not at all.

        Parameters
        ----------
        path : str or Path
            Ends in ``.safetensors``.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        HeadError
            If the name ends in something else.
        CacheWriteError
            If the disk refuses.
        """
        from safetensors.numpy import save

        path = Path(path)
        if path.suffix != ".safetensors":
            raise HeadError(f"A head is saved as a .safetensors file, not as '{path.name}'.")
        arrays = {"coef": self.coef, "intercept": self.intercept, "classes": self.classes}
        if self.scaler is not None:
            arrays |= {"scaler_mean": self.scaler.mean_, "scaler_scale": self.scaler.scale_}
        about = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "kind": self.kind,
            "class_names": list(self.class_names),
            "scaler_n_samples": None if self.scaler is None else self.scaler.n_samples_,
            "provenance": dict(self.provenance),
        }
        # safetensors writes the buffer as it lies in memory.
        tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        about["sha256"] = _digest(about, tensors)
        data = save(tensors, metadata={"featx": json.dumps(about, sort_keys=True)})
        fsio.make_folder(path.parent)
        fsio.publish(path, data)
        return path

    @classmethod
    def load(cls, path: str | Path) -> LinearHead:
        """Read a head that `save` wrote.

        Raises
        ------
        HeadError
            If there is no such file, it is damaged, it is no head of featx, or it was written in
            another version of the format.
        """
        path = Path(path)
        data = _read(path)
        about = _metadata(path, data)
        digest = about.pop("sha256", None)
        if about.get("version") != FORMAT_VERSION:
            raise HeadError(
                f"Head {path} has format version {about.get('version')}; this featx reads version "
                f"{FORMAT_VERSION}. Fit it again, or use the featx that wrote it."
            )
        try:
            arrays = _arrays(data)
            if _digest(about, arrays) != digest:
                raise ValueError("its content does not have the SHA-256 it was saved with")
            return cls._from_parts(about, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise HeadError(f"Head {path} is damaged: {error}. Fit it again.") from error

    @classmethod
    def _from_parts(cls, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> LinearHead:
        """Build the head of a file; ValueError says what is wrong with it."""
        n_samples = about["scaler_n_samples"]
        expected = _ARRAYS if n_samples is None else _ARRAYS | _SCALER_ARRAYS
        if set(arrays) != set(expected):
            raise ValueError(f"it holds the arrays {sorted(arrays)}, not {sorted(expected)}")
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"'{name}' holds NaN or Inf")
        if about["kind"] not in _KINDS:
            raise ValueError(f"its kind is {about['kind']!r}, not one of {_KINDS}")
        scaler = None
        if n_samples is not None:
            scaler = Scaler(arrays["scaler_mean"], arrays["scaler_scale"], int(n_samples))
        return cls(
            kind=about["kind"],
            coef=arrays["coef"],
            intercept=arrays["intercept"],
            classes=arrays["classes"],
            class_names=tuple(str(name) for name in about["class_names"]),
            scaler=scaler,
            provenance=dict(about["provenance"]),
        )


def _read(path: Path) -> bytes:
    """Return a file's bytes, or a `HeadError` that says why not."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise HeadError(f"Head {path} cannot be read: {error.strerror or error}.") from error


def _digest(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of a head: what is said about it, and its arrays by name."""
    # As a reader gets it: in JSON every key is a string, which changes the order of numbers.
    decoded = json.loads(json.dumps(about))
    digest = hashlib.sha256(json.dumps(decoded, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} ".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _metadata(path: Path, data: bytes) -> dict[str, Any]:
    """Return featx' own part of a safetensors header."""
    foreign = HeadError(f"{path} is not a head that featx saved: it has no featx header.")
    try:
        # A safetensors header is an 8-byte length and JSON.
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        about = json.loads(header["__metadata__"]["featx"])
    except (struct.error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise foreign from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise foreign
    return about


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file, each with the type it must have."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    types = {"F64": np.float64, "I64": np.int64}
    for name, array in arrays.items():
        expected = (_ARRAYS | _SCALER_ARRAYS).get(name)
        if expected and array.dtype != types[expected]:
            raise ValueError(f"'{name}' is {array.dtype}, not {types[expected].__name__}")
    return dict(arrays)
