"""What holds for every tracker: kinds, outcomes, and that none costs anything unless asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tracking_cases import Listener

from featx.errors import UnknownName
from featx.tracking import make_tracker
from featx.tracking.base import Guard, finite, flattened


def test_without_tracking_nothing_is_kept_and_nothing_imported(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import featx.tracking
with featx.tracking.make_tracker("none") as tracker:
    with tracker.run("a", tags={"b": "c"}) as run, tracker.run("d", parent=run.id) as child:
        child.parameters({"lr": {"from": 0.1}})
        child.metrics({"val_top1": 0.5}, step=1)
        child.files(Path("."), [Path("not-there.txt")], under="x")
        assert run.id is None and child.id is None
tracking = {"mlflow", "tensorboard", "torch", "sqlalchemy", "google"}
print(sorted(tracking & set(sys.modules)), list(Path(".").iterdir()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[] []"


def test_an_unknown_kind_says_which_there_are() -> None:
    with pytest.raises(UnknownName, match=r"'mlfow' is not known\. Closest: 'mlflow'"):
        make_tracker("mlfow")  # type: ignore[arg-type]


def test_a_block_keeps_its_error() -> None:
    with pytest.raises(ZeroDivisionError), make_tracker("none").run("a"):
        _ = 1 / 0


def test_nested_settings_get_dotted_names() -> None:
    values = {"a": {"b": {"c": 1, "d": None}, "e": [0.1, 2]}, "f": {}, "g": True, "h": ""}
    assert flattened(values) == {
        "a.b.c": "1", "a.b.d": "None", "a.e": "[0.1, 2]", "f": "{}", "g": "True", "h": "",
    }  # fmt: skip


def test_numbers_that_are_not_finite_are_left_out() -> None:
    values = {"a": float("nan"), "b": float("inf"), "c": np.float32(0.5), "d": np.int64(3)}
    kept = finite(values)
    assert kept == {"c": 0.5, "d": 3.0}
    assert {type(value) for value in kept.values()} == {float}


def _refused() -> None:
    try:
        raise ConnectionRefusedError(111, "Connection refused")
    except OSError as error:
        raise RuntimeError("a long story\nin two lines") from error


def _unknown_scheme() -> None:
    try:
        _ = {}["sftp"]
    except KeyError as error:
        raise RuntimeError("No store for https://me:secret@host.\nSee the docs.") from error


def _hides_its_source() -> None:
    try:
        raise ValueError("inner")
    except ValueError:
        raise RuntimeError("outer") from None


def _says_nothing() -> None:
    raise TimeoutError


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (_refused, "[Errno 111] Connection refused"),
        (_unknown_scheme, "No store for https://host"),
        (_hides_its_source, "outer"),
        (_says_nothing, "TimeoutError"),
    ],
)
def test_a_failure_is_told_once_and_ends_the_attempts(
    listener: Listener, action: Callable[[], None], reason: str
) -> None:
    guard = Guard("MLflow", "https://me:pa@ss@host:5000/x", listener)
    assert guard.attempt(lambda: 1) == 1
    assert guard.attempt(action) is None
    assert guard.attempt(lambda: pytest.fail("attempted again")) is None
    assert listener.warnings == [
        f"Tracking with MLflow at https://host:5000/x does not work: {reason}. "
        "The local records are complete; the run goes on untracked."
    ]


def test_the_users_interrupt_passes_a_guard(listener: Listener) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    guard = Guard("MLflow", "here", listener)
    with pytest.raises(KeyboardInterrupt):
        guard.attempt(stop)
    assert guard.attempt(lambda: 1) == 1
    assert listener.warnings == []
