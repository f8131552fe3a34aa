"""D1 in depth: what its variants say about the source's figures and conclusions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import FeatxError
from featx.evaluate import (
    StudyRecord,
    StudyRow,
    newcombe_interval,
)
from featx.recipes import load_study
from published.answers import Key, read_answers
from published.experiments import EXPERIMENTS, record_of
from published.sources import SPLITS, d1_figures
from published.words import listed, points, with_interval

VGG16, RESNET50, VGG16_V1 = "VGG16", "ResNet-50", "VGG16 (IMAGENET1K_V1)"
RUNS = [run for name in ("d1-depth", "d1-depth-more") for run in EXPERIMENTS[name].runs]
REPORTS = [run.report for run in RUNS]
NETWORKS = {
    VGG16: [r for r in REPORTS if r.startswith("d1-depth-vgg16") and "-v1" not in r],
    RESNET50: [r for r in REPORTS if r.startswith("d1-depth-resnet50")],
    VGG16_V1: [r for r in REPORTS if r.startswith("d1-depth-vgg16-v1")],
}
# The source prints two digits, and holds out and tests 5,000 images each.
ROUNDING = 0.005
N_PUBLISHED = 5000


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
        """Return how many of the recipes' variants were run: with which head, pooling and size."""
        runs = [run for run in RUNS if run.report in NETWORKS[self.network]]
        total = sum(
            math.prod(map(len, load_study(r.recipe, r.settings).axes.values())) for r in runs
        )
        sizes: dict[tuple[str, str], list[int]] = {}
        for variant in sorted(self.scores, key=lambda v: v.size):
            of_pool = sizes.setdefault((variant.head, variant.pool), [])
            if variant.size not in of_pool:
                of_pool.append(variant.size)
        alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for (head, pool), found in sizes.items():
            alike.setdefault((head, tuple(found)), []).append(pool)
        heads: dict[tuple[tuple[str, ...], tuple[int, ...]], list[str]] = {}
        for (head, of_sizes), pools in alike.items():
            heads.setdefault((tuple(pools), of_sizes), []).append(head)
        told = [
            f"{listed(of_heads)} with {listed(pools)} at {listed(of_sizes)} px"
            for (pools, of_sizes), of_heads in heads.items()
        ]
        return f"{len(self.scores)} of {total} variants were run: {'; '.join(told)}"

    def best(self, variant: Variant, cuts: Iterable[str] | None = None) -> str:
        """Return the cut that is best on validation; test chooses nothing."""
        scores = self.scores[variant]
        return max(cuts or self.cuts, key=lambda cut: scores[cut]["val"])

    def best_variant(self) -> tuple[Variant, str]:
        """Return the variant and cut that are best on validation.

        Of equals the one that is standardized with the training images' statistics: the others use
        those of the test images.
        """

        def rank(variant: Variant) -> tuple[float, bool]:
            return self.scores[variant][self.best(variant)]["val"], variant.standardize == "train"

        variant = max(self.scores, key=rank)
        return variant, self.best(variant)


def _in_bf16(record: StudyRecord) -> bool:
    how = record.environment.device.partition(": ")[2]
    # Before records said how they computed, those that were allowed bf16 ran where it is.
    return "bf16" in how if how else bool(record.recipe.get("allow"))


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
            for split, images in record.dataset.splits.items():
                if images.digest != studies[0].dataset.splits[split].digest:
                    raise FeatxError(
                        f"{record.name} is of other {split} images than {studies[0].name}: they "
                        "are compared with each other. Run one of them again."
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
        variant = variant_of(row, record.recipe)
        depth.scores.setdefault(variant, {})[row.label] = row.top1
        if (row.run, row.label) in bits:
            depth.answers.setdefault(variant, {})[row.label] = bits[row.run, row.label]


def variant_of(row: StudyRow, recipe: Mapping[str, Any]) -> Variant:
    """Return the variant of a row; what its study does not vary is the recipe's."""
    values = {"pool": "avg", **recipe, **row.settings}
    C = values["C"][0] if isinstance(values["C"], list) else values["C"]
    return Variant(
        values["image_size"],
        values["pool"],
        values["standardize"],
        values["head"],
        "chosen" if C == "auto" else f"{float(C):g}",
    )


def rounded_words(found: Mapping[str, Depth]) -> str:
    """Return in a sentence which studies' features were computed in bf16; nothing if none were."""
    records = [record for depth in found.values() for record in depth.records]
    names = [f"`{record.name}`" for record in records if _in_bf16(record)]
    if not names:
        return ""
    return (
        f"The features of {listed(names)} were computed in bf16, as the machine has it; all others "
        "in fp32."
    )


def best_rows(found: Mapping[str, Depth]) -> list[list[str]]:
    """Return a row per network: the cut and variant that validation prefers, and their scores."""
    rows = []
    for network, depth in found.items():
        variant, cut = depth.best_variant()
        scores = depth.scores[variant][cut]
        accuracies = [with_interval(scores[split], depth.n(split)) for split in SPLITS]
        rows.append([network, f"`{cut}`", str(variant), *accuracies])
    return rows


def published_rows(found: Mapping[str, Depth]) -> list[list[str]]:
    """Return a row per published figure: ours in the source's own variant, and the nearest."""
    rows = []
    for network, cut, split, published in d1_figures():
        cells = [network, f"`{cut}`", f"{published:.2f} ({SPLITS[split]})"]
        depth = found.get(network)
        scores = {} if depth is None else _scores_of(depth, cut, split)
        if depth is None or not scores:
            rows.append([*cells, "not run yet", "-", "-"])
            continue
        n = depth.n(split)
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


def _scores_of(depth: Depth, cut: str, split: str) -> dict[Variant, float]:
    return {v: s[cut][split] for v, s in depth.scores.items() if cut in s}


def one_variant_for_all(found: Mapping[str, Depth]) -> list[str]:
    """Return by network, in a sentence, the one variant that is nearest to all its figures."""
    told = []
    for network, depth in found.items():
        figures = [p for p in d1_figures() if p[0] == network]
        away = {
            variant: max(abs(scores[cut][split] - value) for _, cut, split, value in figures)
            for variant, scores in depth.scores.items()
            if len(figures) > 1 and all(cut in scores for _, cut, _, _ in figures)
        }
        if not away:
            continue
        agreeing = [
            variant
            for variant in away
            if all(
                _agrees(depth.scores[variant][cut][split], depth.n(split), value)
                for _, cut, split, value in figures
            )
        ]
        near = min(away, key=lambda variant: away[variant])
        told.append(
            f"{network}: the one variant that comes nearest to all {len(figures)} figures is "
            f"{near}; its largest distance is {points(away[near]).lstrip('+')} points. "
            f"{len(agreeing)} of {len(away)} variants agree with all of them."
        )
    return told


def _agrees(score: float, n: int, published: float) -> bool:
    """Return whether a score and a published one may be of equally good classifiers.

    By Newcombe's 95 % interval of their difference: both are of a draw of images.
    """
    of_source = round(published * N_PUBLISHED)
    low, high = newcombe_interval(round(score * n), n, of_source, N_PUBLISHED)
    return low <= ROUNDING and high >= -ROUNDING


def shown_variants(found: Mapping[str, Depth]) -> dict[int, Variant]:
    """Return by size the variant that figures show: averaged, the usual way to standardize."""
    there = set.intersection(*(set(d.scores) for d in found.values())) if found else set()
    shown = [
        v
        for v in there
        if (v.pool, v.standardize, v.head, v.C) == ("avg", "train", "svm", "chosen")
    ]
    return {v.size: v for v in sorted(shown, key=lambda v: v.size)}
