"""Runs beside each other: which one is best, by how much, and what was different about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import FeatxError, PredictionsContradict
from featx.evaluate.metrics import newcombe_interval
from featx.evaluate.paired import mcnemar_exact, paired_difference
from featx.evaluate.predictions import correct_answers
from featx.evaluate.reading import ranking_split
from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import ComparisonRecord, TrainingRecord
from featx.report.comparison_text import p_text
from featx.report.labels import plain
from featx.report.outcomes import Outcome, best_outcome, outcomes
from featx.report.study_text import value_text
from featx.report.text import SPLIT_NAMES, Style

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from featx.evaluate.reading import Record

# Names, places and what changes no result.
_NOT_COMPARED = frozenset(
    ("name", "description", "published", "out", "cache_dir", "data_dir", "track", "exhibits",
     "map_method",
     "resume", "rebuild")
)  # fmt: skip
_SHOWN_DIGEST = 16
_LONGEST_NAME = 40
ABSENT = "-"
NOT_SET = "not set"
"""A recipe holds what was asked for: what is not set has its default, or no meaning there."""


@dataclass(frozen=True)
class Difference:
    """An accuracy minus another one, with its 95 % interval where both are shares of images.

    `p` is McNemar's exact value where the two were paired image by image; the interval is then the
    bootstrap's, otherwise Newcombe's.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves no doubt which one is larger."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return signed(self.value)
        return f"{signed(self.value)} ({signed(self.low)} to {signed(self.high)})"


@dataclass(frozen=True)
class Compared:
    """Runs that are compared with the first one of them.

    Attributes
    ----------
    names : list of str
        What each run is called here.
    records : list of Record
        The runs.
    best : list of Outcome
        The best result of each.
    decided_on : str
        The split that says which of these is best.
    split : str
        The split that accuracies are compared on.
    folders : list of Path
        Of the reports, where predictions are; empty where they are not known.
    """

    names: list[str]
    records: list[Record]
    best: list[Outcome]
    decided_on: str
    split: str
    folders: list[Path] = field(default_factory=list)
    _read: dict[tuple[int, str, str], npt.NDArray[np.bool_] | None] = field(
        default_factory=dict, repr=False
    )
    _contradict: set[int] = field(default_factory=set, repr=False)

    def difference(
        self, first: int, outcome: Outcome, other: int, another: Outcome
    ) -> Difference | None:
        """Return the accuracy of another run's result minus that of the first one's.

        Parameters
        ----------
        first, other : int
            Places of the two runs.
        outcome, another : Outcome
            A result of each.

        Returns
        -------
        Difference or None
            Paired where both runs kept predictions of the same images. None where one of the
            results was not measured on the split.
        """
        if self.split not in outcome.accuracy or self.split not in another.accuracy:
            return None
        value = another.accuracy[self.split] - outcome.accuracy[self.split]
        if self.split not in outcome.n or self.split not in another.n:
            return Difference(value)
        same = self._same_images(first, other)
        a = self._answers(other, another) if same else None
        b = self._answers(first, outcome) if same else None
        if a is not None and b is not None:
            _, low, high = paired_difference(a, b)
            only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
            return Difference(value, low, high, mcnemar_exact(only_a, only_b))
        counts = [
            (round(o.accuracy[self.split] * o.n[self.split]), o.n[self.split])
            for o in (another, outcome)
        ]
        return Difference(value, *newcombe_interval(*counts[0], *counts[1]))

    def _same_images(self, first: int, other: int) -> bool:
        digests = [self.records[i].dataset.splits[self.split].digest for i in (first, other)]
        return digests[0] == digests[1]

    def _answers(self, run: int, outcome: Outcome) -> npt.NDArray[np.bool_] | None:
        """Return which images a result was right on; None without predictions that agree."""
        if not self.folders or outcome.place is None or self.split not in outcome.accuracy:
            return None
        folder, cut = outcome.place
        digest = self.records[run].dataset.splits[self.split].digest
        # Tables, charts and sentences ask for the same ones.
        asked = (run, folder, cut)
        if asked not in self._read:
            try:
                self._read[asked] = correct_answers(
                    self.folders[run] / folder, cut, self.split, digest,
                    outcome.accuracy[self.split],
                )  # fmt: skip
            except PredictionsContradict:
                self._read[asked] = None
                self._contradict.add(run)
            except FeatxError:
                self._read[asked] = None
        return self._read[asked]

    def contradictions(self) -> list[str]:
        """Return the names of runs whose predictions contradict their records."""
        for run, record in enumerate(self.records):
            for outcome in outcomes(record):
                self._answers(run, outcome)
        return [self.names[run] for run in sorted(self._contradict)]

    def order(self) -> list[int]:
        """Return the places of the runs, the best one first."""
        return sorted(range(len(self.best)), key=lambda i: -self.best[i].accuracy[self.decided_on])


