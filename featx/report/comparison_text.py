"""A comparison in words and tables: approaches ranked, each paired with the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.report.text import (
    SPLIT_NAMES,
    Style,
    accuracy_text,
    evaluated_splits,
    measured_text,
    share_text,
    without_empty,
)
from featx.text import human_bytes, human_count, human_seconds

if TYPE_CHECKING:
    from featx.evaluate.training_records import ApproachRecord, ComparisonRecord

APPROACH_NAMES = {
    "probe": "probe",
    "frozen": "frozen head",
    "lp-ft": "LP-FT",
    "finetune": "fine-tuned",
    "scratch": "from scratch",
}
_ALPHA = 0.05


def ranked_approaches(record: ComparisonRecord) -> list[ApproachRecord]:
    """Return the approaches, the best first, by accuracy on the split that chose it."""
    split = record.chosen_on

    def place(approach: ApproachRecord) -> tuple[bool, float]:
        measured = approach.splits.get(split)
        return approach.name != record.best, -measured.accuracy if measured else 1.0

    return sorted(record.approaches, key=place)


def comparison_rows(record: ComparisonRecord) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table of approaches, the best first.

    Differences and p values are of the test split: the best's accuracy minus the row's with its
    95 % bootstrap interval, and McNemar's exact p after Holm's correction.
    """
    header = [
        "approach",
        "kind",
        "of",
        "settings",
        "val top-1",
        "test top-1 (95 % interval)",
        "test top-5",
        "test macro F1",
        "training time",
        "extraction time",
        "parameters trained",
        "multiply-adds",
        "bytes to keep",
        "best minus this (95 % interval)",
        "p (Holm)",
    ]
    rows = []
    for approach in ranked_approaches(record):
        val, test = approach.splits.get("val"), approach.splits.get("test")
        paired = approach.against_best
        rows.append(
            [
                approach.name,
                APPROACH_NAMES[approach.approach],
                approach.what,
                approach.settings or "-",
                share_text(val.accuracy if val else None),
                accuracy_text(test) if test else "-",
                share_text(test.top5 if test else None),
                share_text(test.macro_avg.f1 if test else None),
                human_seconds(approach.train_s),
                human_seconds(approach.extract_s) if approach.extract_s else "-",
                human_count(approach.n_trained),
                human_count(approach.multiply_adds),
                human_bytes(approach.stored_bytes),
                f"{paired.difference:+.3f} ({paired.low:+.3f} to {paired.high:+.3f})"
                if paired
                else "-",
                p_text(paired.p_adjusted) if paired else "-",
            ]
        )
    return without_empty(header, rows)


def p_text(p: float) -> str:
    """Return a p value with three decimals; a smaller one says only that it is."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def comparison_answer(record: ComparisonRecord, style: Style) -> str:
    """Return the answer: the best approach, what it surely beats, what is cheaper and as good."""
    ranked = ranked_approaches(record)
    best, others = ranked[0], ranked[1:]
    measured = ", ".join(measured_text(s, best.splits[s]) for s in evaluated_splits(best.splits))
    cost = f"{human_seconds(_seconds(best))} to train"
    if not others:
        return f"{style.name(best.name)} reaches {measured}, with {cost}."
    text = (
        f"Of {len(ranked)} approaches, {style.name(best.name)} is best on the "
        f"{SPLIT_NAMES[record.chosen_on]} split: {measured}, with {cost}."
    )
    if record.chosen_on == "test":
        text += " There is no validation split: the test split decides, so it flatters the best."
    return f"{text} {_pairs(best, others, style)}".rstrip()


def _pairs(best: ApproachRecord, others: list[ApproachRecord], style: Style) -> str:
    """Say which of the others differ on the test split, and which of the rest costs least."""
    tested = [(a, a.against_best) for a in others if a.against_best is not None]
    alike = [a for a, paired in tested if paired.p_adjusted > _ALPHA]
    above = [a for a, p in tested if p.p_adjusted <= _ALPHA and p.difference < 0]
    if not tested:
        return ""
    parts = []
    if not alike and not above:
        each = "all others" if len(tested) > 1 else "the other"
        parts.append(
            f"On the test split it is better than {each} (p at most {_ALPHA:g} after Holm)."
        )
    if above:
        parts.append(f"On the test split {_names(above, style)} did better all the same.")
    if alike:
        parts.append(
            f"The test split does not tell it from {_names(alike, style)} "
            f"(p above {_ALPHA:g} after Holm)."
        )
        cheapest = min(alike, key=_seconds)
        if _seconds(cheapest) < _seconds(best):
            parts.append(
                f"Of these {style.name(cheapest.name)} takes the least time, "
                f"{human_seconds(_seconds(cheapest))}."
                if len(alike) > 1
                else f"That takes {human_seconds(_seconds(cheapest))}."
            )
    return " ".join(parts)


def _names(approaches: list[ApproachRecord], style: Style) -> str:
    names = [style.name(a.name) for a in approaches]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _seconds(approach: ApproachRecord) -> float:
    """Return all that has to be waited for: extraction and training."""
    return approach.extract_s + approach.train_s
