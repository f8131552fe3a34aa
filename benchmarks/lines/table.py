"""The tables of docs/performance.md, made of the JSON files under benchmarks/results/."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from typing import Any

# Points of accuracy that a faster variant may cost.
ACCURACY_LIMIT = 0.2
NOTHING = (
    "No machine has been measured yet: `make bench`, then "
    "`python benchmarks/suite.py --write-docs`.\n"
)
NO_ACCURACY = (
    "Not measured yet: `python benchmarks/accuracy.py --data-dir DIR --weights FILE`, then "
    "`python benchmarks/suite.py --write-docs`.\n"
)


def in_page(
    page: str,
    results: list[dict[str, Any]],
    accuracies: list[dict[str, Any]],
    hold_outs: Sequence[dict[str, Any]] = (),
) -> str:
    """Return a page with the parts between its markers made anew."""
    of_accuracy = "\n".join([accuracy_text(accuracies), *map(hold_out_text, hold_outs)])
    for name, made in (("extraction", text(results)), ("accuracy", of_accuracy)):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"The page has no part between {begin.strip()} and {end}.")
        page = pattern.sub(lambda _, part=begin + made + end: part, page)
    return page


def text(results: list[dict[str, Any]]) -> str:
    """Return the tables of all machines."""
    if not results:
        return NOTHING
    return "\n".join([_lines(results), *(_machine(result) for result in results)])


def accuracy_text(results: list[dict[str, Any]]) -> str:
    """Return what faster arithmetic and smaller storage did to accuracies."""
    return "\n".join(map(_accuracies, results)) or NO_ACCURACY


def _accuracies(result: dict[str, Any]) -> str:
    images = ", ".join(f"{n:,} {name}" for name, n in result["images"].items())
    header = [
        "px", "cut", "variant", "validation", "difference, points", "test", "difference, points",
    ]  # fmt: skip
    rows = [header, ["---:", "---", "---", "---:", "---:", "---:", "---:"]]
    worst = 0.0
    for row in result["rows"]:
        cells = [f"{row['size']} ({result['pool'][str(row['size'])]})", f"`{row['cut']}`"]
        cells.append(row["variant"])
        for split in ("val", "test"):
            found = row[split]
            worst = min(worst, 100 * found["difference"])
            low, apart, high = (100 * found[key] for key in ("low", "difference", "high"))
            cells += [f"{found['accuracy']:.4f}", f"{apart:+.2f} ({low:+.2f} to {high:+.2f})"]
        rows.append(cells)
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"{_title(result['machine'])}: {images} images, weights {result['weights']}. The largest "
        f"loss is {abs(worst):.2f} points; the limit is {ACCURACY_LIMIT:g}. In brackets the paired "
        f"95 % interval of the difference to plain fp32.\n\n{table}\n"
    )


def hold_out_text(result: dict[str, Any]) -> str:
    """Return what a variant does to accuracies in the mean of several hold-outs."""
    seeds = sorted({row["seed"] for row in result["rows"]})
    told = []
    for split, word in (("val", "validation"), ("test", "test")):
        # One number for each hold-out: heads of one hold-out share their images.
        means = [
            100 * statistics.fmean(row[split] for row in result["rows"] if row["seed"] == seed)
            for seed in seeds
        ]
        mean, half = statistics.fmean(means), _half_interval(means)
        told.append(f"{mean:+.2f} points on {word} ({mean - half:+.2f} to {mean + half:+.2f})")
    return (
        f"{_title(result['machine'])}, {len(seeds)} random hold-outs of {result['held_out']:,} "
        f"validation images (`python benchmarks/hold_outs.py --data-dir DIR --weights FILE`): "
        f"{result['variant']} changes the accuracy by {' and '.join(told)}, in the mean over both "
        f"cuts and sizes; the limit is {ACCURACY_LIMIT:g}. In brackets Student's 95 % interval "
        "over the hold-outs, which share their test images.\n"
    )


def _half_interval(values: list[float]) -> float:
    """Return half of Student's 95 % interval of a mean."""
    from scipy.stats import t

    deviation = statistics.stdev(values) / math.sqrt(len(values))
    return float(t.ppf(0.975, len(values) - 1)) * deviation


def _lines(results: list[dict[str, Any]]) -> str:
    """Return the table of lines, a column per machine; one for GPUs if none has been measured."""
    heads = [_title(result["machine"]) for result in results]
    no_gpu = all(result["machine"]["device"] == "cpu" for result in results)
    columns = [*heads, *(["a GPU"] if no_gpu else [])]
    rows = [["", "target", *columns], ["---", "---:", *(["---:"] * len(columns))]]
    for name in _names(results):
        found = [next((x for x in r["lines"] if x["name"] == name), None) for r in results]
        lines = [line for line in found if line]
        # A title may have become clearer since.
        first = next((line for line in lines if line["value"] is not None), lines[0])
        cells = [_value(line) if line else "not measured" for line in found]
        cells += ["not measured"] if no_gpu else []
        rows.append([first["title"], _target(first), *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _names(results: list[dict[str, Any]]) -> list[str]:
    """Return the names of all lines; what only some machines have stays behind its neighbour."""
    names: list[str] = []
    for result in results:
        at = len(names)
        for line in result["lines"]:
            if line["name"] not in names:
                names.insert(at, line["name"])
            at = names.index(line["name"]) + 1
    return names


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
    ]
    notes: list[str] = []
    later: dict[str, list[str]] = {}
    for line in result["lines"]:
        if "command" in line:
            later.setdefault(line["command"], []).append(line["name"])
    notes += [f"- Measured again later, by `{c}`: {', '.join(n)}." for c, n in later.items()]
    for line in result["lines"]:
        if line["reason"]:
            notes.append(f"- {line['title']}: not measured: {line['reason']}.")
        elif line["beside"]:
            values = ", ".join(f"{name} {value:.2f}x" for name, value in line["beside"].items())
            notes.append(f"- {line['title']}: {values}.")
    return "\n".join([*said, *(["", *notes] if notes else [])]) + "\n"


def _title(machine: dict[str, Any]) -> str:
    device = "" if machine["device"] == "cpu" else f", {machine['device']}"
    return f"{machine['processor']}, {machine['cores']} cores{device}"


def _limit(name: str, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f} GFLOP/s" if "convolution" in name else f"{value:.2f} GB/s"


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
