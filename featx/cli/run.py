"""``featx run``: a recipe, from the images to the report."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from featx.cli.options import RUN_FIELDS, DryRun, takes_recipe


@takes_recipe(RUN_FIELDS)
def run(
    settings: dict[str, Any],
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override any field of the recipe."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Run a recipe: extract what is missing, fit, evaluate, report.

    Example:  featx run pipelines/d1-resnet50-svm.yaml --set image_size=64 --dry-run
    """
    from featx.cli.running import run_and_print
    from featx.recipes import load_recipe, parse_overrides

    made = load_recipe(recipe, {**parse_overrides(overrides or []), **settings})
    run_and_print(made, dry_run=dry_run)
