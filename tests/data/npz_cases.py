"""A small npz file that featx reads."""

from __future__ import annotations

from typing import Any

import numpy as np


def arrays(side: int = 4, **changes: Any) -> dict[str, np.ndarray]:
    """Return a good file's arrays with some replaced; None leaves one out."""
    rng = np.random.default_rng(0)
    good: dict[str, Any] = {
        "train_x": rng.integers(0, 256, (8, side, side + 1, 3), dtype=np.uint8),
        "train_y": np.array([5, 9] * 4),
        "test_x": rng.integers(0, 256, (4, side, side + 1, 3), dtype=np.uint8),
        "test_y": np.array([9, 5] * 2),
    }
    return {key: value for key, value in (good | changes).items() if value is not None}
