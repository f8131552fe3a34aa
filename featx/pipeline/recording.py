"""What a run did and found, as the record its report is made of."""

from __future__ import annotations

import datetime
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.evaluate import (
    SCHEMA_VERSION,
    BackboneRecord,
    CandidateRecord,
    ChoiceRecord,
    CutRecord,
    DatasetRecord,
    EnvironmentRecord,
    ResultRecord,
    RunRecord,
    SplitRecord,
    evaluate_predictions,
)
from featx.machine import cpu_name, device_name, n_cpus, versions
from featx.recipes import PLACES, flag

if TYPE_CHECKING:
    from featx.cache import FeatureSet
    from featx.pipeline.fitting import CutFit
    from featx.pipeline.prepare import Prepared
    from featx.recipes import Recipe

# Files of this machine: their name is told, their folder is not.
_FILES = ("weights", "dataset")


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
    from featx import __version__

    recipe = prepared.recipe
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        featx_version=__version__,
        name=recipe.run_name,
        command=repeat_command(recipe),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        recipe=portable_settings(recipe),
        environment=EnvironmentRecord(
            python=platform.python_version(),
            platform=platform.system() + " " + platform.machine(),
            cpu=cpu_name(),
            n_cpus=n_cpus(),
            device=device_name(str(prepared.settings.device)),
            versions=versions(),
        ),
        dataset=_dataset_record(prepared),
        backbone=_backbone_record(prepared),
        cuts=[_cut_record(prepared, cut, features[cut]) for cut in prepared.points],
        results=[_result(prepared, cut, fits[cut], head_files[cut]) for cut in prepared.points],
        choices=[_choice(cut, fits[cut]) for cut in prepared.points if fits[cut].choice],
        timing=timing,
        notes=_notes(prepared, fits),
    )


def portable_settings(recipe: Recipe) -> dict[str, Any]:
    """Return what was set in a recipe, without the places of this machine."""
    settings = {k: v for k, v in recipe.settings().items() if k not in PLACES or k == "name"}
    return {k: _without_folder(v) if k in _FILES else v for k, v in settings.items()}


def _without_folder(text: str) -> str:
    """Return ``folder:/home/me/photos`` as ``folder:photos``."""
    kind, colon, path = text.rpartition(":")
    return kind + colon + Path(path).name if Path(path).is_absolute() or "/" in path else text


def repeat_command(recipe: Recipe) -> str:
    """Return the command line that repeats a run, but for the places of this machine."""
    settings = portable_settings(recipe)
    settings.pop("description", None)
    words = ["featx", f"fit-{recipe.head}"]
    settings.pop("head", None)
    for field, value in settings.items():
        if value is True:
            words.append(flag(field))
        elif field == "cuts":
            words += [word for cut in value for word in (flag(field), cut)]
        elif isinstance(value, dict):
            words += [flag(field), ",".join(f"{k}={v}" for k, v in value.items() if v is not None)]
        elif isinstance(value, list):
            words += [flag(field), ",".join(_exact(v) for v in value)]
        else:
            words += [flag(field), _exact(value)]
    return shlex.join(words)


def _exact(value: Any) -> str:
    """Return a value that reads back as itself; 12.0 as 12."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)


def _dataset_record(prepared: Prepared) -> DatasetRecord:
    dataset = prepared.dataset
    return DatasetRecord(
        name=dataset.name,
        classes=dataset.classes,
        splits={
            name: SplitRecord(n=len(split), counts=split.counts(), digest=split.digest)
            for name, split in dataset.splits.items()
        },
        provenance=_portable(dataset.provenance),
    )


def _portable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return where images came from, without this machine's folders."""
    told = dict(provenance)
    told["source"] = _without_folder(str(told["source"]))
    origin = dict(told.get("origin") or {})
    if "path" in origin:
        told["origin"] = {**origin, "path": Path(origin["path"]).name}
    return told


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


def _result(prepared: Prepared, cut: str, fitted: CutFit, head_file: str) -> ResultRecord:
    dataset, fit = prepared.dataset, fitted.fit
    splits = {
        split: evaluate_predictions(dataset.splits[split].y, predicted, dataset.classes)
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
        head_file=head_file,
        refit_on=fitted.refit_on,
        messages=list(fit.messages),
        splits=splits,
        accuracy={split: metrics.accuracy for split, metrics in splits.items()},
    )


def _choice(cut: str, fitted: CutFit) -> ChoiceRecord:
    choice = fitted.choice
    assert choice is not None
    return ChoiceRecord(
        what="C",
        cut=cut,
        on="val",
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
    if recipe.limit is not None:
        limits = recipe.limit if isinstance(recipe.limit, dict) else {"every split": recipe.limit}
        told = ", ".join(f"{most} in {split}" for split, most in limits.items() if most)
        notes.append(f"Images of a class are limited (--limit): at most {told}.")
    for cut, fitted in fits.items():
        notes += [f"{cut}: {message}" for message in fitted.fit.messages]
        if fitted.choice and fitted.choice.warning:
            notes.append(f"{cut}: {fitted.choice.warning}")
    return notes
