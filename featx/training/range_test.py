"""The learning-rate range test: the loss while the rate rises from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.errors import UsageError

if TYPE_CHECKING:
    import torch

    from featx.training.inputs import Inputs
    from featx.training.learner import Learner
    from featx.training.settings import TrainSettings

# fastai's: a running mean of the loss, and the multiple of its minimum at which the test ends.
_SMOOTHING = 0.98
_STOP_AT = 4.0
# The steps in which the running mean settles say nothing of a slope.
_SETTLE = 10


@dataclass(frozen=True)
class RateRange:
    """Rates, the smoothed loss at each, and the rate at the steepest descent.

    Attributes
    ----------
    rates, losses : tuple of float
        One per step; the losses are smoothed.
    suggestion : float or None
        The rate where the loss falls fastest over the logarithm of the rate; None where it never
        falls.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float | None


def rate_range(
    learner: Learner,
    inputs: Inputs,
    settings: TrainSettings,
    *,
    n_classes: int,
    image_size: tuple[int, int],
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 200,
) -> RateRange:
    """Train a few steps with a rising rate; the network is put back afterwards.

    L. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3, with
    an exponential rise and the suggestion at the steepest descent, as fastai has them.

    Parameters
    ----------
    inputs : Inputs
        Training images; no other split is looked at.
    low, high : float
        First and last rate.
    steps : int
        Steps at most; the test ends early where the loss exceeds four times its minimum.

    Raises
    ------
    UsageError
        For rates that do not rise, too few steps, and what could not be trained either.
    """
    import torch

    from featx.training.augment import make_augment
    from featx.training.evaluation import autocast
    from featx.training.optimizers import make_optimizer
    from featx.training.steps import Batches, check_steps

    if not 0 < low < high or steps <= _SETTLE:
        raise UsageError(
            f"A range test from {low:g} to {high:g} in {steps} steps is not possible: the rate "
            f"must rise, in more than {_SETTLE} steps."
        )
    check_steps(learner, inputs, settings)
    device = inputs.targets.device
    before = {name: value.detach().clone() for name, value in learner.module.state_dict().items()}
    augment = make_augment(settings.augment, image_size)
    optimizer = make_optimizer(
        list(learner.parameters.values()), name=settings.optimizer, lr=low,
        momentum=settings.momentum, nesterov=settings.nesterov,
        weight_decay=settings.weight_decay, device=device,
    )  # fmt: skip
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    tried: list[float] = []
    smooth: list[float] = []
    mean = 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        batches = Batches(len(inputs), settings.batch_size)
        learner.train_mode()
        rows: Iterator[torch.Tensor] = iter(())
        for step, rate in enumerate(rates):
            chosen = next(rows, None)
            if chosen is None:
                rows = batches.shuffled(device)
                chosen = next(rows)
            for group in optimizer.param_groups:
                group["lr"] = rate
            x = inputs.batch(chosen) if augment.is_identity else inputs.augmented(chosen, augment)
            x, targets = augment.mix(x, inputs.targets[chosen], n_classes)
            with autocast(device, settings.precision):
                loss = torch.nn.functional.cross_entropy(
                    learner.module(x).float(), targets, label_smoothing=settings.label_smoothing
                )
            value = float(loss.detach())
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
            corrected = mean / (1 - _SMOOTHING ** (step + 1))
            if not math.isfinite(corrected) or (
                step > _SETTLE and corrected > _STOP_AT * min(smooth)
            ):
                break
            tried.append(rate)
            smooth.append(corrected)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    learner.module.load_state_dict(before)
    return RateRange(tuple(tried), tuple(smooth), steepest(tried, smooth))


def steepest(rates: list[float], losses: list[float]) -> float | None:
    """Return the rate at which the loss falls fastest over the logarithm of the rate."""
    slopes = [
        (losses[i + 1] - losses[i - 1]) / math.log(rates[i + 1] / rates[i - 1])
        for i in range(1, len(rates) - 1)
    ]
    usable = list(enumerate(slopes, 1))[_SETTLE:]
    if not usable:
        return None
    best, slope = min(usable, key=lambda item: item[1])
    return rates[best] if slope < 0 else None
