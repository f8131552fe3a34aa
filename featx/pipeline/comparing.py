"""A comparison: probes per cut, frozen head, LP-FT, fine-tuning and scratch, on the same images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from featx.errors import RecipeError, TrainingDiverged, closest, quoted
from featx.evaluate import (
    ApproachRecord,
    ComparisonRecord,
    PairedRecord,
    RunRecord,
    TrainingRecord,
    holm,
    mcnemar_exact,
    paired_difference,
)
from featx.evaluate.predictions import correct_answers
from featx.machine import first_device
from featx.pipeline.about import about_run, where_runs_ran
from featx.pipeline.costs import Extraction, extraction_rates, reading_seconds, training_seconds
from featx.pipeline.prepare import check_writable
from featx.pipeline.running import run_tracked
from featx.pipeline.studies import finished_record, train_or_resume, untracked
from featx.pipeline.tracked import track_summary, tracked_run
from featx.progress import SILENT, Progress
from featx.recipes import TASK_FIELDS, refuse_unused, slug, valid_recipe
from featx.report import write_report

if TYPE_CHECKING:
    from featx.recipes import Recipe

Approach = Literal["probe", "frozen", "lp-ft", "finetune", "scratch"]


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison: its approach and its recipe."""

    approach: Approach
    recipe: Recipe


@dataclass(frozen=True)
class _Found:
    """One row of the table: what its record says, and where its predictions are."""

    record: ApproachRecord
    folder: Path
    cut: str


def compared_runs(recipe: Recipe) -> list[ComparedRun]:
    """Return the runs of a comparison, in the order of its approaches.

    Raises
    ------
    RecipeError
        For probes without cuts, settings of an approach that is not there, or a setting that none
        of the trainings uses.
    """
    for name in recipe.per_approach:
        if name not in recipe.approaches:
            near = closest(name, recipe.approaches) or list(recipe.approaches)
            raise RecipeError(
                f"per_approach sets '{name}', which is no approach of this comparison. Closest: "
                f"{quoted(near)}."
            )
    if "probe" in recipe.approaches and not recipe.cuts:
        raise RecipeError(
            f"No cut is given to probe. List those of the network: featx layers {recipe.backbone}. "
            "Then: --cut NAME (more than one is fine), or leave out the probes: --approaches "
            "frozen,finetune"
        )
    runs = []
    for approach in recipe.approaches:
        if approach == "probe":
            runs.append(ComparedRun(approach, _probe_recipe(recipe)))
            continue
        networks = recipe.scratch or (recipe.backbone,) if approach == "scratch" else (None,)
        runs += [ComparedRun(approach, _train_recipe(recipe, approach, n)) for n in networks]
    refuse_unused([run.recipe for run in runs if run.approach != "probe"], "the comparison")
    return runs


def _shared(recipe: Recipe, task: str, name: str) -> dict[str, Any]:
    """Return the fields of a comparison that a run of a task takes over."""
    values = recipe.model_dump(exclude_unset=True)
    taken = {k: v for k, v in values.items() if k in TASK_FIELDS[task]}
    taken.pop("description", None)
    out = str(recipe.report_path / "runs")
    return {**taken, "task": task, "name": name, "out": out, "seed": recipe.seed}


def _probe_recipe(recipe: Recipe) -> Recipe:
    values = _shared(recipe, "probe", "probe")
    # The batch size of a comparison is that of training; features take their own.
    values.pop("batch_size", None)
    return valid_recipe({**values, **recipe.per_approach.get("probe", {})}, "approach probe")


def _train_recipe(recipe: Recipe, approach: str, network: str | None) -> Recipe:
    scratch = approach == "scratch"
    name = f"scratch-{slug(network)}" if network else approach
    values = _shared(recipe, "train", name)
    values |= {"network": network or recipe.backbone, "mode": approach}
    if "device" in values:
        # A network is trained on one device, whatever features are extracted on.
        values["device"] = first_device(recipe.device)
    if scratch:
        # Pretrained weights and their preprocessing mean nothing to it.
        for field in ("weights", "preprocess"):
            values.pop(field, None)
    return valid_recipe({**values, **recipe.per_approach.get(approach, {})}, f"approach {approach}")


def run_comparison(recipe: Recipe, *, progress: Progress = SILENT) -> tuple[ComparisonRecord, Path]:
    """Run what of a comparison is not finished yet, and write one table of all.

    The best approach is chosen on validation; it is tested against every other one image by image
    on the test split, with Holm's correction for their number.

    Returns
    -------
    record : ComparisonRecord
    report : Path
        Its ``report.md``; every run has its own under ``runs/``.

    Raises
    ------
    FeatxError
        The first run that fails, with what is finished kept; a training that diverges is left out
        and said so, unless nothing else is there.
    """
    runs = compared_runs(recipe)
    check_writable(recipe.report_path)
    start = time.perf_counter()
    left_out: list[str] = []
    kept: list[tuple[ComparedRun, RunRecord | TrainingRecord]] = []
    with tracked_run(recipe, progress=progress) as tracked:
        for run in runs:
            progress.say(f"{run.approach}: {run.recipe.network or run.recipe.backbone}")
            own = run.recipe if tracked.id is not None else untracked(run.recipe)
            record = finished_record(own) or _run(own, tracked.id, progress)
            if isinstance(record, TrainingRecord) and record.state == "diverged":
                left_out.append(f"{run.recipe.run_name} is left out: {record.message}")
            else:
                kept.append((run, record))
        if not kept:
            raise TrainingDiverged("Every training diverged: " + " ".join(left_out))
        rates = extraction_rates([(run.recipe, record) for run, record in kept], progress)
        found = [
            row
            for run, record in kept
            for row in _approaches(run, record, rates.get(run.recipe.run_name))
        ]
        notes = left_out + _notes(kept, rates)
        records = [record for _, record in kept]
        made = _record(recipe, records, found, notes, time.perf_counter() - start)
        report = write_report(made, recipe.report_path)
        track_summary(tracked, made, recipe.report_path)
    return made, report


