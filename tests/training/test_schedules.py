"""torch's own schedulers are the reference, step by step, and a resumed schedule goes on alike."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from featx.errors import UnknownName, UsageError
from featx.training.optimizers import make_optimizer
from featx.training.schedules import SCHEDULES, make_schedule, rates

LR, LR_END = 1e-3, 8e-5
LENGTHS = [(1, 1), (1, 7), (3, 1), (4, 5), (30, 3)]


def optimizer_at(lr: float) -> torch.optim.Optimizer:
    return make_optimizer([torch.nn.Parameter(torch.zeros(1))], name="sgd", lr=lr, device="cpu")


def run(
    optimizer: torch.optim.Optimizer, schedule: lr_scheduler.LRScheduler, n_steps: int
) -> list[float]:
    """Return the rate that each of `n_steps` optimizer steps is made with."""
    used = []
    for _ in range(n_steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return used


def run_ours(n_steps: int, **options: Any) -> list[float]:
    optimizer = optimizer_at(LR)
    return run(optimizer, make_schedule(optimizer, lr=LR, **options), n_steps)


def torchs_own(
    name: str, optimizer: torch.optim.Optimizer, epochs: int, steps: int
) -> lr_scheduler.LRScheduler:
    """Return torch's class for the schedule, set to fill the same steps."""
    last = max(epochs * steps - 1, 1)
    if name == "constant":
        return lr_scheduler.ConstantLR(optimizer, factor=1.0)
    if name == "step":
        return lr_scheduler.StepLR(optimizer, 2 * steps, gamma=0.3)
    if name == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, last, eta_min=LR_END)
    if name == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, (LR_END / LR) ** (1 / last))
    return lr_scheduler.OneCycleLR(optimizer, LR, total_steps=epochs * steps, cycle_momentum=False)


@pytest.mark.parametrize(
    ("name", "epochs", "steps"),
    # torch's OneCycleLR has no rising phase below four steps.
    [(n, e, s) for n in SCHEDULES for e, s in LENGTHS if n != "one-cycle" or e * s >= 4],
)
def test_every_step_has_torchs_rate(name: str, epochs: int, steps: int) -> None:
    n_steps = epochs * steps
    optimizer = optimizer_at(LR)
    expected = run(optimizer, torchs_own(name, optimizer, epochs, steps), n_steps)
    options = {"epochs": epochs, "steps_per_epoch": steps, "step_epochs": 2, "step_gamma": 0.3}
    got = run_ours(n_steps, name=name, lr_end=LR_END, **options)
    assert got == pytest.approx(expected, rel=1e-9)
    assert got == pytest.approx(rates(name=name, lr=LR, lr_end=LR_END, **options), rel=1e-12)


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "exponential"])
@pytest.mark.parametrize("warmup_epochs", [0.5, 1, 2.25])
def test_warm_up_is_torchs_linear_one_and_the_schedule_fills_the_rest(
    name: str, warmup_epochs: float
) -> None:
    epochs, steps = 5, 4
    warmup = int(warmup_epochs * steps)
    got = run_ours(
        epochs * steps,
        name=name,
        lr_end=LR_END,
        epochs=epochs,
        steps_per_epoch=steps,
        warmup_epochs=warmup_epochs,
        step_epochs=2,
        step_gamma=0.3,
    )
    optimizer = optimizer_at(LR)
    linear = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
    assert got[:warmup] == pytest.approx(run(optimizer, linear, warmup), rel=1e-9)
    last = epochs * steps - 1 - warmup
    expected = {
        "constant": lambda i: LR,
        "step": lambda i: LR * 0.3 ** (i // 8),
        "cosine": lambda i: LR_END + (LR - LR_END) * (1 + math.cos(math.pi * i / last)) / 2,
        "exponential": lambda i: LR * (LR_END / LR) ** (i / last),
    }[name]
    assert got[warmup:] == pytest.approx([expected(i) for i in range(last + 1)], rel=1e-9)


def test_a_warm_up_leaves_at_least_the_last_step() -> None:
    options = {"lr_end": None, "epochs": 1, "warmup_epochs": 0.9}
    assert rates(name="constant", lr=LR, steps_per_epoch=1, **options) == [LR]
    assert rates(name="constant", lr=LR, steps_per_epoch=4, **options)[-1] == LR


def test_the_documents_decay_ends_where_it_says() -> None:
    """D2: from 1e-3 to 8e-5 over 30 epochs of 40,000 images in batches of 64."""
    curve = rates(name="exponential", lr=1e-3, lr_end=8e-5, epochs=30, steps_per_epoch=625)
    assert len(curve) == 18750
    assert curve[0] == 1e-3
    assert curve[-1] == pytest.approx(8e-5, rel=1e-12)
    assert curve[9375] / curve[9374] == pytest.approx(curve[1] / curve[0], rel=1e-9)


def test_cosine_without_an_end_goes_to_zero() -> None:
    curve = rates(name="cosine", lr=LR, lr_end=None, epochs=2, steps_per_epoch=5)
    assert curve[0] == LR
    assert curve[-1] == pytest.approx(0.0, abs=1e-18)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 10])
