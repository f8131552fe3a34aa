"""Sides of a comparison, each in a process of its own that waits for "go"; rounds interleaved.

A process by itself keeps its libraries, memory and threads to itself; because each waits for the
others, all of them see the same machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Largest difference of two sides' fp32 features, relative to the largest value.
AGREEMENT = 1e-4


class SideFailed(Exception):
    """A side that could not be measured: says why."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes
    ----------
    call : str
        ``"lines.peers:thingsvision"``: a function that sets up and returns what one round calls.
    settings : dict
        Its keyword arguments; JSON.
    path : str
        A folder for PYTHONPATH in front of the environment's own packages.
    warm_up : bool
        Whether it runs once before it is measured.
    peer : bool
        Whether it is another tool: torch's memory is then as that tool's users have it, whatever
        featx does for its own.
    """

    call: str
    settings: Mapping[str, Any]
    path: str = ""
    warm_up: bool = True
    peer: bool = False


class Worker:
    """A side's process."""

    def __init__(self, name: str, side: Side, threads: int) -> None:
        self.name = name
        env = dict(os.environ)
        # Some systems pin OpenBLAS to an old processor.
        env.pop("OPENBLAS_CORETYPE", None)
        env["OMP_NUM_THREADS"] = str(threads)
        if side.peer:
            # Its weights come from featx, which would ask for huge pages.
            env["THP_MEM_ALLOC_ENABLE"] = "0"
        places = [side.path, str(ROOT), str(ROOT / "benchmarks")]
        env["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
        words = ["-m", "lines.side", side.call, json.dumps(side.settings), str(threads)]
        words += ["warm-up"] if side.warm_up else []
        self._process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=env,
        )  # fmt: skip

    def ready(self) -> None:
        """Wait until it is set up and warm."""
        self._answer()

    def round(self) -> dict[str, Any]:
        """Let it run once; return what it measured, at least ``{"s": seconds}``."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = [text for text in self._errors.read().splitlines() if text.strip()]
            raise SideFailed(f"{self.name}: {said[-1] if said else 'ended without a word'}")
        return dict(json.loads(line))


@contextlib.contextmanager
def started(sides: Mapping[str, Side], threads: int) -> Iterator[dict[str, Worker]]:
    """Start sides one after the other; end all of them afterwards."""
    workers: dict[str, Worker] = {}
    try:
        for name, side in sides.items():
            workers[name] = Worker(name, side, threads)
            workers[name].ready()
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def interleaved(
    sides: Mapping[str, Side], repeats: int, threads: int
) -> dict[str, list[dict[str, Any]]]:
    """Return what each side measured in each of `repeats` rounds, in which they take turns.

    Who begins moves on by one from round to round.
    """
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    with started(sides, threads) as workers:
        names = list(workers)
        for turn in range(repeats):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                rounds[name].append(workers[name].round())
    return rounds


def check_agreement(rounds: Mapping[str, list[dict[str, Any]]]) -> None:
    """Refuse sides whose features are not featx'."""
    wanted = rounds["featx"][0]["samples"]
    for name, each in rounds.items():
        for ours, theirs in zip(wanted, each[0]["samples"], strict=True):
            largest = max(map(abs, ours))
            apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
            if apart > AGREEMENT * largest:
                raise SideFailed(f"{name}: features differ from featx' by {apart:.2g}")


def seconds(rounds: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Return the seconds alone."""
    return {name: [found["s"] for found in each] for name, each in rounds.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and the extremes."""
    return {"value": statistics.median(values), "low": min(values), "high": max(values)}


def ratios(numerator: list[float], denominator: list[float]) -> dict[str, float]:
    """Return median and extremes of the ratios round by round."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])
