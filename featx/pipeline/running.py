"""Run a prepared recipe: extract what is missing, fit, evaluate, record, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError
from featx.extraction import extract_to_store
from featx.pipeline.about import repeat_command
from featx.pipeline.exhibits import keep_exhibits, make_exhibits
from featx.pipeline.fitting import CutFit, fit_cuts, jobs_that_fit
from featx.pipeline.predictions import save_predictions
from featx.pipeline.prepare import Plan, Prepared, make_plan, prepare_fit
from featx.pipeline.recording import make_record
from featx.pipeline.tracked import track_probe, tracked_run
from featx.progress import SILENT, Progress
from featx.recipes import slug
from featx.report import write_report

if TYPE_CHECKING:
    from featx.cache import FeatureSet
    from featx.data import Split
    from featx.evaluate import ComparisonRecord, RunRecord, TrainingRecord
    from featx.recipes import Recipe


def run(
    recipe: Recipe, *, progress: Progress = SILENT
) -> RunRecord | TrainingRecord | ComparisonRecord:
    """Run a recipe of any task and write its report to ``recipe.report_path``.

    Parameters
    ----------
    recipe : Recipe
        From `load_recipe`, or made by hand.
    progress : Progress, optional
        Hears what is done.

    Returns
    -------
    RunRecord, TrainingRecord or ComparisonRecord
        Everything the report says.

    Raises
    ------
    FeatxError
        Bad input, before anything is computed; or a failure, with what was cached kept.
    """
    # Both stand on this module.
    if recipe.task == "train":
        from featx.pipeline.train_run import run_training

        return run_training(recipe, progress=progress)
    if recipe.task == "compare":
        from featx.pipeline.comparing import run_comparison

        return run_comparison(recipe, progress=progress)[0]
    return run_tracked(recipe, progress=progress)


def run_tracked(
    recipe: Recipe, *, parent: str | None = None, progress: Progress = SILENT
) -> RunRecord:
    """Run a recipe as one run of a tracked study; see `run`."""
    prepared = prepare_fit(recipe, progress)
    plan = make_plan(prepared)
    record, _ = run_prepared(prepared, plan, parent=parent, progress=progress)
    return record


def run_prepared(
    prepared: Prepared,
    plan: Plan,
    *,
    also: Sequence[str] = (),
    parent: str | None = None,
    progress: Progress = SILENT,
) -> tuple[RunRecord, Path]:
    """Run what `prepare_fit` made; return the record and the path of the report.

    Parameters
    ----------
    also : sequence of str
        Poolings that later runs will ask for, extracted in the same pass.
    """
    with tracked_run(prepared.recipe, parent=parent, progress=progress) as tracked:
        record, report = _run(prepared, plan, also, progress)
        track_probe(tracked, record, prepared.recipe.report_path)
    return record, report


def _run(
    prepared: Prepared, plan: Plan, also: Sequence[str], progress: Progress
) -> tuple[RunRecord, Path]:
    recipe = prepared.recipe
    n_classes = len(prepared.dataset.classes)
    n_jobs = jobs_that_fit(plan.fit_sizes(recipe), recipe, plan.memory_budget, n_classes)
    timing: dict[str, float] = {}
    start = time.perf_counter()
    features = extract_all(prepared, progress, also=also)
    timing["extract_s"] = time.perf_counter() - start
    # A pass that ends in front of the deepest cut tells nothing of what that one takes.
    if plan.images_to_extract and plan.reaches(list(prepared.points)[-1]):
        timing["images_per_s"] = plan.images_to_extract / timing["extract_s"]
    start = time.perf_counter()
    fits = fit_cuts(
        features,
        recipe,
        prepared.store,
        prepared.dataset.classes,
        n_jobs=n_jobs,
        memory_bytes=plan.memory_budget // n_jobs,
        progress=progress,
    )
    timing["fit_s"] = time.perf_counter() - start
    head_files = _save_heads(prepared, fits, recipe.report_path)
    predictions = {cut: fitted.predictions for cut, fitted in fits.items()}
    save_predictions(recipe.report_path, prepared.dataset, predictions)
    record = make_record(prepared, features, fits, head_files, timing)
    keep_exhibits(
        record,
        recipe,
        lambda: make_exhibits(record, prepared, features, fits, progress=progress),
    )
    return record, write_report(record, recipe.report_path)


def extract_all(
    prepared: Prepared, progress: Progress = SILENT, *, also: Sequence[str] = ()
) -> dict[str, dict[str, FeatureSet]]:
    """Return the features of every cut (then split), computing what is not cached.

    Poolings in `also` are cached in the same pass; see `featx.extraction.extract_to_store`. Where
    that fails, as one of them may hold values that cannot be stored, it goes on without them.
    """

    def extract(split: Split, also: Sequence[str]) -> dict[str, FeatureSet]:
        return extract_to_store(
            prepared.backbone,
            list(prepared.points),
            split,
            prepared.store,
            prepared.settings,
            rebuild=prepared.recipe.rebuild,
            also=also,
            progress=progress,
        )

    features: dict[str, dict[str, FeatureSet]] = {cut: {} for cut in prepared.points}
    for split in prepared.dataset.splits.values():
        try:
            found = extract(split, also)
        except FeatxError as error:
            if not also:
                raise
            progress.warn(f"Pooling by {', '.join(also)} in the same pass is left out: {error}")
            also = ()
            found = extract(split, also)
        for cut, feature_set in found.items():
            features[cut][split.name] = feature_set
    return features


def _save_heads(prepared: Prepared, fits: dict[str, CutFit], folder: Path) -> dict[str, str]:
    """Save each cut's head; return the file of each, relative to the report's folder."""
    for stale in (folder / "heads").glob("*.safetensors"):
        stale.unlink()
    files = {}
    backbone, settings = prepared.backbone, prepared.settings
    for cut, fitted in fits.items():
        name = f"heads/{slug(cut)}.safetensors"
        provenance = {
            "backbone": backbone.name,
            "weights": backbone.weights.tag,
            "weights_digest": backbone.weights.digest,
            "module": prepared.points[cut].module,
            "pool": settings.pool,
            "preprocess": settings.preprocess.as_dict(),
            "precision": settings.precision,
            "standardize": prepared.recipe.standardize,
            "fitted_on": fitted.refit_on,
            "C": fitted.fit.C,
            "repeat": repeat_command(prepared.recipe),
        }
        replace(fitted.head, provenance=provenance).save(folder / name)
        files[cut] = name
    return files
