"""The process of one side: ``python -m lines.side MODULE:FUNCTION JSON THREADS [warm-up]``.

Sets up, runs once unmeasured if it shall, writes a line, and then measures a round per line read.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    """Serve."""
    call, settings, threads, *warm_up = sys.argv[1:]
    # Libraries print as they please; the answers go where nobody else writes.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = call.partition(":")
    set_up = getattr(importlib.import_module(module), function)
    import torch

    torch.set_num_threads(int(threads))
    run = set_up(**json.loads(settings))
    if warm_up:
        run()
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()), file=answers, flush=True)


if __name__ == "__main__":
    main()
