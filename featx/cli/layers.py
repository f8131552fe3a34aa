"""``featx layers``: where a network can be cut, and what each cut costs."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

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
) -> None:
    """List the places to cut a network, in order of execution.

    Multiply-adds and parameters count all that runs up to and with the cut, for one image; the
    last columns are the bytes that features of 10,000 images take as float32.

    Example:  featx layers resnet50 --image-size 32
    """
    from featx.backbones import load_backbone
    from featx.cli.console import fitting_table, out
    from featx.errors import ShapeError
    from featx.text import human_bytes, human_count

    if image_size != "auto" and not (image_size.isdigit() and int(image_size) > 0):
        raise ShapeError(f"--image-size is '{image_size}'. Valid: a number of pixels, or auto.")
    asked = None if image_size == "auto" else int(image_size)
    backbone = load_backbone(network, weights, image_size=asked)
    size = backbone.image_size if asked is None else (asked, asked)
    points = backbone.cut_points(size, pool=pool, all_modules=all_modules)
    if as_json:
        rows = [
            {
                **dataclasses.asdict(point),
                "bytes_per_10000_flat": BYTES_PER_10000 * point.n_flat,
                "bytes_per_10000_pooled": BYTES_PER_10000 * point.n_pooled,
            }
            for point in points
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
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
    height, width = size
    title = f"{backbone.name} at {height if height == width else f'{height} x {width}'} px"
    spare = (header[7], header[8], "parameters", "multiply-adds")
    console.print(fitting_table(console, title, header, lines, left=(0, 1, 2), spare=spare))
    if not all_modules:
        console.print("Modules inside blocks can be cut too: --all lists them.")
