"""``results.csv``: one row per cut, head and split, with every digit."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featx.evaluate.records import RunRecord


def csv_text(record: RunRecord) -> str:
    """Return the results as CSV with a header, a row per cut, head and split."""
    rows = result_rows(record)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def result_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return one flat mapping per cut, head and split, in the order of the record."""
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
                    "n": metrics.n,
                    "accuracy": metrics.accuracy,
                    "accuracy_low": metrics.accuracy_low,
                    "accuracy_high": metrics.accuracy_high,
                    "macro_precision": metrics.macro_avg.precision,
                    "macro_recall": metrics.macro_avg.recall,
                    "macro_f1": metrics.macro_avg.f1,
                    "weighted_f1": metrics.weighted_avg.f1,
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
