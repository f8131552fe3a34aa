"""Writing predicted labels beside a record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.cache import fsio
from featx.evaluate.predictions import BETWEEN, FILE_NAME, TRUTH

if TYPE_CHECKING:
    from featx.data import Dataset


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
        f"{cut}{BETWEEN}{split}": np.ascontiguousarray(predicted, dtype=np.int64)
        for cut, by_split in predictions.items()
        for split, predicted in by_split.items()
    }
    arrays |= {f"{TRUTH}{BETWEEN}{name}": split.y for name, split in dataset.splits.items()}
    digests = {f"digest {name}": split.digest for name, split in dataset.splits.items()}
    path = folder / FILE_NAME
    fsio.make_folder(folder)
    fsio.publish(path, save(arrays, metadata=digests))
    return path
