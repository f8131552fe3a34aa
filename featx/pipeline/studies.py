"""A study: every run of a grid with its repeats, those that are finished kept, one table of all."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import CheckpointError, FeatxError, UsageError
from featx.evaluate import (
    Curve,
    RunRecord,
    SpreadRecord,
    StudyRecord,
    StudyRow,
    TrainingRecord,
    read_record,
    spread,
    work_seconds,
)
from featx.extraction import memory_budget_bytes
from featx.machine import n_cpus, pick_device
from featx.pipeline.about import (
    about_run,
    portable_settings,
    study_command,
    where_runs_ran,
)
from featx.pipeline.input_marks import InputMarks, dataset_mark, weights_mark
from featx.pipeline.prepare import (
    check_writable,
    make_plan,
    poolings_to_share,
    prepare_fit,
)
from featx.pipeline.running import run_prepared, run_tracked
from featx.pipeline.tracked import track_summary, tracked_run
from featx.pipeline.train_prepare import prepare_training
from featx.pipeline.train_run import run_tracked_training
from featx.progress import SILENT, Progress
from featx.report import write_report

if TYPE_CHECKING:
    from featx.pipeline.prepare import Prepared
    from featx.recipes import Member, Recipe, Study

Result = RunRecord | TrainingRecord | str
"""What a run came to: its record, or the message of the error that ended it."""


def run_study(study: Study, *, progress: Progress = SILENT) -> tuple[StudyRecord, Path]:
    """Run what of a study is not finished yet, and write one report of all its runs.

    A run that fails or diverges is a row of the table; the others go on.

    Returns
    -------
    record : StudyRecord
    report : Path
        Its ``report.md``; every run has its own under ``runs/``.

    Raises
    ------
    UsageError
        When every run fails: the first one's reason.
    """
    recipe = study.recipe
    check_writable(recipe.report_path)
    start = time.perf_counter()
    with tracked_run(recipe, progress=progress) as tracked:
        results = dict(_finished(study))
        before = _seconds_before(study, results)
        if results:
            progress.say(f"{len(results)} of {len(study.members)} runs are finished already.")
        waiting = [member for member in study.members if member.recipe.run_name not in results]
        if tracked.id is None:
            # Tracking does not work, which has been said: the runs need not find out again.
            waiting = [replace(m, recipe=untracked(m.recipe)) for m in waiting]
        results |= _run_members(waiting, recipe, tracked.id, progress)
        record = _record(study, results, before + time.perf_counter() - start)
        report = write_report(record, recipe.report_path)
        track_summary(tracked, record, recipe.report_path)
    return record, report


def untracked(recipe: Recipe) -> Recipe:
    """Return a recipe whose run no tracker hears of."""
    return recipe.model_copy(update={"track": "none"})


def finished_runs(study: Study) -> int:
    """Return how many runs of a study need not be repeated."""
    return len(list(_finished(study)))


def _seconds_before(study: Study, finished: Mapping[str, Result]) -> float:
    """Return how long the work took that is there: of the study's record, and of runs behind it."""
    try:
        found = read_record(study.recipe.report_path)
    except FeatxError:
        found = None
    earlier = found if isinstance(found, StudyRecord) else None
    rows = [
        row
        for member in study.members
        if (name := member.recipe.run_name) in finished
        for row in _rows(member, finished[name])
    ]
    # A record that came with the reports of another machine is not of the runs that are here.
    tabled = {row.run for row in earlier.rows if row in rows} if earlier else set()
    total = work_seconds(earlier) if earlier and tabled else 0.0
    records = [r for name, r in finished.items() if name not in tabled and not isinstance(r, str)]
    return total + sum(map(work_seconds, records))


def _finished(study: Study) -> Iterable[tuple[str, Result]]:
    """Yield the runs whose record is there and is of these very settings."""
    dataset_marks: dict[str, str] = {}
    for member in study.members:
        record = finished_record(member.recipe, dataset_marks)
        if record is not None:
            yield member.recipe.run_name, record


