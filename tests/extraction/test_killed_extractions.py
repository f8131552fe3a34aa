"""Whole extractions that are killed go on to the same bits, and lose at most one shard of work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import note, rounds

import featx


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_killed_extractions_resume_to_the_same_bits(tmp_path: Path) -> None:
    """Half of the kills are aimed at an operation on the disk, half come at any time."""
    n = rounds(6, 1000)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill_extractions.py"), tmp_path, str(n), "31"],
        env={**os.environ, "PYTHONPATH": str(Path(featx.__file__).parent.parent),
             "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failures"] == [], done.stderr[-3000:]
    assert result["kills"] >= n
    assert 0 < result["inside"] < result["kills"]
    assert 0 < result["lost_rows"] <= result["shard_rows"]
    note("Kill and resume, extractions", **result)
