"""Render the tables of README.md and reports/README.md from the records: no figure is typed.

Usage: python benchmarks/tables.py [--check]

With --check nothing is written; exit code 1 when a page does not agree with the records.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from published.experiments import record_of
from published.sources import D1, d1_figures
from published.trainings import HEADER, RUNS, training_rows

from featx.evaluate import (
    ComparisonRecord,
    Record,
    RunRecord,
    StudyRecord,
    TrainingRecord,
    read_record,
    read_run,
)
from featx.recipes import Study, load_study
from featx.report.text import published_values

ROOT = Path(__file__).resolve().parent.parent

# The studies that the README shows, each beside its document's figures.
STUDIES = ("d2-frozen", "d2-input-size", "d4-study")
# Settings of a run that the index leaves to the report itself, which says what came of them.
UNTOLD = ("limit", "precision", "allow")


def d1_table() -> str:
    """Return D1's accuracies, flattened and pooled, beside the published ones."""
    header = [
        "network", "cut", "published", "flattened: validation", "flattened: test",
        "pooled: validation", "pooled: test",
    ]  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|---|---|---:|---:|---:|---:|---:|"]
    of_source = {cut: (split, accuracy) for _, cut, split, accuracy in d1_figures()}
    for network, name in D1.items():
        flattened = read_run(ROOT / "reports" / name)
        pooled = read_run(ROOT / "reports" / f"{name}-pooled")
        for cut in flattened.cuts:
            split, accuracy = of_source.get(cut.cut, ("", None))
            published = "" if accuracy is None else f"{accuracy:.2f} ({split})"
            cells = [network, f"`{cut.cut}`", published]
            cells += [*_accuracies(flattened, cut.cut), *_accuracies(pooled, cut.cut)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _accuracies(record: RunRecord, cut: str) -> list[str]:
    result = next(result for result in record.results if result.cut == cut)
    mark = "" if result.converged else " (not converged)"
    return [f"{result.accuracy[split]:.3f}{mark}" for split in ("val", "test")]


def networks_table() -> str:
    """Return the trainings that are published, each beside its document's own figure."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---|---:|---:|---:|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in training_rows(ROOT / "reports", "reports")]
    return "\n".join(lines) + "\n"


def studies_table() -> str:
    """Return the groups of the studies that are published, beside their documents' figures."""
    header = [
        "study", "group", "runs", "training images", "epochs", "published top-1",
        "top-1 (min / mean / max)", "of the last epoch", "did not learn",
    ]  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|---|---|---:|---:|---:|---|---|---|---:|"]
    for name in STUDIES:
        record = read_record(ROOT / "reports" / name)
        assert isinstance(record, StudyRecord)
        for group in dict.fromkeys(row.group for row in record.rows):
            rows = [row for row in record.rows if row.group == group]
            published = published_values(
                record.recipe, [group, str(record.recipe.get("network"))], "top1"
            )
            top1 = [row.top1["test"] for row in rows if row.top1]
            last = [c.values["top1 test"][-1] for c in record.curves if c.group == group]
            cells = [
                f"[{name}](reports/{name}/report.md)",
                group,
                str(len(rows)),
                f"{record.dataset.splits['train'].n:,}",
                str(max(row.epochs_run or 0 for row in rows)),
                " / ".join(f"{value:.3f}" for value in published),
                _spread(top1),
                _spread(last),
                str(sum(row.state == "did not learn" for row in rows) or ""),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    """Return minimum, mean and maximum, one value alone, or that there is none."""
    if len(values) > 1:
        return " / ".join(f"{v:.3f}" for v in (min(values), sum(values) / len(values), max(values)))
    return f"{values[0]:.3f}" if values else "failed"


def reports_table() -> str:
    """Return every published report: what it is, and how much of it was run."""
    lines = ["| report | what it is | training images | run |", "|---|---|---:|---|"]
    for name, run in RUNS.items():
        record = record_of(ROOT / "reports" / name)
        if record is None:
            continue
        study = load_study(run.recipe, run.settings)
        what = study.recipe.description.partition(" Published")[0]
        besides = {k: v for k, v in run.settings.items() if k not in UNTOLD}
        if besides:
            what += f" ({', '.join(f'{key}: {_plainly(value)}' for key, value in besides.items())})"
        images = f"{record.dataset.splits['train'].n:,}"
        lines.append(
            f"| [{name}]({name}/report.md) | {what} | {images} | {_extent(record, study)} |"
        )
    return "\n".join(lines) + "\n"


def _plainly(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _extent(record: Record, study: Study) -> str:
    """Return how much of what its recipe says a record holds."""
    if isinstance(record, StudyRecord):
        text = f"{len({row.run for row in record.rows})} of {len(study.members)} runs"
        epochs = max((row.epochs_run or 0 for row in record.rows), default=0)
        return f"{text}, up to {epochs} of {study.recipe.epochs} epochs" if epochs else text
    if isinstance(record, TrainingRecord):
        early = ", stopped early" if record.state == "stopped early" else ""
        return f"{len(record.history)} of {study.recipe.epochs} epochs{early}"
    if isinstance(record, ComparisonRecord):
        return f"{len(record.approaches)} approaches"
    return f"{len(record.results)} cuts"


# By page: its tables.
TABLES = {
    "README.md": {"d1": d1_table, "networks": networks_table, "studies": studies_table},
    "reports/README.md": {"reports": reports_table},
}


def rendered(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with every table between its markers made anew."""
    for name, table in tables.items():
        pattern = rf"(<!-- table:{name} -->\n).*?(<!-- end -->)"
        page = re.sub(pattern, lambda m, t=table: m[1] + t() + m[2], page, flags=re.DOTALL)
    return page


def write() -> None:
    """Write the pages anew."""
    for page, tables in TABLES.items():
        path = ROOT / page
        path.write_text(rendered(path.read_text(), tables))


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        write()
        return 0
    texts = {page: (ROOT / page).read_text() for page in TABLES}
    wrong = [page for page, text in texts.items() if rendered(text, TABLES[page]) != text]
    for page in wrong:
        print(f"{page} does not agree with the records: make tables", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
