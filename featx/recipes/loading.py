"""Recipes from files and flags: read, checked, with errors that name the field and the fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from featx.errors import RecipeError, closest, quoted
from featx.recipes.fields import C_WORDS
from featx.recipes.recipe import TASK_FIELDS, Recipe, slug
from featx.recipes.unused import refuse_jobs_of_one, refuse_unused, still_meant
from featx.recipes.yaml_text import read_yaml

MAX_RECIPE_BYTES = 1_000_000
# A list is one value of these; a list of lists varies them. A list of C is a choice by validation,
# one with a grid or a list in it ([12, auto]) varies it.
LIST_FIELDS = ("cuts", "classes", "augment", "approaches", "scratch", "allow")
_NEVER_VARIED = ("task", "name", "description", "repeats", "published", "out", "cache_dir")


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
        Names every wrong field, its value and what is valid; and a setting that this very run
        would not use, like momentum with adam.
    """
    recipe = valid_recipe(values, where)
    if recipe.task == "train":
        refuse_unused([recipe], where)
        refuse_jobs_of_one(recipe, where)
    return recipe


def valid_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """Return the recipe of one run of several, which need not use all that they share.

    Raises
    ------
    RecipeError
        Names every wrong field, its value and what is valid.
    """
    fields = list(Recipe.model_fields)
    unknown = [str(key) for key in values if key not in fields]
    valid = TASK_FIELDS.get(str(values.get("task", "probe")), tuple(fields))
    if unknown:
        lines = []
        for key in unknown:
            near = closest(key, valid) or closest(key, fields)
            lines.append(f"'{key}'" + (f" (closest: {quoted(near)})" if near else ""))
        raise RecipeError(
            f"Unknown key in {where}: {'; '.join(lines)}. Valid keys: {', '.join(valid)}."
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
    given = dict(overrides or {})
    values = {"name": slug(path.stem), **still_meant(read_recipe_file(path), given), **given}
    if lists := varied_fields(values):
        raise RecipeError(
            f"Recipe {path} is a study: {', '.join(lists)} has more than one value. Run it with "
            "featx run, load it with load_study, or set one value of each."
        )
    return make_recipe(values, f"recipe {path}")


def varied_fields(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the fields that are given a list where one value is expected, with that list."""
    return {field: list(value) for field, value in values.items() if _varies(field, value)}


def _varies(field: str, value: Any) -> bool:
    if field in _NEVER_VARIED or not isinstance(value, (list, tuple)):
        return False
    if field == "C":
        # Numbers alone are a choice; with a grid or a list among them there is more than one.
        return any(isinstance(item, (list, tuple)) or item in C_WORDS for item in value)
    return field not in LIST_FIELDS or any(isinstance(item, (list, tuple)) for item in value)


def read_recipe_file(path: Path) -> dict[str, Any]:
    """Return the fields of a recipe file, not checked yet.

    Raises
    ------
    RecipeError
        When it is too large, too deep, or no YAML mapping.
    """
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise RecipeError(
            f"Recipe {path} has {path.stat().st_size} bytes; a recipe has at most "
            f"{MAX_RECIPE_BYTES}. Is it the right file?"
        )
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also for bytes that are no UTF-8
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
    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {pair!r} is not KEY=VALUE. Example: --set image_size=64")
        try:
            values[key.strip().replace("-", "_")] = read_yaml(text)
        except ValueError as error:
            shown = pair if len(pair) <= 80 else pair[:77] + "..."
            raise RecipeError(f"--set {shown!r}: the value is not valid YAML: {error}.") from None
    return values
