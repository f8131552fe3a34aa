"""Memory in pages of 2 MiB: who asks for them, who gets them, and that no bit changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featx.cli import main

NAME = "THP_MEM_ALLOC_ENABLE"
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


@pytest.mark.skipif(
    not MODES.is_file() or "[madvise]" not in MODES.read_text(),
    reason="only where the system gives huge pages to who asks for them",
)
def test_an_extraction_has_huge_pages_unless_the_environment_says_no() -> None:
    huge, digest = _huge_pages_and_digest(None)
    none, same = _huge_pages_and_digest("0")
    # ResNet-18's weights alone are 44 MB, most of them in tensors of 2 MiB and more.
    assert huge > 10_000
    assert none == 0
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
