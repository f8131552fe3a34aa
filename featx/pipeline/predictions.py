"""Predicted labels beside a record, so that runs can be compared image by image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.cache import fsio
from featx.errors import FeatxError

if TYPE_CHECKING:
    from featx.data import Dataset

FILE_NAME = "predictions.safetensors"
# The labels themselves stand beside what was predicted for them.
TRUTH = "(truth)"
_BETWEEN = "|"


def save_predictions(
    folder: Path, dataset: Dataset, predictions: Mapping[str, Mapping[str, np.ndarray]]
) -> Path:
    """Write the predicted labels of a run.

    Parameters
    ----------
    folder : Path
        The run's report folder.
    dataset : Dataset
        Whose splits were predicted; their digests tell images apart when files are compared.
    predictions : mapping of str to mapping of str to ndarray of shape (n,), int64
        By cut (``""`` for a whole network), then by split.
    """
    from safetensors.numpy import save

    arrays = {
        f"{cut}{_BETWEEN}{split}": np.ascontiguousarray(predicted, dtype=np.int64)
        for cut, by_split in predictions.items()
        for split, predicted in by_split.items()
    }
    arrays |= {f"{TRUTH}{_BETWEEN}{name}": split.y for name, split in dataset.splits.items()}
    digests = {f"digest {name}": split.digest for name, split in dataset.splits.items()}
    path = folder / FILE_NAME
    fsio.make_folder(folder)
    fsio.publish(path, save(arrays, metadata=digests))
    return path


def read_predictions(folder: Path, cut: str, split: str, digest: str) -> np.ndarray:
    """Return the labels that a run predicted for a split, (n,) int64.

    Raises
    ------
    FeatxError
        If there is no such file or part of it, or it is of other images.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE_NAME
    advice = "Run it again (--rebuild is not needed)."
    try:
        with safe_open(path, framework="np") as file:
            found = (file.metadata() or {}).get(f"digest {split}")
            predicted: np.ndarray = file.get_tensor(f"{cut}{_BETWEEN}{split}")
    except (SafetensorError, OSError) as error:
        raise FeatxError(f"The predictions in {path} cannot be read: {error}. {advice}") from error
    if found != digest:
        raise FeatxError(f"The predictions in {path} are of other {split} images. {advice}")
    return predicted
