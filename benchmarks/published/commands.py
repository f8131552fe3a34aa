"""The commands that make published records, and the machines that made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from featx.evaluate import Record, StudyRecord
from featx.recipes import PLACES, load_study
from published.experiments import EXPERIMENTS, Run, axes_of, hardware_of
from published.words import listed


def made_by(experiments: str | Sequence[str], records: Sequence[Record]) -> str:
    """Return the commands that make these records: the experiments', their own if they differ."""
    commands, others = [], []
    for experiment in [experiments] if isinstance(experiments, str) else experiments:
        runs = {run.report: run for run in EXPERIMENTS[experiment].runs}
        of_it = [record for record in records if record.name in runs]
        other = [record for record in of_it if _differs(record, runs[record.name])]
        commands += _reproducing(experiment, runs, [r for r in of_it if r not in other])
        others += [record.command for record in other]
    told = ", ".join(f"`{text}`" for text in [*commands, *others])
    return f"Made by {told} on {measured_on(records)}."


def _reproducing(
    experiment: str, runs: Mapping[str, Run], records: Sequence[Record]
) -> Iterator[str]:
    """Yield the calls of `make reproduce` that make records of an experiment."""
    names: dict[str, list[str]] = {}
    for record in records:
        names.setdefault(_part_of(record, runs[record.name]), []).append(record.name)
    # Where others belong to the experiment too, or not all are run alike, they are named.
    some = len(names) > 1 or {name for of in names.values() for name in of} != set(runs)
    for part, of in names.items():
        words = " ".join([*(["--only", *of] if some else []), *([part] if part else [])])
        plain = f"make reproduce EXPERIMENT={experiment}"
        yield f"{plain} ARGS='{words}'" if words else plain


def _part_of(record: Record, run: Run) -> str:
    """Return the arguments of `make reproduce` that run the part of a study that a record holds."""
    if not isinstance(record, StudyRecord):
        return ""
    whole, axes = load_study(run.recipe, run.settings).axes, axes_of(record)
    return " ".join(
        f"--some {name}={','.join(map(str, axes[name]))}"
        for name, values in whole.items()
        if name in axes and axes[name] != list(values)
    )


def _differs(record: Record, run: Run) -> bool:
    """Return whether a record was made with other settings than its experiment has."""
    wanted = load_study(run.recipe, run.settings).recipe.settings()
    varied = set(record.axes) if isinstance(record, StudyRecord) else set()
    silent = {*PLACES, *varied, "weights", "description"}
    return any(
        record.recipe.get(key) != wanted.get(key) for key in {*record.recipe, *wanted} - silent
    )


def measured_on(records: Sequence[Record]) -> str:
    """Return the machines of some records, and the days on each."""
    days: dict[str, set[str]] = {}
    for record in records:
        days.setdefault(hardware_of(record), set()).add(record.created[:10])
    return "; ".join(f"{machine}, {listed(sorted(on))}" for machine, on in days.items())
