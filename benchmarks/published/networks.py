"""Networks beside probes: facts of the comparisons' records."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from featx.evaluate import ApproachRecord, ComparisonRecord, holm
from featx.text import counted, human_seconds
from published.answers import read_answers
from published.claims import SIGNIFICANT, Pair, pair
from published.experiments import record_of
from published.words import listed, points, with_interval

# Probes of ResNet-50 beside its fine-tuning and small networks, by training images.
NETWORKS = ("networks-500", "networks-5000", "networks-20000")


@dataclass(frozen=True)
class Compared:
    """One comparison: its best probe and its best trained network, chosen on validation.

    `pair` is the network minus the probe on the same test images, None without answers; `p` is its
    p corrected for the number of comparisons.
    """

    record: ComparisonRecord
    probe: ApproachRecord
    tuned: ApproachRecord
    pair: Pair | None
    p: float = 1.0

    @property
    def n_train(self) -> int:
        return self.record.dataset.splits["train"].n

    @property
    def verdict(self) -> str:
        if self.pair is None:
            return "not tested"
        if self.p >= SIGNIFICANT:
            return "not told apart"
        return "fine-tuning wins" if self.pair.difference > 0 else "the probe wins"

    def cells(self) -> list[str]:
        n = self.record.dataset.splits["test"].n
        cells = [f"{self.n_train:,}"]
        for approach in (self.probe, self.tuned):
            accuracy = with_interval(approach.splits["test"].accuracy, n)
            cells.append(f"{approach.name}: {accuracy}, {human_seconds(seconds(approach))}")
        if self.pair is None:
            return [*cells, "-"]
        interval = f"{points(self.pair.low)} to {points(self.pair.high)}"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return [*cells, f"{points(self.pair.difference)} ({interval}; {p}): {self.verdict}"]


def seconds(approach: ApproachRecord) -> float:
    """Return what it takes from images to a trained model: extraction and fit, or training."""
    return approach.train_s + approach.extract_s


def read_networks(reports: Path) -> dict[str, Compared]:
    """Return the comparisons that are there, by name, in the order of their size."""
    found = {}
    for name in NETWORKS:
        record = record_of(reports / name)
        if not isinstance(record, ComparisonRecord):
            continue
        probe = _best(record, ("probe",))
        tuned = _best(record, ("finetune", "lp-ft"))
        if probe is None or tuned is None:
            continue
        answers = read_answers(reports / name, record)
        keys = ((tuned.name, ""), (probe.name, probe.what))
        both = [answers[key] for key in keys if key in answers]
        found[name] = Compared(record, probe, tuned, pair(*both) if len(both) == 2 else None)
    tested = {name: each.pair.p for name, each in found.items() if each.pair is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True)) if tested else {}
    return {name: replace(each, p=adjusted.get(name, 1.0)) for name, each in found.items()}


def _best(record: ComparisonRecord, kinds: tuple[str, ...]) -> ApproachRecord | None:
    of_kind = [a for a in record.approaches if a.approach in kinds]
    return max(of_kind, key=lambda a: a.splits["val"].accuracy, default=None)


def head_words(found: Mapping[str, Compared]) -> str:
    """Return whether the best probe is enough beside the best fine-tuned network, in a sentence."""
    ordered = sorted(found.values(), key=lambda c: c.n_train)
    if not ordered:
        return ""
    first = ordered[0].record
    probe, tuned = "the best linear head", "the better of LP-FT and fine-tuning all of ResNet-50"
    told = []
    for verdict, group in itertools.groupby(ordered, key=lambda c: c.verdict):
        each = list(group)
        images = f"with {listed([f'{c.n_train:,}' for c in each])} training images"
        longer = listed([_ratio(seconds(c.tuned) / seconds(c.probe)) for c in each])
        apart = [points(abs(c.pair.difference)).lstrip("+") for c in each if c.pair is not None]
        by = f"by {listed(apart)} points" if apart else ""
        takes = f"takes {longer} times as long"
        told.append(
            {
                "fine-tuning wins": f"{images} {tuned} beats {probe} {by} and {takes}",
                "the probe wins": f"{images} {probe} beats {tuned} {by}, which {takes}",
                "not told apart": f"{images} {probe} and {tuned} are not told apart; the network "
                f"{takes}",
                "not tested": f"{images} {probe} and {tuned} were not compared",
            }[verdict]
        )
    cores = counted(first.environment.n_cpus, "core", "cores")
    return f"At {first.recipe['image_size']} px, on {cores}: {'; '.join(told)}."


def _ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 2 else f"{value:.1f}"


def setting(found: Mapping[str, Compared]) -> str:
    """Return what the comparisons have in common: the classes and the size of the images."""
    first = next(iter(found.values())).record
    return f"{len(first.dataset.classes)} classes at {first.recipe['image_size']} px"


def notes_on_epochs(found: Mapping[str, Compared]) -> list[str]:
    """Return of which networks the comparisons note that more epochs would help."""
    told = []
    for each in found.values():
        for note in each.record.notes:
            names, _, text = note.partition(": ")
            if text.endswith("more epochs would help."):
                approaches = listed([f"`{name}`" for name in names.split(", ")])
                told.append(f"with {each.n_train:,} training images of {approaches}")
    return told


def notes_on_probes(found: Mapping[str, Compared]) -> list[str]:
    """Return what the comparisons note on the cut of the best probe: a C at the edge of its list.

    A note of a probe begins with its name, and goes on with the cut.
    """
    return [
        f"With {each.n_train:,} training images, {note.removeprefix('probe: ')}"
        for each in found.values()
        for note in each.record.notes
        if note.startswith(f"probe: {each.probe.what}: ")
    ]


def _epochs(approach: ApproachRecord) -> str:
    """Return the epochs in an approach's settings, for a cell; nothing for a probe."""
    found = re.search(r"\d+ epochs", approach.settings)
    return f", {found[0]}" if found else ""


def approach_rows(found: Mapping[str, Compared]) -> tuple[list[str], list[list[str]]]:
    """Return one table of all: a row per approach, a column per number of training images."""
    ordered = sorted(found.values(), key=lambda c: c.n_train)
    names = dict.fromkeys(a.name for each in ordered for a in each.record.approaches)
    rows = []
    for name in names:
        cells = [f"`{name}`"]
        for each in ordered:
            approach = next((a for a in each.record.approaches if a.name == name), None)
            if approach is None:
                cells.append("-")
                continue
            accuracy = f"{approach.splits['test'].accuracy:.3f}"
            chosen = name in (each.probe.name, each.tuned.name)
            shown = f"**{accuracy}**" if chosen else accuracy
            cells.append(f"{shown}, {human_seconds(seconds(approach))}{_epochs(approach)}")
        rows.append(cells)
    return ["approach", *(f"{each.n_train:,} images" for each in ordered)], rows
