"""Numbers as people read them, and the table that ranks the cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.records import ResultRecord, RunRecord

HEAD_NAMES = {"svm": "linear SVM", "logistic": "logistic regression"}
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}

_STEPS = ("", "k", "M", "G", "T", "P")


def human_count(n: float) -> str:
    """Return a count with three digits and a power of 1000.

    Examples
    --------
    >>> human_count(999), human_count(4_089_284_608)
    ('999', '4.09 G')
    """
    value, step = _scaled(n)
    return f"{value} {step}".rstrip()


def human_bytes(n: float) -> str:
    """Return bytes with three digits and a power of 1000.

    Examples
    --------
    >>> human_bytes(82_000_000)
    '82 MB'
    """
    value, step = _scaled(n)
    return f"{value} {step}B"


def human_seconds(seconds: float) -> str:
    """Return a duration with the units that matter.

    Examples
    --------
    >>> human_seconds(0.1234), human_seconds(125), human_seconds(7260)
    ('0.12 s', '2 min 05 s', '2 h 01 min')
    """
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


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
        "features",
        "multiply-adds",
        "parameters",
        "C",
        "fit",
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


def _scaled(n: float) -> tuple[str, str]:
    """Return a number with three digits, and the letter of its power of 1000."""
    value, step = float(n), 0
    while abs(value) >= 999.5 and step < len(_STEPS) - 1:
        value /= 1000
        step += 1
    if step == 0 and value == int(value):
        return f"{int(value)}", ""
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text, _STEPS[step]
