"""What the source documents print, as the recipes hold it; D1's also class by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from featx.evaluate import RunRecord
from featx.recipes import load_study
from published.experiments import record_of
from published.words import listed

# By network: the recipe of D1 that holds the figures of its cuts.
D1 = {"VGG16": "d1-vgg16-svm", "ResNet-50": "d1-resnet50-svm"}
SPLITS = {"val": "validation", "test": "test"}


@cache
def published_by(recipe: str) -> Mapping[str, Any]:
    """Return the ``published`` figures of a shipped recipe."""
    return load_study(recipe).recipe.published


def published_at(recipe: str, size: int) -> tuple[int, float]:
    """Return an input size and the figure that a study of sizes has for it."""
    return size, published_by(recipe)[f"image_size{size}"]["top1"]


def d1_figures() -> Iterator[tuple[str, str, str, float]]:
    """Yield network, cut, split and accuracy of each figure of D1."""
    for network, recipe in D1.items():
        for cut, figures in published_by(recipe).items():
            for split in SPLITS:
                if split in figures:
                    yield network, cut, split, figures[split]


def class_records(reports: Path) -> dict[str, RunRecord]:
    """Return the records by recipe that stand beside D1's figures of classes."""
    found = {recipe: record_of(reports / recipe) for recipe in D1.values()}
    return {
        recipe: record
        for recipe, record in found.items()
        if isinstance(record, RunRecord)
        and any("classes" in figures for figures in published_by(recipe).values())
    }


def class_notes(records: Mapping[str, RunRecord]) -> str:
    """Return the training images of these records, and which fits did not end."""
    told = []
    for record in records.values():
        n = record.dataset.splits["train"].n
        open_ones = [f"`{each.cut}`" for each in record.results if not each.converged]
        text = f"{n:,} training images"
        if open_ones:
            text += f"; the fit did not reach its tolerance at {listed(open_ones)}"
        told.append(text)
    return "; ".join(told)


def class_rows(records: Mapping[str, RunRecord]) -> list[list[str]]:
    """Return a row per cut and class of D1: precision, recall and F1 as published, and ours."""
    rows = []
    for network, cut, split, _ in d1_figures():
        recipe = D1[network]
        if recipe not in records:
            continue
        record = records[recipe]
        result = next(result for result in record.results if result.cut == cut)
        ours = {scores.name: scores for scores in result.splits[split].per_class}
        for name, theirs in published_by(recipe)[cut].get("classes", {}).items():
            own = (ours[name].precision, ours[name].recall, ours[name].f1)
            of_cut = f"`{cut}` ({SPLITS[split]})"
            difference = f"{own[2] - theirs[2]:+.2f}"
            rows.append([of_cut, name, _three(theirs), _three(own), difference])
    return rows


def _three(values: tuple[float, ...]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)
