"""The table of docs/performance.md, made of the JSON files under benchmarks/results/."""

from __future__ import annotations

import re
from typing import Any

BEGIN, END = "<!-- extraction -->\n", "<!-- end of extraction -->"
NOTHING = (
    "No machine has been measured yet: `make bench`, then "
    "`python benchmarks/suite.py --write-docs`.\n"
)


def in_page(page: str, results: list[dict[str, Any]]) -> str:
    """Return a page with the part between its markers made anew."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"The page has no part between {BEGIN.strip()} and {END}.")
    return pattern.sub(lambda _: BEGIN + text(results) + END, page)


def text(results: list[dict[str, Any]]) -> str:
    """Return the tables of all machines."""
    if not results:
        return NOTHING
    return "\n".join([_lines(results), *(_machine(result) for result in results)])


def _lines(results: list[dict[str, Any]]) -> str:
    """Return the table of lines, a column per machine; one for GPUs if none has been measured."""
    heads = [_title(result["machine"]) for result in results]
    no_gpu = all(result["machine"]["device"] == "cpu" for result in results)
    columns = [*heads, *(["a GPU"] if no_gpu else [])]
    rows = [["", "target", *columns], ["---", "---:", *(["---:"] * len(columns))]]
    names = list(dict.fromkeys(line["name"] for result in results for line in result["lines"]))
    for name in names:
        found = [next((x for x in r["lines"] if x["name"] == name), None) for r in results]
        first = next(line for line in found if line)
        cells = [_value(line) if line else "not measured" for line in found]
        cells += ["not measured"] if no_gpu else []
        rows.append([first["title"], _target(first), *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _machine(result: dict[str, Any]) -> str:
    """Return what a machine is and can do, and what was beside and behind its values."""
    machine, limits = result["machine"], result["limits"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    peers = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    said = [
        f"**{_title(machine)}** ({machine['capability']}), {machine['threads']} threads on both "
        f"sides, {machine['system']}, Python {machine['python']}, {versions}; peers: {peers}. "
        f"`{result['command']}`, medians of {result['repeats']} interleaved rounds (in brackets "
        "the extremes).",
        "",
        "| limit | |",
        "|---|---:|",
        *(f"| {name} | {_limit(name, limits[name])} |" for name in limits if name != "rounds"),
        "",
    ]
    for line in result["lines"]:
        if line["reason"]:
            said.append(f"- {line['title']}: not measured: {line['reason']}.")
        elif line["beside"]:
            values = ", ".join(f"{name} {value:.2f}x" for name, value in line["beside"].items())
            said.append(f"- {line['title']}: {values}.")
    return "\n".join(said) + "\n"


def _title(machine: dict[str, Any]) -> str:
    device = "" if machine["device"] == "cpu" else f", {machine['device']}"
    return f"{machine['processor']}, {machine['cores']} cores{device}"


def _limit(name: str, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f} GFLOP/s" if name.startswith("convolution") else f"{value:.2f} GB/s"


def _number(value: float, unit: str) -> str:
    return f"{value:.0f} %" if unit == "%" else f"{value:.2f}{' GiB' if unit == 'GiB' else 'x'}"


def _target(line: dict[str, Any]) -> str:
    bound = "at most " if line["smaller_is_better"] else ""
    return bound + (f"{line['target']:g} %" if line["unit"] == "%" else _plain(line))


def _plain(line: dict[str, Any]) -> str:
    return f"{line['target']:g}{' GiB' if line['unit'] == 'GiB' else 'x'}"


def reached(line: dict[str, Any]) -> bool:
    """Return whether a line that was measured reaches its target."""
    apart = line["value"] - line["target"]
    return bool(apart <= 0 if line["smaller_is_better"] else apart >= 0)


def _value(line: dict[str, Any]) -> str:
    if line["value"] is None:
        return "not measured"
    found = _number(line["value"], line["unit"])
    shown = f"**{found}**" if reached(line) else found
    if line["low"] == line["high"]:
        return shown
    return (
        f"{shown} ({_number(line['low'], line['unit'])} to {_number(line['high'], line['unit'])})"
    )


def one_line(line: dict[str, Any]) -> str:
    """Return a line as it is printed while measuring."""
    if line["value"] is None:
        return f"{line['title']}: not measured: {line['reason']}"
    return f"{line['title']}: {_value(line)}, target {_target(line)}"
