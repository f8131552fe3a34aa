"""``featx heatmaps``: what a network does with images at every cut, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from featx.cli.options import PANELS, recipe_from_flags, takes_recipe

_FIELDS = (
    *(field for field in PANELS["Network"] if field != "pool"),
    *PANELS["Images"],
    "device",
    "precision",
    "allow",
)


@takes_recipe(_FIELDS)
def heatmaps(
    settings: dict[str, Any],
    image: Annotated[
        list[Path] | None, typer.Option(help="An image file; may be given more than once.")
    ] = None,
    n: Annotated[
        int, typer.Option("--n", min=1, help="Random images of --dataset (its test split).")
    ] = 4,
    channel: Annotated[
        int | None,
        typer.Option(min=0, help="Add one channel of every cut, modulo their number."),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(help="Add what speaks for a class in a head: REPORT/heads/CUT.safetensors."),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="The class of --head. Default: the predicted one."),
    ] = None,
    grad_cam: Annotated[
        bool,
        typer.Option(
            "--grad-cam", help="Add the network's own class, by Grad-CAM (extra featx[gradcam])."
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("heatmaps"),
) -> None:
    """Lay the activations at every cut over images: one PNG per image.

    Each map is the mean over the channels, over its own range. The evidence of a head is exact:
    its places and a constant add up to the head's score.

    Example:  featx heatmaps --backbone resnet50 --cut stage2 --cut stage4 --image dog.jpg
    """
    from featx.errors import UsageError

    files = image or []
    if bool(files) == ("dataset" in settings):
        raise UsageError(
            "Images come from files or from a data set: give --image FILE (once or more), or "
            "--dataset NAME, and not both."
        )
    recipe = recipe_from_flags(settings)
    from featx.cli.console import ConsoleProgress
    from featx.cli.console import out as console
    from featx.pipeline.heat_pictures import draw_heat_maps

    written = draw_heat_maps(
        recipe,
        out,
        files=files,
        n=n,
        channel=channel,
        head_file=head,
        class_name=class_name,
        grad_cam=grad_cam,
        progress=ConsoleProgress(),
    )
    for path in written:
        console().print(str(path))
