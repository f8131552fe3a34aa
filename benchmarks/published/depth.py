"""D1 in depth: what its variants say about the source's figures and conclusions."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.errors import FeatxError
from featx.evaluate import RunRecord, StudyRecord, StudyRow, holm, mcnemar_exact, paired_difference
from featx.evaluate import wilson_interval as wilson
from featx.recipes import load_study
from published.answers import Key, read_answers
from published.experiments import record_of

NETWORKS = {
    "VGG16": ("d1-depth-vgg16", "d1-depth-vgg16-flatten"),
    "ResNet-50": ("d1-depth-resnet50", "d1-depth-resnet50-flatten"),
}
PLAIN = {"VGG16": "d1-vgg16-svm-pooled", "ResNet-50": "d1-resnet50-svm-pooled"}
# As the source prints them: network, cut, split, accuracy.
PUBLISHED = (
    ("VGG16", "block3_conv1", "test", 0.81),
    ("VGG16", "block4_conv1", "val", 0.84),
    ("VGG16", "block5_conv1", "val", 0.82),
    ("ResNet-50", "conv4_block6_out", "test", 0.91),
)
# The source prints two digits.
ROUNDING = 0.005
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Variant:
    """The settings of one run; `C` is ``"12"`` or ``"chosen"``."""

    size: int
    pool: str
    standardize: str
    head: str
    C: str

    def __str__(self) -> str:
        return f"{self.size} px, {self.pool}, {self.standardize}, {self.head}, C {self.C}"


AS_PUBLISHED = Variant(32, "flatten", "per-split", "svm", "12")


@dataclass(frozen=True)
class Pair:
    """Two classifiers on the same test images, the first minus the second."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Depth:
    """One network's studies, of the same images.

    `cuts` stand in the order of execution, `scores` are by variant, cut and split, `answers` by
    variant and cut; `failed` are the messages of the runs that did not fit.
    """

    network: str
    records: list[StudyRecord]
    cuts: list[str]
    scores: dict[Variant, dict[str, dict[str, float]]]
    answers: dict[Variant, dict[str, np.ndarray]]
    failed: dict[str, str]

    def n(self, split: str) -> int:
        return self.records[0].dataset.splits[split].n

    @property
    def test_images(self) -> str:
        """Digest of the images that classifiers are compared on."""
        return self.records[0].dataset.splits["test"].digest

    def coverage(self) -> str:
        """Return how many of the recipes' variants were run, and which sizes of which pooling."""
        wanted = [load_study(name).axes for name in NETWORKS[self.network]]
        total = sum(math.prod(map(len, axes.values())) for axes in wanted)
        sizes: dict[str, list[int]] = {}
        for variant in sorted(self.scores, key=lambda v: v.size):
            of_pool = sizes.setdefault(variant.pool, [])
            if variant.size not in of_pool:
                of_pool.append(variant.size)
        alike: dict[tuple[int, ...], list[str]] = {}
        for pool, found in sizes.items():
            alike.setdefault(tuple(found), []).append(pool)
        told = [f"{listed(pools)} at {listed(of_sizes)} px" for of_sizes, pools in alike.items()]
        return f"{len(self.scores)} of {total} variants were run: {'; '.join(told)}"

    def best(self, variant: Variant, cuts: Iterable[str] | None = None) -> str:
        """Return the cut that is best on validation; test chooses nothing."""
        scores = self.scores[variant]
        return max(cuts or self.cuts, key=lambda cut: scores[cut]["val"])


def read_depth(reports: Path) -> dict[str, Depth]:
    """Return the studies that are there, by network."""
    found = {}
    for network, names in NETWORKS.items():
        records = [record_of(reports / name) for name in names]
        studies = [record for record in records if isinstance(record, StudyRecord)]
        if not studies:
            continue
        depth = Depth(network, studies, list(studies[0].recipe["cuts"]), {}, {}, {})
        for record in studies:
            if record.dataset.splits["test"].digest != depth.test_images:
                raise FeatxError(
                    f"{record.name} is of other test images than {studies[0].name}: they are "
                    "compared with each other. Run one of them again."
                )
            _take(depth, record, read_answers(reports / record.name, record))
        found[network] = depth
    return found


