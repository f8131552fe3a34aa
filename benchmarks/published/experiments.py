"""The experiments: which recipes each of them runs, and how far they have come on this machine."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from featx.errors import FeatxError, UnknownName, UsageError, quoted
from featx.evaluate import ComparisonRecord, Record, StudyRecord, read_record
from featx.pipeline import compared_runs, finished_record
from featx.recipes import Recipe, Study, load_study

_MOST_NAMED = 4  # reports in a message


@dataclass(frozen=True)
class Run:
    """One call of ``featx run``: a recipe, the name of its report, fields that are set besides."""

    recipe: str
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def report(self) -> str:
        return self.name or self.recipe

    def values(self, name: str) -> list[Any]:
        """Return the values of a field in its runs: set here, in the recipe, or by default."""
        study = load_study(self.recipe, self.settings)
        own = study.axes[name] if name in study.axes else getattr(study.recipe, name, None)
        return list(own) if isinstance(own, list) else [own]

    def among(self, name: str, values: Sequence[Any]) -> list[Any]:
        """Return which of some values of a field its runs have."""
        known = self.values(name)
        return [value for value in values if value in known]


@dataclass(frozen=True)
class Experiment:
    """What it is about, and its runs in the order in which they are made."""

    about: str
    runs: tuple[Run, ...]


# The studies of D1 in depth, a report for each row of sizes: one can be added without running
# the others.
DEPTH_SIZES = ((32, 64), (96,), (128,), (224,))
# Flattened features take the longest, a size by itself.
FLAT_SIZES = ((32,), (64,), (96,), (128,), (224,))


def _by_size(
    recipe: str,
    name: str = "",
    rows: Sequence[tuple[int, ...]] = DEPTH_SIZES,
    settings: Mapping[str, Any] | None = None,
    largest: Mapping[str, Any] | None = None,
) -> tuple[Run, ...]:
    """Return the runs of a study with many input sizes, the first row under the bare name.

    `largest` is set besides for the last row of sizes.
    """
    name = name or recipe
    return tuple(
        Run(recipe, name if sizes == rows[0] else f"{name}-{sizes[0]}",
            {**(settings or {}), **((largest or {}) if sizes == rows[-1] else {}),
             "image_size": list(sizes)})
        for sizes in rows
    )  # fmt: skip


def _flattened(study: str, sizes: Sequence[tuple[int, ...]]) -> tuple[Run, ...]:
    """Return the runs of a study's flattened features, with the SVM and logistic regression.

    At other sizes than the least, which has the bare name, the size is in the report's.
    """
    return tuple(
        run
        for run in (
            *_by_size(f"{study}-flatten", rows=FLAT_SIZES),
            *_by_size(f"{study}-logistic", f"{study}-flatten-logistic", FLAT_SIZES,
                      {"pool": "flatten"}),
        )
        if tuple(run.settings["image_size"]) in sizes
    )  # fmt: skip


# As the records of the longest trainings were made, where bf16 is here.
BF16_IF_HERE = {"precision": "auto", "allow": ["bf16"]}
TORCHVISION_V1 = {"weights": "IMAGENET1K_V1", "preprocess": "torch"}

EXPERIMENTS = {
    "d1": Experiment(
        "five classes, VGG16 and ResNet-50 cut, a linear SVM with C = 12",
        (
            Run("d1-vgg16-svm", "d1-vgg16-svm-pooled", {"pool": "avg"}),
            Run("d1-resnet50-svm", "d1-resnet50-svm-pooled", {"pool": "avg"}),
            Run("d1-vgg16-svm"),
            Run("d1-resnet50-svm"),
        ),
    ),
    "d1-depth": Experiment(
        "D1's cuts over input sizes, poolings, standardizations and heads",
        (
            # 30,000 images of 14.4 billion multiply-adds take two cores an hour in fp32.
            *_by_size("d1-depth-vgg16", largest=BF16_IF_HERE),
            *_by_size("d1-depth-resnet50"),
            *_by_size("d1-depth-vgg16-logistic", largest=BF16_IF_HERE),
            *_by_size("d1-depth-resnet50-logistic"),
            *_flattened("d1-depth-vgg16", FLAT_SIZES[:1]),
            *_flattened("d1-depth-resnet50", FLAT_SIZES[:1]),
        ),
    ),
    # By itself: such a head takes more memory than two-core machines have.
    "d1-depth-more": Experiment(
        "the same with flattened features of larger images, and VGG16's other weights",
        (
            *_flattened("d1-depth-vgg16", FLAT_SIZES[1:]),
            *_flattened("d1-depth-resnet50", FLAT_SIZES[1:]),
            # Keras' VGG16 has the source's weights; torchvision's own are others.
            Run("d1-depth-vgg16", "d1-depth-vgg16-v1", TORCHVISION_V1),
            Run("d1-depth-vgg16-logistic", "d1-depth-vgg16-v1-logistic", TORCHVISION_V1),
        ),
    ),
    "d1-ten": Experiment("all ten classes, the usual linear probe", (Run("d1-ten"),)),
    "d2": Experiment(
        "a frozen ResNet-18, at which input size, and a small network from scratch",
        (
            Run("d2-frozen"),
            # What becomes of it where images are not prepared as the weights expect.
            Run(
                "d2-frozen",
                "d2-frozen-preprocess",
                {
                    "optimizer": "adam",
                    "preprocess": ["torch", "caffe"],
                    "description": "D2's head on a frozen ResNet-18 at 32 px whose images are "
                    "prepared as its weights expect (torch), or as others do (caffe: BGR, 0 to "
                    "255, less the means). Published: about 48 % on test, 50 % on training.",
                },
            ),
            Run("d2-input-size"),
            Run("d2-custom", "d2-custom-constant", {"schedule": "constant", **BF16_IF_HERE}),
            Run("d2-custom", "d2-custom-exponential", {"schedule": "exponential", **BF16_IF_HERE}),
        ),
    ),
    "d3": Experiment(
        "four small networks from scratch, and a grid of 24 runs",
        (
            Run("d3-conv2"),
            Run("d3-conv3", settings=BF16_IF_HERE),
            # All images, for as many epochs as it takes: in bf16 16 and 22 minutes on two cores.
            Run("d3-conv5", settings=BF16_IF_HERE),
            Run("d3-cerberus", settings=BF16_IF_HERE),
            Run("d3-grid", settings=BF16_IF_HERE),
        ),
    ),
    "d4": Experiment(
        "three depths, five repeats each; the first one on all images",
        (
            Run("d4-study", settings=BF16_IF_HERE),
            Run("d4-cnn-a", settings=BF16_IF_HERE),
        ),
    ),
    "networks": Experiment(
        "probes beside trained networks at 500, 5,000 and 20,000 training images",
        (
            Run("networks-500"),
            Run("networks-5000"),
            Run("networks-20000"),
            Run(
                "d1-baselines",
                settings={"limit": {"train": 300, "val": 100, "test": 400}, **BF16_IF_HERE},
            ),
        ),
    ),
}


def chosen_runs(
    experiment: Experiment,
    only: Collection[str] = (),
    some: Mapping[str, Sequence[Any]] | None = None,
) -> tuple[Run, ...]:
    """Return the runs of an experiment, or those of some reports, or with some values of fields.

    Raises
    ------
    UnknownName, UsageError
        For a report that it does not make, or a value that has no place in the chosen ones.
    """
    names = [run.report for run in experiment.runs]
    if unknown := [name for name in only if name not in names]:
        hint = "`make reproduce` without EXPERIMENT lists all of them."
        raise UnknownName("Report", unknown[0], names, where="this experiment", hint=hint)
    chosen = [run for run in experiment.runs if not only or run.report in only]
    wanted = some or {}
    for name, values in wanted.items():
        for value in values:
            if not any(run.among(name, [value]) for run in chosen):
                _refuse_missing(name, value, chosen, experiment)
    found = tuple(
        run for run in chosen if all(run.among(name, values) for name, values in wanted.items())
    )
    if not found:
        together = " and ".join(
            f"{name} {' or '.join(map(str, values))}" for name, values in wanted.items()
        )
        raise UsageError(
            f"No run of {_named(chosen, experiment)} has {together} together, though some have one "
            "of them. Ask for less at once."
        )
    return found


def _refuse_missing(
    name: str, value: Any, chosen: Sequence[Run], experiment: Experiment
) -> NoReturn:
    """Refuse a value that no chosen run has; say what they have, and where it is."""
    valid = dict.fromkeys(str(known) for run in chosen for known in run.values(name))
    elsewhere = [run.report for run in experiment.runs if run.among(name, [value])]
    raise UsageError(
        f"No run of {_named(chosen, experiment)} has {name} {value}. Valid: {', '.join(valid)}."
        + (f" {value} is in {_few(elsewhere)}." if elsewhere else "")
    )


def _named(chosen: Sequence[Run], experiment: Experiment) -> str:
    """Return what to call some runs of an experiment."""
    if len(chosen) == len(experiment.runs):
        return "this experiment"
    return _few([run.report for run in chosen])


def _few(reports: Sequence[str]) -> str:
    """Return some names of reports, and how many more there are."""
    more = f" and {len(reports) - _MOST_NAMED} more" if len(reports) > _MOST_NAMED else ""
    return quoted(reports[:_MOST_NAMED]) + more


def refuse_unvaried(runs: Sequence[Run], fields: Sequence[str]) -> None:
    """Refuse to run some values of a field that none of the runs varies.

    Raises
    ------
    UsageError
        Says what they vary.
    """
    varied = dict.fromkeys(name for run in runs for name in load_study(run.recipe).axes)
    if unknown := [name for name in fields if name not in varied]:
        raise UsageError(
            f"{quoted(unknown)} does not vary in this experiment. What varies: "
            f"{quoted(varied) or 'nothing'}."
        )


@dataclass(frozen=True)
class Places:
    """Where images, weight files, features and reports are; None leaves it to featx."""

    data_dir: Path | None
    weights_dir: Path | None
    cache_dir: Path | None
    out: Path


def chosen_settings(
    run: Run,
    places: Places,
    *,
    limit: int | None = None,
    some: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """Return the fields that ``featx run`` is given beside the recipe.

    `some` are values of fields to run, where the recipe varies these fields; those that a report
    of this machine holds already stay in it, in every combination.
    """
    plain = load_study(run.recipe, run.settings)
    settings: dict[str, Any] = {"name": run.report, "out": str(places.out), **run.settings}
    if places.data_dir:
        settings["data_dir"] = str(places.data_dir)
    if places.cache_dir:
        settings["cache_dir"] = str(places.cache_dir)
    if weights := weight_file(plain.recipe, places.weights_dir):
        settings["weights"] = str(weights)
    if limit is not None:
        settings["limit"] = limit
    record = record_of(places.out / run.report)
    of_here = any((places.out / run.report).glob("runs/*/predictions.safetensors"))
    there = axes_of(record) if isinstance(record, StudyRecord) and of_here else {}
    for name, values in (some or {}).items():
        if name in plain.axes:
            wanted = [*there.get(name, []), *run.among(name, values)]
            # In the recipe's order, whatever was run first.
            known = [value for value in plain.axes[name] if value in wanted]
            chosen = known + [v for v in dict.fromkeys(wanted) if v not in known]
            settings[name] = _still_varying(name, chosen)
    for name, values in there.items():
        if some and name in plain.axes and name not in some:
            settings[name] = _still_varying(name, values)
    return settings


def _still_varying(name: str, values: list[Any]) -> list[Any]:
    """Return values of a field so that a recipe varies it: numbers of C alone were a choice."""
    if name == "C" and all(isinstance(value, (int, float)) for value in values):
        return [[value] for value in values]
    return values


def axes_of(record: StudyRecord) -> dict[str, list[Any]]:
    """Return what a study varied; a list of one C is that value."""
    axes = {name: list(values) for name, values in record.axes.items()}
    if "C" in axes:
        axes["C"] = [plain_C(value) for value in axes["C"]]
    return axes


def plain_C(value: Any) -> Any:
    """Return a value of C as the recipes write it: 12 for [12]."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def weight_file(recipe: Recipe, folder: Path | None) -> Path | None:
    """Return the file of a recipe's weights: ``NETWORK.TAG*.safetensors`` in a folder, or None."""
    network = recipe.network if recipe.task == "train" else recipe.backbone
    if folder is None or recipe.weights in ("default", "none"):
        return None
    found = sorted(folder.glob(f"{network}.{recipe.weights}*.safetensors"))
    return found[0].resolve() if found else None


