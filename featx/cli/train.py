"""``featx train``: a network from scratch, a head on a frozen one, or fine-tuning."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from featx.cli.options import TRAIN_FIELDS, DryRun, takes_recipe


@takes_recipe(TRAIN_FIELDS)
def train(
    settings: dict[str, Any],
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr",
            help="Draw the loss while the learning rate rises, suggest a rate, and stop. With mode "
            "lp-ft the head is fitted first.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Train a network: from scratch, a head on a frozen one, or fine-tuning.

    Every epoch ends with a checkpoint; --resume continues from it.

    Example:  featx train --network cnn-a --dataset cifar10 --epochs 20 --augment flip,crop
    """
    from featx.recipes import make_study

    study = make_study({**settings, "task": "train"}, "the options")
    if find_lr:
        from featx.cli.training import find_rate

        find_rate(study.recipe, dry_run=dry_run)
        return
    from featx.cli.studies import run_study_and_print

    run_study_and_print(study, dry_run=dry_run)
