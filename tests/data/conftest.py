"""Small image folders for the tests of featx.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Return a function that writes PNG images of noise: {"cat": 3} or {"train/cat": 3}."""

    def make(
        counts: dict[str, int],
        *,
        name: str = "pets",
        sizes: tuple[tuple[int, int], ...] = ((9, 7),),
    ) -> Path:
        root = tmp_path / name
        rng = np.random.default_rng(0)
        number = 0
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                height, width = sizes[number % len(sizes)]
                pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{i:02d}.png")
                number += 1
        return root

    return make
