"""A plan in words: what is cached, what will be computed, and how many bytes that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.cli.console import out, table
from featx.text import counted, human_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from featx.pipeline import Plan, Prepared


def plan_table(prepared: Prepared, plan: Plan) -> Table:
    """Return the feature sets of a plan, a row per cut and split."""
    header = ("cut", "split", "rows", "values a row", "bytes", "state")
    rows = []
    for item in plan.sets:
        state = "cached" if item.cached else "to compute"
        if 0 < item.rows_done < item.n_rows:
            state = f"{item.rows_done:,} rows cached"
        rows.append(
            (
                item.cut,
                item.split,
                f"{item.n_rows:,}",
                f"{item.n_features:,}",
                human_bytes(item.n_bytes),
                state,
            )
        )
    return table(f"Features in {prepared.store.root}", header, rows, left=(0, 1, 5))


def summary(prepared: Prepared, plan: Plan) -> str:
    """Return what will run and be written, in one sentence."""
    backbone, settings = prepared.backbone, prepared.settings
    where = f"{prepared.store.root}"
    random = " (random weights)" if backbone.weights.random else ""
    if not plan.images_to_extract:
        return (
            f"Everything of {backbone.short_name}{random} is cached in {where}: nothing to extract."
        )
    size = settings.preprocess.image_size
    return (
        f"{plan.images_to_extract:,} images through {backbone.short_name}{random} at "
        f"{f'{size} px' if size else 'their native size'}, "
        f"{counted(len(prepared.points), 'cut', 'cuts')}, on "
        f"{', '.join(map(str, settings.devices))} ({settings.numerics}): "
        f"{human_bytes(plan.bytes_to_write)} of features to write to {where}, "
        f"{human_bytes(prepared.store.free_bytes())} free."
    )


def tell_tuning(prepared: Prepared) -> None:
    """Print what ``tune`` measured and chose, if it was asked for."""
    tuning = prepared.tuning
    if tuning is None:
        return
    if not tuning.measured:
        out().print("--tune: nothing is measured yet, a run does it first. Planned as without it.")
        return
    rows = [
        (trial.what, f"{trial.images_per_s:,.1f}", "kept" if trial.kept else "")
        for trial in tuning.trials
    ]
    when = "found by an earlier run" if tuning.remembered else "kept for later runs with --tune"
    out().print(
        table(f"Settings of this machine, {when}", ("setting", "images/s", ""), rows, (0, 2))
    )
