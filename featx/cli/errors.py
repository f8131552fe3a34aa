"""Errors on their way out: one message on stderr, the right exit code, no traceback."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from featx.errors import FeatxError, Interrupted


class FeatxGroup(TyperGroup):
    """A group of commands that turns featx's errors into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; leave with the error's exit code when it fails on purpose."""
        try:
            return super().invoke(ctx)
        except FeatxError as error:
            if os.environ.get("FEATX_DEBUG"):
                raise
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            again = shlex.join(["featx", *sys.argv[1:]])
            print(
                f"\nInterrupted; what is cached is kept. Continue with:\n  {again}", file=sys.stderr
            )
            raise typer.Exit(Interrupted.exit_code) from None
        except BrokenPipeError:
            # The reader (head, less) has gone: nothing is wrong, and nothing more to write to.
            sys.stdout = None
            raise typer.Exit(0) from None
