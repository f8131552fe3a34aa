"""The command line: parse, call, print. One file per command."""

from __future__ import annotations

import os
import sys

import typer

from featx import __version__
from featx.cli import cache, demo, doctor, extract, fit, layers, report, run
from featx.cli.errors import FeatxGroup

app = typer.Typer(
    name="featx",
    cls=FeatxGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
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


app.command("layers")(layers.layers)
app.command("extract")(extract.extract)
app.command("fit-svm")(fit.fit_svm)
app.command("fit-logistic")(fit.fit_logistic)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.add_typer(cache.app, name="cache")


def main() -> None:
    """Run the command line; the entry point of the `featx` command."""
    # `--debug` is welcome behind the command as well as before it.
    if "--debug" in sys.argv[1:]:
        sys.argv[1:] = ["--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    app()
