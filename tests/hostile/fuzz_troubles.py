"""Loaders that do something else than to accept or to refuse. A program run by test_fuzzing.

``python fuzz_troubles.py BENCHMARKS FOLDER`` prints what `fuzzing.batch` makes of each, as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import fuzzing
from fuzz_loaders import Loader

from featx.errors import DataError


def fail() -> None:
    raise KeyError("x")


def refuse() -> None:
    raise DataError("as it should be")


def spin() -> None:
    while True:
        pass


TROUBLES: dict[str, Callable[[], object]] = {
    "accepts": lambda: None,
    "refuses": refuse,
    "another exception": fail,
    "a crash": os.abort,
    "no end": spin,
    "a file elsewhere is read": lambda: Path("/etc/hosts").read_text(),
    "a file elsewhere is written": lambda: Path("elsewhere").write_text("x"),
    "a folder elsewhere": lambda: Path("folder").mkdir(),
    "a socket": lambda: socket.socket().connect_ex(("127.0.0.1", 9)),
    "a program": lambda: os.system("true"),
    "500 MB": lambda: bytearray(b"x") * 500_000_000,
    "4 GB": lambda: bytearray(b"x") * 4_000_000_000,
}

if __name__ == "__main__":
    place = Path(sys.argv[2])
    os.chdir(place)
    (place / "in").mkdir()
    patience = fuzzing.CPU_S
    watch = fuzzing.Watch()
    found = {}
    for name, trouble in TROUBLES.items():
        # Only what never ends is given a short time: on a slow machine 500 MB take over a second.
        fuzzing.CPU_S = 1 if trouble is spin else patience
        loader = Loader(lambda folder, data, trouble=trouble: trouble(), [b"a file"])
        n, finding = fuzzing.batch(loader, place / "in", lambda i: b"", range(3), watch)
        found[name] = [n, finding and finding[1]]
    print(json.dumps(found))
