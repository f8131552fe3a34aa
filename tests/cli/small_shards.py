"""The command line with shards of 8 rows. A program run by test_extract_process.

``python small_shards.py FILE < COMMANDS`` reads a line of JSON for each command: ``words``, and the
image ``before`` which it is interrupted, as by Ctrl-C. A command without words is the one that the
last one printed to go on. Each runs in a fork of this program, which has imported what takes long.
A byte per image that was computed is left in FILE, and a line of JSON per command is printed.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo

import featx.cache
import featx.pipeline
from featx.backbones import Capture
from featx.cli import main

SHARD_ROWS = 8
COUNTS = Path(sys.argv[1])
featx.cache.shard_rows_for = lambda n_features, batch_size, storage: SHARD_ROWS
forward = Capture.__call__


def run(words: list[str], before: int) -> dict[str, Any]:
    """Run a command in a fork; return its words, exit code and what it said."""
    with tempfile.TemporaryFile("w+") as said:
        process = os.fork()
        if not process:
            os.dup2(said.fileno(), sys.stdout.fileno())
            os.dup2(said.fileno(), sys.stderr.fileno())
            sys.argv = ["featx", *words]
            # A shell's background jobs are told to ignore Ctrl-C, and hand that on.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            Capture.__call__ = counted(before)  # type: ignore[method-assign]
            try:
                main()
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 0)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        said.seek(0)
        return {"words": words, "code": os.waitstatus_to_exitcode(status), "said": said.read()}


def counted(before: int) -> Any:
    """Return a forward pass that counts its images, and interrupts the process at one of them."""

    def call(self: Capture, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if COUNTS.exists() and COUNTS.stat().st_size >= before:
            os.kill(os.getpid(), signal.SIGINT)
        with COUNTS.open("ab", buffering=0) as file:
            file.write(b"." * len(x))
        return forward(self, x)

    return call


last: dict[str, Any] = {}
for line in sys.stdin:
    command = json.loads(line)
    words = command["words"]
    if not words:
        words = shlex.split(last["said"].split("Continue with:\n")[1].splitlines()[0])[1:]
    last = run(words, command.get("before", 10**6))
    print(json.dumps(last | {"computed": COUNTS.stat().st_size}), flush=True)
