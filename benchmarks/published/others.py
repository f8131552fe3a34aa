"""Ten classes, networks beside probes, and D2's input sizes: facts of their records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from featx.evaluate import ApproachRecord, ComparisonRecord, Record, StudyRecord
from featx.recipes import PLACES, load_study
from featx.text import human_seconds
from published.answers import read_answers
from published.depth import SIGNIFICANT, Pair, pair, points, with_interval
from published.experiments import EXPERIMENTS, Run, hardware_of, record_of

NETWORKS = ("networks-500", "networks-5000", "networks-20000")
# ssl-transfer's supervised ResNet-50 on CIFAR-10, at this size.
TEN_PUBLISHED = (224, 0.9147)
# D2's figure, at the size of its images.
D2_PUBLISHED = (32, 0.48)
STRIDE = 32


@dataclass(frozen=True)
class BySize:
    """A study over input sizes: accuracy on test by size."""

    record: StudyRecord
    test: dict[int, float]

    @property
    def n(self) -> int:
        return self.record.dataset.splits["test"].n

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


def read_sizes(reports: Path, name: str) -> BySize | None:
    record = record_of(reports / name)
    if not isinstance(record, StudyRecord):
        return None
    test = {r.settings["image_size"]: r.top1["test"] for r in record.rows if "test" in r.top1}
    return BySize(record, dict(sorted(test.items()))) if test else None


@dataclass(frozen=True)
class Compared:
    """One comparison: its best probe and its best trained network, chosen on validation.

    `pair` is the network minus the probe on the same test images, None without answers.
    """

    record: ComparisonRecord
    probe: ApproachRecord
    tuned: ApproachRecord
    pair: Pair | None

    @property
    def n_train(self) -> int:
        return self.record.dataset.splits["train"].n

    @property
    def verdict(self) -> str:
        if self.pair is None or self.pair.p >= SIGNIFICANT:
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
        p = "p < 0.001" if self.pair.p < 0.001 else f"p = {self.pair.p:.3f}"
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
    return found


def _best(record: ComparisonRecord, kinds: tuple[str, ...]) -> ApproachRecord | None:
    of_kind = [a for a in record.approaches if a.approach in kinds]
    return max(of_kind, key=lambda a: a.splits["val"].accuracy, default=None)


def crossing(found: Mapping[str, Compared]) -> str:
    """Return from how many images on fine-tuning beats the best probe, as far as was measured."""
    ordered = sorted(found.values(), key=lambda c: c.n_train)
    pays = [c.n_train for c in ordered if c.verdict == "fine-tuning wins"]
    if pays:
        return f"Fine-tuning beats the best probe from {pays[0]:,} training images on."
    most = f"{ordered[-1].n_train:,}"
    return f"Up to {most} training images fine-tuning does not beat the best probe."


def made_by(experiment: str, records: list[Record]) -> str:
    """Return the command that makes these records: the experiment's, or their own if it differs."""
    runs = {run.report: run for run in EXPERIMENTS[experiment].runs}
    other = [r for r in records if _differs(r, runs[r.name])]
    commands = [f"`{r.command}`" for r in other] or [f"`make reproduce EXPERIMENT={experiment}`"]
    return f"Made by {', '.join(commands)} on {measured_on(records)}."


def _differs(record: Record, run: Run) -> bool:
    """Return whether a record was made with other settings than its experiment has."""
    wanted = load_study(run.recipe, run.settings).recipe.settings()
    varied = set(record.axes) if isinstance(record, StudyRecord) else set()
    silent = {*PLACES, *varied, "weights", "description"}
    return any(
        record.recipe.get(key) != wanted.get(key) for key in {*record.recipe, *wanted} - silent
    )


def measured_on(records: list[Record]) -> str:
    """Return the machines and the days of some records, each once."""
    told = dict.fromkeys(f"{hardware_of(r)}, {r.created[:10]}" for r in records)
    return "; ".join(told)
