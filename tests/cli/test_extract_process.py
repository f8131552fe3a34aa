"""``featx extract`` as a process of its own: Ctrl-C, and a cache that cannot be written to."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import featx

SHARD_ROWS = 8
WORDS = ["extract", "--backbone", "conv2", "--weights", "none", "--dataset", "digits", "--limit",
         "4", "--image-size", "32", "--batch-size", "4", "--cut", "pool1"]  # fmt: skip
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals, prctl")
N_IMAGES = 3 * 40  # train, val and test


def run(
    counts: Path, commands: list[dict[str, Any]], first: Callable[[], object] | None = None
) -> list[dict[str, Any]]:
    """Return what each command came to."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("small_shards.py"), counts],
        env={**os.environ, "PYTHONPATH": str(Path(featx.__file__).parent.parent),
             "OMP_NUM_THREADS": "1"},
        input="".join(json.dumps(command) + "\n" for command in commands),
        capture_output=True, text=True, check=False, timeout=600,
        preexec_fn=first,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("root cannot give up its permissions here")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Interrupt an extraction, and run the line that it prints."""
    folder = tmp_path_factory.mktemp("interrupted")
    cache, counts = folder / "a cache", folder / "counts"
    # Two shards are finished, and half of the next one is computed.
    stopped, again = run(
        counts, [{"words": [*WORDS, "--cache-dir", str(cache)], "before": 20}, {"words": []}]
    )
    assert stopped["code"] == 130, stopped["said"]
    assert 20 <= stopped["computed"] <= 24
    assert again["code"] == 0, again["said"]
    assert not list(cache.rglob("*.tmp"))
    return cache, counts, again["words"]


def test_an_interrupt_keeps_finished_shards_and_prints_the_line_that_resumes(
    resumed: tuple[Path, Path, list[str]],
) -> None:
    _, counts, words = resumed
    assert words[0] == "extract"
    assert 0 <= len(counts.read_bytes()) - N_IMAGES <= SHARD_ROWS


def obey_permissions() -> None:
    """Take from root what lets it write where nobody may: CAP_DAC_OVERRIDE, at the next exec."""
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(24, 1, 0, 0, 0):
        os._exit(77)


def test_a_cache_without_permission_to_write_serves_hits(
    resumed: tuple[Path, Path, list[str]],
) -> None:
    cache, counts, words = resumed
    computed = len(counts.read_bytes())
    folders = [cache, *(path for path in cache.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    # The time of last use would be written: it is older than an hour.
    for path in (cache / ".used").glob("*"):
        os.utime(path, (0, 0))
    names = sorted(cache.rglob("*"))
    try:
        found, other = run(
            counts, [{"words": words}, {"words": [*words, "--pool", "max"]}], obey_permissions
        )
        assert found["code"] == 0, found["said"]
        assert found["computed"] == computed
        # What is not there cannot be cached, and the message says where.
        assert other["code"] == 1
        assert "Permission denied" in other["said"]
        assert str(cache) in other["said"].replace("\n", "")
        assert sorted(cache.rglob("*")) == names
    finally:
        for folder in folders:
            folder.chmod(0o755)
