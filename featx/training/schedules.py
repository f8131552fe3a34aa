"""Learning-rate schedules: the rate at every optimizer step, in closed form.

Each schedule is a function of the step alone, run by torch's `LambdaLR`. torch's own classes for
the same curves serve as the reference of the tests, not as parts: several are recursive, so that
their rates drift by rounding, and chaining a warm-up in front of them (`SequentialLR`) warns of
its own deprecated calls in the torch versions featx supports. A closed form has no history: a
resumed training goes on with the very same rates, and the whole curve can be had without training.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featx.errors import UnknownName, UsageError

if TYPE_CHECKING:
    import torch

SCHEDULES = ("constant", "step", "cosine", "exponential", "one-cycle")

# One cycle of Smith and Topin (2018), "Super-Convergence", with the constants of torch's
# OneCycleLR: up for 30 % of the steps, from 1/25 of the peak, down to 1/250,000 of it.
_ONE_CYCLE_RISE = 0.3
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4


def make_schedule(
    optimizer: torch.optim.Optimizer,
    *,
    name: str,
    lr: float,
    lr_end: float | None,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    step_epochs: int = 10,
    step_gamma: float = 0.1,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule of `optimizer`, to be stepped once behind every optimizer step.

    To resume, make both anew with the same settings and then load both states.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its groups' rates are multiplied with the curve; one made with `lr` follows `rates`.
    name, lr, lr_end, epochs, steps_per_epoch, warmup_epochs, step_epochs, step_gamma
        As `rates` takes them.

    Returns
    -------
    torch.optim.lr_scheduler.LambdaLR
        Its state holds numbers only and loads with ``weights_only=True``.

    Raises
    ------
    UnknownName, UsageError
        As `rates` does.
    """
    from torch.optim.lr_scheduler import LambdaLR

    curve = rates(
        name=name,
        lr=lr,
        lr_end=lr_end,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=warmup_epochs,
        step_epochs=step_epochs,
        step_gamma=step_gamma,
    )

    def factor(step: int) -> float:
        # The scheduler is stepped behind the last optimizer step too.
        return curve[min(step, len(curve) - 1)] / lr

    return LambdaLR(optimizer, factor)


