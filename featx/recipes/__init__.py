"""A recipe: every setting of a run in one checked value.

A recipe file is YAML; every flag of the command line is a field of it, with the same name
(``--image-size`` is ``image_size``). An unknown key is an error that names the closest one. A field
may be given a list of values: the recipe is then a study, which runs every combination.
"""

from featx.recipes.loading import (
    load_recipe,
    make_recipe,
    parse_overrides,
    recipe_file,
    shipped_recipes,
    valid_recipe,
)
from featx.recipes.recipe import (
    DEFAULT_C,
    DEFAULT_LR,
    DEFAULT_TRAIN_BATCH,
    PLACES,
    TASK_FIELDS,
    Recipe,
    flag,
    slug,
)
from featx.recipes.study import Member, Study, load_study, make_study
from featx.recipes.unused import has_effect, refuse_unused

__all__ = [
    "DEFAULT_C",
    "DEFAULT_LR",
    "DEFAULT_TRAIN_BATCH",
    "PLACES",
    "TASK_FIELDS",
    "Member",
    "Recipe",
    "Study",
    "flag",
    "has_effect",
    "load_recipe",
    "load_study",
    "make_recipe",
    "make_study",
    "parse_overrides",
    "recipe_file",
    "refuse_unused",
    "shipped_recipes",
    "slug",
    "valid_recipe",
]
