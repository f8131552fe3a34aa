"""Ten classes, networks beside probes, and D2's input sizes: facts of their records."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from featx.evaluate import (
    ApproachRecord,
    ComparisonRecord,
    StudyRecord,
    StudyRow,
    holm,
    newcombe_interval,
)
from featx.heads import NAMED_GRIDS
from featx.recipes import load_study
from featx.text import human_seconds
from published.answers import read_answers
from published.claims import SIGNIFICANT, Pair, pair
from published.experiments import record_of
from published.sources import published_at
from published.words import listed, points, with_interval

NETWORKS = ("networks-500", "networks-5000", "networks-20000")
# ssl-transfer's supervised ResNet-50 on CIFAR-10, at this size.
TEN_PUBLISHED = published_at("d1-ten", 224)
# D2's figure, at the size of its images.
D2_PUBLISHED = published_at("d2-input-size", 32)
D2_TRAINING = 0.50
STRIDE = 32


@dataclass(frozen=True)
class BySize:
    """A study over input sizes: accuracy on test by size."""

    record: StudyRecord
    test: dict[int, float]

    @property
    def n(self) -> int:
        return self.record.dataset.splits["test"].n

    @property
    def n_train(self) -> int:
        return self.record.dataset.splits["train"].n

    def rows(self, published: tuple[int, float], digits: int) -> list[list[str]]:
        """Return a row per size: the map that the last layer sees, accuracy, the published one."""
        return [
            [
                f"{size} px",
                f"{max(1, size // STRIDE)} x {max(1, size // STRIDE)}",
                with_interval(score, self.n),
                f"{published[1]:.{digits}f}" if size == published[0] else "",
            ]
            for size, score in self.test.items()
        ]


def sizes_not_run(sizes: BySize) -> list[int]:
    """Return the input sizes of a study's recipe that its record does not hold."""
    whole = load_study(sizes.record.name).axes["image_size"]
    return [size for size in whole if size not in sizes.test]


def ten_rows(ten: BySize) -> list[list[str]]:
    """Return a row per size of the ten classes, with the C that was chosen."""
    chosen = {row.settings["image_size"]: row.C for row in ten.record.rows}
    return [
        [*cells[:2], f"{chosen[size]:g}", *cells[2:]]
        for size, cells in zip(ten.test, ten.rows(TEN_PUBLISHED, 4), strict=True)
    ]


def ten_values(ten: BySize) -> str:
    """Return how many values of C a probe of the ten classes chose among."""
    C = ten.record.recipe["C"]
    tried = NAMED_GRIDS[C] if isinstance(C, str) else C
    return f"{len(tried)} values from {min(tried):g} to {max(tried):g}"


def ten_words(ten: BySize) -> str:
    """Return what the probe of all ten classes reaches beside the published figure."""
    size, published = TEN_PUBLISHED
    least, n = min(ten.test), ten.n
    if size not in ten.test:
        largest = max(ten.test)
        return (
            f"The usual probe of all ten classes reaches {ten.test[largest]:.3f} on test at "
            f"{largest} px; {published:.4f} is published at {size} px, which was not run yet."
        )
    score = ten.test[size]
    low, high = newcombe_interval(round(score * n), n, round(published * n), n)
    verdict = "not told apart" if low <= 0 <= high else "told apart"
    text = (
        f"The usual probe of all ten classes reaches {score:.3f} on test at {size} px, where "
        f"{published:.4f} is published ({points(score - published)} points, {points(low)} to "
        f"{points(high)} by Newcombe's interval: {verdict})"
    )
    return text + (f"; {ten.test[least]:.3f} at {least} px." if least != size else ".")


def d2_short(whole: StudyRecord | None, prepared: StudyRecord | None) -> str:
    """Return in a sentence what becomes of D2's figure; nothing without its own set-up."""
    size, published = D2_PUBLISHED
    if whole is None:
        return ""
    ours = best_on_validation(whole).top1["test"]
    text = (
        f"D2's {100 * published:.0f} % on a frozen ResNet-18 at {size} px is {100 * ours:.0f} % "
        "here"
    )
    if prepared is not None:
        row, _ = _as_for_caffe(prepared)
        text += (
            f"; with images prepared as for other weights it is {100 * row.top1['test']:.0f} %, "
            "which may be the reason"
        )
    return f"{text}."


