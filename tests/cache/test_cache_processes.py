"""Writers that are killed, and writers at the same time, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import featx

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run(task: str, folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    source = Path(featx.__file__).parent.parent
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("child_processes.py"),
            task,
            folder,
            str(rounds),
            str(seed),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(source),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["failures"] == [], done.stderr
    return result


def test_killed_writers_resume_to_the_same_bits(tmp_path: Path) -> None:
    """Half of the kills are aimed at an operation of a publication, half at a time."""
    result = run("kills", tmp_path, rounds=24, seed=2024)
    assert result["killed"] >= 24
    assert 0 < result["lost_rows"] <= 8


def test_writers_at_the_same_time_all_succeed(tmp_path: Path) -> None:
    result = run("together", tmp_path, rounds=8, seed=7)
    assert result["reads"] >= 8
