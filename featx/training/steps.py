"""The steps of one epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.errors import UsageError

if TYPE_CHECKING:
    import torch

    from featx.training.inputs import Inputs
    from featx.training.learner import Learner
    from featx.training.loop import _Run
    from featx.training.settings import TrainSettings

_TOP = 5
# How many steps a GPU may run ahead before its losses are looked at.
_LOOK_EVERY = 50


@dataclass(frozen=True)
class Divergence:
    """A loss that was not finite: where, and at which learning rate."""

    epoch: int
    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class EpochScore:
    """Means over the rows of an epoch as they were trained on, and the last step's rate."""

    loss: float
    top1: float
    top5: float | None
    learning_rate: float


class Batches:
    """Which rows make a batch: as many as asked for, the last one with what is left.

    A single row left over joins the batch before it: BatchNorm cannot train on one.
    """

    def __init__(self, n: int, size: int) -> None:
        self.n = n
        self.ends = [*list(range(size, n, size)), n]
        if len(self.ends) > 1 and self.ends[-1] - self.ends[-2] == 1:
            del self.ends[-2]

    def __len__(self) -> int:
        return len(self.ends)

    def shuffled(self, device: torch.device) -> Iterator[torch.Tensor]:
        """Yield the rows of every batch, drawn by torch's seed, each row once."""
        import torch

        # Drawn on the CPU: every device then sees the same order.
        order = torch.randperm(self.n).to(device)
        start = 0
        for end in self.ends:
            yield order[start:end]
            start = end


def check_steps(learner: Learner, inputs: Inputs, settings: TrainSettings) -> None:
    """Refuse what no step can be taken with.

    Raises
    ------
    UsageError
        For float16 on a CPU, and for batches of one image where BatchNorm learns.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    if settings.precision == "fp16" and inputs.targets.device.type == "cpu":
        raise UsageError("Precision fp16 trains on a GPU only. Use --precision bf16 or fp32.")
    frozen = set(learner.frozen)
    trains_norm = any(
        isinstance(module, _BatchNorm) and module not in frozen
        for module in learner.module.modules()
    )
    if trains_norm and min(len(inputs), settings.batch_size) == 1:
        raise UsageError(
            "A batch of one image cannot be trained: BatchNorm takes its statistics from the "
            "batch. Use a batch size of 2 or more (--batch-size 64)."
        )


def run_epoch(run: _Run, epoch: int, advance: Callable[[int], None]) -> EpochScore | Divergence:
    """Take every step of an epoch."""
    import torch

    learner, settings = run.learner, run.settings
    inputs, augment, device = run.inputs["train"], run.augment, run.device
    learner.train_mode()
    losses = torch.zeros(len(run.batches), device=device)
    correct = torch.zeros(2, device=device)
    rate = 0.0
    # A CPU has nothing to run ahead of.
    look_every = _LOOK_EVERY if device.type == "cuda" else 1
    sizes = []
    for step, rows in enumerate(run.batches.shuffled(device)):
        x = inputs.batch(rows) if augment.is_identity else inputs.augmented(rows, augment)
        y = inputs.targets[rows]
        x, targets = augment.mix(x, y, run.n_classes)
        with run.context():
            outputs = run.forward(x)
            loss = torch.nn.functional.cross_entropy(
                outputs.float(), targets, label_smoothing=settings.label_smoothing
            )
        losses[step] = loss.detach()
        if step % look_every == look_every - 1 or step == len(run.batches) - 1:
            bad = _first_not_finite(losses, step + 1 - look_every, step)
            if bad is not None:
                return Divergence(epoch, bad + 1, float(losses[bad]), _rate(run))
        run.optimizer.zero_grad(set_to_none=True)
        run.scaler.scale(loss).backward()
        if settings.clip_norm is not None:
            run.scaler.unscale_(run.optimizer)
            torch.nn.utils.clip_grad_norm_(list(learner.parameters.values()), settings.clip_norm)
        rate = _rate(run)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.schedule.step()
        if run.average is not None:
            run.average.update_parameters(learner.module)
        with torch.no_grad():
            # Of mixed images the larger share tells what is right.
            correct += _hits(outputs, targets.argmax(dim=1) if targets.ndim > 1 else y)
        sizes.append(len(rows))
        advance(len(rows))
    weights = torch.tensor(sizes, dtype=torch.float64)
    top1, top5 = (correct / len(inputs)).tolist()
    return EpochScore(
        loss=float((losses.cpu().double() * weights).sum() / weights.sum()),
        top1=top1,
        top5=top5 if run.n_classes > _TOP else None,
        learning_rate=rate,
    )


def _first_not_finite(losses: torch.Tensor, start: int, step: int) -> int | None:
    """Return the first step whose loss is not finite, of those from `start` to `step`."""
    first = max(0, start)
    seen = losses[first : step + 1].tolist()
    return next((first + i for i, loss in enumerate(seen) if not math.isfinite(loss)), None)


def _rate(run: _Run) -> float:
    return float(run.optimizer.param_groups[0]["lr"])


def _hits(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return how many rows have their class on top and among the first five, on the device."""
    import torch

    k = min(_TOP, outputs.shape[1])
    right = outputs.topk(k, dim=1).indices == y[:, None]
    return torch.stack([right[:, 0].sum(), right.any(dim=1).sum()])
