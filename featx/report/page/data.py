"""What the page's script works on: confusion matrices, images, curves and maps as compact JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from featx.evaluate.reading import ranking
from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import TrainingRecord
from featx.report.page.markup import kept
from featx.report.text import HEAD_NAMES, SPLIT_NAMES

if TYPE_CHECKING:
    from featx.evaluate.exhibits import Exhibits, MapExhibit, ResultExhibit, ShownImage
    from featx.evaluate.metrics import AverageMetrics, ClassMetrics, SplitMetrics
    from featx.evaluate.reading import Record

SHOWN_BUDGET = 7_000_000
"""Characters that images of cells and curves may take in a page, of all runs together."""
MAPS_BUDGET = 2_000_000
"""Characters that maps may take in a page, of all runs together."""

_FIRST = {"test": 0, "val": 1}  # the order of the splits; any other one stands behind


def run_data(
    record: Record, exhibits: Exhibits | None, budgets: dict[str, int]
) -> tuple[dict[str, Any], list[str]]:
    """Return the data of a run for the script, and what the budgets left out.

    Parameters
    ----------
    record : RunRecord, TrainingRecord, StudyRecord or ComparisonRecord
        Of a study or a comparison nothing is needed.
    exhibits : Exhibits or None
        Its exhibits.
    budgets : dict of str to int
        Characters left for ``shown`` and ``maps``; what is used is taken off.
    """
    data: dict[str, Any] = {
        "classes": [[label, kept(name)] for label, name in record.dataset.classes.items()],
        "results": [],
        "maps": [],
    }
    notes: list[str] = []
    if isinstance(record, RunRecord):
        data["results"] = [_result(r.cut, HEAD_NAMES[r.head], r.splits) for r in record.results]
    elif isinstance(record, TrainingRecord) and record.splits:
        data["results"] = [_result(record.network.name, "", record.splits)]
    if exhibits is None:
        return data, notes
    if exhibits.tiles is not None:
        data["sheet"] = exhibits.tiles.model_dump(exclude={"file"})
    notes += _add_shown(data, record, exhibits, budgets)
    notes += _add_maps(data, exhibits.maps, budgets)
    return data, notes


def script_json(data: Any) -> Markup:
    """Return data as JSON that is safe inside a ``<script>``: it holds no ``<`` at all."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # no character left that HTML knows


def _result(cut: str, head: str, splits: dict[str, SplitMetrics]) -> dict[str, Any]:
    order = sorted(splits, key=lambda split: _FIRST.get(split, len(_FIRST)))
    return {
        "cut": kept(cut),
        "head": head,
        "splits": {kept(split): _split(split, splits[split]) for split in order},
        "shown": {},
    }


def _split(split: str, metrics: SplitMetrics) -> dict[str, Any]:
    return {
        "title": kept(SPLIT_NAMES.get(split, split)),
        "n": metrics.n,
        "accuracy": [_short(v) for v in (metrics.accuracy, metrics.accuracy_low,
                                         metrics.accuracy_high)],
        "labels": [scores.label for scores in metrics.per_class],
        "scores": [_scores(scores) for scores in metrics.per_class],
        "macro": _scores(metrics.macro_avg),
        "weighted": _scores(metrics.weighted_avg),
        "confusion": metrics.confusion,
    }  # fmt: skip


def _scores(scores: ClassMetrics | AverageMetrics) -> list[float]:
    return [_short(scores.precision), _short(scores.recall), _short(scores.f1), scores.support]


def _add_shown(
    data: dict[str, Any], record: Record, exhibits: Exhibits, budgets: dict[str, int]
) -> list[str]:
    """Add images and curves to the results, the best first, until the budget is used up."""
    place = {(r["cut"], r["head"]): r for r in data["results"]}
    rank: dict[tuple[str, str], int] = {}
    if isinstance(record, RunRecord):
        rank = {(r.cut, r.head): i for i, r in enumerate(ranking(record))}
    left_out = set()
    smallest = 0
    for shown in sorted(exhibits.results, key=lambda e: rank.get((e.cut, e.head), 0)):
        head = HEAD_NAMES.get(shown.head, shown.head) if isinstance(record, RunRecord) else ""
        result = place.get((kept(shown.cut), head))
        if result is None:
            # A training has one result, whatever its exhibits call it.
            result = data["results"][0] if data["results"] else None
        if result is None or kept(shown.split) not in result["splits"]:
            continue
        if budgets["shown"] < smallest:
            # Nothing has been as small as what is left: of a hundred cuts most need no look.
            left_out.add(shown.cut)
            continue
        compact = _shown(shown)
        size = len(json.dumps(compact, separators=(",", ":")))
        smallest = min(smallest or size, size)
        if size > budgets["shown"]:
            left_out.add(shown.cut)
            continue
        budgets["shown"] -= size
        result["shown"][kept(shown.split)] = compact
    if not left_out:
        return []
    return [f"To keep the page small, images and curves of {len(left_out)} cuts are left out, "
            "those of the best cuts are there."]  # fmt: skip


def _shown(shown: ResultExhibit) -> dict[str, Any]:
    reliability = shown.reliability
    return {
        "cells": [
            [cell.label, cell.predicted, cell.n, [_image(image) for image in cell.images]]
            for cell in shown.cells
        ],
        "curves": [
            [curve.label, _short(curve.average_precision), _row(curve.recall, 3),
             _row(curve.precision, 3)]
            for curve in shown.curves
        ],
        "reliability": None if reliability is None else {
            "confidence": _row(reliability.confidence),
            "accuracy": _row(reliability.accuracy),
            "n": reliability.n,
            "ece": _short(reliability.ece),
            "probabilities": kept(reliability.probabilities),
        },
    }  # fmt: skip


def _add_maps(
    data: dict[str, Any], maps: Sequence[MapExhibit], budgets: dict[str, int]
) -> list[str]:
    left_out = 0
    for drawn in maps:
        x, y = _places(drawn.x, drawn.y)
        compact = {
            "cut": kept(drawn.cut),
            "split": kept(SPLIT_NAMES.get(drawn.split, drawn.split)),
            "method": drawn.method,
            "explained": drawn.explained,
            "x": x,
            "y": y,
            "images": [_image(image) for image in drawn.images],
        }
        size = len(json.dumps(compact, separators=(",", ":")))
        if size > budgets["maps"]:
            left_out += 1
            continue
        budgets["maps"] -= size
        data["maps"].append(compact)
    if not left_out:
        return []
    return [f"To keep the page small, {left_out} of {len(maps)} maps are left out."]


def _places(x: Sequence[float], y: Sequence[float]) -> tuple[list[int], list[int]]:
    """Return coordinates as whole numbers from 0 to 999: a pixel each, in few characters.

    Both axes have one scale, so that distances are those of the map; it is centred.
    """
    ends = [(min(values, default=0.0), max(values, default=0.0)) for values in (x, y)]
    span = max(high - low for low, high in ends) or 1.0
    first, second = (
        [round((value - (low + high) / 2) / span * 999 + 499.5) for value in values]
        for values, (low, high) in zip((x, y), ends, strict=True)
    )
    return first, second


def _image(image: ShownImage) -> list[Any]:
    score = None if image.score is None else _short(image.score)
    return [image.index, image.label, image.tile, image.predicted, score]


def _row(values: Sequence[float], digits: int = 4) -> list[float]:
    return [_short(value, digits) for value in values]


def _short(value: float, digits: int = 4) -> float:
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded
