"""TensorBoard: what is tracked can be read back with TensorBoard's own reader."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tracking_cases import Listener

from featx.errors import UsageError
from featx.tracking import make_tracker


def read(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, str]]:
    """Return scalars as (step, value) and texts, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    texts = {
        tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"]
    }
    return scalars, texts


def test_runs_are_read_back(tmp_path: Path, listener: Listener) -> None:
    tracker = make_tracker("tensorboard", folder=tmp_path, progress=listener)
    folder = tmp_path / "tensorboard" / "grid" / "lr_0.1_a"
    with (
        tracker.run("grid", tags={"command": "run"}) as parent,
        tracker.run("lr=0.1/a", parent=parent.id) as child,
    ):
        child.parameters({"lr": 0.1, "schedule": {"kind": "cosine"}})
        for epoch in (1, 2):
            child.metrics({"val_top1": epoch / 4, "val_loss": float("nan")}, step=epoch)
        child.files(tmp_path, [Path("results.json")])
    table = "| name | value |\n|---|---|\n"
    assert read(folder) == (
        {"val_top1": [(1, 0.25), (2, 0.5)]},
        {"parameters/text_summary": f"{table}| lr | 0.1 |\n| schedule.kind | cosine |"},
    )
    assert parent.id == str(tmp_path / "tensorboard" / "grid")
    assert read(tmp_path / "tensorboard" / "grid")[1] == {
        "tags/text_summary": f"{table}| command | run |"
    }
    assert listener.warnings == []


def test_a_folder_that_cannot_be_made_costs_one_warning(tmp_path: Path, listener: Listener) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    tracker = make_tracker("tensorboard", folder=tmp_path, progress=listener)
    with tracker.run("a") as run:
        run.metrics({"x": 1.0}, step=1)
        with tracker.run("b", parent=run.id) as child:
            child.metrics({"x": 1.0}, step=1)
    assert (run.id, child.id) == (None, None)
    [warning] = listener.warnings
    assert warning.startswith(f"Tracking with TensorBoard at {tmp_path}/tensorboard does not work")


def test_it_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="need a folder"):
        make_tracker("tensorboard")


def test_without_tensorboard_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"Install it: pip install 'featx\[tensorboard\]'"):
        make_tracker("tensorboard", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
