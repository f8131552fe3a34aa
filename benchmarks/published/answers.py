"""Which test images each run classified correctly: what paired tests need, in few bytes.

A bit per image: 640 runs over 5,000 images are 0.4 MB, where their predicted labels would be 26.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.errors import FeatxError
from featx.evaluate import (
    ComparisonRecord,
    Record,
    RunRecord,
    StudyRecord,
    correct_answers,
    read_record,
)

FILE_NAME = "answers.safetensors"
SPLIT = "test"
Key = tuple[str, str]
"""Name of a run (or approach), and its cut; empty for a whole network."""


def answered(record: Record) -> dict[Key, tuple[str, float]]:
    """Return what of a record can be paired: its folder and its accuracy on test.

    Repeats have their own images, and a single training has nothing beside it: neither is paired.
    """
    if isinstance(record, RunRecord):
        return {("", r.cut): ("", r.accuracy[SPLIT]) for r in record.results if SPLIT in r.accuracy}
    if isinstance(record, StudyRecord) and record.repeats == 1:
        return {
            (row.run, row.label): (row.folder, row.top1[SPLIT])
            for row in record.rows
            if SPLIT in row.top1
        }
    if isinstance(record, ComparisonRecord):
        return {
            (a.name, a.what if a.approach == "probe" else ""): (a.folder, a.splits[SPLIT].accuracy)
            for a in record.approaches
            if SPLIT in a.splits
        }
    return {}


def write_answers(folder: Path) -> Path | None:
    """Write a report's answers from the predictions of its runs; None where nothing is paired.

    Raises
    ------
    FeatxError
        If predictions are missing, or are not what the record says.
    """
    from safetensors.numpy import save

    record = read_record(folder)
    digest = record.dataset.splits[SPLIT].digest if SPLIT in record.dataset.splits else ""
    arrays = {}
    for (run, cut), (place, accuracy) in answered(record).items():
        correct = correct_answers(folder / place, cut, SPLIT, digest, accuracy)
        arrays[f"{run}|{cut}"] = np.packbits(correct)
    if not arrays:
        return None
    path = folder / FILE_NAME
    path.write_bytes(save(arrays, metadata={"digest": digest, "n": str(len(correct))}))
    return path


def read_answers(folder: Path, record: Record) -> dict[Key, np.ndarray]:
    """Return a report's answers by run and cut, (n,) bool each; nothing where there are none.

    Raises
    ------
    FeatxError
        If they are of other images than the record's.
    """
    from safetensors import safe_open

    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    with safe_open(path, framework="np") as file:
        about = file.metadata()
        if about["digest"] != record.dataset.splits[SPLIT].digest:
            raise FeatxError(f"{path} is of other images than its record. Run it again.")
        n = int(about["n"])
        found = {name: np.unpackbits(file.get_tensor(name), count=n) for name in file.keys()}  # noqa: SIM118
    return {
        (name.split("|")[0], name.split("|")[1]): bits.astype(bool) for name, bits in found.items()
    }