def _take(depth: Depth, record: StudyRecord, bits: Mapping[Key, np.ndarray]) -> None:
    """Add the runs of a study to what is known of its network."""
    for row in record.rows:
        if row.state == "failed":
            depth.failed[row.run] = row.message or ""
            continue
        variant = variant_of(row)
        depth.scores.setdefault(variant, {})[row.label] = row.top1
        if (row.run, row.label) in bits:
            depth.answers.setdefault(variant, {})[row.label] = bits[row.run, row.label]


def variant_of(row: StudyRow) -> Variant:
    values = row.settings
    C = "chosen" if values["C"] == "auto" else f"{float(values['C']):g}"
    # The studies of flattened features vary no pooling.
    return Variant(
        values["image_size"],
        values.get("pool", "flatten"),
        values["standardize"],
        values["head"],
        C,
    )


def pair(a: np.ndarray, b: np.ndarray) -> Pair:
    """Return the paired difference of two answers with its interval and McNemar's exact p."""
    difference, low, high = paired_difference(a, b)
    return Pair(difference, low, high, mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum())))


def published_rows(found: Mapping[str, Depth]) -> list[list[str]]:
    """Return a row per published figure: ours in the source's own variant, and the nearest."""
    rows = []
    for network, cut, split, published in PUBLISHED:
        cells = [network, f"`{cut}`", f"{published:.2f} ({_SPLITS[split]})"]
        depth = found.get(network)
        if depth is None:
            rows.append([*cells, "not run yet", "-", "-"])
            continue
        n = depth.n(split)
        scores = {v: s[cut][split] for v, s in depth.scores.items() if cut in s}
        own = scores.get(AS_PUBLISHED)
        agreeing = [v for v, s in scores.items() if _agrees(s, n, published)]
        near = min(scores, key=lambda v: abs(scores[v] - published))
        rows.append(
            [
                *cells,
                "not run yet" if own is None else with_interval(own, n),
                f"{scores[near]:.3f} ({near})",
                f"{len(agreeing)} of {len(scores)}",
            ]
        )
    return rows


_SPLITS = {"val": "validation", "test": "test"}


def _agrees(score: float, n: int, published: float) -> bool:
    """Return whether a 95 % interval and what rounds to the published figure overlap."""
    low, high = wilson(round(score * n), n)
    return low <= published + ROUNDING and published - ROUNDING <= high


def listed(items: Sequence[object]) -> str:
    """Return ``a, b and c``."""
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last


def with_interval(score: float, n: int) -> str:
    low, high = wilson(round(score * n), n)
    return f"{score:.3f} ({low:.3f} to {high:.3f})"


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
    if set(found) != set(NETWORKS):
        return []
    vgg, resnet = found["VGG16"], found["ResNet-50"]
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
        (vgg, a), (resnet, b) = best["VGG16"], best["ResNet-50"]
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


@dataclass(frozen=True)
class Cost:
    """What a chosen C gives over C = 12 in some cuts and variants, in accuracy on test."""

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


def points(difference: float) -> str:
    """Return a difference of accuracies in percentage points, with its sign."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text


def cost_of_C(found: Mapping[str, Depth], head: str = "svm") -> list[Cost]:
    """Return by network and pooling what choosing C gives over C = 12, paired on test."""
    costs = []
    for network, depth in found.items():
        by_pool: dict[str, list[Pair]] = {}
        for variant in depth.answers:
            if variant.head != head or variant.C != "chosen":
                continue
            fixed = depth.answers.get(
                Variant(variant.size, variant.pool, variant.standardize, head, "12"), {}
            )
            for cut, bits in depth.answers[variant].items():
                if cut in fixed:
                    by_pool.setdefault(variant.pool, []).append(pair(bits, fixed[cut]))
        for pool, pairs in by_pool.items():
            verdicts = Counter(
                verdict(p, q) for p, q in zip(pairs, holm([p.p for p in pairs]), strict=True)
            )
            costs.append(
                Cost(
                    f"{network}, {pool}",
                    [p.difference for p in pairs],
                    verdicts["holds"],
                    verdicts["reversed"],
                )
            )
    return costs


def shown_variants(found: Mapping[str, Depth]) -> dict[int, Variant]:
    """Return by size the variant that figures show: averaged, the usual way to standardize."""
    there = set.intersection(*(set(d.scores) for d in found.values())) if found else set()
    shown = [
        v
        for v in there
        if (v.pool, v.standardize, v.head, v.C) == ("avg", "train", "svm", "chosen")
    ]
    return {v.size: v for v in sorted(shown, key=lambda v: v.size)}
