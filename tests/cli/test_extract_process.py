"""``featx extract`` as a process of its own: Ctrl-C, and a cache that cannot be written to."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import featx

SHARD_ROWS = 8
WORDS = ["extract", "--backbone", "conv2", "--weights", "none", "--dataset", "digits", "--limit",
         "4", "--image-size", "32", "--batch-size", "4", "--cut", "pool1"]  # fmt: skip
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals, prctl")
N_IMAGES = 3 * 40  # train, val and test


def start(
    counts: Path,
    words: list[str],
    before: Callable[[], object] | None = None,
    interrupted_at: int = 10**6,
) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("small_shards.py")
    return subprocess.Popen(
        [sys.executable, program, counts, str(interrupted_at), *words],
        env={**os.environ, "PYTHONPATH": str(Path(featx.__file__).parent.parent),
             "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=before,  # noqa: PLW1509 (the parent has no threads here)
    )  # fmt: skip


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Interrupt an extraction, and run the line that it prints."""
    folder = tmp_path_factory.mktemp("interrupted")
    cache, counts = folder / "a cache", folder / "counts"
    # Two shards are finished, and half of the next one is computed.
    process = start(counts, [*WORDS, "--cache-dir", str(cache)], interrupted_at=20)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert 20 <= len(counts.read_bytes()) <= 24
    assert len(list(cache.glob("*/*/0*.h5"))) == 2
    assert not list(cache.rglob("*.tmp"))
    line = said.split("Continue with:\n")[1].splitlines()[0]
    words = shlex.split(line)
    assert words[:2] == ["featx", "extract"]
    again = start(counts, words[1:])
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    return cache, counts, words[1:]


def test_an_interrupt_keeps_finished_shards_and_prints_the_line_that_resumes(
    resumed: tuple[Path, Path, list[str]],
) -> None:
    _, counts, _ = resumed
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
        found = start(counts, words, obey_permissions)
        _, said = found.communicate(timeout=300)
        if found.returncode == 77:
            pytest.skip("root cannot give up its permissions here")
        assert found.returncode == 0, said
        assert len(counts.read_bytes()) == computed
        # What is not there cannot be cached, and the message says where.
        other = start(counts, [*words, "--pool", "max"], obey_permissions)
        _, said = other.communicate(timeout=300)
        assert other.returncode == 1
        assert "Permission denied" in said
        assert str(cache) in said.replace("\n", "")
        assert sorted(cache.rglob("*")) == names
    finally:
        for folder in folders:
            folder.chmod(0o755)
