"""A training in words and tables: its answer, its epochs, what its state means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featx.report.text import (
    SPLIT_NAMES,
    Style,
    accuracy_text,
    evaluated_splits,
    measured_text,
    published_values,
    share_text,
    without_empty,
)
from featx.text import human_bytes, human_count, human_seconds

if TYPE_CHECKING:
    from featx.evaluate.training_records import EpochRecord, TrainingRecord

MODE_NAMES = {
    "scratch": "trained from scratch",
    "frozen": "frozen, with a new head",
    "finetune": "fine-tuned",
    "lp-ft": "fine-tuned from a head fitted first",
}
_LONGEST_HISTORY = 30
_METRIC_NAMES = {"loss": "loss", "top1": "top-1", "top5": "top-5"}


def kept_by_text(kept_by: str) -> str:
    """Return what chose the kept epoch: ``val loss`` is ``the validation loss``."""
    words = [SPLIT_NAMES.get(word, _METRIC_NAMES.get(word, word)) for word in kept_by.split()]
    return " ".join(["the", *words])


def train_seconds(record: TrainingRecord) -> float:
    """Return the seconds of all epochs, without evaluation."""
    return math.fsum(epoch.seconds for epoch in record.history)


def state_text(record: TrainingRecord, style: Style) -> str:
    """Return what a reader must know before any number, or nothing if all went well."""
    epochs = _epochs(len(record.history))
    said = f": {style.said(record.message.rstrip('.'))}" if record.message else ""
    if record.state == "diverged":
        kept = "What follows is of the weights of the last good epoch." if record.splits else ""
        return f"The training diverged after {epochs}{said}. {kept}".rstrip()
    if record.state == "did not learn":
        return (
            f"The network did not learn in {epochs}{said}. Its best validation accuracy is within "
            "chance of what naming the largest class every time would reach."
        )
    if record.state == "still improving":
        return (
            f"The training was still improving when it ended after {epochs}{said}. Its last epoch "
            "was its best, so more of them would probably raise the accuracy."
        )
    return ""


def training_answer(record: TrainingRecord, style: Style) -> str:
    """Return the answer: accuracy with its interval, the epoch kept and why, what it cost."""
    network = record.network
    parts = [f"{style.name(network.name)} ({MODE_NAMES[record.mode]}"]
    if network.frozen_up_to is not None:
        parts.append(f", frozen up to {style.said(network.frozen_up_to)}")
    parts.append(")")
    shown = evaluated_splits(record.splits)
    if shown:
        measured = ", ".join(measured_text(s, record.splits[s]) for s in shown)
        kept = style.said(kept_by_text(record.kept_by))
        by = "" if record.kept_by == "last epoch" else f", kept by {kept}"
        which = "last epoch" if record.kept_by == "last epoch" else f"epoch {record.best_epoch}"
        parts.append(f" reaches {measured}, with the weights of {which}{by}.")
    else:
        parts.append(" was not evaluated.")
    parts.append(_published(record))
    ended = " It stopped early." if record.state == "stopped early" else ""
    parts.append(
        f" {_epochs(len(record.history)).capitalize()} took {human_seconds(train_seconds(record))} "
        f"of training, for {network.n_trained:,} of {network.n_parameters:,} parameters.{ended}"
    )
    return "".join(parts)


def _published(record: TrainingRecord) -> str:
    """Return what a source says of this network, where the recipe tells it."""
    names = (str(record.recipe.get("network")), record.network.name.partition("/")[2])
    found = []
    for metric in ("top1", "top5"):
        values = published_values(record.recipe, names, metric)
        three = " (min / mean / max)" if len(values) == 3 else ""
        if values:
            shown = " / ".join(share_text(value) for value in values)
            found.append(f"{_METRIC_NAMES[metric]} {shown}{three}")
    return f" Published: {', '.join(found)}." if found else ""


def training_rows(record: TrainingRecord) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of what the kept weights reach, a row per split."""
    header = ["split", "top-1 (95 % interval)", "top-5", "macro F1", "images"]
    rows = [
        [
            SPLIT_NAMES.get(split, split),
            accuracy_text(m),
            share_text(m.top5),
            f"{m.macro_avg.f1:.3f}",
            f"{m.n:,}",
        ]
        for split, m in record.splits.items()
    ]
    return without_empty(header, rows)


def shown_epochs(record: TrainingRecord) -> list[EpochRecord]:
    """Return every epoch, or of many the first, every k-th, the kept and the last one."""
    n = len(record.history)
    step = next(k for k in _steps() if n <= k * _LONGEST_HISTORY)
    kept = {1, record.best_epoch, record.history[-1].epoch} if record.history else set()
    return [e for e in record.history if e.epoch % step == 0 or e.epoch in kept]


def history_rows(record: TrainingRecord) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the history: loss and accuracies per epoch and split."""
    splits = history_splits(record)
    columns = [(metric, split) for metric in _METRIC_NAMES for split in splits]
    header = [
        "epoch",
        "learning rate",
        *(f"{split} {_METRIC_NAMES[metric]}" for metric, split in columns),
        "time",
        "images/s",
    ]
    rows = []
    for epoch in shown_epochs(record):
        values = [getattr(epoch, metric).get(split) for metric, split in columns]
        rows.append(
            [
                f"{epoch.epoch} (kept)" if epoch.epoch == record.best_epoch else str(epoch.epoch),
                f"{epoch.learning_rate:.3g}",
                *(share_text(value) for value in values),
                human_seconds(epoch.seconds),
                f"{epoch.images_per_s:,.0f}",
            ]
        )
    return without_empty(header, rows)


def history_splits(record: TrainingRecord) -> list[str]:
    """Return the splits that the history has: training, validation, test, then any other."""
    found = dict.fromkeys(split for epoch in record.history for split in (*epoch.loss, *epoch.top1))
    return [s for s in SPLIT_NAMES if s in found] + [s for s in found if s not in SPLIT_NAMES]


def cost_rows(record: TrainingRecord) -> list[tuple[str, str]]:
    """Return what the epochs cost: time, speed and peak memory."""
    history = record.history
    if not history:
        return []
    seconds = sorted(epoch.seconds for epoch in history)
    rows = [
        (
            "time per epoch",
            f"{human_seconds(seconds[len(seconds) // 2])} (median; "
            f"{human_seconds(seconds[0])} to {human_seconds(seconds[-1])})",
        ),
        ("evaluation per epoch", human_seconds(_mean([e.evaluation_s for e in history]))),
        ("images per second", human_count(_mean([e.images_per_s for e in history]))),
    ]
    for device, field in (("process", "peak_memory_bytes"), ("GPU", "peak_gpu_bytes")):
        known = [getattr(e, field) for e in history if getattr(e, field) is not None]
        if known:
            rows.append((f"peak memory of the {device}", human_bytes(max(known))))
    return rows


def _steps() -> list[int]:
    return [step * 10**power for power in range(9) for step in (1, 2, 5)]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _epochs(n: int) -> str:
    return "1 epoch" if n == 1 else f"{n} epochs"
