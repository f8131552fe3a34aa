"""A study in words and tables: its groups, the best of them, what did not converge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx.report.text import SPLIT_NAMES, Style, published_values, share_text, without_empty
from featx.text import human_count, human_seconds

if TYPE_CHECKING:
    from featx.evaluate.training_records import SpreadRecord, StudyRecord, StudyRow

METRIC_NAMES = {"top1": "top-1", "top5": "top-5"}
CONVERGED = ("finished", "stopped early")
_MEANING = {
    "did not learn": "the validation accuracy stayed within chance of the largest class' share",
    "diverged": "the loss was no longer finite",
    "still improving": "the last epoch was the best one, so more epochs would probably help",
    "failed": "the run ended with an error and has no accuracy",
}


@dataclass(frozen=True)
class Group:
    """One combination of settings with all its repeats; `label` is the cut, for probes."""

    name: str
    label: str
    rows: list[StudyRow]

    def mean(self, metric: str, split: str) -> float | None:
        """Return the mean of a metric over the repeats that have it, None if none has."""
        values = self.values(metric, split)
        return math.fsum(values) / len(values) if values else None

    def values(self, metric: str, split: str) -> list[float]:
        """Return a metric of every repeat that has it."""
        found = (getattr(row, metric).get(split) for row in self.rows)
        return [value for value in found if value is not None]


def study_groups(record: StudyRecord) -> list[Group]:
    """Return the groups in the order of their first run."""
    groups: dict[tuple[str, str], Group] = {}
    for row in record.rows:
        place = (row.group, row.label)
        groups.setdefault(place, Group(*place, rows=[])).rows.append(row)
    return list(groups.values())


def group_titles(groups: Sequence[Group]) -> list[str]:
    """Return a short title per group: the values of its settings where they tell groups apart."""
    short = [", ".join(value_text(v) for v in g.rows[0].settings.values()) for g in groups]
    names = [text or g.name for text, g in zip(short, groups, strict=True)]
    titles = [_labelled(name, g.label) for name, g in zip(names, groups, strict=True)]
    if len(set(titles)) == len(titles):
        return titles
    return [_labelled(g.name, g.label) for g in groups]


def study_splits(record: StudyRecord) -> list[str]:
    """Return the splits that are shown: validation and test, or what there is instead."""
    found = dict.fromkeys(split for row in record.rows for split in row.top1)
    return [s for s in ("val", "test") if s in found] or list(found)


def deciding_split(record: StudyRecord) -> str | None:
    """Return the split that decides: validation where every measured run has it, else test."""
    measured = [row.top1 for row in record.rows if row.top1]
    for split in ("val", "test"):
        if measured and all(split in top1 for top1 in measured):
            return split
    return None


def best_group(record: StudyRecord) -> Group | None:
    """Return the group with the largest mean top-1 accuracy on the split that decides."""
    split = deciding_split(record)
    if split is None:
        return None
    scored = [(g, g.mean("top1", split)) for g in study_groups(record)]
    found = [(group, score) for group, score in scored if score is not None]
    return max(found, key=lambda pair: pair[1])[0]


def spread_of(record: StudyRecord, group: Group, metric: str, split: str) -> SpreadRecord | None:
    """Return the spread of a group's metric on a split."""
    wanted = (group.name, group.label, metric, split)
    return next(
        (s for s in record.spreads if (s.group, s.label, s.metric, s.split) == wanted), None
    )


def published_of(record: StudyRecord, group: Group, metric: str) -> list[float]:
    """Return the source document's figures of a group: min, mean and max, or one, or none.

    They are looked up in the recipe's ``published`` by the group's name, then by its network's.
    """
    network = group.rows[0].settings.get("network", record.recipe.get("network"))
    if isinstance(network, Mapping):
        network = network.get("name")
    return published_values(record.recipe, (group.name, str(network)), metric)


def study_rows(record: StudyRecord) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a study's table, in the recipe's order.

    Parameters
    ----------
    record : StudyRecord
        What to show.

    Returns
    -------
    header : list of str
    rows : list of list of str
        One row per run, or with repeats one per group: accuracies are then minimum, mean and
        maximum, and the interval is of the mean. Columns without any value are left out.
    """
    groups = study_groups(record)
    settings = list(dict.fromkeys([*record.axes, *(n for r in record.rows for n in r.settings)]))
    first = settings or ["group"]
    header = [*first, "cut", "parameters", *_columns(record), "state"]
    rows = []
    for group in groups:
        parts = [group] if record.repeats > 1 else [_only(group, row) for row in group.rows]
        for part in parts:
            row = part.rows[0]
            known = [value_text(row.settings[n]) if n in row.settings else "-" for n in settings]
            parameters = "-" if row.n_parameters is None else human_count(row.n_parameters)
            measured = _columns(record, part).values()
            rows.append(
                [*(known or [group.name]), group.label or "-", parameters, *measured, _states(part)]
            )
    return without_empty(header, rows)


def spread_rows(record: StudyRecord, split: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of all spreads on one split, a row per group."""
    header = ["group", "runs"]
    for metric in METRIC_NAMES.values():
        header += [f"{metric} {what}" for what in ("min", "mean", "max", "std", "95 % of the mean")]
    groups = study_groups(record)
    rows = []
    for group, title in zip(groups, group_titles(groups), strict=True):
        cells = [title, str(len(group.values("top1", split)))]
        for metric in METRIC_NAMES:
            s = spread_of(record, group, metric, split)
            values = (s.min, s.mean, s.max, s.std) if s else (None,) * 4
            cells += [*(share_text(value) for value in values), _interval(s)]
        rows.append(cells)
    return without_empty(header, rows)