def record_of(folder: Path) -> Record | None:
    """Return a folder's record, None where there is none that can be read."""
    try:
        return read_record(folder)
    except FeatxError:
        return None


def progress_of(study: Study) -> tuple[int, int]:
    """Return how many runs of a recipe are complete on this machine, and how many there are.

    A record counts if it is of these very settings and files, and its predictions are there: they
    are not published, so a report that came with the checkout was not run here. A run that failed
    counts as complete: it would fail again.
    """
    recipe = study.recipe
    record = record_of(recipe.report_path)
    if recipe.task == "compare":
        runs = [run.recipe for run in compared_runs(recipe)]
        done = sum(_is_done(run) for run in runs)
        # The table of all is one more piece of work.
        return done + (done == len(runs) and isinstance(record, ComparisonRecord)), len(runs) + 1
    if study.is_single:
        return int(_is_done(recipe)), 1
    rows = record.rows if isinstance(record, StudyRecord) else []
    failed = {row.run for row in rows if row.state == "failed"}
    tabled = {row.run for row in rows}
    done = sum(
        _is_done(member.recipe) or member.recipe.run_name in failed for member in study.members
    )
    complete = done == len(study.members) and tabled == {m.recipe.run_name for m in study.members}
    return done + (complete and _is_of_runs(record, study)), len(study.members) + 1


def _is_of_runs(record: Record | None, study: Study) -> bool:
    """Return whether a study's record was made behind its runs: no other came with a checkout."""
    runs = filter(None, (finished_record(member.recipe) for member in study.members))
    return record is not None and all(run.created <= record.created for run in runs)


def _is_done(recipe: Recipe) -> bool:
    return (
        finished_record(recipe) is not None
        and (recipe.report_path / "predictions.safetensors").is_file()
    )


def forget(study: Study) -> None:
    """Remove the records of a study's or a comparison's runs, so that all of them run again."""
    for path in (study.recipe.report_path / "runs").glob("*/results.json"):
        path.unlink()


def hardware_of(record: Record) -> str:
    """Return what a record ran on: ``AMD EPYC, 2 cores, cpu``."""
    machine = record.environment
    device = machine.device.partition(": ")[0]
    where = "" if device == "cpu" else f", {device}"
    return f"{machine.cpu}, {machine.n_cpus} cores{where}"


def command_of(run: Run, settings: Mapping[str, Any]) -> list[str]:
    """Return the arguments of ``featx``: everything as ``--set``, which takes every field."""
    words = ["run", run.recipe]
    for name, value in settings.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    return words
