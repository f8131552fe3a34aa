"""The process of one side: ``python -m lines.side MODULE:FUNCTION JSON THREADS``.

Sets up, runs once unmeasured, writes a line, and then measures one round per line it reads.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    """Serve."""
    call, settings, threads = sys.argv[1:]
    # Libraries print as they please; the answers go where nobody else writes.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(int(threads))
    module, _, function = call.partition(":")
    run = getattr(importlib.import_module(module), function)(**json.loads(settings))
    run()
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()), file=answers, flush=True)


if __name__ == "__main__":
    main()
