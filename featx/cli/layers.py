"""``featx layers``: where a network can be cut, and what each cut costs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from featx.backbones import Backbone, CutPoint

# Of one float32 value an image.
BYTES_PER_10000 = 40_000


def layers(
    network: Annotated[str, typer.Argument(help="resnet50, vgg16, timm/convnext_tiny, ...")],
    image_size: Annotated[
        str, typer.Option(help="Pixels a side, or auto (the weights' own size).")
    ] = "auto",
    pool: Annotated[
        str, typer.Option(help="Pooling that the values are counted for, beside flattened.")
    ] = "avg",
    weights: Annotated[
        str, typer.Option(help="none is enough to list layers; nothing is downloaded.")
    ] = "none",
    all_modules: Annotated[
        bool, typer.Option("--all", help="Every module, also those inside blocks.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A list of objects, for programs.")
    ] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Measure time and memory of every stage and cut here."),
    ] = False,
    batch_size: Annotated[
        str | None, typer.Option(help="With --profile: images a pass. Default: auto.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="With --profile: fp32, bf16 or fp16. Default: fp32.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="With --profile: auto, cpu, cuda, cuda:N or mps.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="With --profile: timed passes. Default: 7.")
    ] = None,
) -> None:
    """List the places to cut a network, in order of execution.

    Multiply-adds and parameters count all that runs up to and with the cut, for one image; the
    last columns are the bytes that features of 10,000 images take as float32. With --profile:
    seconds and memory of a forward pass that stops there, measured on this machine.

    Example:  featx layers resnet50 --image-size 32
    """
    from featx.backbones import load_backbone
    from featx.errors import ShapeError, UsageError

    if image_size != "auto" and not (image_size.isdigit() and int(image_size) > 0):
        raise ShapeError(f"--image-size is '{image_size}'. Valid: a number of pixels, or auto.")
    of_profile = {
        "--batch-size": batch_size,
        "--precision": precision,
        "--device": device,
        "--repeats": repeats,
    }
    given = [name for name, value in of_profile.items() if value is not None]
    if given and not profile:
        raise UsageError(f"{', '.join(given)} only matters to a measurement. Add --profile.")
    images = batch_size or "auto"
    if images != "auto" and not (images.isdigit() and int(images) > 0):
        raise UsageError(f"--batch-size is '{images}'. Valid: a number of images, or auto.")
    asked = None if image_size == "auto" else int(image_size)
    backbone = load_backbone(network, weights, image_size=asked)
    size = backbone.image_size if asked is None else (asked, asked)
    if profile:
        from featx.cli.profiling import profile_layers

        profile_layers(
            backbone, size, pool=pool, all_modules=all_modules, as_json=as_json,
            device=device or "auto", precision=precision or "fp32",
            batch_size="auto" if images == "auto" else int(images),
            repeats=repeats,
        )  # fmt: skip
        return
    points = backbone.cut_points(size, pool=pool, all_modules=all_modules)
    if as_json:
        typer.echo(json.dumps([cut_fields(point) for point in points], indent=2))
    else:
        _print_cuts(backbone, size, points, pool)
    if not (all_modules or as_json):
        _tell_of_all()


def cut_fields(point: CutPoint) -> dict[str, Any]:
    """Return what is known of a cut, for programs."""
    return {
        **dataclasses.asdict(point),
        "bytes_per_10000_flat": BYTES_PER_10000 * point.n_flat,
        "bytes_per_10000_pooled": BYTES_PER_10000 * point.n_pooled,
    }


def _tell_of_all() -> None:
    from featx.cli.console import out

    out().print("Modules inside blocks can be cut too: --all lists them.")


def pixels(size: tuple[int, int]) -> str:
    """Return an image size for a title."""
    height, width = size
    return f"{height if height == width else f'{height} x {width}'} px"


def _print_cuts(
    backbone: Backbone, size: tuple[int, int], points: list[CutPoint], pool: str
) -> None:
    from featx.cli.console import fitting_table, out
    from featx.text import human_bytes, human_count

    header = (
        "module", "other names", "shape", "flattened", pool, "multiply-adds", "parameters",
        "10,000 flattened", f"10,000 by {pool}",
    )  # fmt: skip
    lines = [
        (
            point.module,
            ", ".join(point.aliases),
            " x ".join(str(n) for n in point.shape),
            f"{point.n_flat:,}",
            f"{point.n_pooled:,}",
            human_count(point.multiply_adds),
            human_count(point.n_parameters),
            human_bytes(BYTES_PER_10000 * point.n_flat),
            human_bytes(BYTES_PER_10000 * point.n_pooled),
        )
        for point in points
    ]
    console = out()
    title = f"{backbone.name} at {pixels(size)}"
    spare = (header[7], header[8], "parameters", "multiply-adds")
    console.print(fitting_table(console, title, header, lines, left=(0, 1, 2), spare=spare))
