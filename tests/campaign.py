"""How much is broken: a small share in every run of the tests, all of it in ``make faults``.

``FEATX_FAULTS=full`` asks for all of it, ``FEATX_FAULTS_FILE`` names a file that gets a line of
JSON per promise, with what was counted: `benchmarks/reliability.py` makes the page of it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def rounds(few: int, many: int) -> int:
    """Return how many rounds a test has."""
    return many if os.environ.get("FEATX_FAULTS") == "full" else few


def note(promise: str, **figures: Any) -> None:
    """Keep what a test counted."""
    path = os.environ.get("FEATX_FAULTS_FILE")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"promise": promise, **figures}) + "\n")
