"""Writers that are killed, and writers at the same time, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from campaign import note, rounds

import featx

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run(task: str, folder: Path, n_rounds: int, seed: int, processes: int = 3) -> dict[str, Any]:
    source = Path(featx.__file__).parent.parent
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("child_processes.py"),
            task,
            folder,
            str(n_rounds),
            str(seed),
            str(processes),
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
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["failures"] == [], done.stderr
    return result


def test_killed_writers_resume_to_the_same_bits(tmp_path: Path) -> None:
    """Half of the kills are aimed at an operation of a publication, half at a time."""
    n = rounds(12, 150)
    result = run("kills", tmp_path, n, 2024)
    assert result["killed"] >= n
    assert 0 < result["lost_rows"] <= 8
    note("Kill and resume", kills=result["killed"], lost_rows=result["lost_rows"], shard_rows=8)


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_writers_at_the_same_time_all_succeed(tmp_path: Path, processes: int) -> None:
    """Without any lock: as on a file system where they do nothing."""
    n = rounds(3, 200)
    result = run("together", tmp_path, n, 7, processes)
    assert result["reads"] >= n
    note("Many at once", processes=processes, rounds=n, reads=result["reads"], differences=0)
