"""Options of the commands: every one of them is a field of a recipe, with the same name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from featx.recipes import TASK_FIELDS, Recipe, flag, make_recipe

PANELS = {
    "Network": ("backbone", "weights", "preprocess", "cuts", "pool"),
    "Images": (
        "dataset", "data_dir", "classes", "val", "test", "stratified", "limit",
        "image_size", "crop", "interpolation", "seed",
    ),
    "Head": ("standardize", "C", "cv", "solver", "max_iter", "tol", "refit"),
    "Training": (
        "network", "mode", "from_cut", "approaches", "scratch", "per_approach", "epochs",
        "optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "lr_end",
        "warmup_epochs", "step_epochs", "step_gamma", "label_smoothing", "augment",
        "patience", "monitor", "keep", "test_each_epoch", "clip_norm", "ema", "resume",
    ),
    "Machine": (
        "device", "precision", "allow", "channels_last", "fold", "compile", "threads", "tune",
        "batch_size", "storage", "workers", "jobs", "memory_budget", "rebuild",
    ),
    "Places": (
        "name", "cache_dir", "out", "exhibits", "map_method", "repeats", "track", "published",
    ),
}  # fmt: skip
# The command says these by its name, or a file says them.
_NOT_FLAGS = ("task", "description", "head", "published")
ALL_FIELDS = tuple(field for fields in PANELS.values() for field in fields)
FIT_FIELDS = tuple(
    field for field in ALL_FIELDS if field in TASK_FIELDS["probe"] and field not in _NOT_FLAGS
)
EXTRACT_FIELDS = tuple(
    field
    for field in FIT_FIELDS
    if field not in PANELS["Head"] and field not in ("exhibits", "map_method", "repeats")
)
TRAIN_FIELDS = tuple(
    field for field in ALL_FIELDS if field in TASK_FIELDS["train"] and field not in _NOT_FLAGS
)
COMPARE_FIELDS = (
    # A comparison continues by itself, whether it is told to or not.
    *(f for f in ALL_FIELDS if f in TASK_FIELDS["compare"] and f not in (*_NOT_FLAGS, "resume")),
    "head",
)
RUN_FIELDS = (*(field for field in ALL_FIELDS if field not in _NOT_FLAGS), "head")

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print what is cached and what would be done, download nothing, and stop.",
    ),
]


def takes_recipe(fields: Iterable[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field, and the settings that were given as a dict.

    The decorated function takes ``settings: dict`` first (only what the user wrote), then its
    own parameters.
    """
    options = [_option(field) for field in fields]
    names = {option.name for option in options}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            given = {name: values[name] for name in names if values[name] not in (None, [])}
            rest = {name: value for name, value in values.items() if name not in names}
            return function(given, **rest)

        parameters = [*own, *options]
        # Typer reads a command's options from its signature.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _option(field: str) -> inspect.Parameter:
    info = Recipe.model_fields[field]
    panel = next((name for name, fields in PANELS.items() if field in fields), "Head")
    shared: dict[str, Any] = {
        "help": _with_default(info.description or "", info.default),
        "rich_help_panel": panel,
        "show_default": False,
    }
    kind: Any
    if field == "cuts":
        kind = Annotated[list[str] | None, typer.Option(flag(field), metavar="NAME", **shared)]
    elif info.annotation is bool:
        # A setting that is on by default needs a flag that says no.
        both = f"{flag(field)}/--no-{flag(field).removeprefix('--')}"
        name = both if info.default else flag(field)
        kind = Annotated[bool | None, typer.Option(name, **shared)]
    else:
        kind = Annotated[str | None, typer.Option(flag(field), metavar=_metavar(info), **shared)]
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _with_default(help_text: str, default: Any) -> str:
    silent = default is None or isinstance(default, bool) or default in ("", (), {})
    if silent or "Default" in help_text:
        return help_text
    return f"{help_text} Default: {default}."


def _metavar(info: FieldInfo) -> str:
    """Return the valid words of a field, where words are all it takes; else VALUE."""
    words = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    return "|".join(words) or "VALUE"


def recipe_from_flags(settings: dict[str, Any], **fixed: Any) -> Recipe:
    """Return the recipe of a command's flags; `fixed` is what the command itself decides."""
    return make_recipe({**settings, **fixed}, "the options")