def finished_record(
    recipe: Recipe, dataset_marks: dict[str, str] | None = None
) -> RunRecord | TrainingRecord | None:
    """Return the record of a run where it is there and is of these very settings and files.

    Parameters
    ----------
    dataset_marks : dict of str to str, optional
        By the name of the dataset, kept from one call to the next: a folder is listed once.
    """
    if not (recipe.report_path / "results.json").is_file():
        return None
    try:
        record = read_record(recipe.report_path)
    except FeatxError:
        return None
    if not isinstance(record, (RunRecord, TrainingRecord)):
        return None
    if _compared(record.recipe) != _compared(portable_settings(recipe)):
        return None
    known = {} if dataset_marks is None else dataset_marks
    if recipe.dataset not in known:
        known[recipe.dataset] = dataset_mark(recipe.dataset)
    now = InputMarks(known[recipe.dataset], weights_mark(recipe))
    return record if record.inputs_digest == now.digest else None


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what makes two runs the same: no prose, and one C alone or in a list is that C."""
    found = {k: v for k, v in settings.items() if k not in ("description", "published")}
    C = found.get("C")
    if isinstance(C, (list, tuple)) and len(C) == 1:
        found["C"] = C[0]
    return found


def _run_members(
    members: Sequence[Member], recipe: Recipe, parent: str | None, progress: Progress
) -> dict[str, Result]:
    """Run members, several at a time where cores allow; return their results by run name."""
    from joblib import Parallel, delayed, parallel_config

    if not members:
        return {}
    n_jobs = _jobs(members, recipe)
    done: dict[str, Result] = {}
    with progress.task("runs", len(members), "runs") as advance:
        if n_jobs == 1:
            prepared: Prepared | None = None
            for index, member in enumerate(members):
                name = member.recipe.run_name
                progress.say(f"Run {name}")
                if recipe.task == "probe":
                    later = [other.recipe for other in members[index + 1 :]]
                    done[name], prepared = _run_probe(
                        member.recipe, parent, progress, prepared, later
                    )
                else:
                    done[name] = _run_one(member.recipe, parent, progress)[1]
                advance(1)
            return done
        budget = memory_budget_bytes(recipe.memory_budget) // n_jobs
        recipes = [m.recipe.model_copy(update={"memory_budget": budget}) for m in members]
        with parallel_config(backend="loky", inner_max_num_threads=max(1, n_cpus() // n_jobs)):
            results = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
                delayed(_run_one)(each, parent, SILENT) for each in recipes
            )
            for name, result in results:
                done[name] = result
                progress.say(_one_line(name, result))
                advance(1)
    return done


def _jobs(members: Sequence[Member], recipe: Recipe) -> int:
    """Return how many runs go at the same time: a GPU and a cache are used by one at a time."""
    if recipe.jobs != "auto":
        return min(recipe.jobs, len(members))
    if recipe.task != "train" or pick_device(recipe.device).type != "cpu":
        return 1
    # Frozen parts would be extracted by each of them.
    frozen = any(
        m.recipe.training_mode in ("frozen", "lp-ft") or m.recipe.from_cut for m in members
    )
    return 1 if frozen else min(n_cpus(), len(members))


def _run_one(recipe: Recipe, parent: str | None, progress: Progress) -> tuple[str, Result]:
    """Run one member, in this process or a worker; an error becomes its message."""
    try:
        if recipe.task == "train":
            if threads := os.environ.get("OMP_NUM_THREADS"):
                _set_threads(int(threads))
            record: Result = train_or_resume(recipe, parent=parent, progress=progress)
        else:
            record = run_tracked(recipe, parent=parent, progress=progress)
    except FeatxError as error:
        record = str(error)
    return recipe.run_name, record


def _run_probe(
    recipe: Recipe,
    parent: str | None,
    progress: Progress,
    like: Prepared | None,
    later: Sequence[Recipe],
) -> tuple[Result, Prepared | None]:
    """Run one probe with the images and the network of the one before, where they are the same.

    Poolings that later runs will ask for come out of the same pass.
    """
    try:
        prepared = prepare_fit(recipe, progress, like=like)
        plan, also = make_plan(prepared), poolings_to_share(prepared, later)
        record, _ = run_prepared(prepared, plan, also=also, parent=parent, progress=progress)
    except FeatxError as error:
        return str(error), like
    return record, prepared


def train_or_resume(
    recipe: Recipe, *, parent: str | None = None, progress: Progress = SILENT
) -> TrainingRecord:
    """Run one training of several, from its checkpoint where there is one of these settings."""
    try:
        resumed = prepare_training(recipe.model_copy(update={"resume": True}))
        return run_tracked_training(resumed, parent=parent, progress=progress)[0]
    except CheckpointError as error:
        progress.warn(f"{recipe.run_name} begins again: {error}")
        anew = prepare_training(recipe.model_copy(update={"resume": False}))
        return run_tracked_training(anew, parent=parent, progress=progress)[0]


def _set_threads(n: int) -> None:
    """Hold torch to the threads a worker was given: it looks at the environment once, too early."""
    import torch

    torch.set_num_threads(n)


def _one_line(name: str, result: Result) -> str:
    if isinstance(result, str):
        return f"{name}: failed: {result}"
    if isinstance(result, RunRecord):
        return f"{name}: done"
    accuracy = ", ".join(f"{s} {100 * m.accuracy:.1f} %" for s, m in result.splits.items())
    return f"{name}: {result.state}, {accuracy or result.message}"


def _record(study: Study, results: dict[str, Result], seconds: float) -> StudyRecord:
    recipe = study.recipe
    records = [result for result in results.values() if not isinstance(result, str)]
    if not records:
        raise UsageError(f"Every run of {recipe.run_name} failed. {next(iter(results.values()))}")
    rows = [
        row for member in study.members for row in _rows(member, results[member.recipe.run_name])
    ]
    return StudyRecord(
        **about_run(recipe, where_runs_ran(records), command=study_command(study)),
        dataset=records[0].dataset,
        task="train" if recipe.task == "train" else "probe",
        axes=study.axes,
        repeats=recipe.repeats,
        rows=rows,
        spreads=_spreads(rows),
        curves=_curves(study, results),
        timing={"total_s": seconds},
        notes=_notes(study, records),
    )


def _rows(member: Member, result: Result) -> list[StudyRow]:
    """Return the rows of one run: one for a training, one per cut for a probe."""
    recipe = member.recipe
    shared = {
        "run": recipe.run_name,
        "group": member.group,
        "settings": member.varied,
        "seed": recipe.seed,
        "repeat": member.repeat,
        "folder": f"runs/{recipe.run_name}",
    }
    if isinstance(result, str):
        return [StudyRow(**shared, state="failed", message=result, seconds=0.0)]
    if isinstance(result, TrainingRecord):
        return [
            StudyRow(
                **shared,
                state=result.state,
                message=result.message,
                n_parameters=result.network.n_parameters,
                multiply_adds=result.network.multiply_adds,
                best_epoch=result.best_epoch,
                epochs_run=len(result.history),
                seconds=result.timing.get("train_s", 0.0),
                top1={split: m.accuracy for split, m in result.splits.items()},
                top5={s: m.top5 for s, m in result.splits.items() if m.top5 is not None},
            )
        ]
    return [
        StudyRow(
            **shared,
            label=found.cut,
            state="finished",
            n_parameters=result.cut_record(found.cut).n_parameters,
            multiply_adds=result.cut_record(found.cut).multiply_adds,
            C=found.C,
            converged=found.converged,
            # All values of C: the last step of a path says little.
            seconds=found.fit_s if found.all_fits_s is None else found.all_fits_s,
            top1=dict(found.accuracy),
            top5={s: m.top5 for s, m in found.splits.items() if m.top5 is not None},
        )
        for found in result.results
    ]


def _spreads(rows: Sequence[StudyRow]) -> list[SpreadRecord]:
    """Return the spread of every group, label, split and metric over its repeats."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        for metric, found in (("top1", row.top1), ("top5", row.top5)):
            for split, value in found.items():
                values.setdefault((row.group, row.label, split, metric), []).append(value)
    return [
        SpreadRecord(
            group=group,
            label=label,
            split=split,
            metric=metric,
            n=len(found),
            **spread(found)._asdict(),
        )
        for (group, label, split, metric), found in values.items()
    ]


def _curves(study: Study, results: dict[str, Result]) -> list[Curve]:
    """Return loss, top-1 and top-5 per epoch of every training."""
    curves = []
    for member in study.members:
        result = results[member.recipe.run_name]
        if not isinstance(result, TrainingRecord) or not result.history:
            continue
        values: dict[str, list[float]] = {}
        for epoch in result.history:
            for metric in ("loss", "top1", "top5"):
                for split, value in getattr(epoch, metric).items():
                    values.setdefault(f"{metric} {split}", []).append(value)
        curves.append(Curve(run=member.recipe.run_name, group=member.group, values=values))
    return curves


def _notes(study: Study, records: Sequence[RunRecord | TrainingRecord]) -> list[str]:
    """Return the notes that all runs share, and what a reader of the table must know."""
    shared = [note for note in records[0].notes if all(note in r.notes for r in records)]
    if study.recipe.repeats > 1 and study.recipe.limit is not None:
        shared.append("Each repeat draws its own images, by its own seed.")
    elif study.recipe.repeats > 1:
        shared.append("Each repeat has its own seed, which also draws its held-out images.")
    return shared
