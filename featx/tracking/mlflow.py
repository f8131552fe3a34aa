"""Runs in MLflow: on a server, or in a local SQLite file that ``mlflow ui`` shows.

``MLFLOW_TRACKING_URI`` says where. Without it, the working directory's ``mlflow.db`` holds
parameters and metrics, and ``mlruns`` beside it (MLflow's own default) the files.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.progress import Progress
from featx.tracking.base import (
    Guard,
    Outcome,
    T,
    TrackedRun,
    Tracker,
    finite,
    flattened,
    missing_extra,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_FILE = "mlflow.db"
"""Where runs go without ``MLFLOW_TRACKING_URI``: an SQLite file of the working directory."""

# Limits of mlflow/utils/validation.py: what is longer is refused.
_LONGEST_KEY = 250
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 8000

# What the user has set goes before each of these. MLflow's own patience with a server (7 retries,
# 120 s each) would hold a run for minutes; this is 3 s for a refused connection, about 30 s for a
# server that accepts and says nothing. MLflow reads all of it from the environment alone.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def tracking_uri() -> str:
    """Return where runs go; costs no import of MLflow."""
    # Absolute, because MLflow keeps a store per URI, wherever the process goes meanwhile.
    default = f"sqlite:///{Path(DEFAULT_FILE).absolute().as_posix()}"
    return os.environ.get("MLFLOW_TRACKING_URI") or default


class MlflowTracker(Tracker):
    """Tracks runs in one experiment of MLflow.

    Works through a client of its own: MLflow's global active run is left alone, and several runs
    may be open at once.

    Parameters
    ----------
    experiment : str
        Made if it is not there. ``MLFLOW_EXPERIMENT_NAME`` goes before it.
    progress : Progress
        Hears the warning if the place cannot be used.

    Raises
    ------
    UsageError
        If MLflow is not installed.
    """

    def __init__(self, experiment: str, progress: Progress) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow.tracking  # noqa: F401
        except ImportError as error:
            raise missing_extra("MLflow", "mlflow", error) from error
        self._uri = tracking_uri()
        self._experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
        self._guard = _QuietGuard("MLflow", self._uri.partition("?")[0], progress)
        self._opened: tuple[MlflowClient, str] | None = None

    def _begin(self, name: str, parent: str | None, tags: Mapping[str, str]) -> TrackedRun:
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        def create() -> MlflowRun:
            client, experiment_id = self._open()
            sent = {valid_name(tag): _cut(text, _LONGEST_TAG) for tag, text in tags.items()}
            if parent is not None:
                sent[MLFLOW_PARENT_RUN_ID] = parent
            run = client.create_run(experiment_id, tags=sent, run_name=name)
            return MlflowRun(client, run.info.run_id, self._guard)

        return self._guard.attempt(create) or TrackedRun()

    def _open(self) -> tuple[MlflowClient, str]:
        """Return the client and the experiment's id, connecting the first time."""
        if self._opened is None:
            from mlflow.tracking import MlflowClient

            _try_database(self._uri)
            client = MlflowClient(tracking_uri=self._uri)
            self._opened = client, _experiment_id(client, self._experiment)
        return self._opened


class MlflowRun(TrackedRun):
    """One run in MLflow."""

    def __init__(self, client: MlflowClient, run_id: str, guard: Guard) -> None:
        self.id: str = run_id
        self._client = client
        self._guard = guard

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Track settings, cut to what MLflow takes; one that was tracked before cannot change."""
        from mlflow.entities import Param

        def send() -> None:
            texts = {valid_name(name): text for name, text in flattened(values).items()}
            sent = [Param(name, _cut(text, _LONGEST_PARAMETER)) for name, text in texts.items()]
            self._client.log_batch(self.id, params=sent, synchronous=True)

        self._guard.attempt(send)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Track numbers at a step; 0 without one."""
        from mlflow.entities import Metric

        def send() -> None:
            now_ms = int(time.time() * 1000)
            numbers = {valid_name(name): value for name, value in finite(values).items()}
            sent = [Metric(name, value, now_ms, step or 0) for name, value in numbers.items()]
            self._client.log_batch(self.id, metrics=sent, synchronous=True)

        self._guard.attempt(send)

    def files(self, folder: Path, names: Iterable[Path], under: str = "") -> None:
        """Store files as artifacts of the run."""

        def send() -> None:
            for name in names:
                place = posixpath.join(under, name.parent.as_posix())
                target = posixpath.normpath(place).removeprefix(".")
                self._client.log_artifact(self.id, str(folder / name), target or None)

        self._guard.attempt(send)

    def _end(self, outcome: Outcome) -> None:
        self._guard.attempt(lambda: self._client.set_terminated(self.id, outcome))


def _try_database(uri: str) -> None:
    """Connect once to a database, which raises at once what MLflow would retry for minutes."""
    from mlflow.store.db.db_types import DATABASE_ENGINES

    if uri.partition(":")[0].partition("+")[0] not in DATABASE_ENGINES:
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    try:
        with engine.connect():
            pass
    finally:
        engine.dispose()


def _experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment, made if it is not there."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name)
        except MlflowException:
            # Another process may have made it in between.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def valid_name(name: str) -> str:
    """Return a name as MLflow takes it: letters, digits, ``_ - .`` and spaces, ``/`` between."""
    kept = re.sub(r"[^/\w.\- ]", "_", name)[:_LONGEST_KEY]
    return "/".join(part for part in kept.split("/") if part.strip(".")) or "_"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


class _QuietGuard(Guard):
    """A guard that keeps what is MLflow's own business from the user.

    That is urllib3's line about every retry, and deprecations inside of MLflow, which must not
    cost the tracking where warnings are errors.
    """

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Return what `action` returns; None where it failed, now or earlier."""
        thread = threading.get_ident()
        logger = logging.getLogger("urllib3.connectionpool")

        def of_others(record: logging.LogRecord) -> bool:
            return record.thread != thread

        logger.addFilter(of_others)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return super().attempt(action)
        finally:
            logger.removeFilter(of_others)
