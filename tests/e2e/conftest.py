"""The modules of benchmarks/ that run and publish the experiments."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    sys.path.insert(0, str(BENCHMARKS))
    names = [
        f"published.{name}"
        for name in ("experiments", "answers", "depth", "claims", "others", "networks", "short",
                     "commands", "figures", "trainings")
    ]  # fmt: skip
    short = {name.rpartition(".")[2]: importlib.import_module(name) for name in names}
    yield SimpleNamespace(
        **short,
        reproduce=importlib.import_module("reproduce"),
        results=importlib.import_module("results"),
    )
    sys.path.remove(str(BENCHMARKS))
    ours = ("published", "reproduce", "results", "tables")
    for name in [n for n in sys.modules if n.partition(".")[0] in ours]:
        del sys.modules[name]
