"""Processes that extract the same at once: one computes, the others wait and find it done."""

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
@pytest.mark.parametrize("processes", [2, 4, 8] if rounds(0, 1) else [4])
def test_the_work_is_done_once(tmp_path: Path, processes: int) -> None:
    n = rounds(1, 200)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("extract_together.py"), tmp_path, str(n),
         str(processes)],
        env={**os.environ, "PYTHONPATH": str(Path(featx.__file__).parent.parent),
             "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failures"] == [], done.stderr[-3000:]
    assert result["messages"] > 0
    note("Many at once, with locks", processes=processes, **result)
