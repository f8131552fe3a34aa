"""What a run did and found, as the record its report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from featx.evaluate import (
    BackboneRecord,
    CandidateRecord,
    ChoiceRecord,
    CutRecord,
    ResultRecord,
    RunRecord,
    evaluate_predictions,
)
from featx.machine import device_names
from featx.pipeline.about import about_run, dataset_record, image_notes
from featx.pipeline.prepare import repeated_values
from featx.text import counted

if TYPE_CHECKING:
    from featx.cache import FeatureSet
    from featx.pipeline.fitting import CutFit
    from featx.pipeline.prepare import Prepared


def make_record(
    prepared: Prepared,
    features: Mapping[str, Mapping[str, FeatureSet]],
    fits: Mapping[str, CutFit],
    head_files: Mapping[str, str],
    timing: dict[str, float],
) -> RunRecord:
    """Return the record of a finished run.

    Parameters
    ----------
    prepared : Prepared
        What ran.
    features : mapping of str to mapping of str to FeatureSet
        By cut, then split.
    fits : mapping of str to CutFit
        By cut.
    head_files : mapping of str to str
        Each head's file, relative to the report's folder.
    timing : dict of str to float
        Seconds, and images per second.
    """
    recipe = prepared.recipe
    return RunRecord(
        **about_run(
            recipe,
            device_names(prepared.settings.devices),
            numerics=_how(prepared),
            marks=prepared.marks,
        ),
        dataset=dataset_record(prepared.dataset),
        backbone=_backbone_record(prepared),
        cuts=[_cut_record(prepared, cut, features[cut]) for cut in prepared.points],
        results=[_result(prepared, cut, fits[cut], head_files[cut]) for cut in prepared.points],
        choices=[
            _choice(cut, fits[cut], prepared.recipe.cv)
            for cut in prepared.points
            if fits[cut].choice
        ],
        timing=timing,
        notes=_notes(prepared, fits),
    )


def _backbone_record(prepared: Prepared) -> BackboneRecord:
    backbone = prepared.backbone
    return BackboneRecord(
        name=backbone.name,
        library=backbone.library,
        weights=backbone.weights.tag,
        source=backbone.weights.source,
        digest=backbone.weights.digest,
        random=backbone.weights.random,
        preprocess=prepared.settings.preprocess.as_dict(),
        seed=prepared.recipe.seed if backbone.weights.random else None,
    )


def _cut_record(prepared: Prepared, cut: str, sets: Mapping[str, FeatureSet]) -> CutRecord:
    point = prepared.points[cut]
    return CutRecord(
        cut=cut,
        module=point.module,
        aliases=list(point.aliases),
        pool=prepared.settings.pool,
        kind=point.kind,
        shape=list(point.shape),
        n_features=point.n_pooled,
        multiply_adds=point.multiply_adds,
        n_parameters=point.n_parameters,
        feature_bytes=sum(feature_set.bytes_on_disk for feature_set in sets.values()),
        keys={split: feature_set.key.digest for split, feature_set in sets.items()},
    )


def _how(prepared: Prepared) -> str:
    """Return how features were computed; of what was tuned also what a recipe does not say."""
    settings = prepared.settings
    parts = [str(settings.numerics)]
    if prepared.tuning is not None:
        parts.append(f"batches of {settings.batch_sizes()[0]}")
    if settings.threads:
        parts.append(counted(settings.threads, "thread", "threads"))
    return ", ".join(parts)


def _result(prepared: Prepared, cut: str, fitted: CutFit, head_file: str) -> ResultRecord:
    dataset, fit = prepared.dataset, fitted.fit
    splits = {
        split: evaluate_predictions(
            dataset.splits[split].y,
            predicted,
            dataset.classes,
            scores=_all_classes(fitted, split, list(dataset.classes)),
        )
        for split, predicted in fitted.predictions.items()
    }
    return ResultRecord(
        cut=cut,
        head=fit.kind,
        standardize=prepared.recipe.standardize,
        C=fit.C,
        solver=fit.solver,
        n_iter=fit.n_iter,
        converged=fit.converged,
        duality_gap=fit.duality_gap,
        objective=fit.objective,
        fit_s=fit.fit_s,
        all_fits_s=fitted.all_fits_s,
        head_file=head_file,
        refit_on=fitted.refit_on,
        messages=list(fit.messages),
        splits=splits,
        accuracy={split: metrics.accuracy for split, metrics in splits.items()},
    )


def _all_classes(fitted: CutFit, split: str, labels: list[int]) -> np.ndarray:
    """Return scores with a column per class of the dataset; one without training images is last."""
    found = fitted.scores[split]
    scores = np.full((len(found), len(labels)), found.min() - 1)
    scores[:, np.searchsorted(labels, fitted.fit.classes)] = found
    return scores


def _choice(cut: str, fitted: CutFit, folds: int) -> ChoiceRecord:
    choice = fitted.choice
    assert choice is not None
    return ChoiceRecord(
        what="C",
        cut=cut,
        on=f"train, {folds} folds" if folds else "val",
        candidates=[CandidateRecord(value=value, score=score) for value, score in choice.log],
        chosen=choice.C,
        edge=choice.edge,
    )


def _notes(prepared: Prepared, fits: Mapping[str, CutFit]) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    recipe, backbone = prepared.recipe, prepared.backbone
    notes = list(backbone.notes)
    if backbone.weights.random:
        notes.append(
            f"The weights of {backbone.short_name} are random (seed {recipe.seed}): "
            "nothing here says what pretrained features can do."
        )
    if recipe.standardize == "per-split":
        notes.append(
            "Each split was standardized with its own statistics, as experiment D1 does. The "
            "usual practice is the training set's for all (--standardize train); a saved head "
            "carries the training set's scaler."
        )
    notes += repeated_values(prepared.points)
    notes += image_notes(recipe, prepared.dataset)
    for cut, fitted in fits.items():
        notes += [f"{cut}: {message}" for message in fitted.fit.messages]
        if fitted.choice and fitted.choice.warning:
            notes.append(f"{cut}: {fitted.choice.warning}")
    return notes
