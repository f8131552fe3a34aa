"""The command line with shards of 8 rows and a slow network. A program run by test_extract_process.

``python small_shards.py FILE WORDS...`` leaves a byte per image that was computed in FILE.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

import featx.cache
from featx.backbones import Capture
from featx.cli import main

SHARD_ROWS = 8
COUNTS = Path(sys.argv.pop(1))
featx.cache.shard_rows_for = lambda n_features, batch_size, storage: SHARD_ROWS
forward = Capture.__call__


def slow(self: Capture, x: torch.Tensor) -> dict[str, torch.Tensor]:
    with COUNTS.open("ab", buffering=0) as file:
        file.write(b"." * len(x))
    time.sleep(0.05)
    return forward(self, x)


Capture.__call__ = slow  # type: ignore[method-assign]
main()
