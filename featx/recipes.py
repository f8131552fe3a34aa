"""A recipe: every setting of a run in one checked value.

A recipe file is YAML; every flag of the command line is a field of it, with the same name
(``--image-size`` is ``image_size``). An unknown key is an error that names the closest one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from featx.errors import RecipeError, closest, quoted
from featx.machine import parse_bytes

MAX_RECIPE_BYTES = 1_000_000
# Fields that say where and how fast a run works: they change no result.
PLACES = (
    "name", "data_dir", "cache_dir", "out", "rebuild", "jobs", "workers", "memory_budget",
)  # fmt: skip
DEFAULT_C = {"svm": 12.0, "logistic": 1.0}


def _split_commas(value: Any) -> Any:
    """Take ``a,b,c`` for a list, as the command line gives it."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _split_number_list(value: Any) -> Any:
    """Take ``0.1,1,10`` for a list of numbers; leave one number or a word as it is."""
    return _split_commas(value) if isinstance(value, str) and "," in value else value


def _split_limits(value: Any) -> Any:
    """Take ``train=600,test=1000`` for a mapping."""
    if isinstance(value, str) and "=" in value:
        pairs = [part.partition("=") for part in _split_commas(value)]
        return {split.strip(): limit for split, _, limit in pairs}
    return value


def _names(value: Any) -> Any:
    """Take ``3`` for ``"3"`` in a list of class names, as YAML gives the digits' classes."""
    value = _split_commas(value)
    return (
        [str(v) if isinstance(v, int) else v for v in value] if isinstance(value, list) else value
    )


def _amount(value: Any) -> Any:
    """Take ``0.2`` for a fraction and ``5000`` for a count."""
    if isinstance(value, str):
        return int(value) if value.strip().isdigit() else float(value)
    return value


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
HoldOut = Annotated[int | float, BeforeValidator(_amount), Field(ge=0)]


