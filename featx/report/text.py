"""Accuracies and fits in words, and the table that ranks the cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.text import human_count, human_seconds

if TYPE_CHECKING:
    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.records import ResultRecord, RunRecord

HEAD_NAMES = {"svm": "linear SVM", "logistic": "logistic regression"}
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


def accuracy_text(metrics: SplitMetrics) -> str:
    """Return an accuracy with its 95 % interval: ``0.908 (0.900 to 0.916)``."""
    return f"{metrics.accuracy:.3f} ({metrics.accuracy_low:.3f} to {metrics.accuracy_high:.3f})"


def convergence_text(result: ResultRecord) -> str:
    """Return the duality gap of a fit, and whether its solver did not converge."""
    gap = "" if result.duality_gap is None else f"gap {result.duality_gap:.0e}"
    if result.converged:
        return gap or "converged"
    return f"NOT converged{', ' + gap if gap else ''}"


def ranked_rows(record: RunRecord) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table that ranks the cuts, best first.

    Parameters
    ----------
    record : RunRecord
        What to rank: by validation accuracy, else by test accuracy (`ranking_split`).

    Returns
    -------
    header : list of str
    rows : list of list of str
        One row per cut and head. A split that a result does not have shows as a dash.
    """
    from featx.evaluate.reading import ranking

    header = [
        "cut",
        "head",
        "val accuracy",
        "test accuracy (95 % interval)",
        "test macro F1",
        "values per image",
        "multiply-adds",
        "parameters",
        "C",
        "fit time",
        "solver",
    ]
    rows = []
    for result in ranking(record):
        cut = record.cut_record(result.cut)
        val, test = result.splits.get("val"), result.splits.get("test")
        rows.append(
            [
                result.cut,
                result.head,
                f"{val.accuracy:.3f}" if val else "-",
                accuracy_text(test) if test else "-",
                f"{test.macro_avg.f1:.3f}" if test else "-",
                f"{cut.n_features:,}",
                human_count(cut.multiply_adds),
                human_count(cut.n_parameters),
                f"{result.C:g}",
                human_seconds(result.fit_s),
                convergence_text(result),
            ]
        )
    return header, rows
