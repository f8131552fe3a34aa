"""Errors on their way out: one message on stderr, the right exit code, no traceback."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from typing import Any

import typer
from typer.core import TyperCommand

from featx.errors import DownloadNeeded, FeatxError, Interrupted
from featx.fetch import no_downloads


class FeatxCommand(TyperCommand):
    """A command that turns errors into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; leave with the error's exit code when it fails.

        A dry run downloads nothing: it says what a run would download first.
        """
        try:
            with no_downloads() if ctx.params.get("dry_run") else contextlib.nullcontext():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            words = ["featx", *sys.argv[1:]]
            # Studies and comparisons continue by themselves, a single training when it is asked to.
            if self.name in ("train", "run") and "--resume" not in words:
                words.append("--resume")
            again = shlex.join(words)
            _say(f"\nInterrupted; what is finished or cached is kept. Continue with:\n  {again}")
            raise typer.Exit(Interrupted.exit_code) from None
        except BrokenPipeError:
            # The reader (head, less) has gone: nothing is wrong, and nothing more to write to.
            sys.stdout = None
            raise typer.Exit(0) from None
        except DownloadNeeded as needed:
            print(f"{needed} The rest of the plan depends on it, and a dry run downloads nothing.")
        except FeatxError as error:
            if os.environ.get("FEATX_DEBUG"):
                raise
            _say(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except Exception as error:
            if os.environ.get("FEATX_DEBUG"):
                raise
            _say(
                f"error: {type(error).__name__}: {error}\nfeatx did not expect this: please report "
                "it with what the same command prints with --debug."
            )
            raise typer.Exit(FeatxError.exit_code) from None


def _say(text: str) -> None:
    print(text, file=sys.stderr)
