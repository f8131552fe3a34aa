"""``featx compare``: approaches on the same images in one table, or runs that are done."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from featx.cli.options import COMPARE_FIELDS, DryRun, recipe_from_flags, takes_recipe


@takes_recipe(COMPARE_FIELDS)
def compare(
    settings: dict[str, Any],
    reports: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs that are done, by name or folder: show what is different between them.",
            metavar="REPORT",
        ),
    ] = None,
    dry_run: DryRun = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Compare probes per cut with a frozen head, LP-FT, fine-tuning and training from scratch.

    All of them see the same images. The best one on validation is tested against every other one on
    the test split, image by image. The same command again runs only what is not finished, from the
    last checkpoint where there is one.

    With the names of reports nothing is run: a page shows what is different between these runs,
    in settings, images and versions, and in every accuracy, class and cost.

    Example:  featx compare --backbone resnet18 --cut layer3 --cut layer4 --dataset cifar5
    --image-size 64 --epochs 10 --scratch cnn-a

    Example:  featx compare my-first-run my-second-run --open
    """
    if reports:
        from featx.cli.differences import show_differences

        show_differences(reports, settings, dry_run=dry_run, show=show)
        return
    recipe = recipe_from_flags(settings, task="compare")
    from featx.cli.comparing import compare_and_print

    compare_and_print(recipe, dry_run=dry_run, show=show)