def signed(value: float) -> str:
    """Return a difference with its sign and three decimals; 0 has none.

    Examples
    --------
    >>> signed(0.0312), signed(-0.00001)
    ('+0.031', '0.000')
    """
    rounded = round(value, 3)
    return f"{rounded:+.3f}" if rounded else "0.000"


def compare_records(
    names: Sequence[str], records: Sequence[Record], folders: Sequence[Path] = ()
) -> Compared | str:
    """Return the runs as they can be compared, or why they cannot.

    Validation decides which one is best where every run has it; accuracies are compared on the test
    split where every run has it.

    Parameters
    ----------
    names : sequence of str
        What the runs are called.
    records : sequence of Record
        The runs; the others are compared with the first.
    folders : sequence of Path
        Their reports, for predictions.
    """
    names = _told_apart(names)
    best = [best_outcome(record) for record in records]
    for name, outcome in zip(names, best, strict=True):
        if outcome is None or not outcome.accuracy:
            return f"'{name}' has no accuracy: nothing was measured. Run it again."
    measured = [outcome for outcome in best if outcome is not None]
    common = [s for s in ("test", "val") if all(s in outcome.accuracy for outcome in measured)]
    if not common:
        each = "; ".join(
            f"'{name}': {', '.join(outcome.accuracy)}"
            for name, outcome in zip(names, measured, strict=True)
        )
        return f"No split was measured in all of these runs ({each}): there is nothing to compare."
    # A run whose own results were ranked by test had no validation for all of them.
    by_val = "val" in common and all(_ranked_on(record) != "test" for record in records)
    decided = "val" if by_val or "test" not in common else "test"
    return Compared(names, list(records), measured, decided, common[0], list(folders))


def _ranked_on(record: Record) -> str | None:
    """Return the split that ranks a run's results in its own report."""
    if isinstance(record, RunRecord):
        return ranking_split(record)
    return record.chosen_on if isinstance(record, ComparisonRecord) else None


def _told_apart(names: Sequence[str]) -> list[str]:
    """Return names short enough for the head of a column, each of them once."""
    found: list[str] = []
    for name in names:
        short, number = plain(name, _LONGEST_NAME), 2
        apart = short
        while apart in found:
            apart, number = f"{short} ({number})", number + 1
        found.append(apart)
    return found


def difference_answer(compared: Compared, style: Style) -> str:
    """Return which run is best, how far the next one is behind it, and how sure that is."""
    first, second = compared.order()[:2]
    best, next_best = compared.best[first], compared.best[second]
    decided, split = SPLIT_NAMES[compared.decided_on], SPLIT_NAMES[compared.split]
    text = (
        f"{style.name(compared.names[first])} is best on the {decided} split: "
        f"{_described(best, style)}, {split} accuracy {best.accuracy[compared.split]:.3f}. "
        f"Next is {style.name(compared.names[second])}: {_described(next_best, style)}, "
        f"{next_best.accuracy[compared.split]:.3f}."
    )
    found = compared.difference(second, next_best, first, best)
    assert found is not None, "both were measured on the split that is compared"
    if found.low is None:
        text += (
            f" The difference of {found} on the {split} split has no interval: at least one of the "
            "two is a mean over repeats, or its study varies the images."
        )
    else:
        sure = "does not hold 0" if found.is_clear else "holds 0: which is better is not certain"
        paired = "" if found.p is None else f", image by image (McNemar's p: {p_text(found.p)}),"
        text += (
            f" The difference of {found} on the {split} split{paired} has a 95 % interval that "
            f"{sure}."
        )
        if found.is_clear and found.value < 0:
            text += f" On the {split} split the next one is clearly better."
    if compared.decided_on == "test":
        text += (
            " Not every run has a validation split: the test split decides, so it flatters the "
            "best."
        )
    if compared.split == "val":
        text += (
            " Not every run has a test split: validation, which chose these results, compares "
            "them as well and flatters them."
        )
    return text