def rates(
    *,
    name: str,
    lr: float,
    lr_end: float | None,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    step_epochs: int = 10,
    step_gamma: float = 0.1,
) -> list[float]:
    """Return the learning rate of every optimizer step of a training.

    Parameters
    ----------
    name : {"constant", "step", "cosine", "exponential", "one-cycle"}
        ``step``: times `step_gamma` after every `step_epochs` epochs. ``cosine``: half a cosine
        from `lr` at the first step to `lr_end` at the last (Loshchilov and Hutter 2017).
        ``exponential``: by one constant factor a step, from `lr` at the first step to `lr_end` at
        the last. ``one-cycle``: up to `lr` and down again; momentum is left as it is.
    lr : float
        The highest rate, above 0.
    lr_end : float or None
        The last rate of ``cosine`` (None is 0) and ``exponential``; the others do not use it.
    epochs, steps_per_epoch : int
        At least 1; their product is the number of steps.
    warmup_epochs : float
        Epochs, less than `epochs`, in which the rate first climbs to `lr` in equal steps (Goyal
        et al. 2017); the schedule fills what is left. Not for ``one-cycle``, which climbs itself.
    step_epochs : int
        Of ``step``, at least 1, counted from the end of the warm-up.
    step_gamma : float
        Of ``step``, above 0 and at most 1.

    Returns
    -------
    list of float
        ``epochs * steps_per_epoch`` rates.

    Raises
    ------
    UnknownName
        For another name.
    UsageError
        For settings that make no such curve.
    """
    _check_length(epochs, steps_per_epoch, warmup_epochs)
    _check_curve(name, lr, lr_end, warmup_epochs, step_epochs, step_gamma)
    n_steps = epochs * steps_per_epoch
    warmup = min(round(warmup_epochs * steps_per_epoch), n_steps - 1)
    rest = n_steps - warmup
    # From 1/(n + 1) on, not from 0: a step at rate 0 would learn nothing.
    rising = [lr * (step + 1) / (warmup + 1) for step in range(warmup)]
    if name == "constant":
        return rising + [lr] * rest
    if name == "step":
        length = step_epochs * steps_per_epoch
        return rising + [lr * step_gamma ** (step // length) for step in range(rest)]
    if name == "one-cycle":
        return _one_cycle(lr, rest)
    end = 0.0 if lr_end is None else lr_end
    # Position of each step between the first (0) and the last (1).
    positions = [step / max(rest - 1, 1) for step in range(rest)]
    if name == "cosine":
        return rising + [_half_cosine(lr, end, position) for position in positions]
    return rising + [lr * (end / lr) ** position for position in positions]


def _half_cosine(start: float, end: float, position: float) -> float:
    """Return the value at `position`, 0 to 1, on half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * position)) / 2


def _one_cycle(peak: float, n_steps: int) -> list[float]:
    """Return half a cosine up to `peak` and another down, as torch's OneCycleLR divides them."""
    # Below four steps the rise would end before it begins: the first step is then the peak.
    top = max(_ONE_CYCLE_RISE * n_steps - 1, 0.0)
    curve = []
    for step in range(n_steps):
        if step < top:
            curve.append(_half_cosine(peak * _ONE_CYCLE_START, peak, step / top))
        else:
            position = (step - top) / max(n_steps - 1 - top, 1)
            curve.append(_half_cosine(peak, peak * _ONE_CYCLE_END, position))
    return curve


def _check_length(epochs: int, steps_per_epoch: int, warmup_epochs: float) -> None:
    """Raise for a training of no step, or one that is warm-up only."""
    if epochs < 1 or steps_per_epoch < 1:
        raise UsageError(
            f"A training of {epochs} epochs of {steps_per_epoch} steps has no step to schedule: "
            "give 1 or more of both."
        )
    if not 0 <= warmup_epochs < epochs:
        raise UsageError(
            f"A warm-up of {warmup_epochs} epochs does not fit a training of {epochs}: "
            f"give 0 (none) or more, and less than {epochs}."
        )


def _check_curve(
    name: str,
    lr: float,
    lr_end: float | None,
    warmup_epochs: float,
    step_epochs: int,
    step_gamma: float,
) -> None:
    """Raise for a schedule that does not exist or whose settings make no curve."""
    if name not in SCHEDULES:
        raise UnknownName("Schedule", name, SCHEDULES)
    if not (math.isfinite(lr) and lr > 0):
        raise UsageError(f"Learning rate {lr} is not possible: give a number above 0, like 1e-3.")
    if name == "one-cycle" and warmup_epochs:
        raise UsageError(
            f"Schedule 'one-cycle' begins with a climb of its own: a warm-up of {warmup_epochs} "
            "epochs cannot come before it. Leave the warm-up out."
        )
    if name == "step" and step_epochs < 1:
        raise UsageError(f"Schedule 'step' needs 1 epoch or more between steps, not {step_epochs}.")
    if name == "step" and not 0 < step_gamma <= 1:
        raise UsageError(
            f"Schedule 'step' cannot multiply the rate with {step_gamma}: give more than 0 and "
            "at most 1, like 0.1."
        )
    if name == "exponential" and lr_end is None:
        raise UsageError(
            "Schedule 'exponential' needs the rate it ends at, and none is given: "
            f"set lr_end above 0 and at most {lr:g}."
        )
    if name in ("cosine", "exponential") and lr_end is not None:
        low_enough = lr_end <= lr
        high_enough = lr_end > 0 if name == "exponential" else lr_end >= 0
        if not (low_enough and high_enough):
            least = "above 0" if name == "exponential" else "0 or more"
            raise UsageError(
                f"Schedule '{name}' cannot go from {lr:g} to {lr_end:g}: give an lr_end of "
                f"{least} and at most {lr:g}."
            )
