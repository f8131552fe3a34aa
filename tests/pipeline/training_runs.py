"""Trainings of seconds, on digits."""

from __future__ import annotations

from pathlib import Path

from featx.progress import Progress
from featx.recipes import Recipe, make_recipe

FEW = {"train": 12, "val": 6, "test": 6}


class Ears(Progress):
    """Keeps what is said and warned of."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)


def training(tmp_path: Path, **values: object) -> Recipe:
    base = {
        "task": "train", "network": "conv2", "dataset": "digits", "image_size": 16, "limit": FEW,
        "epochs": 2, "batch_size": 32, "out": str(tmp_path / "reports"),
        "cache_dir": str(tmp_path / "cache"), "name": "run",
        # They have tests of their own, and take longer than these trainings.
        "exhibits": False,
    }  # fmt: skip
    return make_recipe({**base, **values})
