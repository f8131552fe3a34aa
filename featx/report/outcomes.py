"""What runs of any kind reached, in one form, so that they can stand beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featx.evaluate.reading import ranking
from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import StudyRecord, TrainingRecord
from featx.report.study_text import study_groups
from featx.report.text import HEAD_NAMES
from featx.report.training_text import MODE_NAMES

if TYPE_CHECKING:
    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.reading import Record
    from featx.report.study_text import Group


# Settings of a recipe that change which images a run sees.
_OF_IMAGES = frozenset(
    ("dataset", "data_dir", "classes", "val", "test", "stratified", "limit", "seed")
)


@dataclass(frozen=True)
class Outcome:
    """One result of a run: of a head on a cut, a network, an approach, a group of a study.

    Attributes
    ----------
    what, how : str
        Cut and head, network and mode, approach and what it is made of, group and cut.
    accuracy : dict of str to float
        Top-1 accuracy by split; of a group with repeats their mean.
    n : dict of str to int
        Images of a split, where the accuracy is a share of them: not for a mean.
    splits : mapping of str to SplitMetrics
        All metrics by split; empty for a study, which keeps none.
    place : (str, str) or None
        Folder of its predictions, relative to the run's, and their cut (empty for a network); None
        for a mean.
    multiply_adds : int or None
        Of one image.
    seconds : float
        To fit or train it.
    """

    what: str
    how: str
    accuracy: dict[str, float]
    n: dict[str, int]
    multiply_adds: int | None
    seconds: float
    splits: Mapping[str, SplitMetrics] = field(default_factory=dict)
    place: tuple[str, str] | None = None


def outcomes(record: Record) -> list[Outcome]:
    """Return everything that a run reached, in the order of its record."""
    if isinstance(record, RunRecord):
        return [
            _measured(r.cut, HEAD_NAMES[r.head], r.splits,
                      record.cut_record(r.cut).multiply_adds, r.fit_s, ("", r.cut))
            for r in record.results
        ]  # fmt: skip
    if isinstance(record, TrainingRecord):
        seconds = sum(epoch.seconds for epoch in record.history)
        network = record.network
        how = MODE_NAMES[record.mode]
        adds = network.multiply_adds
        return [_measured(network.name, how, record.splits, adds, seconds, ("", ""))]
    if isinstance(record, StudyRecord):
        return [_of_group(record, group) for group in study_groups(record)]
    return [
        _measured(a.name, a.what, a.splits, a.multiply_adds, a.train_s,
                  (a.folder, a.what if a.approach == "probe" else ""))
        for a in record.approaches
    ]  # fmt: skip


def ranked_outcomes(record: Record) -> list[Outcome]:
    """Return everything that a run reached, a probe's cuts in the order of its own report."""
    found = outcomes(record)
    if not isinstance(record, RunRecord):
        return found
    places = {id(result): i for i, result in enumerate(record.results)}
    return [found[places[id(result)]] for result in ranking(record)]


def best_outcome(record: Record) -> Outcome | None:
    """Return the best result, as the run's own report names it; None where nothing was measured."""
    if isinstance(record, RunRecord):
        return ranked_outcomes(record)[0]
    found = outcomes(record)
    measured = [outcome for outcome in found if outcome.accuracy]
    if not measured:
        return None
    if not isinstance(record, TrainingRecord | StudyRecord):
        named = [outcome for outcome in measured if outcome.what == record.best]
        if named:
            return named[0]
    split = "val" if all("val" in outcome.accuracy for outcome in measured) else "test"
    return max(measured, key=lambda outcome: outcome.accuracy.get(split, -1.0))


def _measured(
    what: str,
    how: str,
    splits: Mapping[str, SplitMetrics],
    adds: int,
    seconds: float,
    place: tuple[str, str],
) -> Outcome:
    return Outcome(
        what,
        how,
        {split: metrics.accuracy for split, metrics in splits.items()},
        {split: metrics.n for split, metrics in splits.items()},
        adds,
        seconds,
        splits,
        place,
    )


def _of_group(record: StudyRecord, group: Group) -> Outcome:
    splits = dict.fromkeys(split for row in group.rows for split in row.top1)
    means = {split: group.mean("top1", split) for split in splits}
    known = {split: of.n for split, of in record.dataset.splits.items() if split in splits}
    # A study's dataset is that of its first run: where an axis changes the images it says nothing.
    single = len(group.rows) == 1 and not _OF_IMAGES & set(record.axes)
    return Outcome(
        group.name,
        group.label,
        {split: mean for split, mean in means.items() if mean is not None},
        known if single else {},
        group.rows[0].multiply_adds,
        sum(row.seconds for row in group.rows) / len(group.rows),
        place=(group.rows[0].folder, group.label) if single else None,
    )