def test_one_cycle_peaks_at_the_rate_however_short(n_steps: int) -> None:
    curve = rates(name="one-cycle", lr=LR, lr_end=None, epochs=1, steps_per_epoch=n_steps)
    assert len(curve) == n_steps
    assert max(curve) <= LR * (1 + 1e-12)
    if n_steps in (1, 2, 3, 10):
        # A step falls on the peak: the first of a short one, 0.3 * 10 - 1 of a long one.
        assert max(curve) == pytest.approx(LR, rel=1e-12)


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(SCHEDULES),
    epochs=st.integers(1, 12),
    steps=st.integers(1, 9),
    part=st.floats(0, 0.99),
    lr_end=st.floats(1e-6, 1e-3),
)
def test_laws_of_every_curve(
    name: str, epochs: int, steps: int, part: float, lr_end: float
) -> None:
    warmup_epochs = 0.0 if name == "one-cycle" else part * epochs
    curve = rates(
        name=name,
        lr=LR,
        lr_end=lr_end,
        epochs=epochs,
        steps_per_epoch=steps,
        warmup_epochs=warmup_epochs,
    )
    assert len(curve) == epochs * steps
    assert all(0 < rate <= LR * (1 + 1e-12) for rate in curve)
    # One climb, then never up again.
    top = curve.index(max(curve))
    assert curve[: top + 1] == sorted(curve[: top + 1])
    assert all(b <= a * (1 + 1e-12) for a, b in zip(curve[top:], curve[top + 1 :], strict=False))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("half", [1, 6, 11])
def test_a_resumed_schedule_goes_on_with_the_same_rates(name: str, half: int) -> None:
    options: dict[str, Any] = {
        "name": name,
        "lr_end": LR_END,
        "epochs": 4,
        "steps_per_epoch": 3,
        "warmup_epochs": 0.0 if name == "one-cycle" else 1.0,
        "step_epochs": 1,
    }
    undisturbed = run_ours(12, **options)
    optimizer = optimizer_at(LR)
    schedule = make_schedule(optimizer, lr=LR, **options)
    run(optimizer, schedule, half)
    file = io.BytesIO()
    torch.save({"o": optimizer.state_dict(), "s": schedule.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    fresh = optimizer_at(LR)
    resumed = make_schedule(fresh, lr=LR, **options)
    fresh.load_state_dict(state["o"])
    resumed.load_state_dict(state["s"])
    assert run(fresh, resumed, 12 - half) == undisturbed[half:]


def test_groups_keep_the_ratio_of_their_rates() -> None:
    optimizer = optimizer_at(LR)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": LR / 10})
    schedule = make_schedule(
        optimizer, name="cosine", lr=LR, lr_end=None, epochs=2, steps_per_epoch=4
    )
    run(optimizer, schedule, 3)
    body, head = (group["lr"] for group in optimizer.param_groups)
    assert body < LR
    assert head == pytest.approx(body / 10, rel=1e-12)


def test_unknown_names_say_the_closest() -> None:
    with pytest.raises(UnknownName, match=r"Schedule 'cosin'.*'cosine'"):
        rates(name="cosin", lr=LR, lr_end=None, epochs=1, steps_per_epoch=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "exponential"}, "needs the rate it ends at"),
        ({"name": "exponential", "lr_end": 0.0}, "cannot go from 0.001 to 0: .* above 0"),
        ({"name": "exponential", "lr_end": 2e-3}, r"cannot go from 0.001 to 0\.002"),
        ({"name": "cosine", "lr_end": 2e-3}, r"cannot go from 0.001 to 0\.002"),
        ({"name": "cosine", "lr_end": -1e-3}, "0 or more"),
        ({"name": "cosine", "lr_end": math.nan}, "to nan"),
        ({"name": "cosine", "lr": 0.0}, "Learning rate 0"),
        ({"name": "cosine", "lr": math.nan}, "Learning rate nan"),
        ({"epochs": 0}, "A training of 0 epochs"),
        ({"steps_per_epoch": 0}, "epochs of 0 steps"),
        ({"warmup_epochs": 3.0}, "warm-up of 3.0 epochs does not fit a training of 3"),
        ({"warmup_epochs": -1.0}, "less than 3"),
        ({"name": "one-cycle", "warmup_epochs": 1.0}, "climb of its own"),
        ({"name": "step", "step_epochs": 0}, "1 epoch or more"),
        ({"name": "step", "step_gamma": 0.0}, "cannot multiply the rate with 0"),
        ({"name": "step", "step_gamma": 1.5}, "with 1.5"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    options = {"name": "constant", "lr": LR, "lr_end": None, "epochs": 3, "steps_per_epoch": 2}
    with pytest.raises(UsageError, match=message):
        rates(**(options | wrong))
