"""What reports and the command line say alike: accuracies in words, and a probe's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx.report.labels import plain
from featx.text import human_count, human_seconds

if TYPE_CHECKING:
    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.records import ResultRecord, RunRecord

HEAD_NAMES = {"svm": "linear SVM", "logistic": "logistic regression"}
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
LONGEST_TEXT = 2000


@dataclass(frozen=True)
class Style:
    """How a sentence shows what is not its own: `name` of a thing, `said` by someone else."""

    name: Callable[[str], str]
    said: Callable[[str], str]


TERMINAL = Style(
    name=lambda text: plain(text, LONGEST_TEXT), said=lambda text: plain(text, LONGEST_TEXT)
)


def accuracy_text(metrics: SplitMetrics) -> str:
    """Return an accuracy with its 95 % interval: ``0.908 (0.900 to 0.916)``."""
    return f"{metrics.accuracy:.3f} ({metrics.accuracy_low:.3f} to {metrics.accuracy_high:.3f})"


def share_text(value: float | None) -> str:
    """Return a share with three decimals, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def measured_text(split: str, metrics: SplitMetrics) -> str:
    """Return what was measured on a split: accuracy, its interval, images, top-5 accuracy."""
    top5 = "" if metrics.top5 is None else f", top-5 {metrics.top5:.3f}"
    return (
        f"{SPLIT_NAMES.get(split, split)} accuracy {metrics.accuracy:.3f} (95 % interval "
        f"{metrics.accuracy_low:.3f} to {metrics.accuracy_high:.3f}, {metrics.n:,} images){top5}"
    )


def rate_label(name: str) -> str:
    """Return what a rate of a record's timing is called.

    Examples
    --------
    >>> rate_label("images_per_s"), rate_label("extract_images_per_s")
    ('images per second', 'images extracted per second')
    """
    what = name.removesuffix("_per_s")
    done = what.removeprefix("extract_")
    return f"{done} per second" if done == what else f"{done} extracted per second"


def evaluated_splits(splits: Mapping[str, SplitMetrics]) -> list[str]:
    """Return the splits that an answer states: test, validation, or what there is instead."""
    return [split for split in ("test", "val") if split in splits] or list(splits)


def without_empty(
    header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Return a table without the columns, after the first, in which every row has a dash."""
    kept = [i for i in range(len(header)) if i == 0 or any(row[i] != "-" for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def published_values(recipe: Mapping[str, Any], names: Sequence[str], metric: str) -> list[float]:
    """Return a source's figures in a record's recipe: min, mean and max, or one, or none.

    Parameters
    ----------
    recipe : mapping
        Its ``published`` holds figures by name: ``{"cnn-a": {"top1": 0.721}}``. What is above 1 is
        a percentage.
    names : sequence of str
        Under which they are looked up; the first one that is there counts.
    metric : {"top1", "top5", "val", "test"}
        Of a network; of a cut its accuracy on that split.
    """
    published = recipe.get("published")
    if not isinstance(published, Mapping):
        return []
    figures = next((published[name] for name in names if published.get(name)), None)
    value = figures.get(metric) if isinstance(figures, Mapping) else None
    values = value if isinstance(value, list) else [value]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return [v / 100 if v > 1 else float(v) for v in numbers]


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
        One row per cut and head. A split that a result does not have shows as a dash; a top-5
        accuracy that no result has is left out.
    """
    from featx.evaluate.reading import ranking

    published = [_published_of(record, result) for result in ranking(record)]
    has_top5 = any("test" in r.splits and r.splits["test"].top5 is not None for r in record.results)
    header = [
        "cut",
        "head",
        "val accuracy",
        "test accuracy (95 % interval)",
        *(["published"] if any(published) else []),
        *(["test top-5"] if has_top5 else []),
        "test macro F1",
        "values per image",
        "multiply-adds",
        "parameters",
        "C",
        "fit time",
        "solver",
    ]
    rows = []
    for result, of_source in zip(ranking(record), published, strict=True):
        cut = record.cut_record(result.cut)
        val, test = result.splits.get("val"), result.splits.get("test")
        rows.append(
            [
                result.cut,
                result.head,
                f"{val.accuracy:.3f}" if val else "-",
                accuracy_text(test) if test else "-",
                *([of_source or "-"] if any(published) else []),
                *([share_text(test.top5 if test else None)] if has_top5 else []),
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


def _published_of(record: RunRecord, result: ResultRecord) -> str:
    """Return a source's accuracy of a cut and its split: ``{CUT: {val: 0.84}}`` in the recipe."""
    found = {
        split: published_values(record.recipe, (result.cut,), split) for split in ("val", "test")
    }
    return ", ".join(
        f"{share_text(values[0])} ({split})" for split, values in found.items() if values
    )


def probe_answer(record: RunRecord, style: Style) -> str:
    """Return the answer in a sentence or two: the best cut, how sure that is, what it costs."""
    from featx.evaluate.reading import ranking, ranking_split

    split = ranking_split(record)
    ranked = ranking(record)
    best = ranked[0]
    cut = record.cut_record(best.cut)
    several_heads = len({result.head for result in ranked}) > 1
    n_cuts = len({result.cut for result in ranked})
    heads = " and 2 heads" if several_heads else ""
    of = f"Of {n_cuts} cut{'s' if n_cuts > 1 else ''}{heads}, " if len(ranked) > 1 else ""
    most = f" best on the {SPLIT_NAMES[split]} split" if of else ""
    measured = ", ".join(measured_text(name, m) for name, m in best.splits.items())
    text = (
        f"{of}{style.name(best.cut)} with a {HEAD_NAMES[best.head]} separates these "
        f"{len(record.dataset.classes)} classes{most}: {measured}. It takes "
        f"{cut.n_features:,} values and {human_count(cut.multiply_adds)} multiply-adds an image."
    )
    if split != "val" and len(ranked) > 1:
        text += (
            " There is no validation split: the test split ranks the cuts, so it flatters the best."
        )
    if len(ranked) > 1:
        text += " " + _runner_up(best, ranked[1], split, several_heads, style)
    return text


def _runner_up(
    best: ResultRecord, second: ResultRecord, split: str, several_heads: bool, style: Style
) -> str:
    """Say whether the intervals of the best two overlap; a paired test would be sharper."""
    a, b = best.splits[split], second.splits[split]
    head = f" with a {HEAD_NAMES[second.head]}" if several_heads else ""
    apart = a.accuracy_low > b.accuracy_high
    relation = "do not overlap" if apart else "overlap: the order of the two is not certain"
    return (
        f"Next is {style.name(second.cut)}{head}, {SPLIT_NAMES[split]} accuracy "
        f"{accuracy_text(b)}; the intervals {relation}."
    )
