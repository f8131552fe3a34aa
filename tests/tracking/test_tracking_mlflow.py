"""MLflow: what is tracked can be read back from a real server, and its failures cost nothing."""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracking_cases import FailingServer, Listener, MlflowServer, free_port

from featx.errors import Interrupted, UsageError
from featx.tracking import Tracker, make_tracker
from featx.tracking.mlflow import tracking_uri, valid_name

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

pytestmark = [
    pytest.mark.slow,
    # MLflow's own, where a test reads back through it: SQLAlchemy 2.1 deprecates what it uses.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        server.wait_until_healthy()
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(running_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running_server.uri)
    return running_server


@pytest.fixture
def client(server: MlflowServer) -> MlflowClient:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=server.uri)


@pytest.fixture
def tracker(server: MlflowServer, listener: Listener) -> Iterator[Tracker]:
    yield make_tracker("mlflow", experiment="tests", progress=listener)
    assert listener.warnings == []


def read(client: MlflowClient, run_id: str | None) -> Run:
    assert run_id is not None
    return client.get_run(run_id)


def artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    found = set()
    for item in client.list_artifacts(run_id, folder):
        found |= artifacts(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def test_a_run_is_read_back(tracker: Tracker, client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "figures" / "loss.png").write_bytes(b"\x89PNG")
    with tracker.run("cnn-a", tags={"command": "train", "what's this": "x" * 9000}) as run:
        run.parameters({"network": "cnn-a", "schedule": {"from": 1e-3, "to": 8e-5}, "seed": 0})
        run.parameters({"augment": ["flip", "crop"], "mixup": None, "long": "y" * 9000, "no": ""})
        for epoch in (1, 2):
            run.metrics({"val_top1": np.float32(epoch / 4), "train_loss": 1 / epoch}, step=epoch)
        run.metrics({"val_top1": float("nan"), "train_loss": float("inf")}, step=3)
        run.metrics({"test_top1": 0.5, "worst class (cat)": 0.25})
        run.files(tmp_path, [Path("results.json"), Path("figures/loss.png")])
        run.files(tmp_path, [Path("figures/loss.png")], under="again/and")
    found = read(client, run.id)
    assert found.info.run_name == "cnn-a"
    assert found.info.status == "FINISHED"
    assert client.get_experiment(found.info.experiment_id).name == "tests"
    assert found.data.tags["command"] == "train"
    assert found.data.tags["what_s this"] == "x" * 7999 + "…"
    assert "mlflow.parentRunId" not in found.data.tags
    assert found.data.params == {
        "network": "cnn-a", "schedule.from": "0.001", "schedule.to": "8e-05", "seed": "0",
        "augment": "['flip', 'crop']", "mixup": "None", "long": "y" * 5999 + "…", "no": "",
    }  # fmt: skip
    assert run.id is not None
    history = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.id, name)]
        for name in found.data.metrics
    }
    assert history == {
        "val_top1": [(1, 0.25), (2, 0.5)], "train_loss": [(1, 1.0), (2, 0.5)],
        "test_top1": [(0, 0.5)], "worst class _cat_": [(0, 0.25)],
    }  # fmt: skip
    assert artifacts(client, run.id) == {
        "results.json", "figures/loss.png", "again/and/figures/loss.png",
    }  # fmt: skip
    copy = client.download_artifacts(run.id, "again/and/figures/loss.png", str(tmp_path))
    assert Path(copy).read_bytes() == b"\x89PNG"


def test_more_than_one_batch_is_sent(tracker: Tracker, client: MlflowClient) -> None:
    parameters = {f"p{i}": i for i in range(250)}
    metrics = {f"m{i}": float(i) for i in range(1001)}
    with tracker.run("large") as run:
        run.parameters(parameters)
        run.metrics(metrics, step=1)
    found = read(client, run.id)
    assert found.data.params == {name: str(value) for name, value in parameters.items()}
    assert found.data.metrics == metrics


def test_children_belong_to_a_parent_that_is_still_open(
    tracker: Tracker, client: MlflowClient, listener: Listener
) -> None:
    with tracker.run("grid") as parent, tracker.run("a", parent=parent.id) as first:
        # As a worker process does it: a tracker of its own, the parent's id as text.
        other = make_tracker("mlflow", experiment="tests", progress=listener)
        with other.run("b", parent=parent.id) as second:
            first.metrics({"x": 1.0})
            second.metrics({"x": 2.0})
        assert read(client, parent.id).info.status == "RUNNING"
        assert read(client, first.id).info.status == "RUNNING"
        assert read(client, second.id).info.status == "FINISHED"
    experiment = read(client, parent.id).info.experiment_id
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.id}'")
    assert {(run.info.run_name, run.data.metrics["x"]) for run in children} == {
        ("a", 1.0),
        ("b", 2.0),
    }
    assert read(client, parent.id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (Interrupted, "KILLED")],
)
def test_an_error_passes_and_marks_the_run(
    tracker: Tracker, client: MlflowClient, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), tracker.run("stopped") as run:
        raise error
    assert read(client, run.id).info.status == status


def test_the_users_experiment_goes_first(
    server: MlflowServer, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "the user's")
    with make_tracker("mlflow", experiment="tests").run("a") as run:
        pass
    experiment = client.get_experiment(read(client, run.id).info.experiment_id)
    assert experiment.name == "the user's"


