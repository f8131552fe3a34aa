"""Records beside a probe's: one training, a study of many runs, a comparison of approaches.

Each is a ``results.json`` of its own; `kind` says which one it is (a probe's record has none).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from featx.evaluate.metrics import SplitMetrics
from featx.evaluate.records import (
    SCHEMA_VERSION,
    DatasetRecord,
    EnvironmentRecord,
    SchemaVersion,
    StrictRecord,
)

State = Literal["finished", "stopped early", "still improving", "did not learn", "diverged"]
"""How a training ended.

``finished``: all epochs ran; ``stopped early``: patience ran out; ``still improving``: the last
epoch was the best one; ``did not learn``: the best validation accuracy is within chance of the
largest class' share; ``diverged``: the loss was not finite.
"""


class NetworkRecord(StrictRecord):
    """The network that was trained.

    `weights` is the tag of what it began with (``random`` from scratch) and `digest` that of those
    values; `n_trained` counts the parameters that were trained, `multiply_adds` one image's forward
    pass; `frozen_up_to` is the cut behind which training began, None where everything was trained.
    """

    name: str
    library: str
    weights: str
    source: str
    digest: str
    random: bool
    preprocess: dict[str, Any]
    image_size: list[int]
    n_parameters: int
    n_trained: int
    multiply_adds: int
    frozen_up_to: str | None = None


class EpochRecord(StrictRecord):
    """One epoch: `loss`, `top1` and `top5` by split, rate, time, speed and memory.

    Values of ``train`` are means over the epoch's batches as they were trained on (augmented,
    with dropout); ``val`` and ``test`` were evaluated behind the epoch. `top5` is empty where
    there are five classes or fewer. `learning_rate` is that of the epoch's last step; `seconds`
    is training alone, `evaluation_s` the rest; memory is the peak of the process so far.
    """

    epoch: int = Field(ge=1)
    learning_rate: float
    loss: dict[str, float]
    top1: dict[str, float]
    top5: dict[str, float]
    seconds: float
    evaluation_s: float
    images_per_s: float
    peak_memory_bytes: int | None
    peak_gpu_bytes: int | None = None


class TrainingRecord(StrictRecord):
    """One training.

    `settings` holds every resolved setting of the loop, `best_epoch` the epoch whose weights were
    kept, `kept_by` what chose it (``val loss``, ``val top1``, ``last epoch``), `splits` the
    metrics of the kept weights. `timing` holds seconds and rates by name; `features` is
    ``cached`` where the frozen part's features came from the cache. `message` is the reason of a
    divergence.
    """

    kind: Literal["training"] = "training"
    schema_version: SchemaVersion = SCHEMA_VERSION
    featx_version: str
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    inputs_digest: str = ""
    environment: EnvironmentRecord
    dataset: DatasetRecord
    network: NetworkRecord
    mode: Literal["scratch", "frozen", "finetune", "lp-ft"]
    settings: dict[str, Any]
    features: Literal["cached", "computed"] = "computed"
    state: State
    message: str | None = None
    history: list[EpochRecord]
    best_epoch: int
    kept_by: str
    splits: dict[str, SplitMetrics] = Field(default_factory=dict)
    model_file: str | None = None
    model_bytes: int | None = None
    timing: dict[str, float] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class StudyRow(StrictRecord):
    """One run of a study: what was varied, how it ended, what it reached.

    `group` names the combination of settings (all repeats of it share it), `settings` what was
    varied in it; `label` is the cut for probes and empty for trainings. `top1` and `top5` are by
    split; `best_epoch` and `epochs_run` are None for probes, `C` (that was used) and `converged`
    for trainings; `folder` holds the run's own report, relative to the study's.
    """

    run: str
    group: str
    settings: dict[str, Any]
    seed: int
    repeat: int = Field(ge=1)
    label: str = ""
    state: State | Literal["failed"]
    message: str | None = None
    n_parameters: int | None = None
    multiply_adds: int | None = None
    best_epoch: int | None = None
    epochs_run: int | None = None
    C: float | None = None
    converged: bool | None = None
    seconds: float
    top1: dict[str, float] = Field(default_factory=dict)
    top5: dict[str, float] = Field(default_factory=dict)
    folder: str


class SpreadRecord(StrictRecord):
    """What repeats of one group gave on one split: `metric` is ``top1`` or ``top5``.

    `low` and `high` bound the mean with 95 % confidence (Student's t); None for a single run, as
    `std` is (which is the sample's, with n - 1).
    """

    group: str
    label: str = ""
    split: str
    metric: Literal["top1", "top5"]
    n: int = Field(ge=1)
    min: float
    mean: float
    max: float
    std: float | None = None
    low: float | None = None
    high: float | None = None


class Curve(StrictRecord):
    """The history of one run of a study: `values` by metric and split (``top1 val``), per epoch."""

    run: str
    group: str
    values: dict[str, list[float]]


class StudyRecord(StrictRecord):
    """A grid, or repeats, or both: every run, and the spread of every group.

    `axes` holds the fields that were varied, with their values in the recipe's order; `task` is
    what each run was; `published` holds figures of the source document to stand beside, by group.
    """

    kind: Literal["study"] = "study"
    schema_version: SchemaVersion = SCHEMA_VERSION
    featx_version: str
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    inputs_digest: str = ""
    environment: EnvironmentRecord
    dataset: DatasetRecord
    task: Literal["probe", "train"]
    axes: dict[str, list[Any]]
    repeats: int = Field(ge=1)
    rows: list[StudyRow] = Field(min_length=1)
    spreads: list[SpreadRecord] = Field(default_factory=list)
    curves: list[Curve] = Field(default_factory=list)
    timing: dict[str, float] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class PairedRecord(StrictRecord):
    """The best approach against this one, image by image, on the test split.

    `difference` is the best's accuracy minus this one's, with a 95 % bootstrap interval;
    `only_best` and `only_this` count images that just one of the two classifies correctly; `p` is
    McNemar's exact two-sided value, `p_adjusted` the same after Holm's correction.
    """

    difference: float
    low: float
    high: float
    only_best: int
    only_this: int
    p: float
    p_adjusted: float


class ApproachRecord(StrictRecord):
    """One approach of a comparison.

    `approach` is ``probe``, ``frozen``, ``lp-ft``, ``finetune`` or ``scratch``; `what` the cut or
    the network. `train_s` and `extract_s` are what it takes to have the model from images: fitting
    or training, with all that is tried on the validation images; and reading and extracting these
    and the training images, at a measured rate where they were cached. Test images cost nothing.
    `stored_bytes` is what has to be kept to use it: head or model file, and the backbone's weights.
    """

    name: str
    approach: Literal["probe", "frozen", "lp-ft", "finetune", "scratch"]
    what: str
    settings: str
    splits: dict[str, SplitMetrics]
    train_s: float
    extract_s: float = 0.0
    n_trained: int
    multiply_adds: int
    stored_bytes: int
    folder: str
    against_best: PairedRecord | None = None


class ComparisonRecord(StrictRecord):
    """Approaches on one dataset and split; `best` is the name of the one best on `chosen_on`."""

    kind: Literal["comparison"] = "comparison"
    schema_version: SchemaVersion = SCHEMA_VERSION
    featx_version: str
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    inputs_digest: str = ""
    environment: EnvironmentRecord
    dataset: DatasetRecord
    approaches: list[ApproachRecord] = Field(min_length=1)
    best: str
    chosen_on: Literal["val", "test"]
    timing: dict[str, float] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
