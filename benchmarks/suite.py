"""How near extraction is to the machine's limit, and beside other tools.

``python benchmarks/suite.py`` (``make bench``) measures every line of the table in
docs/performance.md and writes benchmarks/results/PROCESSOR-CORES-DEVICE.json; ``--write-docs``
makes the table of the files that are there. ``--quick`` only shows that everything runs: its
numbers are not written.

Sides of a ratio run in turns, each in a process of its own, with the same threads and batch size.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lines import table

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
SCHEMA = 1


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the lines that are asked for."""
    from lines import limits, peers
    from lines.groups import GROUPS, Options
    from lines.workers import SideFailed

    from featx.machine import n_cpus

    if unknown := [name for name in options.only or () if name not in GROUPS]:
        raise SystemExit(f"No group of lines is called {unknown[0]!r}. Valid: {', '.join(GROUPS)}.")
    threads = options.threads or n_cpus()
    repeats = options.repeats or (2 if options.quick else 5)
    with tempfile.TemporaryDirectory(prefix="featx-bench-", dir=options.folder) as temporary:
        work = Path(temporary)
        where = options.peers or work / "peers"
        how = Options(
            work=work, peers=where, peers_missing=peers.install(where), repeats=repeats,
            threads=threads, images=options.images, quick=options.quick,
        )  # fmt: skip
        found = {
            "schema": SCHEMA,
            "machine": limits.about(threads),
            "peers": {"thingsvision": peers.THINGSVISION},
            "command": " ".join(["python benchmarks/suite.py", *_flags()]),
            "repeats": repeats,
            "limits": {},
            "lines": [],
        }
        _say("limits of the machine")
        found["limits"] = limits.measured(work, repeats, threads, options.quick)
        for name in options.only or GROUPS:
            start = time.monotonic()
            try:
                lines = GROUPS[name](how)
            except SideFailed as failure:
                raise SystemExit(f"{name}: {failure}") from failure
            found["lines"] += [line.as_dict() for line in lines]
            for line in lines:
                _say(table.one_line(line.as_dict()))
            _say(f"  ({name}: {time.monotonic() - start:.0f} s)")
    return found


def _flags() -> list[str]:
    """Return the flags of this call, without folders: they are this machine's."""
    kept, words = [], iter(sys.argv[1:])
    for word in words:
        name, has_value, _ = word.partition("=")
        if name not in ("--folder", "--peers", "--out"):
            kept.append(word)
        elif not has_value:
            next(words, None)
    return kept


def _say(text: str) -> None:
    print(text, flush=True)


def results(folder: Path) -> list[dict[str, Any]]:
    """Return what has been measured so far, by machine."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def main() -> int:
    """Measure, write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few images; nothing is written")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="one group of lines: cut, peak, ..."
    )
    parser.add_argument("--update", action="store_true", help="with --only: into the file there is")
    parser.add_argument("--repeats", type=int, help="rounds; default 5")
    parser.add_argument("--threads", type=int, help="of every side; default: all cores")
    parser.add_argument("--images", type=int, help="a side and round, instead of each line's own")
    parser.add_argument("--folder", type=Path, help="where data sets and caches are made")
    parser.add_argument("--peers", type=Path, help="a folder to keep peers in")
    parser.add_argument("--out", type=Path, help="the JSON file, instead of the machine's own")
    parser.add_argument("--write-docs", action="store_true", help="make the page's table")
    parser.add_argument("--check", action="store_true", help="exit 1 where the page differs")
    options = parser.parse_args()
    if options.write_docs or options.check:
        if len(sys.argv) > 2:
            parser.error("--write-docs and --check measure nothing: give one of them, alone")
        page = PAGE.read_text()
        made = [results(RESULTS / name) for name in ("", "accuracy", "hold-outs")]
        new = table.in_page(page, *made)
        if options.check and new != page:
            print(f"{PAGE.name} does not agree with {RESULTS.name}/: --write-docs", file=sys.stderr)
            return 1
        if not options.check:
            PAGE.write_text(new)
        return 0
    found = measure(options)
    if options.update:
        return _update(found)
    if options.out is None and (options.quick or options.only):
        _say("Not written: only part of it, or too few images, was measured. --out FILE keeps it.")
        return 0
    path = options.out or _own_file(found)
    path.parent.mkdir(exist_ok=True)
    _write(path, found)
    return 0


def _own_file(found: dict[str, Any]) -> Path:
    from lines.limits import name_of

    return RESULTS / f"{name_of(found['machine'])}.json"


def _write(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")
    _say(f"Written: {path}")


def _kind(machine: dict[str, Any]) -> dict[str, Any]:
    """Return what tells machines apart; the memory that a container may take varies."""
    return {name: value for name, value in machine.items() if name != "memory_gb"}


def _update(found: dict[str, Any]) -> int:
    """Put lines into the file of this machine, in the place of those it has; say if it cannot."""
    path = _own_file(found)
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if _kind(kept.get("machine", {})) != _kind(found["machine"]):
        print(
            f"{path.name} is not there, or of other versions or threads: measure all lines, "
            "without --only and --update.",
            file=sys.stderr,
        )
        return 1
    # Shares are of the peak that was measured beside them, which is in their own rounds.
    new = {line["name"]: line | {"command": found["command"]} for line in found["lines"]}
    kept["lines"] = [new.pop(line["name"], line) for line in kept["lines"]] + list(new.values())
    _write(path, kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
