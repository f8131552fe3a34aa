"""Lets several processes extract the same cuts at once. A program run by test_waiting.

The last line it prints is JSON: rounds, batches that were computed, how often a process said that
it waits, and the text of every check that failed.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import numpy as np
import torch

from featx.backbones import Capture, load_backbone
from featx.cache import FeatureStore, locks
from featx.data import ArrayImages, Split
from featx.extraction import extract_to_store, make_settings
from featx.progress import Progress

CUTS = ["layer1", "layer2.0"]
BATCH, N_ROWS = 4, 10


class Ears(Progress):
    """Writes what it hears where the parent reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text + "\n")


def child(root: Path, split: Split, log: Path) -> None:
    """Extract, leaving a byte per batch in a file."""
    run = Capture.__call__

    def call(self: Capture, x: torch.Tensor) -> object:
        with log.with_suffix(".batches").open("ab", buffering=0) as file:
            file.write(b".")
        return run(self, x)

    Capture.__call__ = call  # type: ignore[method-assign]
    settings = make_settings(BACKBONE, split.images.size, image_size="native", batch_size=BATCH)
    extract_to_store(BACKBONE, CUTS, split, FeatureStore(root), settings, progress=Ears(log))


def one_round(root: Path, processes: int, split: Split) -> tuple[bytes, int, list[str], int]:
    """Return the features, batches computed, what was said, and how many processes failed."""
    log = root.with_suffix(".log")
    running = []
    for _ in range(processes):
        process = os.fork()
        if process == 0:
            try:
                child(root, split, log)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        running.append(process)
    failed = sum(os.waitpid(process, 0)[1] != 0 for process in running)
    store = FeatureStore(root)
    infos = sorted(store.verify(), key=lambda info: info.path.name)
    values = b"".join(
        found.read().tobytes()
        for info in infos
        if info.key is not None and (found := store.find(info.key)) is not None
    )
    said = log.read_text().splitlines() if log.exists() else []
    return values, log.with_suffix(".batches").stat().st_size, said, failed


def main(folder: Path, rounds: int, processes: int) -> dict[str, object]:
    """Compare every round with one of a single process."""
    pixels = np.random.default_rng(0).integers(0, 256, (N_ROWS, 32, 32, 3), dtype=np.uint8)
    split = Split("train", ArrayImages(pixels), np.arange(N_ROWS, dtype=np.int64) % 3)
    right, once, _, failed = one_round(folder / "alone", 1, split)
    failures = ["alone: it failed"] if failed or not right else []
    batches = messages = 0
    for number in range(rounds):
        values, n_batches, said, failed = one_round(folder / str(number), processes, split)
        batches += n_batches
        messages += len(said)
        if failed:
            failures.append(f"round {number}: {failed} processes failed")
        if values != right:
            failures.append(f"round {number}: the features differ")
        if n_batches != once:
            failures.append(f"round {number}: {n_batches} batches instead of {once}")
        if not all(": waiting for it. " in line for line in said):
            failures.append(f"round {number}: {said}")
    return {"rounds": rounds, "batches": batches, "messages": messages, "failures": failures}


if __name__ == "__main__":
    torch.set_num_threads(1)
    locks._POLL_S = 0.01
    BACKBONE = load_backbone("resnet18", "none", seed=3)
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
