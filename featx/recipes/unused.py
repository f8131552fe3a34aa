"""Settings that would do nothing are refused where somebody asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featx.errors import RecipeError
from featx.training.settings import NEEDS

if TYPE_CHECKING:
    from featx.recipes.recipe import Recipe


def has_effect(field: str, values: Mapping[str, Any]) -> bool:
    """Return whether a field does anything beside these: momentum does nothing with adam.

    What decides may be a list of values, of which one that uses the field is enough; where it is
    not given its default decides.
    """
    if field not in NEEDS:
        return True
    from featx.recipes.recipe import Recipe

    by, used = NEEDS[field]
    given = values.get(by, Recipe.model_fields[by].default)
    options = given if isinstance(given, (list, tuple)) else [given]
    return any(option in used for option in options)


def still_meant(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's fields without those that an override takes the effect from.

    Who runs a recipe of sgd with ``--optimizer adam`` has not asked for its momentum.
    """
    return {
        field: value
        for field, value in values.items()
        if field not in NEEDS or NEEDS[field][0] not in overrides or has_effect(field, overrides)
    }


def refuse_unused(recipes: Sequence[Recipe], where: str) -> None:
    """Raise for a setting that none of the trainings that are given it uses.

    Parameters
    ----------
    recipes : sequence of Recipe
        What will run: one training, or those of a study or a comparison.
    where : str
        Where the settings come from, for the message.

    Raises
    ------
    RecipeError
        Says which setting, its value, what would use it, and what to do.
    """
    for field, (by, used) in NEEDS.items():
        given = [r for r in recipes if _is_asked_for(r, field)]
        if not given or any(getattr(r, by) in used for r in given):
            continue
        idle = list(dict.fromkeys(str(getattr(r, by)) for r in given))
        raise RecipeError(
            f"{field} is {getattr(given[0], field)} in {where}, and {by} {_do(idle)} not use it: "
            f"{_do(used)}. Leave {field} out, or take --{by} {used[0]}."
        )


def refuse_jobs_of_one(recipe: Recipe, where: str) -> None:
    """Raise for several jobs of a single training, which is one.

    Raises
    ------
    RecipeError
    """
    if recipe.task == "train" and recipe.jobs not in ("auto", 1):
        raise RecipeError(
            f"jobs is {recipe.jobs} in {where}, and a single training is one job. Leave jobs out; "
            "a study runs several at a time: give a field a list of values, or --repeats 5."
        )


def _do(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'does' if len(names) == 1 else 'do'}"


def _is_asked_for(recipe: Recipe, field: str) -> bool:
    # `nesterov: false` and `lr_end: null` ask for nothing.
    return field in recipe.model_fields_set and getattr(recipe, field) not in (None, False)
