"""How a training ended, in one word and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featx.evaluate.metrics import wilson_interval
from featx.evaluate.training_records import EpochRecord, State

if TYPE_CHECKING:
    from featx.training.inputs import Inputs
    from featx.training.settings import TrainSettings
    from featx.training.steps import Divergence

# A last epoch that is better than all before it by more than this share was not the end of it.
STILL_IMPROVING = 0.01


def ending(
    history: Sequence[EpochRecord],
    settings: TrainSettings,
    divergence: Divergence | None,
    best_epoch: int,
    judged_on: Inputs,
) -> tuple[State, str | None]:
    """Return the state of a finished training, and the message of what went wrong.

    Parameters
    ----------
    judged_on : Inputs
        The split that tells whether anything was learned: validation, else training.
    """
    if divergence is not None:
        kept = f"the weights of epoch {best_epoch} are kept" if best_epoch else "nothing is kept"
        return "diverged", (
            f"The loss was {divergence.loss} in step {divergence.step} of epoch "
            f"{divergence.epoch}, at a learning rate of {divergence.learning_rate:.3g}; {kept}. "
            "Use a smaller --lr, --warmup-epochs or --clip-norm."
        )
    split = "val" if "val" in history[0].top1 else "train"
    if not _learned(max(record.top1[split] for record in history), judged_on):
        return "did not learn", (
            f"The best {split} accuracy is within chance of always naming the largest class."
        )
    if settings.patience is not None and len(history) < settings.epochs:
        return "stopped early", None
    return ("still improving", None) if _improving(history, split) else ("finished", None)


def _learned(top1: float, judged_on: Inputs) -> bool:
    """Return whether an accuracy is above the share of the largest class, beyond chance."""
    import torch

    n = len(judged_on)
    largest = int(torch.bincount(judged_on.targets).max())
    low, _ = wilson_interval(round(top1 * n), n)
    return low > largest / n


def _improving(history: Sequence[EpochRecord], split: str) -> bool:
    """Return whether the last epoch's loss is clearly below all before it."""
    losses = [record.loss[split] for record in history]
    return len(losses) > 1 and losses[-1] < (1 - STILL_IMPROVING) * min(losses[:-1])
