"""Fixtures of every test: real data where it is at hand, nothing of the user's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# All but tests/gpu are about the processor's bits, and "auto" would take a GPU.
WITH_GPU = os.environ.get("FEATX_TEST_GPU") == "1"
collect_ignore = [] if WITH_GPU else ["gpu"]
if not WITH_GPU:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# A busy machine is no reason to fail: nothing here is a timing test.
settings.register_profile("featx", deadline=None)
settings.load_profile("featx")

REPO = Path(__file__).resolve().parent.parent


def find_shared() -> Path | None:
    """Return the folder with real data and weights, or None."""
    wanted = os.environ.get("FEATX_TEST_SHARED")
    folder = Path(wanted) if wanted else REPO.parent / "shared"
    return folder if (folder / "weights").is_dir() and (folder / "data").is_dir() else None


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    folder = find_shared()
    if folder is not None:
        return folder
    reason = "no real data: set FEATX_TEST_SHARED to a folder with data/ and weights/"
    if os.environ.get("FEATX_TEST_REAL") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cifar_dir(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `cifar-10-batches-py`, unpacked once; FEATX_TEST_CIFAR keeps it."""
    kept = os.environ.get("FEATX_TEST_CIFAR")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("cifar10")
    script = shared_dir / "data" / "unpack_cifar10.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return folder


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEATX_DATA_DIR", "FEATX_CACHE_DIR", "FEATX_DEBUG"):
        monkeypatch.delenv(name, raising=False)
