"""``featx compare``: probes, frozen head, LP-FT, fine-tuning and scratch in one table."""

from __future__ import annotations

from typing import Any

from featx.cli.options import COMPARE_FIELDS, DryRun, recipe_from_flags, takes_recipe


@takes_recipe(COMPARE_FIELDS)
def compare(settings: dict[str, Any], dry_run: DryRun = False) -> None:
    """Compare probes per cut with a frozen head, LP-FT, fine-tuning and training from scratch.

    All of them see the same images. The best one on validation is tested against every other one on
    the test split, image by image. The same command again runs only what is not finished, from the
    last checkpoint where there is one.

    Example:  featx compare --backbone resnet18 --cut layer3 --cut layer4 --dataset cifar5
    --image-size 64 --epochs 10 --scratch cnn-a
    """
    recipe = recipe_from_flags(settings, task="compare")
    from featx.cli.comparing import compare_and_print

    compare_and_print(recipe, dry_run=dry_run)
