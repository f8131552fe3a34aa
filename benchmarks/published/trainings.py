"""The networks that were trained, each beside its document's own figure."""

from __future__ import annotations

from pathlib import Path

from featx.errors import FeatxError
from featx.evaluate import StudyRecord, TrainingRecord
from featx.report.text import published_values
from published.experiments import EXPERIMENTS, record_of
from published.sources import published_by
from published.words import with_interval

# In the order in which they are shown.
TRAININGS = (
    "d2-custom-constant", "d2-custom-exponential", "d3-conv2", "d3-conv3", "d3-conv5",
    "d3-cerberus", "d4-cnn-a",
)  # fmt: skip
HEADER = [
    "network", "training images", "epochs", "published top-1", "top-1 (95 % interval)", "top-5",
    "parameters", "report",
]  # fmt: skip
RUNS = {run.report: run for experiment in EXPERIMENTS.values() for run in experiment.runs}


def training_rows(reports: Path, link: str) -> list[list[str]]:
    """Return a row per training that is there; `link` leads from the page to the reports."""
    rows = []
    for name in TRAININGS:
        record = record_of(reports / name)
        if not isinstance(record, TrainingRecord):
            continue
        run = RUNS[name]
        network = record.network.name.partition("/")[2]
        # A recipe of several trainings has a figure for each schedule.
        names = (str(run.settings.get("schedule")), network)
        (published,) = published_values({"published": published_by(run.recipe)}, names, "top1")
        test = record.splits.get("test")
        if test is None:
            raise FeatxError(f"{name} has no accuracy on test ({record.state}). Run it again.")
        rows.append([
            network,
            f"{record.dataset.splits['train'].n:,}",
            f"{record.best_epoch} of {len(record.history)}",
            f"{published:.3f}",
            f"{test.accuracy:.3f} ({test.accuracy_low:.3f} to {test.accuracy_high:.3f})",
            f"{test.top5:.3f}",
            f"{record.network.n_parameters:,}",
            f"[{name}]({link}/{name}/report.md)",
        ])  # fmt: skip
    return rows


def grid_rows(reports: Path) -> list[list[str]]:
    """Return a row per network of D3's grid: its best run on validation, and how all ended."""
    record = record_of(reports / "d3-grid")
    if not isinstance(record, StudyRecord):
        return []
    rows = []
    for network in record.axes["network"]:
        own = [row for row in record.rows if row.settings["network"] == network]
        learnt = [row for row in own if row.top1 and row.state != "did not learn"]
        cells = [network, str(len(own)), str(len(own) - len(learnt))]
        if not learnt:
            rows.append([*cells, "-", "-", "-"])
            continue
        best = max(learnt, key=lambda row: row.top1["val"])
        settings = {k: v for k, v in best.settings.items() if k != "network"}
        how = ", ".join(f"{k} {v}" for k, v in settings.items() if v is not None)
        scores = [
            with_interval(best.top1[split], record.dataset.splits[split].n)
            for split in ("val", "test")
        ]
        rows.append([*cells, how, *scores])
    return rows
