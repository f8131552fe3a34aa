"""``featx networks``: the small networks and their like, and any network layer by layer."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from featx.backbones.layer_table import LayerRow

# torchvision's networks that are listed without being asked for: those of the lecture (D5) that are
# small enough to train.
LISTED = {
    "alexnet": "5 conv, 3 dense layers (Krizhevsky 2012; D5)",
    "googlenet": "9 inception blocks, without auxiliary heads (Szegedy 2014; D5)",
}


@dataclass(frozen=True)
class Described:
    """A network with its totals and its layers, for images of one size.

    Attributes
    ----------
    name : str
    n_parameters, multiply_adds : int
        Of the whole network, the latter for one image.
    image_size : tuple of int
        Height and width in pixels.
    n_classes : int
    about : str
        One line.
    layers : list of LayerRow
        In order of execution.
    """

    name: str
    n_parameters: int
    multiply_adds: int
    image_size: tuple[int, int]
    n_classes: int
    about: str
    layers: list[LayerRow]


def networks(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="cnn-a, googlenet, timm/convnext_tiny, ...: each with its layers."),
    ] = None,
    image_size: Annotated[
        str, typer.Option(help="Pixels a side, or auto (the network's own size).")
    ] = "auto",
    classes: Annotated[
        int | None, typer.Option(help="Outputs; 10, or those of ImageNet, if not given.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A list of objects, for programs.")
    ] = False,
) -> None:
    """List the small networks to train, with what they hold and cost.

    With names: those networks, each with a table of its layers. Multiply-adds are those of
    convolutions, dense layers and matrix products, for one image.

    Example:  featx networks cnn-a --image-size 64
    """
    from featx.backbones.registry import find_network
    from featx.cli.console import out
    from featx.errors import ShapeError
    from featx.networks import zoo_names

    if image_size != "auto" and not (image_size.isdigit() and int(image_size) > 0):
        raise ShapeError(f"--image-size is '{image_size}'. Valid: a number of pixels, or auto.")
    side = None if image_size == "auto" else int(image_size)
    # A wrong name is said before anything is built.
    wanted = [find_network(name).name for name in names or [*zoo_names(), *LISTED]]
    found = [_describe(name, side, classes) for name in wanted]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(network) for network in found], indent=2))
        return
    console = out()
    _print_totals(console, found)
    for network in found if names else ():
        _print_layers(console, network)
    if not names:
        console.print("With a name: its layers. Any network of torchvision or timm will do, too.")


def _describe(name: str, side: int | None, n_classes: int | None) -> Described:
    """Build a network and look at it."""
    from featx.backbones.layer_table import layer_rows
    from featx.backbones.preprocessing import preprocess_of_tag
    from featx.backbones.registry import build, find_network
    from featx.networks import N_CLASSES, about_zoo

    network = find_network(name)
    native = preprocess_of_tag(network, "default").image_size or 224
    size = side or native
    if n_classes is None and network.library != "timm":
        n_classes = N_CLASSES if network.library == "featx" else 1000
    model = build(network, n_classes, size)
    rows = layer_rows(model, size, name=network.short_name, native_size=native)
    is_zoo = network.library == "featx"
    return Described(
        name=network.short_name,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=sum(row.multiply_adds for row in rows),
        image_size=(size, size),
        # timm writes it on the network; 0 where the weights come without a classifier.
        n_classes=int(getattr(model, "num_classes", 0)) if n_classes is None else n_classes,
        about=about_zoo(network.model) if is_zoo else LISTED.get(network.model, network.library),
        layers=rows,
    )


def _print_totals(console: Console, found: list[Described]) -> None:
    from featx.cli.console import fitting_table
    from featx.text import human_count

    header = ("network", "parameters", "multiply-adds", "px", "classes", "what it is")
    rows = [
        (
            network.name,
            f"{network.n_parameters:,}",
            human_count(network.multiply_adds),
            str(network.image_size[0]),
            f"{network.n_classes:,}",
            network.about,
        )
        for network in found
    ]
    console.print(fitting_table(console, "", header, rows, left=(0, 5), spare=("classes", "px")))


def _print_layers(console: Console, network: Described) -> None:
    from featx.cli.console import fitting_table
    from featx.text import human_count

    header = ("layer", "kind", "shape", "parameters", "multiply-adds")
    rows = [
        (
            row.name,
            row.kind,
            " x ".join(str(n) for n in row.shape),
            f"{row.n_parameters:,}",
            human_count(row.multiply_adds),
        )
        for row in network.layers
    ]
    height, width = network.image_size
    title = f"{network.name} at {height} x {width} px"
    console.print(fitting_table(console, title, header, rows, left=(0, 1, 2), spare=("kind",)))
