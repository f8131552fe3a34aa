"""A recipe: every setting of a run in one checked value."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from pydantic import model_validator

from featx.recipes.fields import ProbeFields, SharedFields
from featx.recipes.train_fields import CompareFields, LoopFields, Mode, TrainFields

# Fields that say where and how fast a run works, or what stands beside it: they change no result,
# and threads its last digits at most (docs/decisions/0027).
PLACES = (
    "name", "data_dir", "cache_dir", "out", "rebuild", "jobs", "workers", "threads",
    "memory_budget", "resume", "track", "published", "exhibits", "map_method",
)  # fmt: skip
DEFAULT_C = {"svm": 12.0, "logistic": 1.0}
DEFAULT_LR = {"scratch": 1e-3, "frozen": 1e-3, "finetune": 1e-4, "lp-ft": 1e-4}
DEFAULT_TRAIN_BATCH = 64


def _own(kind: type[SharedFields], parent: type[SharedFields]) -> tuple[str, ...]:
    return tuple(name for name in kind.model_fields if name not in parent.model_fields)


SHARED = tuple(SharedFields.model_fields)
_PROBE = _own(ProbeFields, SharedFields)
_LOOP = _own(LoopFields, ProbeFields)
# One table of many runs is not repeated, and has no place for a source's figures.
_NOT_COMPARED = ("repeats", "published")
# Which fields mean something to which task; any other is refused.
TASK_FIELDS = {
    "probe": (*SHARED, *_PROBE),
    "train": (*SHARED, *_LOOP, *_own(TrainFields, LoopFields)),
    "compare": tuple(
        name
        for name in (*SHARED, *_PROBE, *_LOOP, *_own(CompareFields, TrainFields))
        if name not in _NOT_COMPARED
    ),
}


class Recipe(CompareFields):
    """Settings of one run; see the description of each field.

    Attributes are the fields; `load_recipe` reads them from a file. Invalid values raise
    `RecipeError` through `load_recipe` and `make_recipe`.
    """

    @model_validator(mode="after")
    def _belongs_to_the_task(self) -> Recipe:
        valid = TASK_FIELDS[self.task]
        for name in type(self).model_fields:
            if name in self.model_fields_set and name not in valid:
                tasks = " or ".join(task for task, names in TASK_FIELDS.items() if name in names)
                raise ValueError(f"{name} belongs to task {tasks}, and this is task {self.task}")
        return self

    @model_validator(mode="after")
    def _only_auto_chooses_a_precision(self) -> Recipe:
        if self.allow and self.precision != "auto":
            raise ValueError(
                f"allow is {','.join(self.allow)}: it says what precision auto may take, and "
                f"precision is {self.precision}. Leave allow out, or take precision auto"
            )
        return self

    @model_validator(mode="after")
    def _choosing_needs_validation(self) -> Recipe:
        if self.val != 0:
            return self
        if self.refit:
            raise ValueError("refit adds the validation images, and there are none (val is 0)")
        several = isinstance(self.C, str) or (isinstance(self.C, tuple) and len(self.C) > 1)
        if several and not self.cv:
            raise ValueError(
                "C is to be chosen, and there is no validation split to choose it on (val is 0). "
                "Give one value of C, hold out validation images (val: 0.2), or choose by "
                "cross-validation (cv: 5)"
            )
        if self.patience is not None or self.keep == "best":
            what = "patience stops" if self.patience is not None else "keep: best chooses"
            raise ValueError(
                f"{what} by {self.monitor}, and there is no validation split (val is 0). Hold "
                "out validation images (val: 0.2)"
            )
        return self

    @model_validator(mode="after")
    def _folds_need_the_solver(self) -> Recipe:
        if self.cv == 1:
            raise ValueError("cv is 1: cross-validation needs 2 folds or more, or 0 for none")
        if self.cv and self.solver != "featx":
            raise ValueError(
                f"cv chooses C with featx' own solvers, not with solver {self.solver}. Leave cv "
                "out, or take solver featx"
            )
        return self

    @model_validator(mode="after")
    def _the_solver_solves_the_head(self) -> Recipe:
        from featx.heads import SOLVERS

        valid = SOLVERS[self.head]
        if self.solver not in valid:
            raise ValueError(
                f"solver {self.solver} does not fit a head of kind {self.head}; valid are "
                f"{' and '.join(valid)}"
            )
        return self

    @model_validator(mode="after")
    def _a_cut_says_what_is_frozen(self) -> Recipe:
        if self.from_cut and self.mode not in (None, "finetune"):
            raise ValueError(
                f"from_cut trains what stands behind a cut, mode {self.mode} does not: leave out "
                "one of them"
            )
        return self

    @property
    def training_mode(self) -> Mode:
        """The mode of a training: the one that is set, or what a cut or the network comes to.

        The small networks come without weights, and so are trained from scratch.
        """
        from featx.networks import zoo_names

        if self.mode is not None:
            return self.mode
        if self.from_cut:
            return "finetune"
        small = (self.network or "").removeprefix("featx/") in zoo_names()
        return "scratch" if small and self.weights == "default" else "frozen"

    @property
    def cache_path(self) -> Path:
        """Where features are cached: the setting, FEATX_CACHE_DIR, or ``cache``."""
        return Path(self.cache_dir or os.environ.get("FEATX_CACHE_DIR") or "cache").expanduser()

    @property
    def report_path(self) -> Path:
        """The folder of the run's report."""
        return Path(self.out).expanduser() / self.run_name

    @property
    def run_name(self) -> str:
        """The name, or one made of data, network, size, pooling, head and a mark of the rest."""
        if self.name:
            return self.name
        kind, _, path = self.dataset.partition(":")
        size = f"{self.image_size}px" if isinstance(self.image_size, int) else self.image_size
        network = self.network or "none" if self.task == "train" else self.backbone
        if network.endswith(".safetensors"):
            network = Path(network).parent.name or Path(network).stem
        pool = "" if self.pool == "avg" else self.pool
        last = {
            "probe": [pool, self.head],
            "train": [f"from-{self.from_cut}" if self.from_cut else self.training_mode],
            "compare": ["compare"],
        }
        parts = [
            kind,
            Path(path).stem,
            network,
            "random" if self.weights == "none" and self.task != "train" else "",
            "" if size == "auto" else size,
            *last[self.task],
            self.mark(),
        ]
        return "-".join(slug(part) for part in parts if part)

    def mark(self) -> str:
        """Return six digits of all that changes a result: other runs go to other folders."""
        settings = {k: v for k, v in self.settings().items() if k not in (*PLACES, "description")}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]

    def settings(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as plain JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)


def slug(text: str) -> str:
    """Return text as part of a file name: letters, digits, dots, underscores, hyphens.

    Examples
    --------
    >>> slug("my recipe"), slug("timm/vit"), slug("_x")
    ('my-recipe', 'timm-vit', 'x')
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._") or "run"


def flag(field: str) -> str:
    """Return the flag of a field: ``image_size`` is ``--image-size``, ``cuts`` is ``--cut``."""
    special = {"cuts": "--cut", "from_cut": "--from"}
    return special.get(field, "--" + field.replace("_", "-"))
