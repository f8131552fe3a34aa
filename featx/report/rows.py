"""``results.csv`` of every kind of record, and ``history.csv`` of a training: every digit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import StudyRecord, TrainingRecord

if TYPE_CHECKING:
    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.reading import Record
    from featx.evaluate.training_records import ComparisonRecord

_METRICS = ("loss", "top1", "top5")


def csv_files(record: Record) -> dict[str, str]:
    """Return the tables of a record as CSV with a header, by file name."""
    if isinstance(record, TrainingRecord):
        files = {"results.csv": training_rows(record), "history.csv": epoch_rows(record)}
    elif isinstance(record, RunRecord):
        files = {"results.csv": result_rows(record)}
    elif isinstance(record, StudyRecord):
        files = {"results.csv": study_rows(record)}
    else:
        files = {"results.csv": approach_rows(record)}
    return {name: _csv(rows) for name, rows in files.items() if rows}


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _scores(metrics: SplitMetrics) -> dict[str, Any]:
    return {
        "n": metrics.n,
        "accuracy": metrics.accuracy,
        "accuracy_low": metrics.accuracy_low,
        "accuracy_high": metrics.accuracy_high,
        "macro_precision": metrics.macro_avg.precision,
        "macro_recall": metrics.macro_avg.recall,
        "macro_f1": metrics.macro_avg.f1,
        "weighted_f1": metrics.weighted_avg.f1,
    }


def result_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return one flat mapping per cut, head and split, in the order of the record."""
    every = [m for result in record.results for m in result.splits.values()]
    has_top5 = any(metrics.top5 is not None for metrics in every)
    rows = []
    for result in record.results:
        cut = record.cut_record(result.cut)
        for split, metrics in result.splits.items():
            rows.append(
                {
                    "run": record.name,
                    "backbone": record.backbone.name,
                    "cut": cut.cut,
                    "module": cut.module,
                    "pool": cut.pool,
                    "head": result.head,
                    "split": split,
                    **_scores(metrics),
                    **({"top5": metrics.top5} if has_top5 else {}),
                    "n_features": cut.n_features,
                    "multiply_adds": cut.multiply_adds,
                    "n_parameters": cut.n_parameters,
                    "feature_bytes": cut.feature_bytes,
                    "standardize": result.standardize,
                    "C": result.C,
                    "solver": result.solver,
                    "n_iter": result.n_iter,
                    "converged": result.converged,
                    "duality_gap": result.duality_gap,
                    "objective": result.objective,
                    "fit_s": result.fit_s,
                    "refit_on": result.refit_on,
                }
            )
    return rows


def training_rows(record: TrainingRecord) -> list[dict[str, Any]]:
    """Return one flat mapping per split; without any split one that says how it ended."""
    of_run = {
        "run": record.name,
        "network": record.network.name,
        "mode": record.mode,
        "frozen_up_to": record.network.frozen_up_to,
        "state": record.state,
        "best_epoch": record.best_epoch,
        "kept_by": record.kept_by,
        "epochs_run": len(record.history),
        "train_s": sum(epoch.seconds for epoch in record.history),
        "n_parameters": record.network.n_parameters,
        "n_trained": record.network.n_trained,
        "multiply_adds": record.network.multiply_adds,
        "model_bytes": record.model_bytes,
    }
    rows = [
        {**of_run, "split": split, **_scores(metrics), "top5": metrics.top5}
        for split, metrics in record.splits.items()
    ]
    return rows or [of_run]


def epoch_rows(record: TrainingRecord) -> list[dict[str, Any]]:
    """Return one flat mapping per epoch, with a column per metric and split."""
    rows = []
    for epoch in record.history:
        measured = {
            f"{metric}_{split}": value
            for metric in _METRICS
            for split, value in getattr(epoch, metric).items()
        }
        rest = epoch.model_dump(exclude={"epoch", "learning_rate", *_METRICS})
        rows.append(
            {
                "epoch": epoch.epoch,
                "kept": epoch.epoch == record.best_epoch,
                "learning_rate": epoch.learning_rate,
                **measured,
                **rest,
            }
        )
    return rows


def study_rows(record: StudyRecord) -> list[dict[str, Any]]:
    """Return one flat mapping per run, cut and split; a run without any split has one as well."""
    rows = []
    for row in record.rows:
        settings = {
            f"setting_{name}": json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in row.settings.items()
        }
        for split in row.top1 or [""]:
            rows.append(
                {
                    "study": record.name,
                    "run": row.run,
                    "group": row.group,
                    "label": row.label,
                    **settings,
                    "seed": row.seed,
                    "repeat": row.repeat,
                    "state": row.state,
                    "n_parameters": row.n_parameters,
                    "multiply_adds": row.multiply_adds,
                    "best_epoch": row.best_epoch,
                    "C_used": row.C,
                    "converged": row.converged,
                    "epochs_run": row.epochs_run,
                    "seconds": row.seconds,
                    "split": split,
                    "top1": row.top1.get(split),
                    "top5": row.top5.get(split),
                    "message": row.message,
                    "folder": row.folder,
                }
            )
    return rows


def approach_rows(record: ComparisonRecord) -> list[dict[str, Any]]:
    """Return one flat mapping per approach and split; the pair's values are of the test split."""
    rows = []
    for approach in record.approaches:
        for split, metrics in approach.splits.items():
            row = {
                "comparison": record.name,
                "approach": approach.name,
                "kind": approach.approach,
                "what": approach.what,
                "settings": approach.settings,
                "best": approach.name == record.best,
                "split": split,
                **_scores(metrics),
                "top5": metrics.top5,
                "train_s": approach.train_s,
                "extract_s": approach.extract_s,
                "n_trained": approach.n_trained,
                "multiply_adds": approach.multiply_adds,
                "stored_bytes": approach.stored_bytes,
                "folder": approach.folder,
            }
            if split == "test" and approach.against_best is not None:
                row |= {
                    f"pair_{name}": value
                    for name, value in approach.against_best.model_dump().items()
                }
            rows.append(row)
    return rows
