"""The tables of runs beside each other: best results, result by result, classes, confusions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featx.report.differences import ABSENT, Compared, Difference, signed
from featx.report.outcomes import Outcome, outcomes
from featx.report.text import SPLIT_NAMES, accuracy_text, share_text, without_empty
from featx.text import human_count, human_seconds

if TYPE_CHECKING:
    from featx.evaluate.metrics import SplitMetrics

Rows = tuple[list[str], list[list[str]]]
MOST_CONFUSIONS = 30


def best_rows(compared: Compared) -> Rows:
    """Return the best result of each run, and how far it is from that of the first run."""
    split = SPLIT_NAMES[compared.split]
    header = ["run", "cut, network or approach", "head or kind", "val accuracy",
              "test accuracy (95 % interval)", f"{split} minus the first run's (95 % interval)",
              "multiply-adds", "time to fit or train"]  # fmt: skip
    rows = []
    for i, (name, best) in enumerate(zip(compared.names, compared.best, strict=True)):
        test = best.splits.get("test")
        rows.append(
            [
                name,
                best.what,
                best.how or ABSENT,
                share_text(best.accuracy.get("val")),
                accuracy_text(test) if test else share_text(best.accuracy.get("test")),
                _text(compared.difference(0, compared.best[0], i, best)) if i else ABSENT,
                ABSENT if best.multiply_adds is None else human_count(best.multiply_adds),
                human_seconds(best.seconds),
            ]
        )
    return header, rows


def matched(compared: Compared) -> list[tuple[str, str, list[Outcome | None]]]:
    """Return the results that at least two runs have under the same name, in order."""
    places: dict[tuple[str, str], list[Outcome | None]] = {}
    for i, record in enumerate(compared.records):
        for outcome in outcomes(record):
            place = places.setdefault((outcome.what, outcome.how), [None] * len(compared.records))
            place[i] = outcome
    return [
        (what, how, found)
        for (what, how), found in places.items()
        if sum(o is not None and compared.split in o.accuracy for o in found) > 1
    ]


def matched_rows(compared: Compared) -> Rows:
    """Return a row per result that several runs have: accuracies, then the differences."""
    split, others = SPLIT_NAMES[compared.split], compared.names[1:]
    header = ["cut, network or approach", "head or kind",
              *[f"{split} accuracy, {name}" for name in compared.names],
              *[f"{name} minus {compared.names[0]} (95 % interval)"
                for name in others]]  # fmt: skip
    rows = []
    for what, how, found in matched(compared):
        accuracies = [share_text(o.accuracy.get(compared.split) if o else None) for o in found]
        rows.append([what, how or ABSENT, *accuracies, *map(_text, differences(compared, found))])
    return without_empty(header, rows)


def differences(compared: Compared, found: Sequence[Outcome | None]) -> list[Difference | None]:
    """Return how far each further run's result is from the first run's."""
    first = found[0]
    return [
        compared.difference(0, first, i, other) if first and other else None
        for i, other in enumerate(found[1:], 1)
    ]


def cost_rows(compared: Compared) -> Rows:
    """Return multiply-adds and time of the results that several runs have."""
    header = ["cut, network or approach", "head or kind",
              *[f"multiply-adds, {name}" for name in compared.names],
              *[f"time, {name}" for name in compared.names]]  # fmt: skip
    rows = []
    for what, how, found in matched(compared):
        adds = [ABSENT if o is None or o.multiply_adds is None else human_count(o.multiply_adds)
                for o in found]  # fmt: skip
        times = [human_seconds(o.seconds) if o else ABSENT for o in found]
        rows.append([what, how or ABSENT, *adds, *times])
    return without_empty(header, rows)


def best_metrics(compared: Compared) -> list[SplitMetrics] | None:
    """Return the metrics of each run's best result, if all have the same classes; else None."""
    found = [best.splits.get(compared.split) for best in compared.best]
    metrics = [of for of in found if of is not None]
    names = [[scores.name for scores in of.per_class] for of in metrics]
    same = len(metrics) == len(found) and all(of == names[0] for of in names)
    # Classes of the same name could not be told apart.
    return metrics if same and len(set(names[0])) == len(names[0]) else None


def class_rows(compared: Compared, metrics: Sequence[SplitMetrics]) -> Rows:
    """Return the F1 of every class in each run's best result, and what changed."""
    header = ["class", *[f"F1, {name}" for name in compared.names],
              *[f"{name} minus {compared.names[0]}" for name in compared.names[1:]]]  # fmt: skip
    rows = []
    for scores in zip(*[of.per_class for of in metrics], strict=True):
        f1 = [of.f1 for of in scores]
        changes = [signed(value - f1[0]) for value in f1[1:]]
        rows.append([scores[0].name, *[share_text(value) for value in f1], *changes])
    return header, rows


def confusion_rows(compared: Compared, metrics: Sequence[SplitMetrics]) -> Rows:
    """Return the confusions that differ most, as shares of the true class' images.

    At most `MOST_CONFUSIONS` of them, the largest difference between any two runs first.
    """
    header = ["true class", "predicted as",
              *[f"share, {name}" for name in compared.names], "largest difference"]  # fmt: skip
    names = [scores.name for scores in metrics[0].per_class]
    found = []
    for i, true in enumerate(names):
        totals = [sum(of.confusion[i]) for of in metrics]
        if not all(totals):
            continue
        for j, predicted in enumerate(names):
            shares = [of.confusion[i][j] / n for of, n in zip(metrics, totals, strict=True)]
            change = max(shares) - min(shares)
            if i != j and change > 0:
                cells = [f"{share:.3f} ({of.confusion[i][j]:,} of {n:,})"
                         for share, of, n in zip(shares, metrics, totals, strict=True)]  # fmt: skip
                found.append((change, [true, predicted, *cells, f"{change:.3f}"]))
    found.sort(key=lambda pair: -pair[0])
    return header, [row for _, row in found[:MOST_CONFUSIONS]]


def _text(found: Difference | None) -> str:
    return ABSENT if found is None else str(found)
