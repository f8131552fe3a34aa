"""Predicted labels beside a record, so that runs can be compared image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.errors import FeatxError, PredictionsContradict

FILE_NAME = "predictions.safetensors"
# The labels themselves stand beside what was predicted for them.
TRUTH = "(truth)"
BETWEEN = "|"


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
            predicted: np.ndarray = file.get_tensor(f"{cut}{BETWEEN}{split}")
    except (SafetensorError, OSError) as error:
        raise FeatxError(f"The predictions in {path} cannot be read: {error}. {advice}") from error
    if found != digest:
        raise FeatxError(f"The predictions in {path} are of other {split} images. {advice}")
    return predicted


def correct_answers(folder: Path, cut: str, split: str, digest: str, accuracy: float) -> np.ndarray:
    """Return which images of a split a run classified correctly, (n,) bool.

    Parameters
    ----------
    folder : Path
        The run's report.
    cut : str
        The cut; empty for a whole network.
    split : str
        Validation or test.
    digest : str
        Of the split's images.
    accuracy : float
        What the record says.

    Raises
    ------
    PredictionsContradict
        If they are not what the record says.
    FeatxError
        If there are no predictions, or they are of other images.
    """
    predicted = read_predictions(folder, cut, split, digest)
    correct: np.ndarray = predicted == read_predictions(folder, TRUTH, split, digest)
    n_correct = round(accuracy * len(correct))
    if int(correct.sum()) != n_correct:
        raise PredictionsContradict(
            f"The predictions in {folder} do not agree with its record: {int(correct.sum())} "
            f"correct images and {n_correct}. Remove the folder and run it again."
        )
    return correct
