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
    """Run a recipe: probes, a training, a comparison, or a study of many runs.

    A field with a list of values makes it a study: every combination is run, and what is finished
    is not run again.

    Example:  featx run pipelines/d1-resnet50-svm.yaml --set image_size=64 --dry-run
    """
    from featx.cli.studies import run_study_and_print
    from featx.recipes import load_study, parse_overrides

    study = load_study(recipe, {**parse_overrides(overrides or []), **settings})
    run_study_and_print(study, dry_run=dry_run)
