"""The command line: parse, call, print. One file per command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from featx import __version__
from featx.cli import (
    cache,
    compare,
    demo,
    doctor,
    extract,
    fit,
    heatmaps,
    layers,
    networks,
    report,
    run,
    train,
)
from featx.cli.errors import FeatxCommand
from featx.machine import prefer_huge_pages

app = typer.Typer(
    name="featx",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example:  featx fit-svm --backbone resnet50 --cut layer3.5 --dataset folder:photos",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"featx {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Find the layer of a pretrained network that separates your classes.

    Cut the network at named layers, cache the features, fit a linear head per cut, and read
    one report: accuracy, intervals, cost.
    """
    if debug:
        os.environ["FEATX_DEBUG"] = "1"


COMMANDS: dict[str, Callable[..., None]] = {
    "layers": layers.layers,
    "networks": networks.networks,
    "extract": extract.extract,
    "fit-svm": fit.fit_svm,
    "fit-logistic": fit.fit_logistic,
    "train": train.train,
    "compare": compare.compare,
    "run": run.run,
    "demo": demo.demo,
    "report": report.report,
    "heatmaps": heatmaps.heatmaps,
    "doctor": doctor.doctor,
}
for _name, _function in COMMANDS.items():
    app.command(_name, cls=FeatxCommand)(_function)
app.add_typer(cache.app, name="cache")


def main() -> None:
    """Run the command line; the entry point of the `featx` command."""
    prefer_huge_pages()
    # `--debug` is welcome behind the command as well as before it.
    if "--debug" in sys.argv[1:]:
        sys.argv[1:] = ["--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    app()
