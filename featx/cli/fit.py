"""``featx fit-svm`` and ``featx fit-logistic``: a linear head per cut, and the reports."""

from __future__ import annotations

from typing import Any

from featx.cli.options import FIT_FIELDS, DryRun, takes_recipe


@takes_recipe(FIT_FIELDS)
def fit_svm(settings: dict[str, Any], dry_run: DryRun = False) -> None:
    """Fit a linear SVM per cut (squared hinge, C = 12) and print a report per cut and split.

    Features that are not cached are extracted first.

    Example:  featx fit-svm --backbone resnet50 --cut layer3.5 --cut layer4.2 --dataset cifar5
    --image-size 32 --C auto
    """
    _fit(settings, "svm", dry_run)


@takes_recipe(FIT_FIELDS)
def fit_logistic(settings: dict[str, Any], dry_run: DryRun = False) -> None:
    """Fit a logistic regression per cut and print a report per cut and split.

    Features that are not cached are extracted first.

    Example:  featx fit-logistic --backbone vgg16 --cut block5_pool --dataset folder:photos
    """
    _fit(settings, "logistic", dry_run)


def _fit(settings: dict[str, Any], head: str, dry_run: bool) -> None:
    from featx.cli.studies import run_study_and_print
    from featx.recipes import make_study

    study = make_study({**settings, "head": head}, "the options")
    run_study_and_print(study, dry_run=dry_run)