def test_an_experiment_that_another_process_makes_meanwhile_is_used(
    tracker: Tracker, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    if client.get_experiment_by_name("tests") is None:
        client.create_experiment("tests")
    real, asked = MlflowClient.get_experiment_by_name, []

    def not_at_first(self: MlflowClient, name: str) -> object:
        asked.append(name)
        return real(self, name) if len(asked) > 1 else None

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "get_experiment_by_name", not_at_first)
        with tracker.run("late") as run:
            pass
    assert client.get_experiment(read(client, run.id).info.experiment_id).name == "tests"


def test_a_server_that_dies_costs_one_warning(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = MlflowServer(tmp_path)
    try:
        server.wait_until_healthy()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        with make_tracker("mlflow", progress=listener).run("a") as run:
            run.metrics({"x": 1.0}, step=1)
            assert run.id is not None
            assert listener.warnings == []
            server.kill()
            run.metrics({"x": 2.0}, step=2)
            run.parameters({"a": 1})
            run.files(tmp_path, [Path("not-there.txt")])
    finally:
        server.kill()
    [warning] = listener.warnings
    assert warning.startswith(f"Tracking with MLflow at {server.uri} does not work: ")
    assert warning.endswith("The local records are complete; the run goes on untracked.")


def track_something(listener: Listener, folder: Path) -> str:
    """Track two runs where that cannot work; return the one warning."""
    tracker = make_tracker("mlflow", progress=listener)
    (folder / "a.txt").write_text("a")
    with tracker.run("a") as run, tracker.run("b", parent=run.id) as child:
        for each in (run, child):
            each.parameters({"a": 1})
            each.metrics({"x": 1.0}, step=1)
            each.files(folder, [Path("a.txt")])
            assert each.id is None
    [warning] = listener.warnings
    return warning


def test_a_server_that_is_not_there(
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    filters = list(logging.getLogger("urllib3.connectionpool").filters)
    assert track_something(listener, tmp_path) == (
        f"Tracking with MLflow at http://127.0.0.1:{port} does not work: "
        f"[Errno {errno.ECONNREFUSED}] Connection refused. "
        "The local records are complete; the run goes on untracked."
    )
    assert caplog.records == []
    # MLflow itself adds one when it is imported for the first time.
    left = logging.getLogger("urllib3.connectionpool").filters
    assert [f for f in left if f not in filters and "mlflow" not in type(f).__module__] == []


@pytest.mark.parametrize(
    ("status", "requests", "reason"), [(503, 3, "503 error"), (403, 1, "error code 403")]
)
def test_a_server_that_refuses_is_left_alone(
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
    requests: int,
    reason: str,
) -> None:
    server = FailingServer(status)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    try:
        assert reason in track_something(listener, tmp_path)
    finally:
        server.stop()
    assert server.n_requests == requests


def test_a_server_that_says_nothing(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "does not work: timed out." in track_something(listener, tmp_path)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:///{folder}", "unable to open database file"),
        ("sqlite:///{folder}/file/mlflow.db", "File exists"),
        ("sqlite:///{folder}/file", "file is not a database"),
        ("nonsense://x", "unsupported URI 'nonsense://x'"),
    ],
)
def test_a_place_that_cannot_be_used(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, reason: str
) -> None:
    (tmp_path / "file").write_text("not a database " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=tmp_path))
    # MLflow tries a database ten times, and sleeps 100 s in between.
    sleeps: list[float] = []
    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", sleeps.append)
    assert reason in track_something(listener, tmp_path)
    assert sleeps == []


def test_without_a_server_runs_go_to_the_working_directory_in_silence(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    code = """
import os
from pathlib import Path
from featx.tracking import make_tracker
Path("a.txt").write_text("hello")
with make_tracker("mlflow").run("a") as run:
    run.parameters({"b": 1})
    run.metrics({"c": 2.0}, step=3)
    run.files(Path("."), [Path("a.txt")])
assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
os.write(1, run.id.encode())
"""
    # Warnings are errors: what is deprecated inside of MLflow costs nothing.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = read(client, done.stdout)
    assert (found.data.params, found.data.metrics) == ({"b": "1"}, {"c": 2.0})
    assert client.get_experiment(found.info.experiment_id).name == "featx"
    assert found.info.status == "FINISHED"
    [copy] = (tmp_path / "mlruns").rglob("a.txt")
    assert copy.read_text() == "hello"


def test_where_runs_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri() == "http://there:5000"


def test_the_users_settings_of_mlflow_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    make_tracker("mlflow")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"


def test_without_mlflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(UsageError, match=r"Install it: pip install 'featx\[mlflow\]'"):
        make_tracker("mlflow")


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("./ -_a")), max_size=300))
def test_mlflow_takes_every_name(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param

    assert _validate_param(valid_name(name), "").key == valid_name(name)
    _validate_metric_name(valid_name(name))


@pytest.mark.parametrize("name", ["val_top1", "layer3.5/top-1 a", "größe", "a/b"])
def test_a_name_that_mlflow_takes_stays(name: str) -> None:
    assert valid_name(name) == name
