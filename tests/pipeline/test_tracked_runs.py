"""What MLflow hears of every command's runs, and that a run outlives its tracking."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import FEW, training

import featx
from featx.evaluate import read_record
from featx.pipeline import (
    prepare_training,
    run_rate_range,
    run_study,
    run_tracked_training,
    tracked_run,
)
from featx.progress import Progress
from featx.recipes import make_recipe, make_study

pytestmark = pytest.mark.slow


class Ears(Progress):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client of the store that featx writes to: SQLite in the working folder."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return lambda: MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def runs_of(client) -> dict:
    found = client()
    experiment = found.get_experiment_by_name("featx")
    return {run.info.run_name: run for run in found.search_runs([experiment.experiment_id])}


def files_of(client, run_id: str, path: str = "") -> set[str]:
    names = set()
    for item in client().list_artifacts(run_id, path):
        names |= files_of(client, run_id, item.path) if item.is_dir else {item.path}
    return names


@pytest.mark.figures
@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*", "ignore::ResourceWarning")
def test_a_study_is_a_parent_with_a_child_per_run(tmp_path: Path, client) -> None:
    study = make_study(
        {
            "task": "train", "network": "conv2", "dataset": "digits", "image_size": 16,
            "limit": FEW, "epochs": 2, "lr": [0.003, 0.001], "out": str(tmp_path / "reports"),
            "name": "grid", "jobs": 1, "track": "mlflow",
        }
    )  # fmt: skip
    record, report = run_study(study)
    runs = runs_of(client)
    assert set(runs) == {"grid", "lr0.003", "lr0.001"}
    parent = runs["grid"].info.run_id
    for row in record.rows:
        child = runs[row.run]
        assert child.data.tags["mlflow.parentRunId"] == parent
        assert child.info.status == "FINISHED"
        assert child.data.params["lr"] == str(row.settings["lr"])
        assert child.data.params["network"] == "conv2"
        assert child.data.metrics["final_test_top1"] == pytest.approx(row.top1["test"])
        history = client().get_metric_history(child.info.run_id, "val_loss")
        own = read_record(report.parent / row.folder)
        assert [(m.step, m.value) for m in history] == [
            (e.epoch, pytest.approx(e.loss["val"])) for e in own.history
        ]
        names = files_of(client, child.info.run_id)
        assert {"results.json", "report.md", "model.safetensors"} <= names
        assert any(name.startswith("figures/") for name in names)
    assert {"results.json", "report.md"} <= files_of(client, parent)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*", "ignore::ResourceWarning")
def test_a_probe_is_tracked_per_cut_and_a_divergence_is_told(tmp_path: Path, client) -> None:
    recipe = make_recipe(
        {
            "backbone": "resnet18", "weights": "none", "preprocess": "torch", "cuts": ["layer1"],
            "image_size": 32, "dataset": "digits", "limit": {"train": 4, "val": 2, "test": 2},
            "C": 0.01, "name": "probe", "track": "mlflow", "out": str(tmp_path / "reports"),
            "cache_dir": str(tmp_path / "cache"), "jobs": 1, "exhibits": False,
        }
    )  # fmt: skip
    record = featx.run(recipe)
    with pytest.raises(featx.FeatxError):
        featx.run(training(tmp_path, optimizer="sgd", lr=1e30, track="mlflow", name="bad"))
    with (
        pytest.raises(KeyboardInterrupt),
        tracked_run(training(tmp_path, track="mlflow", name="stopped")),
    ):
        raise KeyboardInterrupt
    runs = runs_of(client)
    assert runs["probe"].data.metrics["layer1/test_top1"] == pytest.approx(
        record.results[0].accuracy["test"]
    )
    assert "heads/layer1.safetensors" in files_of(client, runs["probe"].info.run_id)
    assert runs["bad"].data.params["state"] == "diverged"
    assert runs["stopped"].info.status == "KILLED"


def test_a_server_that_is_away_costs_one_warning(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ears = Ears()
    study = make_study(
        {
            "task": "train", "network": "conv2", "dataset": "digits", "image_size": 16,
            "limit": FEW, "epochs": 1, "lr": [0.003, 0.001], "out": str(tmp_path / "reports"),
            "name": "grid", "jobs": 1, "track": "mlflow",
        }
    )  # fmt: skip
    record, report = run_study(study, progress=ears)
    assert len(ears.warned) == 1
    assert "http://127.0.0.1:9" in ears.warned[0]
    assert "local records are complete" in ears.warned[0]
    assert len(record.rows) == 2
    assert read_record(report.parent) == record


def test_tensorboard_hears_every_epoch(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = training(tmp_path, epochs=3, track="tensorboard")
    record, _ = run_tracked_training(prepare_training(recipe))
    files = list((recipe.report_path / "tensorboard").rglob("events*"))
    assert files
    events = EventAccumulator(str(files[0].parent))
    events.Reload()
    assert [e.step for e in events.Scalars("val_loss")] == [1, 2, 3]
    assert [e.value for e in events.Scalars("val_loss")] == pytest.approx(
        [r.loss["val"] for r in record.history]
    )


def test_tensorboard_hears_of_a_range_test_as_a_run_of_its_own(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = training(tmp_path, track="tensorboard")
    found, _ = run_rate_range(prepare_training(recipe))
    (file,) = (recipe.report_path / "tensorboard" / "run-lr-range").rglob("events*")
    events = EventAccumulator(str(file.parent))
    events.Reload()
    heard = [(e.step, e.value) for e in events.Scalars("smoothed_loss")]
    assert len(heard) > 10
    assert heard == [(step, pytest.approx(found.losses[step])) for step, _ in heard]
    for event in events.Scalars("rate"):
        assert event.value == pytest.approx(found.rates[event.step])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*", "ignore::ResourceWarning")
def test_mlflow_keeps_the_curve_and_the_plot_of_a_range_test(tmp_path: Path, client) -> None:
    found, _ = run_rate_range(prepare_training(training(tmp_path, track="mlflow")))
    (run,) = runs_of(client).values()
    assert run.info.run_name == "run-lr-range"
    assert run.data.metrics["suggested_rate"] == pytest.approx(found.suggestion)
    history = client().get_metric_history(run.info.run_id, "smoothed_loss")
    assert 10 < len(history) <= 100
    assert files_of(client, run.info.run_id) == {"lr-range.png", "lr-range.json"}


def test_nothing_of_a_tracker_is_imported_without_tracking(tmp_path: Path) -> None:
    code = (
        "import sys; from training_runs import training; from pathlib import Path;"
        "from featx.pipeline import run_training; run_training(training(Path(sys.argv[1])));"
        "print(sorted({'mlflow', 'tensorboard'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**__import__("os").environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