def _notes(
    kept: Sequence[tuple[ComparedRun, RunRecord | TrainingRecord]],
    rates: Mapping[str, Extraction],
) -> list[str]:
    """Return what the approaches note, each sentence once, behind the names it holds for."""
    names: dict[str, list[str]] = {}
    for run, record in kept:
        rate = rates.get(run.recipe.run_name)
        for note in [*record.notes, *([rate.note] if rate and rate.note else [])]:
            names.setdefault(note, []).append(run.recipe.run_name)
    return [f"{', '.join(of)}: {note}" for note, of in names.items()]


def _run(recipe: Recipe, parent: str | None, progress: Progress) -> RunRecord | TrainingRecord:
    if recipe.task == "probe":
        return run_tracked(recipe, parent=parent, progress=progress)
    return train_or_resume(recipe, parent=parent, progress=progress)


def _approaches(
    run: ComparedRun, record: RunRecord | TrainingRecord, rate: Extraction | None
) -> list[_Found]:
    """Return the rows of one run: one for a training, one per cut for probes."""
    folder = f"runs/{run.recipe.run_name}"
    path = run.recipe.report_path
    if isinstance(record, TrainingRecord):
        network = record.network
        return [
            _Found(
                ApproachRecord(
                    name=run.recipe.run_name,
                    approach=run.approach,
                    what=network.name.partition("/")[2],
                    settings=_training_settings(record),
                    splits=record.splits,
                    train_s=training_seconds(record, run.recipe),
                    extract_s=reading_seconds(record, rate),
                    n_trained=network.n_trained,
                    multiply_adds=network.multiply_adds,
                    stored_bytes=record.model_bytes or 0,
                    folder=folder,
                ),
                path,
                "",
            )
        ]
    rows = []
    for result in record.results:
        cut = record.cut_record(result.cut)
        head_bytes = (path / (result.head_file or "")).stat().st_size
        rows.append(
            _Found(
                ApproachRecord(
                    name=f"probe {result.cut}",
                    approach="probe",
                    what=result.cut,
                    settings=f"{result.head}, C = {result.C:g}",
                    splits=result.splits,
                    train_s=result.fit_s if result.all_fits_s is None else result.all_fits_s,
                    extract_s=reading_seconds(record, rate),
                    n_trained=_fitted_rows(record) * (cut.n_features + 1),
                    multiply_adds=cut.multiply_adds,
                    # The network up to the cut as float32, and the head.
                    stored_bytes=4 * cut.n_parameters + head_bytes,
                    folder=folder,
                ),
                path,
                result.cut,
            )
        )
    return rows


def _fitted_rows(record: RunRecord) -> int:
    """Return how many rows of weights a head fits: of two classes one, the other is its negative.

    A class without training images has none.
    """
    n_classes = sum(n > 0 for n in record.dataset.splits["train"].counts.values())
    return 1 if n_classes == 2 else n_classes


def _training_settings(record: TrainingRecord) -> str:
    settings = record.settings
    parts = [f"{settings['optimizer']} {settings['lr']:g}", f"{len(record.history)} epochs"]
    if settings.get("augment"):
        parts.append("+".join(settings["augment"]))
    return ", ".join(parts)


def _record(
    recipe: Recipe,
    records: Sequence[RunRecord | TrainingRecord],
    found: Sequence[_Found],
    notes: list[str],
    seconds: float,
) -> ComparisonRecord:
    first = records[0]
    chosen_on: Literal["val", "test"] = (
        "val" if all("val" in row.record.splits for row in found) else "test"
    )
    best = max(found, key=lambda row: row.record.splits[chosen_on].accuracy)
    if chosen_on == "test":
        notes = [
            "There is no validation split: the test split chooses the best, which flatters it.",
            *notes,
        ]
    return ComparisonRecord(
        **about_run(recipe, where_runs_ran(records)),
        dataset=first.dataset,
        approaches=_against(best, found, first),
        best=best.record.name,
        chosen_on=chosen_on,
        timing={"total_s": seconds},
        notes=notes,
    )


def _against(
    best: _Found, found: Sequence[_Found], first: RunRecord | TrainingRecord
) -> list[ApproachRecord]:
    """Return every row with its paired test against the best one, on the test split."""
    if not all("test" in row.record.splits for row in found):
        return [row.record for row in found]
    digest = first.dataset.splits["test"].digest
    correct = {
        row.record.name: correct_answers(
            row.folder, row.cut, "test", digest, row.record.splits["test"].accuracy
        )
        for row in found
    }
    others = [row for row in found if row is not best]
    pairs: dict[str, dict[str, float]] = {}
    for row in others:
        pairs[row.record.name] = _pair(correct[best.record.name], correct[row.record.name])
    adjusted = holm([pair["p"] for pair in pairs.values()]) if pairs else []
    for pair, p in zip(pairs.values(), adjusted, strict=True):
        pair["p_adjusted"] = p
    return [
        row.record.model_copy(
            update={
                "against_best": PairedRecord.model_validate(pairs[row.record.name])
                if row is not best
                else None
            }
        )
        for row in found
    ]


def _pair(best: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    only_best = int((best & ~other).sum())
    only_this = int((other & ~best).sum())
    difference, low, high = paired_difference(best, other)
    return {
        "difference": difference,
        "low": low,
        "high": high,
        "only_best": only_best,
        "only_this": only_this,
        "p": mcnemar_exact(only_best, only_this),
    }
