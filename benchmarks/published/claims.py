"""What D1's runs say about its claims, in paired tests on the same test images."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.evaluate import RunRecord, holm, mcnemar_exact, paired_difference
from published.answers import read_answers
from published.depth import RESNET50, VGG16, Depth, Variant
from published.experiments import record_of
from published.words import points

PLAIN = {VGG16: "d1-vgg16-svm-pooled", RESNET50: "d1-resnet50-svm-pooled"}
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Pair:
    """Two classifiers on the same test images, the first minus the second."""

    difference: float
    low: float
    high: float
    p: float


def pair(a: np.ndarray, b: np.ndarray) -> Pair:
    """Return the paired difference of two answers with its interval and McNemar's exact p."""
    difference, low, high = paired_difference(a, b)
    return Pair(difference, low, high, mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum())))


@dataclass(frozen=True)
class Tested:
    """A claim in one variant: ``holds``, ``reversed`` or ``open``, after Holm's correction."""

    variant: Variant
    verdict: str
    pair: Pair


def intermediate_beats_last(depth: Depth) -> list[Tested]:
    """Test in every variant whether the best of the earlier cuts beats the last one."""

    def two(variant: Variant) -> tuple[np.ndarray, np.ndarray] | None:
        answers = depth.answers.get(variant, {})
        if set(answers) != set(depth.cuts):
            return None
        return answers[depth.best(variant, depth.cuts[:-1])], answers[depth.cuts[-1]]

    return _tested(depth.scores, two)


def resnet_beats_vgg(found: Mapping[str, Depth]) -> list[Tested]:
    """Test in every variant that both ran whether ResNet-50's best cut beats VGG16's."""
    if not {VGG16, RESNET50} <= set(found):
        return []
    vgg, resnet = found[VGG16], found[RESNET50]
    if vgg.test_images != resnet.test_images:
        return []

    def two(variant: Variant) -> tuple[np.ndarray, np.ndarray] | None:
        both = [d.answers.get(variant, {}) for d in (resnet, vgg)]
        if any(set(a) != set(d.cuts) for a, d in zip(both, (resnet, vgg), strict=True)):
            return None
        return both[0][resnet.best(variant)], both[1][vgg.best(variant)]

    return _tested([v for v in resnet.scores if v in vgg.scores], two)


def _tested(
    variants: Iterable[Variant],
    two: Callable[[Variant], tuple[np.ndarray, np.ndarray] | None],
) -> list[Tested]:
    pairs = {v: pair(*both) for v in variants if (both := two(v)) is not None}
    adjusted = holm([p.p for p in pairs.values()]) if pairs else []
    return [
        Tested(variant, verdict(found, p), found)
        for (variant, found), p in zip(pairs.items(), adjusted, strict=True)
    ]


def verdict(found: Pair, p: float) -> str:
    if p >= SIGNIFICANT:
        return "open"
    return "holds" if found.difference > 0 else "reversed"


def plain_claims(reports: Path) -> tuple[list[list[str]], list[RunRecord]]:
    """Return the claims in D1's plain runs (32 px, averaged, C = 12): a row each, and the records.

    A row is the two cuts, the paired difference on test in points, and the verdict. Cuts are chosen
    on validation; p is corrected for the number of rows.
    """
    pairs: dict[tuple[str, str], Pair] = {}
    best: dict[str, tuple[str, np.ndarray]] = {}
    records = []
    for network, name in PLAIN.items():
        record = record_of(reports / name)
        if not isinstance(record, RunRecord):
            continue
        answers = {cut: bits for (_, cut), bits in read_answers(reports / name, record).items()}
        if not answers:
            continue
        val = {result.cut: result.accuracy["val"] for result in record.results}
        *earlier, last = [cut.cut for cut in record.cuts]
        chosen = max(earlier, key=lambda cut: val[cut])
        pairs[f"`{chosen}`", f"`{last}`"] = pair(answers[chosen], answers[last])
        top = max(val, key=lambda cut: val[cut])
        best[network] = (top, answers[top])
        records.append(record)
    if len(records) == 2 and len({r.dataset.splits["test"].digest for r in records}) == 1:
        (vgg, a), (resnet, b) = best[VGG16], best[RESNET50]
        pairs[f"ResNet-50's `{resnet}`", f"VGG16's `{vgg}`"] = pair(b, a)
    adjusted = holm([found.p for found in pairs.values()]) if pairs else []
    rows = [
        [
            f"{first} beats {second}",
            f"{points(found.difference)} ({points(found.low)} to {points(found.high)})",
            verdict(found, p),
        ]
        for ((first, second), found), p in zip(pairs.items(), adjusted, strict=True)
    ]
    return rows, records


