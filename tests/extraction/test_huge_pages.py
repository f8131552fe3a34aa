"""Memory in pages of 2 MiB: who asks for them, who gets them, and that no bit changes."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from featx.cli import main

NAME = "THP_MEM_ALLOC_ENABLE"
ROLLUP = Path("/proc/self/smaps_rollup")
MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

PASS = """
import hashlib
from pathlib import Path

import numpy as np

import featx

backbone = featx.load_backbone("resnet18", "none")
images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
cut = "conv2_block2_out"
features = featx.extract(backbone, [cut], images, image_size=64, pool="flatten", batch_size=8)[cut]
huge = Path("/proc/self/smaps_rollup").read_text().split("AnonHugePages:")[1].split()[0]
print(huge, hashlib.sha256(features.tobytes()).hexdigest())
"""


def _huge_pages_and_digest(allowed: str | None) -> tuple[int, str]:
    """Extract in a process of its own; return its kilobytes of huge pages and a hash."""
    env = {name: value for name, value in os.environ.items() if name != NAME}
    if allowed is not None:
        env[NAME] = allowed
    command = [sys.executable, "-c", PASS]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    kilobytes, digest = done.stdout.split()
    return int(kilobytes), digest


def _given_to_who_asks() -> bool:
    """Return whether the system gives huge pages, and only to who asks for them."""
    if not MODES.is_file() or "[madvise]" not in MODES.read_text():
        return False
    with mmap.mmap(-1, 16 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.madvise(mmap.MADV_HUGEPAGE)
        before = _huge_kilobytes()
        block.write(bytes(16 << 20))
        return _huge_kilobytes() > before


def _huge_kilobytes() -> int:
    return int(ROLLUP.read_text().split("AnonHugePages:")[1].split()[0])


@pytest.mark.skipif(not _given_to_who_asks(), reason="no huge pages for who asks for them")
def test_an_extraction_has_huge_pages_unless_the_environment_says_no() -> None:
    huge, digest = _huge_pages_and_digest(None)
    none, same = _huge_pages_and_digest("0")
    # ResNet-18's weights alone are 44 MB, most of them in tensors of 2 MiB and more.
    assert huge > none + 10_000
    assert digest == same


@pytest.mark.parametrize(("before", "then"), [(None, "1"), ("0", "0")])
def test_the_command_line_asks_before_it_does_anything(
    monkeypatch: pytest.MonkeyPatch, before: str | None, then: str
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr("featx.cli.app", lambda: asked.append(os.environ.get(NAME)))
    monkeypatch.setattr("sys.argv", ["featx"])
    # Set first, so that what `main` sets is taken back whatever it was.
    monkeypatch.setenv(NAME, before or "")
    if before is None:
        monkeypatch.delenv(NAME)
    main()
    assert asked == [then]
