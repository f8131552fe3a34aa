"""Damaged files, a few of each kind; and those that once were findings, all of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import note, rounds

import featx

HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[1] / "benchmarks"
N_LOADERS = 14

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def run(*words: object) -> subprocess.CompletedProcess[str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    source = {"PYTHONPATH": str(Path(featx.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, *map(str, words)], env={**os.environ, **threads, **source},
        capture_output=True, text=True, check=False, timeout=1200,
    )  # fmt: skip


def test_damaged_files_are_accepted_or_refused(tmp_path: Path) -> None:
    n = rounds(8, 2000)
    done = run(BENCHMARKS / "fuzzing.py", "--keep", tmp_path, "--files", n, "--seed", 7)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    read = re.findall(rf"^\| .* \| {n:,} \| 0 \|$", done.stdout, re.MULTILINE)
    assert len(read) == N_LOADERS
    note("Hostile files", damaged=n * N_LOADERS, loaders=N_LOADERS)


def test_the_harness_sees_what_is_wrong(tmp_path: Path) -> None:
    """It can fail: what does something else than to accept or to refuse is found at once."""
    done = run(HERE / "fuzz_troubles.py", BENCHMARKS, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "accepts": [3, None],
        "refuses": [3, None],
        "another exception": [1, "KeyError at the harness"],
        "a crash": [1, "crash (SIGABRT)"],
        "no end": [1, "more than 1 s"],
        "a file elsewhere is read": [1, "reached open"],
        "a file elsewhere is written": [1, "reached open"],
        "a folder elsewhere": [1, "reached os.mkdir"],
        "a socket": [1, "reached socket.connect"],
        "a program": [1, "reached os.system"],
        "500 MB": [1, "memory"],
        "4 GB": [1, "MemoryError at the harness"],
    }
