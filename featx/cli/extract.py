"""``featx extract``: images through a cut network into the cache."""

from __future__ import annotations

import time
from typing import Any

from featx.cli.options import EXTRACT_FIELDS, DryRun, recipe_from_flags, takes_recipe


@takes_recipe(EXTRACT_FIELDS)
def extract(
    settings: dict[str, Any],
    dry_run: DryRun = False,
) -> None:
    """Compute features at named cuts and cache them. A second call finds them and does no work.

    Example:  featx extract --backbone resnet50 --cut conv4_block6_out --cut conv5_block3_out
    --dataset cifar5 --image-size 32
    """
    recipe = recipe_from_flags(settings)
    from featx.cli.console import ConsoleProgress, out
    from featx.cli.plans import plan_table, summary, tell_tuning
    from featx.pipeline import extract_all, make_plan, prepare, tracked_run

    progress = ConsoleProgress()
    prepared = prepare(recipe, progress, measure=not dry_run)
    tell_tuning(prepared)
    plan = make_plan(prepared)
    if dry_run:
        out().print(plan_table(prepared, plan))
        out().print(summary(prepared, plan))
        return
    for note in prepared.backbone.notes:
        progress.say(note)
    progress.say(summary(prepared, plan))
    with tracked_run(recipe, progress=progress) as tracked:
        start = time.perf_counter()
        extract_all(prepared, progress)
        tracked.metrics({"extract_s": time.perf_counter() - start})
    out().print(plan_table(prepared, plan.when_done()))