def claims_by_size(tested: Mapping[str, list[Tested]]) -> tuple[list[str], list[list[str]]]:
    """Return a table with a row per claim and a column per size: in how many variants it holds."""
    sizes = sorted({t.variant.size for tests in tested.values() for t in tests})
    rows = []
    for claim, tests in tested.items():
        cells = [claim]
        for size in sizes:
            of_size = [t for t in tests if t.variant.size == size]
            counts = Counter(t.verdict for t in of_size)
            cells.append(
                f"{counts['holds']} / {counts['open']} / {counts['reversed']}" if of_size else "-"
            )
        rows.append(cells)
    return ["claim", *(f"{size} px" for size in sizes)], rows


def claims_by_choice(tested: Mapping[str, list[Tested]]) -> tuple[list[str], list[list[str]]]:
    """Return a table with a row per value of the other choices, and a column per claim.

    A cell is in how many variants the claim holds, is open, is reversed, and the median difference.
    """
    rows = []
    for choice in _CHOICES:
        values = dict.fromkeys(choice(t.variant) for tests in tested.values() for t in tests)
        for value in values:
            cells = [value]
            for tests in tested.values():
                of_value = [t for t in tests if choice(t.variant) == value]
                counts = Counter(t.verdict for t in of_value)
                verdicts = f"{counts['holds']} / {counts['open']} / {counts['reversed']}"
                differences = [t.pair.difference for t in of_value]
                cells.append(
                    f"{verdicts} ({points(statistics.median(differences))})" if of_value else "-"
                )
            rows.append(cells)
    return ["variants with", *tested], rows


_CHOICES: tuple[Callable[[Variant], str], ...] = (
    lambda v: v.pool,
    lambda v: f"standardized {v.standardize}",
    # Together: logistic regression has no C = 12, and would be compared with both.
    lambda v: f"{v.head}, C {v.C}",
)


@dataclass(frozen=True)
class Gain:
    """What one choice gives over another in some cuts and variants, in accuracy on test."""

    what: str
    differences: list[float]
    better: int
    worse: int

    def cells(self) -> list[str]:
        low, high = min(self.differences), max(self.differences)
        return [
            self.what,
            f"{points(statistics.median(self.differences))} ({points(low)} to {points(high)})",
            f"{self.better} / {len(self.differences) - self.better - self.worse} / {self.worse}",
        ]


def gains_of_chosen_C(found: Mapping[str, Depth]) -> list[Gain]:
    """Return by network and pooling what choosing C gives the SVM over C = 12."""
    return _gains(found, lambda v: replace(v, C="12") if v.head == "svm" else None)


def gains_of_logistic(found: Mapping[str, Depth]) -> list[Gain]:
    """Return by network and pooling what logistic regression gives over the SVM, C chosen."""
    return _gains(found, lambda v: replace(v, head="svm") if v.head == "logistic" else None)


def _gains(found: Mapping[str, Depth], instead: Callable[[Variant], Variant | None]) -> list[Gain]:
    """Return by network and pooling what variants with a chosen C give over others, paired."""
    gains = []
    for network, depth in found.items():
        by_pool: dict[str, list[Pair]] = {}
        for variant in depth.answers:
            other = instead(variant) if variant.C == "chosen" else None
            beside = depth.answers.get(other, {}) if other else {}
            for cut, bits in depth.answers[variant].items():
                if cut in beside:
                    by_pool.setdefault(variant.pool, []).append(pair(bits, beside[cut]))
        for pool, pairs in by_pool.items():
            verdicts = Counter(
                verdict(p, q) for p, q in zip(pairs, holm([p.p for p in pairs]), strict=True)
            )
            gains.append(
                Gain(
                    f"{network}, {pool}",
                    [p.difference for p in pairs],
                    verdicts["holds"],
                    verdicts["reversed"],
                )
            )
    return gains