def _described(outcome: Outcome, style: Style) -> str:
    how = f" ({style.said(outcome.how)})" if outcome.how else ""
    return f"{style.name(outcome.what)}{how}"


def cautions(compared: Compared) -> list[str]:
    """Return what a reader must know before the accuracies are compared."""
    said = []
    for split in dict.fromkeys((compared.split, compared.decided_on)):
        digests = [record.dataset.splits[split].digest for record in compared.records
                   if split in record.dataset.splits]  # fmt: skip
        if any(a != b for a, b in pairwise(digests)):
            said.append(
                f"The {SPLIT_NAMES[split]} images are not the same in all runs: a difference may "
                "come from the images."
            )
    classes = [sorted(record.dataset.classes.values()) for record in compared.records]
    if any(a != b for a, b in pairwise(classes)):
        said.append("The runs have different classes: their accuracies answer different questions.")
    for name in compared.contradictions():
        said.append(
            f"The predictions of {name} do not agree with its record, so they are not used: run it "
            "again."
        )
    training = [record.dataset.splits["train"].digest for record in compared.records
                if "train" in record.dataset.splits]  # fmt: skip
    if any(a != b for a, b in pairwise(training)):
        said.append("The training images are not the same in all runs.")
    return said


def setting_rows(compared: Compared) -> tuple[list[list[str]], int]:
    """Return a row per setting, version or digest that differs, and how many are equal."""
    facts = [_facts(record) for record in compared.records]
    rows, equal = [], 0
    for key in dict.fromkeys(key for of in facts for key in of):
        values = [of.get(key) for of in facts]
        if all(a == b for a, b in pairwise(values)):
            equal += 1
        else:
            shown = [NOT_SET if v is None else value_text(v) for v in values]
            # Numbers that differ behind what is usually shown.
            alike = len(set(shown)) < len({repr(v) for v in values})
            rows.append([key, *([NOT_SET if v is None else str(v) for v in values] if alike
                                else shown)])  # fmt: skip
    return rows, equal


def _facts(record: Record) -> dict[str, Any]:
    """Return everything that may make a difference, by name, without nesting."""
    facts: dict[str, Any] = {"kind of run": _kind(record)}
    for key, value in record.recipe.items():
        if key not in _NOT_COMPARED:
            facts |= _flat(key.replace("_", " "), value)
    if isinstance(record, RunRecord | TrainingRecord):
        network = record.backbone if isinstance(record, RunRecord) else record.network
        facts["network"] = network.name
        facts["weights as loaded"] = network.weights
        facts["digest of the weights"] = network.digest[:_SHOWN_DIGEST]
        facts |= _flat("preprocessing", network.preprocess)
    for split, of in record.dataset.splits.items():
        shown = SPLIT_NAMES.get(split, split)
        facts[f"{shown} images"] = f"{of.n:,}"
        facts[f"digest of the {shown} images"] = of.digest[:_SHOWN_DIGEST]
    machine = record.environment
    facts |= {
        "device": machine.device,
        "processor": f"{machine.cpu}, {machine.n_cpus} cores",
        "platform": machine.platform,
        "featx": record.featx_version,
        "Python": machine.python,
        **machine.versions,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _kind(record: Record) -> str:
    return "probe" if isinstance(record, RunRecord) else record.kind


def _flat(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {key: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(f"{key}: {name}", inner)
    return flat