def study_remarks(record: StudyRecord, style: Style) -> list[str]:
    """Return one remark per state that is no clean end: what it means, which runs, why."""
    remarks = []
    for state, meaning in _MEANING.items():
        runs = [row for row in record.rows if row.state == state]
        if not runs:
            continue
        names = dict.fromkeys(row.run for row in runs)
        count = f"{len(names)} run{'s' if len(names) > 1 else ''}"
        listed = ", ".join(style.said(name) for name in names)
        remarks.append(f"{state} ({count}; {meaning}): {listed}")
        messages = {row.run: row.message for row in runs if row.message}
        remarks += [f"{style.said(run)}: {style.said(text)}" for run, text in messages.items()]
    return remarks


def study_answer(record: StudyRecord, style: Style) -> str:
    """Return the answer: the best group, on what, what it cost, how many did not converge."""
    groups = study_groups(record)
    best, split = best_group(record), deciding_split(record)
    n_runs = len({row.run for row in record.rows})
    of = f"{n_runs} run{'s' if n_runs > 1 else ''}"
    if record.repeats > 1:
        of = f"{len(groups)} group{'s' if len(groups) > 1 else ''} of {record.repeats} repeats"
    if best is None or split is None:
        return f"None of {of} has an accuracy to be compared by."
    title = _spoken(best, group_titles(groups)[groups.index(best)])
    scores = ", ".join(
        f"{SPLIT_NAMES.get(s, s)} top-1 {_score(record, best, s)}" for s in study_splits(record)
    )
    seconds = human_seconds(_mean_seconds(best))
    # A probe's features are extracted once for all, or were there before.
    seconds += " of fitting" if record.task == "probe" else ""
    time = f"{seconds} a run" if record.repeats > 1 else seconds
    if len(groups) == 1:
        text = f"{style.name(title)} reaches {scores}, in {time}."
    else:
        text = (
            f"Of {of}, {style.name(title)} is best on the {SPLIT_NAMES[split]} split: {scores}, "
            f"in {time}."
        )
    if split != "val":
        text += " There is no validation split: the test split decides, so it flatters the best."
    ends = Counter({row.run: row.state for row in record.rows}.values())
    bad = [f"{n} {state}" for state, n in ends.items() if state not in CONVERGED]
    return f"{text} Not cleanly ended: {', '.join(bad)}." if bad else text


def value_text(value: Any) -> str:
    """Return the value of a setting in few characters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return " ".join(f"{name} {value_text(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return " ".join(value_text(inner) for inner in value)
    return "-" if value is None else str(value)


def _spoken(group: Group, title: str) -> str:
    """Return a title for a sentence: values that do not say what they are of have its name."""
    settings = group.rows[0].settings
    if not any(_is_bare(value) for value in settings.values()):
        return title
    parts = [
        f"{name.replace('_', ' ')} {value_text(value)}" if _is_bare(value) else value_text(value)
        for name, value in settings.items()
    ]
    return _labelled(", ".join(parts), group.label)


def _is_bare(value: Any) -> bool:
    return value is None or value == "auto" or isinstance(value, bool | int | float)


def _labelled(name: str, label: str) -> str:
    return f"{name} · {label}" if label else name


def _only(group: Group, row: StudyRow) -> Group:
    return Group(group.name, group.label, [row])


def _columns(record: StudyRecord, group: Group | None = None) -> dict[str, str]:
    """Return the measured columns of a row by their name; without a group the names alone."""
    group = group or study_groups(record)[0]
    repeated = record.repeats > 1
    of_three = " (min / mean / max)" if repeated else ""
    columns = {}
    if repeated:
        columns["runs"] = str(len(group.rows))
    what = "time of the fits" if record.task == "probe" else "time"
    columns[f"{what} a run" if repeated else what] = human_seconds(_mean_seconds(group))
    columns["epochs needed"] = _range([row.best_epoch for row in group.rows])
    columns["epochs run"] = _range([row.epochs_run for row in group.rows])
    used = dict.fromkeys(value_text(row.C) for row in group.rows)
    columns["C used"] = " / ".join(used)
    for metric, name in METRIC_NAMES.items():
        for split in study_splits(record):
            values = group.values(metric, split)
            s = spread_of(record, group, metric, split) if repeated else None
            columns[f"{split} {name}{of_three}"] = _triple(
                [s.min, s.mean, s.max] if s else values[:1]
            )
            if repeated and metric == "top1":
                columns[f"{split} {name} std"] = share_text(s.std if s else None)
                columns[f"{split} {name} 95 % of the mean"] = _interval(s)
        columns[f"published {name}"] = _triple(published_of(record, group, metric))
    return columns


def _triple(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values) or "-"


def _interval(s: SpreadRecord | None) -> str:
    return "-" if s is None or s.low is None or s.high is None else f"{s.low:.3f} to {s.high:.3f}"


def _range(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return str(min(known)) if min(known) == max(known) else f"{min(known)} to {max(known)}"


def _states(group: Group) -> str:
    counts = Counter(_state(row) for row in group.rows)
    if len(counts) == 1:
        return _state(group.rows[0])
    return ", ".join(f"{n} {state}" for state, n in counts.items())


def _state(row: StudyRow) -> str:
    return f"{row.state}, not converged" if row.converged is False else row.state


def _mean_seconds(group: Group) -> float:
    return math.fsum(row.seconds for row in group.rows) / len(group.rows)


def _score(record: StudyRecord, group: Group, split: str) -> str:
    """Return a top-1 accuracy, with repeats the mean with its interval."""
    s = spread_of(record, group, "top1", split) if record.repeats > 1 else None
    if s is None:
        return share_text(group.mean("top1", split))
    interval = "" if s.low is None else f" (95 % interval of the mean {_interval(s)}, {s.n} runs)"
    return f"{s.mean:.3f}{interval}"