def d2_words(d2: BySize, whole: StudyRecord | None, prepared: StudyRecord | None = None) -> str:
    """Return what the input size does to D2's frozen network, in sentences.

    `whole` is D2's own set-up, on all images; the sizes were compared on some. `prepared` has it
    with images as other weights expect them.
    """
    size, published = D2_PUBLISHED
    told = []
    if whole is not None:
        best = best_on_validation(whole)
        away = 100 * (best.top1["test"] - published)
        told.append(
            f"On all {whole.dataset.splits['train'].n:,} training images it reaches "
            f"{best.top1['test']:.3f} at {size} px, {abs(away):.0f} points "
            f"{'above' if away >= 0 else 'below'} the published figure."
        )
    first, *larger = d2.test
    if larger:
        gains = [points(d2.test[each] - d2.test[first]) for each in larger]
        told.append(
            f"Larger inputs, at the same depth, give {listed(gains)} points at {listed(larger)} px "
            f"over {d2.test[first]:.3f} at {first} px, with {d2.n_train:,} training images."
        )
    if whole is not None:
        told.append(
            "Why the published figure is lower than ours stays unexplained."
            if prepared is None
            else _prepared_words(prepared, published)
        )
    return " ".join(told)


def _as_for_caffe(prepared: StudyRecord) -> tuple[StudyRow, float]:
    """Return the row whose images are prepared for Caffe's weights, and its training accuracy."""
    row = next(row for row in prepared.rows if row.settings["preprocess"] == "caffe")
    curve = next(curve for curve in prepared.curves if curve.run == row.run)
    return row, curve.values["top1 train"][(row.best_epoch or 0) - 1]


def _prepared_words(prepared: StudyRecord, published: float) -> str:
    """Return what D2's head reaches on images that are prepared for Caffe's weights."""
    row, on_training = _as_for_caffe(prepared)
    return (
        "A candidate for the published figure is images prepared for other weights: as for Caffe's "
        f"(BGR, 0 to 255, less the means) the same head reaches {row.top1['test']:.3f} on test and "
        f"{on_training:.3f} on training images as they are trained on, where the source has about "
        f"{published:.2f} and {D2_TRAINING:.2f}. It is one run, and how the source prepares images "
        "is not known."
    )


def d2_rows(d2: BySize, whole: StudyRecord | None) -> list[list[str]]:
    """Return a row for D2's own set-up, and one per size on fewer images."""
    rows = []
    if whole is not None:
        own = BySize(whole, {D2_PUBLISHED[0]: best_on_validation(whole).top1["test"]})
        rows = own.rows(D2_PUBLISHED, 2)
    # The published figure stands beside the set-up that it belongs to.
    rows += [[*cells[:-1], "" if rows else cells[-1]] for cells in d2.rows(D2_PUBLISHED, 2)]
    trained = [each.dataset.splits["train"].n for each in ([whole] if whole else [])]
    trained += [d2.n_train] * len(d2.test)
    return [[*cells[:2], f"{n:,}", *cells[2:]] for cells, n in zip(rows, trained, strict=True)]


def best_on_validation(study: StudyRecord) -> StudyRow:
    """Return the row of a study that validation chooses."""
    return max((row for row in study.rows if row.top1), key=lambda row: row.top1["val"])


def read_study(reports: Path, name: str) -> StudyRecord | None:
    record = record_of(reports / name)
    return record if isinstance(record, StudyRecord) else None


def read_sizes(reports: Path, name: str) -> BySize | None:
    record = read_study(reports, name)
    if record is None:
        return None
    test = {r.settings["image_size"]: r.top1["test"] for r in record.rows if "test" in r.top1}
    return BySize(record, dict(sorted(test.items()))) if test else None


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
    told = []
    ordered = sorted(found.values(), key=lambda c: c.n_train)
    for verdict, group in itertools.groupby(ordered, key=lambda c: c.verdict):
        each = list(group)
        images = f"with {listed([f'{c.n_train:,}' for c in each])} training images"
        longer = listed([f"{seconds(c.tuned) / seconds(c.probe):.0f}" for c in each])
        apart = listed(
            [points(abs(c.pair.difference)).lstrip("+") for c in each if c.pair is not None] or [""]
        )
        takes = f"fine-tuning takes {longer} times as long"
        told.append(
            {
                "fine-tuning wins": f"{images} fine-tuning all of ResNet-50 beats the best linear "
                f"head on cached features by {apart} points, and takes {longer} times as long",
                "the probe wins": f"{images} the best linear head on cached features beats "
                f"fine-tuning all of ResNet-50 by {apart} points, and {takes}",
                "not told apart": f"{images} the best linear head on cached features and "
                f"fine-tuning are not told apart, and {takes}",
                "not tested": f"{images} the two were not tested",
            }[verdict]
        )
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}."


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
