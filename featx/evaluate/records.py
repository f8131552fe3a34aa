"""The schema of ``results.json``: what a run was, what it found, what was chosen on what.

The schema is versioned. A field that is added, removed or changes its meaning makes a new version.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from featx.evaluate.metrics import SplitMetrics

SCHEMA_VERSION: Literal[2] = 2
# Version 1 knew no top-5 accuracy; nothing else differs, so its records are read as they are.
SchemaVersion = Literal[1, 2]


class StrictRecord(BaseModel):
    """A part of a record: unknown keys, NaN and Inf are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EnvironmentRecord(StrictRecord):
    """What the run ran on; `versions` by package."""

    python: str
    platform: str
    cpu: str
    n_cpus: int
    device: str
    versions: dict[str, str]


class SplitRecord(StrictRecord):
    """One split: images, images per label, digest of its pixels, labels and order."""

    n: int
    counts: dict[int, int]
    digest: str


class DatasetRecord(StrictRecord):
    """The images: class names by label, splits by name, provenance as the source states it."""

    name: str
    classes: dict[int, str]
    splits: dict[str, SplitRecord]
    provenance: dict[str, Any] = Field(default_factory=dict)


class BackboneRecord(StrictRecord):
    """The network: `weights` is their tag, `digest` that of the values in memory.

    `seed` is set where the weights are random.
    """

    name: str
    library: str
    weights: str
    source: str
    digest: str
    random: bool
    preprocess: dict[str, Any]
    seed: int | None = None


class CutRecord(StrictRecord):
    """One place where the network was cut.

    `cut` is the name that was asked for, `shape` the activation's without the batch, `n_features`
    the values per image after pooling. `multiply_adds` and `n_parameters` count everything up to
    the cut, for one image; `feature_bytes` is what the cache holds; `keys` are cache keys by split.
    """

    cut: str
    module: str
    aliases: list[str]
    pool: str
    kind: str
    shape: list[int]
    n_features: int
    multiply_adds: int
    n_parameters: int
    feature_bytes: int
    keys: dict[str, str]


class ResultRecord(StrictRecord):
    """One head on one cut. See `featx.heads.Fit` for the solver's fields.

    `all_fits_s` are the seconds of everything that led to this head: every value of C with its
    score, and the refit.

    `accuracy` repeats the accuracy of every split of `splits`, for those who read the JSON by eye.
    """

    cut: str
    head: Literal["svm", "logistic"]
    standardize: str
    C: float
    solver: str
    n_iter: int
    converged: bool
    duality_gap: float | None = None
    objective: float | None = None
    fit_s: float
    all_fits_s: float | None = None
    head_file: str | None = None
    refit_on: Literal["train", "train+val"] = "train"
    messages: list[str] = Field(default_factory=list)
    splits: dict[str, SplitMetrics] = Field(min_length=1)
    accuracy: dict[str, float]

    @model_validator(mode="after")
    def _accuracy_repeats_splits(self) -> ResultRecord:
        if self.accuracy != {split: m.accuracy for split, m in self.splits.items()}:
            raise ValueError("'accuracy' must repeat the accuracy of every split")
        return self


class CandidateRecord(StrictRecord):
    """A value that was tried, and its score on the split that decided."""

    value: float
    score: float


class ChoiceRecord(StrictRecord):
    """A choice that the data made: which values were compared on which split, which one won.

    `edge` is set if the winner is the smallest or largest value that was tried.
    """

    what: str
    cut: str
    on: str
    candidates: list[CandidateRecord]
    chosen: float
    edge: Literal["low", "high"] | None = None


class RunRecord(StrictRecord):
    """A run: everything a report is made of.

    `created` is ISO 8601 in UTC, `command` the command line that repeats the run, `inputs_digest`
    marks the files it read on its machine, `cuts` stand in the order of execution, `timing` holds
    seconds and rates by name (unit in the name), `notes` what a reader must know first.
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    featx_version: str
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    inputs_digest: str = ""
    environment: EnvironmentRecord
    dataset: DatasetRecord
    backbone: BackboneRecord
    cuts: list[CutRecord] = Field(min_length=1)
    results: list[ResultRecord] = Field(min_length=1)
    choices: list[ChoiceRecord] = Field(default_factory=list)
    timing: dict[str, float] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _results_belong_to_cuts(self) -> RunRecord:
        names = [cut.cut for cut in self.cuts]
        if len(set(names)) < len(names):
            raise ValueError(f"a cut is listed twice in {names}")
        for result in self.results:
            if result.cut not in names:
                raise ValueError(f"a result is of cut '{result.cut}', the cuts are {names}")
        return self

    def cut_record(self, cut: str) -> CutRecord:
        """Return the record of a cut by the name it was asked for; `KeyError` if there is none."""
        return {record.cut: record for record in self.cuts}[cut]
