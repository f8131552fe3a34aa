"""Lets several processes extract the same cuts at once. A program run by test_waiting.

The last line it prints is JSON: rounds, batches that were computed, how often a process said that
it waits, and the text of every check that failed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from forked_extraction import content, fork, run

from featx.progress import Progress


class Ears(Progress):
    """Writes what it hears where the parent reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text + "\n")


def child(root: Path, log: Path) -> None:
    """Extract, leaving a byte per batch in a file."""

    def computed(n_images: int) -> None:
        with log.with_suffix(".batches").open("ab", buffering=0) as file:
            file.write(b".")

    run(root, computed, Ears(log))


def one_round(root: Path, processes: int) -> tuple[dict[str, bytes], int, list[str], int]:
    """Return all files, batches computed, what was said, and how many processes failed."""
    log = root.with_suffix(".log")
    running = [fork(partial(child, root, log)) for _ in range(processes)]
    failed = sum(os.waitpid(process, 0)[1] != 0 for process in running)
    files = content(root)
    said = log.read_text().splitlines() if log.exists() else []
    n_batches = log.with_suffix(".batches").stat().st_size
    shutil.rmtree(root)
    return files, n_batches, said, failed


def main(folder: Path, rounds: int, processes: int) -> dict[str, object]:
    """Compare every round with one of a single process."""
    right, once, _, failed = one_round(folder / "alone", 1)
    failures = ["alone: it failed"] if failed or not right else []
    batches = messages = 0
    for number in range(rounds):
        files, n_batches, said, failed = one_round(folder / str(number), processes)
        batches += n_batches
        messages += len(said)
        if failed:
            failures.append(f"round {number}: {failed} processes failed")
        if files != right:
            failures.append(f"round {number}: the features differ")
        if n_batches != once:
            failures.append(f"round {number}: {n_batches} batches instead of {once}")
        if not all(": waiting for it. " in line for line in said):
            failures.append(f"round {number}: {said}")
    return {"rounds": rounds, "batches": batches, "messages": messages, "failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
