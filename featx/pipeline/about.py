"""What every record says of its run: the command that repeats it, the machine, the images."""

from __future__ import annotations

import datetime
import json
import platform
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.analysis.data_facts import duplicates, leaks
from featx.evaluate import SCHEMA_VERSION, DatasetRecord, EnvironmentRecord, SplitRecord
from featx.machine import cpu_name, n_cpus, versions
from featx.pipeline.input_marks import InputMarks, input_marks
from featx.recipes import PLACES, flag, has_effect

if TYPE_CHECKING:
    from featx.data import Dataset
    from featx.evaluate import RunRecord, TrainingRecord
    from featx.recipes import Recipe, Study

# Files of this machine: their name is told, their folder is not.
_FILES = ("weights", "dataset")


def about_run(
    recipe: Recipe,
    device: str,
    *,
    numerics: str = "",
    command: str = "",
    marks: InputMarks | None = None,
) -> dict[str, Any]:
    """Return the fields that records of every kind share.

    Parameters
    ----------
    recipe : Recipe
    device : str
        Where it ran: `featx.machine.device_names`.
    numerics : str
        How the network computed, in words.
    command : str
        What repeats it. Default: `repeat_command`.
    marks : InputMarks, optional
        Of the files as they were when they were read. Default: as they are now.
    """
    from featx import __version__

    return {
        "schema_version": SCHEMA_VERSION,
        "featx_version": __version__,
        "name": recipe.run_name,
        "command": command or repeat_command(recipe),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "recipe": portable_settings(recipe)
        | ({"published": recipe.published} if recipe.published else {}),
        "inputs_digest": (marks or input_marks(recipe)).digest,
        "environment": EnvironmentRecord(
            python=platform.python_version(),
            platform=platform.system() + " " + platform.machine(),
            cpu=cpu_name(),
            n_cpus=n_cpus(),
            device=": ".join(part for part in (device, numerics) if part),
            versions=versions(),
        ),
    }


def where_runs_ran(records: Iterable[RunRecord | TrainingRecord]) -> str:
    """Return where the runs of a study ran and how they computed, as their own records say it.

    Of runs that differ in it: their devices and precisions, which records made before 2026-11-27 do
    not say of trainings.
    """
    found = list(dict.fromkeys(record.environment.device for record in records))
    if len(found) == 1:
        return found[0]
    said = [where.partition(": ") for where in found]
    devices = ", ".join(dict.fromkeys(device for device, _, _ in said))
    how = ", ".join(dict.fromkeys(words.split(",")[0] or "not recorded" for _, _, words in said))
    return ": ".join(part for part in (devices, how) if part)


def portable_settings(recipe: Recipe) -> dict[str, Any]:
    """Return what was set in a recipe, without the places of this machine."""
    settings = {k: v for k, v in recipe.settings().items() if k not in PLACES or k == "name"}
    return {k: _without_folder(v) if _names_file(k, v) else v for k, v in settings.items()}


def _without_folder(text: str) -> str:
    """Return ``folder:/home/me/photos`` as ``folder:photos``."""
    kind, colon, path = text.rpartition(":")
    return kind + colon + Path(path).name if Path(path).is_absolute() or "/" in path else text


def repeat_command(recipe: Recipe) -> str:
    """Return the command line that repeats a run, but for the places of this machine."""
    settings = portable_settings(recipe)
    for silent in ("description", "task"):
        settings.pop(silent, None)
    command: str = recipe.task
    if recipe.task == "probe":
        settings.pop("head", None)
        command = f"fit-{recipe.head}"
    elif recipe.task == "train":
        # What only other runs of a study use would be refused of this one alone.
        values = recipe.model_dump()
        settings = {k: v for k, v in settings.items() if has_effect(k, values)}
    words = ["featx", command]
    for field, value in settings.items():
        if value is True:
            words.append(flag(field))
        elif value is False:
            words.append("--no-" + flag(field).removeprefix("--"))
        elif field == "per_approach":
            words += [flag(field), json.dumps(value)]
        elif field == "cuts":
            words += [word for cut in value for word in (flag(field), cut)]
        elif isinstance(value, dict):
            words += [flag(field), ",".join(f"{k}={v}" for k, v in value.items() if v is not None)]
        elif isinstance(value, list):
            words += [flag(field), ",".join(_exact(v) for v in value)]
        else:
            words += [flag(field), _exact(value)]
    return shlex.join(words)


def _names_file(field: str, value: Any) -> bool:
    """Return whether a setting may hold a path of this machine."""
    return isinstance(value, str) and (field in _FILES or value.endswith(".safetensors"))


def study_command(study: Study) -> str:
    """Return the command line that runs a study again."""
    if not study.source:
        return repeat_command(study.recipe)
    settings = {k: v for k, v in study.overrides.items() if k not in PLACES}
    source = Path(study.source)
    words = ["featx", "run", source.name if source.is_absolute() else study.source]
    for field, value in settings.items():
        told = _without_folder(str(value)) if _names_file(field, value) else value
        words += ["--set", f"{field}={json.dumps(told)}"]
    return shlex.join(words)


def _exact(value: Any) -> str:
    """Return a value that reads back as itself; 12.0 as 12."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)


def image_notes(recipe: Recipe, dataset: Dataset) -> list[str]:
    """Return what a reader must know of the images: those left out, and those in two splits."""
    notes = []
    if recipe.limit is not None:
        limits = recipe.limit if isinstance(recipe.limit, dict) else {"every split": recipe.limit}
        told = ", ".join(f"{most} in {split}" for split, most in limits.items() if most)
        notes.append(f"Images of a class are limited (--limit): at most {told}.")
    return notes + leaks(duplicates(dataset.splits))


def dataset_record(dataset: Dataset) -> DatasetRecord:
    """Return what a record says of its images."""
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
