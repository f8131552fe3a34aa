"""``featx layers --profile``: what every stage and cut costs on this machine."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import typer

from featx.cli.layers import BYTES_PER_10000, cut_fields, pixels

if TYPE_CHECKING:
    from featx.backbones import Backbone
    from featx.extraction import NetworkProfile, Settings


def profile_layers(
    backbone: Backbone,
    size: tuple[int, int],
    *,
    pool: str,
    all_modules: bool,
    as_json: bool,
    device: str,
    precision: str,
    batch_size: int | str,
    repeats: int | None,
) -> None:
    """Measure a network and print what came out."""
    from featx.cli.console import ConsoleProgress
    from featx.extraction import make_settings, profile_network
    from featx.extraction.profiling import REPEATS
    from featx.machine import pick_device

    # Costs are those of one device.
    pick_device(device)
    settings = make_settings(
        backbone, size, image_size="native", crop="none", pool=pool, device=device,
        precision=precision, batch_size=batch_size,
    )  # fmt: skip
    measured = profile_network(
        backbone, settings, all_modules=all_modules,
        repeats=REPEATS if repeats is None else repeats, progress=ConsoleProgress(),
    )  # fmt: skip
    show = _print_json if as_json else _print_tables
    show(backbone, settings, measured)


def _print_json(backbone: Backbone, settings: Settings, measured: NetworkProfile) -> None:
    from featx.machine import cpu_name, device_name, versions

    cuts = []
    for cut in measured.cuts:
        fields = dataclasses.asdict(cut)
        del fields["point"]
        cuts.append({**cut_fields(cut.point), **fields})
    whole = {
        "network": backbone.name,
        "image_size": settings.input_size,
        "pool": settings.pool,
        "precision": settings.precision,
        "device": device_name(str(settings.device)),
        "processor": cpu_name(),
        "versions": versions(),
        **{
            field.name: getattr(measured, field.name)
            for field in dataclasses.fields(measured)
            if field.name not in ("stages", "cuts")
        },
        "stages": [dataclasses.asdict(stage) for stage in measured.stages],
        "cuts": cuts,
    }
    typer.echo(json.dumps(whole, indent=2))


def _print_tables(backbone: Backbone, settings: Settings, measured: NetworkProfile) -> None:
    from featx.cli.console import fitting_table, out
    from featx.machine import cpu_name, device_name
    from featx.text import counted, human_bytes

    console = out()
    title = (
        f"{backbone.name} at {pixels(settings.input_size)}, {settings.precision}, batches of "
        f"{measured.batch_size}, {device_name(str(settings.device))}"
    )
    header = ("stage", "ends with", "ms", "of the pass", "GFLOP/s", "memory")
    lines = [
        (
            stage.name,
            stage.end,
            _ms(stage.seconds),
            f"{stage.seconds / measured.seconds:.0%}",
            f"{stage.gflops_per_s:,.0f}",
            human_bytes(stage.memory_bytes),
        )
        for stage in measured.stages
    ]
    console.print(fitting_table(console, title, header, lines, left=(0, 1)))
    by_pool = f"10,000 by {settings.pool}"
    of_cuts = (
        "cut", "other names", "ms up to here", "quartiles", "images/s", "GFLOP/s", "peak memory",
        by_pool,
    )  # fmt: skip
    rows = [
        (
            cut.point.module,
            ", ".join(cut.point.aliases),
            _ms(cut.seconds),
            f"{_ms(cut.low_s)} to {_ms(cut.high_s)}",
            f"{cut.images_per_s:,.0f}",
            f"{cut.gflops_per_s:,.0f}",
            human_bytes(cut.memory_bytes),
            human_bytes(BYTES_PER_10000 * cut.point.n_pooled),
        )
        for cut in measured.cuts
    ]
    spare = ("quartiles", by_pool, "GFLOP/s")
    console.print(fitting_table(console, "", of_cuts, rows, left=(0, 1), spare=spare))
    console.print(
        f"Whole pass: {_ms(measured.seconds)} ms for "
        f"{counted(measured.batch_size, 'image', 'images')}; medians of "
        f"{counted(measured.repeats, 'pass', 'passes')}, "
        f"{counted(measured.threads, 'thread', 'threads')}, {cpu_name()}. Memory is that of "
        f"the pass's tensors; weights take {human_bytes(measured.weights_bytes)} more.",
        soft_wrap=True,
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"
