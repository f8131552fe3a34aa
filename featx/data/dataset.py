"""What a source gives: splits of images with labels, and where they came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from featx.data.images import Images, Indices
from featx.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Images with labels.

    Attributes
    ----------
    name : str
        ``"train"``, ``"val"`` or ``"test"``.
    images : Images
        RGB images.
    y : ndarray of shape (n,), int64
        The source's own labels: cifar5 keeps 5 to 9.
    """

    name: str
    images: Images
    y: np.ndarray

    def __post_init__(self) -> None:
        if len(self.images) != len(self.y):
            raise DataError(
                f"The {self.name} split has {len(self.images)} images and {len(self.y)} labels: "
                "give one label per image."
            )

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over images, sizes, labels and their order; not over paths or times."""
        hasher = hashlib.sha256(json.dumps({"images": len(self)}).encode())
        self.images.update_digest(hasher)
        hasher.update(np.ascontiguousarray(self.y, dtype="<i8").data)
        return hasher.hexdigest()

    def take(self, indices: Indices) -> Split:
        """Return the images and labels at `indices`, in that order."""
        return Split(self.name, self.images.take(indices), self.y[np.arange(len(self))[indices]])

    def counts(self) -> dict[int, int]:
        """Return label -> number of images, labels ascending."""
        labels, numbers = np.unique(self.y, return_counts=True)
        return {int(label): int(number) for label, number in zip(labels, numbers, strict=True)}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits of one source.

    Attributes
    ----------
    name : str
        ``"cifar5"``, ``"folder:photos"``; never an absolute path.
    classes : dict of int to str
        Label -> class name, labels ascending.
    splits : dict of str to Split
        ``"train"``, ``"val"``, ``"test"`` in this order; those that exist.
    provenance : dict
        JSON-able: the source and its files, class filter, hold-out and limit.
    """

    name: str
    classes: dict[int, str]
    splits: dict[str, Split]
    provenance: dict[str, Any]

    @property
    def size(self) -> tuple[int, int] | None:
        """Common (height, width) of all images of all splits; None when they differ."""
        sizes = {split.images.size for split in self.splits.values()}
        return sizes.pop() if len(sizes) == 1 else None
