"""Render the tables of README.md from the records under reports/: no figure is typed by hand.

Usage: python benchmarks/tables.py [--check]

With --check nothing is written; exit code 1 when a page does not agree with the records.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from featx.errors import FeatxError
from featx.evaluate import RunRecord, StudyRecord, TrainingRecord, read_record, read_run
from featx.report.text import published_values

ROOT = Path(__file__).resolve().parent.parent

# Accuracies as the source prints them: cut -> (split, accuracy).
PUBLISHED_D1 = {
    "block3_conv1": ("test", 0.81),
    "block4_conv1": ("val", 0.84),
    "block5_conv1": ("val", 0.82),
    "conv4_block6_out": ("test", 0.91),
}
# Test accuracies as the sources print them, by published report.
TRAININGS = {
    "d2-custom-constant": "0.77",
    "d2-custom-exponential": "0.79",
    "d3-conv2": "0.62",
    "d3-conv3": "0.73",
    "d3-conv5": "0.85",
    "d3-cerberus": "0.821",
    "d4-cnn-a": "0.721",
}
STUDIES = ("d2-frozen", "d2-input-size", "d4-study")
D1 = {"VGG16": "d1-vgg16-svm", "ResNet-50": "d1-resnet50-svm"}


def d1_table() -> str:
    """Return D1's accuracies, flattened and pooled, beside the published ones."""
    header = [
        "network", "cut", "published", "flattened: validation", "flattened: test",
        "pooled: validation", "pooled: test",
    ]  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|---|---|---:|---:|---:|---:|---:|"]
    for network, name in D1.items():
        flattened = read_run(ROOT / "reports" / name)
        pooled = read_run(ROOT / "reports" / f"{name}-pooled")
        for cut in flattened.cuts:
            split, accuracy = PUBLISHED_D1.get(cut.cut, ("", None))
            published = "" if accuracy is None else f"{accuracy:.2f} ({split})"
            cells = [network, f"`{cut.cut}`", published]
            cells += [*_accuracies(flattened, cut.cut), *_accuracies(pooled, cut.cut)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _accuracies(record: RunRecord, cut: str) -> list[str]:
    result = next(result for result in record.results if result.cut == cut)
    mark = "" if result.converged else " *"
    return [f"{result.accuracy[split]:.3f}{mark}" for split in ("val", "test")]


def networks_table() -> str:
    """Return the trainings that are published, each beside its document's own figure."""
    header = [
        "network", "training images", "epochs", "published top-1", "top-1 (95 % interval)", "top-5",
        "parameters", "report",
    ]  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|---|---:|---:|---:|---:|---:|---:|---|"]
    for name, published in TRAININGS.items():
        record = read_record(ROOT / "reports" / name)
        assert isinstance(record, TrainingRecord)
        test = record.splits.get("test")
        if test is None:
            raise FeatxError(f"{name} has no accuracy on test ({record.state}). Run it again.")
        cells = [
            record.network.name.partition("/")[2],
            f"{record.dataset.splits['train'].n:,}",
            f"{record.best_epoch} of {len(record.history)}",
            published,
            f"{test.accuracy:.3f} ({test.accuracy_low:.3f} to {test.accuracy_high:.3f})",
            f"{test.top5:.3f}",
            f"{record.network.n_parameters:,}",
            f"[{name}](reports/{name}/report.md)",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def studies_table() -> str:
    """Return the groups of the studies that are published, beside their documents' figures."""
    header = [
        "study", "group", "runs", "training images", "epochs", "published top-1",
        "top-1 (min / mean / max)", "did not learn",
    ]  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|---|---|---:|---:|---:|---|---|---:|"]
    for name in STUDIES:
        record = read_record(ROOT / "reports" / name)
        assert isinstance(record, StudyRecord)
        for group in dict.fromkeys(row.group for row in record.rows):
            rows = [row for row in record.rows if row.group == group]
            published = published_values(
                record.recipe, [group, str(record.recipe.get("network"))], "top1"
            )
            top1 = [row.top1["test"] for row in rows if row.top1]
            cells = [
                f"[{name}](reports/{name}/report.md)",
                group,
                str(len(rows)),
                f"{record.dataset.splits['train'].n:,}",
                str(max(row.epochs_run or 0 for row in rows)),
                " / ".join(f"{value:.3f}" for value in published),
                _spread(top1),
                str(sum(row.state == "did not learn" for row in rows) or ""),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    """Return minimum, mean and maximum, one value alone, or that there is none."""
    if len(values) > 1:
        return " / ".join(f"{v:.3f}" for v in (min(values), sum(values) / len(values), max(values)))
    return f"{values[0]:.3f}" if values else "failed"


TABLES = {"d1": d1_table, "networks": networks_table, "studies": studies_table}


def rendered(page: str) -> str:
    """Return a page with every table between its markers made anew."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- table:{name} -->\n).*?(<!-- end -->)"
        page = re.sub(pattern, lambda m, t=table: m[1] + t() + m[2], page, flags=re.DOTALL)
    return page


def write() -> None:
    """Write the page anew."""
    path = ROOT / "README.md"
    path.write_text(rendered(path.read_text()))


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        write()
        return 0
    page = (ROOT / "README.md").read_text()
    if rendered(page) == page:
        return 0
    print("README.md does not agree with the records: make tables", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