class Recipe(BaseModel):
    """Settings of one run; see the description of each field.

    Attributes are the fields; `load_recipe` reads them from a file. Invalid values raise
    `RecipeError` through `load_recipe` and `make_recipe`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="Name of the run: its report goes to OUT/NAME. Default: made from the rest.",
    )
    description: str = Field("", description="What the run is for; printed in the report.")
    backbone: str = Field(
        "resnet50", description="A torchvision or timm network: resnet50, vgg16, timm/NAME."
    )
    weights: str = Field(
        "default",
        description="default, a tag (IMAGENET1K_V1), a .safetensors or .pth file, package:NAME "
        "or none.",
    )
    preprocess: str = Field(
        "auto", description="auto (what the weights say), torch, caffe, or a weights tag."
    )
    cuts: Annotated[tuple[str, ...], BeforeValidator(_split_commas)] = Field(
        (), description="Where to cut: a Keras, module or stage name (featx layers NETWORK)."
    )
    pool: str = Field(
        "avg", description="avg, max, avgmax, gem, flatten, grid:N; for tokens: cls, mean, flatten."
    )
    image_size: Count | Literal["auto", "native"] = Field(
        "auto", description="Pixels a side, native, or auto (the weights' own)."
    )
    crop: Literal["auto", "center", "none"] = Field(
        "auto", description="center (the weights' own crop), none, auto (none if square and equal)."
    )
    interpolation: Literal["auto", "bilinear", "bicubic"] = Field(
        "auto", description="bilinear, bicubic or auto (the weights' own); always antialiased."
    )
    dataset: str = Field(
        "cifar5",
        description="cifar10, cifar5, digits, fashion-mnist, folder:PATH or npz:PATH.",
    )
    data_dir: str | None = Field(
        None, description="Where data lie or are downloaded to (FEATX_DATA_DIR)."
    )
    classes: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        (), description="Keep these classes only: a,b,c."
    )
    val: HoldOut = Field(
        0.2, description="Validation images held out of training: a fraction, a count, or 0."
    )
    test: HoldOut = Field(
        0.2, description="Test images held out, where the source has no test split."
    )
    stratified: bool = Field(False, description="Hold out the same share of every class.")
    limit: Annotated[Count | dict[str, Count | None] | None, BeforeValidator(_split_limits)] = (
        Field(None, description="Images per class at most: N, or train=N,test=M.")
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="Seed of hold-out, limits, random weights and solvers."
    )
    standardize: Literal["train", "per-split", "none"] = Field(
        "train", description="Statistics of train for all, of each split by itself, or none."
    )
    head: Literal["svm", "logistic"] = Field("svm", description="The linear head.")
    C: Annotated[
        Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] | Literal["auto"] | None,
        BeforeValidator(_split_number_list),
    ] = Field(
        None,
        description="A value, a list or auto: several are compared on the validation split. "
        "Default: 12 (svm), 1 (logistic).",
    )
    max_iter: Count = Field(1000, description="Iterations of the solver at most.")
    tol: Positive = Field(1e-4, description="Tolerance of the solver.")
    refit: bool = Field(
        False, description="Fit once more on train and validation after C is chosen."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Arithmetic of the forward pass."
    )
    batch_size: Count | Literal["auto"] = Field(
        "auto", description="Images a batch; auto halves it when memory runs out."
    )
    storage: Literal["float32", "float16"] = Field("float32", description="Type of cached values.")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="Processes that decode image files."
    )
    jobs: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Heads fitted at the same time; auto: as cores and memory allow."
    )
    memory_budget: Annotated[int, BeforeValidator(parse_bytes)] | None = Field(
        None, description="Memory to stay within, like 8GB. Default: 80 % of what is free."
    )
    rebuild: bool = Field(False, description="Compute the features anew even if they are cached.")
    cache_dir: str | None = Field(
        None, description="Where features are cached (FEATX_CACHE_DIR). Default: cache."
    )
    out: str = Field("reports", description="Where reports go.")

    @model_validator(mode="after")
    def _choosing_needs_validation(self) -> Recipe:
        if self.refit and self.val == 0:
            raise ValueError("refit adds the validation images, and there are none (val is 0)")
        chooses = self.C == "auto" or (isinstance(self.C, tuple) and len(self.C) > 1)
        if chooses and self.val == 0:
            raise ValueError(
                "C is to be chosen, and there is no validation split to choose it on (val is 0). "
                "Give one value of C, or hold out validation images (val: 0.2)"
            )
        return self

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
        parts = [
            kind,
            Path(path).stem,
            self.backbone,
            "random" if self.weights == "none" else "",
            "" if size == "auto" else size,
            "" if self.pool == "avg" else self.pool,
            self.head,
            self._mark(),
        ]
        return "-".join(slug(part) for part in parts if part)

    def _mark(self) -> str:
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
    return "--cut" if field == "cuts" else "--" + field.replace("_", "-")


def make_recipe(values: Mapping[str, Any], where: str = "the settings") -> Recipe:
    """Return a validated recipe.

    Parameters
    ----------
    values : mapping
        Field name to value.
    where : str
        Where they come from, for messages.

    Raises
    ------
    RecipeError
        Names every wrong field, its value and what is valid.
    """
    fields = list(Recipe.model_fields)
    unknown = [str(key) for key in values if key not in fields]
    if unknown:
        lines = []
        for key in unknown:
            near = closest(key, fields)
            lines.append(f"'{key}'" + (f" (closest: {quoted(near)})" if near else ""))
        raise RecipeError(
            f"Unknown key in {where}: {'; '.join(lines)}. Valid keys: {', '.join(fields)}."
        )
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise RecipeError(f"Not valid in {where}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """Return the problems of a validation, one per field, in words."""
    problems: dict[str, tuple[Any, list[str]]] = {}
    for item in error.errors(include_url=False):
        field = str(item["loc"][0]) if item["loc"] else ""
        message = str(item["msg"])
        if item["type"] != "value_error":
            message = message[:1].lower() + message[1:]
        problems.setdefault(field, (item["input"], []))[1].append(
            message.removeprefix("Value error, ")
        )
    parts = []
    for field, (value, messages) in problems.items():
        reasons = " or ".join(dict.fromkeys(messages))
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        hint = Recipe.model_fields[field].description if field else ""
        text = f"{field} is {shown}: {reasons}" if field else reasons
        parts.append(text.rstrip(".") + "." + (f" {field}: {hint}" if hint else ""))
    return " ".join(parts)


def recipe_file(name: str) -> Path:
    """Return the file of a recipe: a path, or the name of one that comes with featx.

    Raises
    ------
    RecipeError
        When there is no such file; names the recipes that come with featx.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    # `pipelines/demo.yaml` is the shipped recipe also where there is no checkout around.
    plain = path.stem if path == Path("pipelines") / f"{path.stem}.yaml" else name
    if plain in shipped:
        return shipped[plain]
    near = closest(Path(name).stem, shipped)
    raise RecipeError(
        f"There is no recipe file '{name}'."
        + (f" Closest: {quoted(near)}." if near else "")
        + f" Recipes that come with featx: {', '.join(shipped)}."
    )


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with featx, by name."""
    package = Path(str(files("featx")))
    # A wheel carries them inside the package; a checkout has them beside it.
    folder = next(p for p in (package / "pipelines", package.parent / "pipelines") if p.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe file and check it.

    Parameters
    ----------
    name : str or Path
        A YAML file, or the name of a recipe that comes with featx (``"demo"``).
    overrides : mapping, optional
        Fields that replace those of the file.

    Raises
    ------
    RecipeError
        When the file is absent, no YAML mapping, too large or holds a wrong field.
    """
    path = recipe_file(str(name))
    values = {**_read_yaml(path), **(overrides or {})}
    return make_recipe({"name": slug(path.stem), **values}, f"recipe {path}")


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise RecipeError(
            f"Recipe {path} has {path.stat().st_size} bytes; a recipe has at most "
            f"{MAX_RECIPE_BYTES}. Is it the right file?"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"Recipe {path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"Recipe {path} holds {type(values).__name__}, expected keys and values like "
            "'backbone: resnet50'."
        )
    return values


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` pairs as fields; values are read as YAML.

    Raises
    ------
    RecipeError
        When a pair has no ``=`` or its value is not YAML.
    """
    import yaml

    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {pair!r} is not KEY=VALUE. Example: --set image_size=64")
        try:
            values[key.strip().replace("-", "_")] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RecipeError(f"--set {pair!r}: the value is not valid YAML.") from None
    return values
