"""A study: lists for single values in a recipe, repeats, or both, and the runs they come to."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.errors import RecipeError
from featx.recipes.loading import (
    LIST_FIELDS,
    read_recipe_file,
    recipe_file,
    valid_recipe,
    varied_fields,
)
from featx.recipes.recipe import Recipe, slug
from featx.recipes.unused import has_effect, refuse_jobs_of_one, refuse_unused, still_meant

MAX_RUNS = 10_000
"""Runs of a study: beyond it, a list is more likely a mistake than a wish."""

_LONGEST_GROUP = 90


@dataclass(frozen=True)
class Member:
    """One run of a study.

    Attributes
    ----------
    group : str
        Name of its settings, shared by all repeats: ``"conv2-lr0.01"``.
    varied : dict
        The fields that vary in the study, with this run's values.
    repeat : int
        From 1.
    recipe : Recipe
        What runs; its report goes to a folder under the study's.
    """

    group: str
    varied: dict[str, Any]
    repeat: int
    recipe: Recipe


@dataclass(frozen=True)
class Study:
    """Every run a recipe file comes to: one, where no field has a list and nothing is repeated.

    Attributes
    ----------
    recipe : Recipe
        The recipe with the first value of every list: what all runs share.
    axes : dict of str to list
        The fields that vary, with their values.
    members : tuple of Member
        Every run: groups in the order of the lists, repeats within a group.
    source : str
        The file or recipe name, as it was given.
    overrides : dict
        What replaced fields of the file.
    """

    recipe: Recipe
    axes: dict[str, list[Any]]
    members: tuple[Member, ...]
    source: str
    overrides: dict[str, Any]

    @property
    def is_single(self) -> bool:
        """Whether this is one plain run."""
        return not self.axes and self.recipe.repeats == 1


def load_study(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read a recipe file in which any field may have a list of values.

    Parameters
    ----------
    name : str or Path
        A YAML file, or the name of a recipe that comes with featx.
    overrides : mapping, optional
        Fields that replace those of the file.

    Raises
    ------
    RecipeError
        As `load_recipe`, for every combination.
    """
    path = recipe_file(str(name))
    given = dict(overrides or {})
    values = {"name": slug(path.stem), **still_meant(read_recipe_file(path), given), **given}
    return make_study(values, f"recipe {path}", source=str(name), overrides=given)


def make_study(
    values: Mapping[str, Any],
    where: str = "the settings",
    *,
    source: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> Study:
    """Return the study of these fields; see `load_study`.

    Combinations that come to the same run are run once: momentum means nothing to adam.
    """
    axes = varied_fields(values)
    for field, options in axes.items():
        if not options:
            raise RecipeError(f"{field} is an empty list in {where}: give at least one value.")
    first_values = {field: options[0] for field, options in axes.items()}
    first = valid_recipe({**values, **first_values}, where)
    if axes and first.task == "compare":
        raise RecipeError(
            f"{', '.join(axes)} in {where}: a comparison is one table and takes no lists of "
            "values. Run it once per value, with --set."
        )
    n_runs = math.prod(map(len, axes.values())) * first.repeats
    if n_runs > MAX_RUNS:
        raise RecipeError(
            f"The lists and repeats in {where} come to {n_runs:,} runs: a study has at most "
            f"{MAX_RUNS:,}. Give fewer values, or several recipes."
        )
    groups: dict[str, tuple[dict[str, Any], Recipe]] = {}
    for combination in itertools.product(*axes.values()):
        varied = _that_matter(dict(zip(axes, combination, strict=True)), {**values})
        plain = {field: value for field, value in values.items() if field not in axes}
        recipe = valid_recipe({**plain, **varied}, where)
        group = _group_name(varied)
        if groups.setdefault(group, (varied, recipe))[0] != varied:
            raise RecipeError(
                f"Two combinations in {where} would both be called '{group}': {groups[group][0]} "
                f"and {varied}. Give values whose names differ."
            )
    members = tuple(
        Member(group, varied, repeat, _member_recipe(first, group, recipe, repeat))
        for group, (varied, recipe) in groups.items()
        for repeat in range(1, first.repeats + 1)
    )
    study = Study(first, axes, members, source, dict(overrides or {}))
    if first.task == "train":
        refuse_unused([recipe for _, recipe in groups.values()], where)
    if study.is_single:
        refuse_jobs_of_one(first, where)
    return study


def _that_matter(varied: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what has no effect in this combination: momentum without sgd."""
    together = {**values, **varied}
    return {field: value for field, value in varied.items() if has_effect(field, together)}


def _group_name(varied: Mapping[str, Any]) -> str:
    """Return the name of a combination: ``"conv2-lr0.001-sgd-momentum0.5"``."""
    parts = []
    for field, value in varied.items():
        listed = isinstance(value, (list, tuple))
        # The plus of 1e+30 would be lost in a file name, and is not needed.
        text = ("+".join(map(str, value)) or "none") if listed else str(value).replace("e+", "e")
        # Words speak for themselves, numbers need their name.
        words = (isinstance(value, str) and field != "C") or field in LIST_FIELDS
        parts.append(slug(text) if words else f"{field}{slug(text)}")
    return "-".join(parts) or "all"


def _member_recipe(study: Recipe, group: str, recipe: Recipe, repeat: int) -> Recipe:
    """Return the recipe of one run: its own folder under the study's, its own seed."""
    # A long name is cut, and told from others cut alike by a mark of the whole.
    if len(group) > _LONGEST_GROUP:
        mark = hashlib.sha256(group.encode()).hexdigest()[:6]
        group = f"{group[: _LONGEST_GROUP - 7]}-{mark}"
    name = group if study.repeats == 1 else f"{group}-{repeat}"
    return recipe.model_copy(
        update={
            "name": name,
            "out": str(study.report_path / "runs"),
            "repeats": 1,
            "published": {},
            "seed": recipe.seed + repeat - 1,
        }
    )
