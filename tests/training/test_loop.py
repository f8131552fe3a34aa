"""The training loop does what a plain one does, keeps what it should, and stops when it must."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_cases import SIZE, inputs, learner, network, settings

from featx.errors import UsageError
from featx.training import make_learner, train
from featx.training.steps import Batches


def run(a_learner, some, a_settings, **kwargs):
    return train(a_learner, some, a_settings, n_classes=3, image_size=SIZE, **kwargs)


@given(n=st.integers(1, 300), size=st.integers(1, 120))
def test_batches_hold_every_row_once_and_never_one_alone(n: int, size: int) -> None:
    rows = list(Batches(n, size).shuffled(torch.device("cpu")))
    assert sorted(torch.cat(rows).tolist()) == list(range(n))
    assert len(rows) == len(Batches(n, size))
    if size > 1 and n > 1:
        assert all(len(batch) >= 2 for batch in rows)
    assert all(len(batch) <= size + 1 for batch in rows)


@pytest.mark.parametrize(
    ("values", "make"),
    [
        (
            {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, nesterov=True, weight_decay=0.01),
        ),
        (
            {"optimizer": "adam", "weight_decay": 5e-4},
            lambda p: torch.optim.Adam(p, 1e-3, weight_decay=5e-4),
        ),
        (
            {"optimizer": "adamw", "weight_decay": 0.1},
            lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
        ),
        ({"optimizer": "sgd", "momentum": 0.0, "clip_norm": 0.05, "label_smoothing": 0.1}, None),
    ],
)
def test_the_loop_takes_the_steps_of_a_plain_one(values, make) -> None:
    # One batch an epoch: the order of the images then makes no difference but for rounding.
    some = inputs(48)
    ours = learner()
    plain = copy.deepcopy(ours.module)
    run(ours, some, settings(batch_size=48, keep_best=False, **values))
    make = make or (lambda p: torch.optim.SGD(p, 1e-3))
    optimizer = make(plain.parameters())
    x, y = some["train"].batch(slice(None)), some["train"].targets
    plain.train()
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(
            plain(x), y, label_smoothing=values.get("label_smoothing", 0.0)
        )
        optimizer.zero_grad()
        loss.backward()
        if "clip_norm" in values:
            torch.nn.utils.clip_grad_norm_(plain.parameters(), values["clip_norm"])
        optimizer.step()
    for mine, theirs in zip(ours.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-4, atol=2e-6)


def test_it_learns_and_writes_its_history() -> None:
    heard = []
    outcome = run(
        learner(), inputs(96, val=30, test=30), settings(epochs=6, lr=3e-3), on_epoch=heard.append
    )
    assert [record.epoch for record in outcome.history] == [1, 2, 3, 4, 5, 6]
    assert heard == list(outcome.history)
    last = outcome.history[-1]
    assert set(last.loss) == set(last.top1) == {"train", "val", "test"}
    # Three classes have no top-5.
    assert last.top5 == {}
    assert last.top1["val"] > 0.9
    assert last.loss["train"] < outcome.history[0].loss["train"]
    assert last.seconds > 0
    assert last.images_per_s == pytest.approx(96 / last.seconds)
    assert last.peak_memory_bytes > 50_000_000


def test_top5_is_written_where_there_are_more_classes() -> None:
    outcome = train(
        make_learner(network(n_classes=7), "scratch"), inputs(70, 3, val=21), settings(epochs=1),
        n_classes=7, image_size=SIZE,
    )  # fmt: skip
    record = outcome.history[0]
    assert set(record.top5) == {"train", "val"}
    assert record.top5["val"] >= record.top1["val"]


def test_a_network_of_the_same_seed_comes_out_the_same() -> None:
    some = inputs(64, val=20)
    a, b, c = learner("custom"), learner("custom"), learner("custom")
    torch.manual_seed(1)
    run(a, some, settings(augment=("flip", "crop")))
    torch.manual_seed(2)
    run(b, some, settings(augment=("flip", "crop")))
    run(c, some, settings(augment=("flip", "crop"), seed=1))
    same = [
        torch.equal(p, q) for p, q in zip(a.module.parameters(), b.module.parameters(), strict=True)
    ]
    other = [
        torch.equal(p, q) for p, q in zip(a.module.parameters(), c.module.parameters(), strict=True)
    ]
    assert all(same)
    assert not any(other)


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(learner(), inputs(16), settings(epochs=1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("monitor", ["val_loss", "val_top1"])
def test_the_best_epoch_is_kept(monitor: str) -> None:
    some = inputs(48, val=15)
    a = learner()
    outcome = run(a, some, settings(epochs=6, lr=0.02, monitor=monitor))
    value = "loss" if monitor == "val_loss" else "top1"
    values = [getattr(record, value)["val"] for record in outcome.history]
    best = min(values) if value == "loss" else max(values)
    # The first of equal ones: nothing later was better.
    assert outcome.best_epoch == values.index(best) + 1
    assert outcome.kept_by == monitor
    again = torch.nn.functional.cross_entropy(
        a.module(some["val"].batch(slice(None))), some["val"].targets
    )
    assert float(again.detach()) == pytest.approx(
        outcome.history[outcome.best_epoch - 1].loss["val"], rel=1e-4
    )


def test_the_test_split_takes_no_part_in_the_choice() -> None:
    a, b = learner(), learner()
    some = inputs(48, val=15, test=15)
    wrong = dict(some)
    x = some["test"]
    wrong["test"] = type(x)(x.images, (x.targets + 1) % 3, x.preprocess)
    first = run(a, some, settings(epochs=4, patience=1, lr=0.02))
    second = run(b, wrong, settings(epochs=4, patience=1, lr=0.02))
    assert first.best_epoch == second.best_epoch
    assert len(first.history) == len(second.history)
    assert all(
        torch.equal(p, q) for p, q in zip(a.module.parameters(), b.module.parameters(), strict=True)
    )


def test_patience_stops_and_the_last_epoch_can_be_kept() -> None:
    some = inputs(30, val=12)
    stopped = run(learner(), some, settings(epochs=40, patience=2, lr=0.05))
    assert stopped.state == "stopped early"
    assert len(stopped.history) == stopped.best_epoch + 2
    last = run(learner(), some, settings(epochs=3, keep_best=False))
    assert (last.best_epoch, last.kept_by) == (3, "last epoch")


def test_averaged_weights_are_the_moving_average_of_every_step() -> None:
    decay, some = 0.9, inputs(32)
    a, plain = learner(), learner()
    run(a, some, settings(epochs=4, batch_size=32, ema=decay, keep_best=False))
    average = None
    snapshots = []
    # The same run, one epoch longer each time, gives the weights behind every step.
    for epochs in range(1, 5):
        plain = learner()
        run(plain, some, settings(epochs=epochs, batch_size=32, keep_best=False))
        snapshots.append([p.detach().clone() for p in plain.module.parameters()])
    for weights in snapshots:
        # The first step starts the average.
        average = weights if average is None else [
            decay * old + (1 - decay) * new for old, new in zip(average, weights, strict=True)
        ]  # fmt: skip
    for mine, expected in zip(a.module.parameters(), average, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_ends_it_with_step_and_rate() -> None:
    some = inputs(64, val=12)
    a = learner()
    outcome = run(a, some, settings(epochs=5, optimizer="sgd", lr=1e20, warmup_epochs=2.0))
    assert outcome.state == "diverged"
    assert outcome.message.startswith("The loss was ")
    assert f"of epoch {len(outcome.history) + 1}, at a learning rate of" in outcome.message
    assert "--lr" in outcome.message
    assert all(torch.isfinite(p).all() for p in a.module.parameters())


def test_the_last_good_epoch_survives_a_divergence() -> None:
    some = inputs(32, val=12)
    a = learner()
    poisoned = some["train"].preprocess

    def poison(record) -> None:
        if record.epoch == 2:
            object.__setattr__(poisoned_inputs, "preprocess", _Nan())

    class _Nan:
        def normalized(self, x):
            return poisoned.normalized(x) * math.nan

    poisoned_inputs = some["train"]
    outcome = run(a, some, settings(epochs=5), on_epoch=poison)
    assert outcome.state == "diverged"
    assert len(outcome.history) == 2
    assert "in step 1 of epoch 3" in outcome.message
    assert f"the weights of epoch {outcome.best_epoch} are kept" in outcome.message


def test_an_evaluation_that_is_not_finite_ends_it_as_well() -> None:
    some = inputs(32, val=12)
    a = learner()

    class Nan:
        def normalized(self, x):
            return x.float() * math.nan

    some["val"].preprocess = Nan()
    outcome = run(a, some, settings(epochs=3))
    assert outcome.state == "diverged"
    assert outcome.history == ()
    assert outcome.best_epoch == 0


def test_hits_of_mixed_images_are_counted_by_their_larger_share() -> None:
    outcome = run(learner(), inputs(96), settings(epochs=12, lr=3e-3, augment=("mixup:0.2",)))
    # Counted by the first of the two, half of them would be wrong at best.
    assert outcome.history[-1].top1["train"] > 0.75


def test_a_network_that_learns_nothing_is_called_so() -> None:
    outcome = run(learner(), inputs(48, val=30), settings(epochs=1, lr=1e-12, optimizer="sgd"))
    assert outcome.state == "did not learn"
    assert "within chance" in outcome.message


@pytest.mark.parametrize(
    ("name", "n", "values", "words"),
    [
        ("conv5", 20, {"batch_size": 1}, ["BatchNorm", "--batch-size 64"]),
        ("conv5", 1, {}, ["batch of one image", "BatchNorm"]),
        ("conv2", 20, {"patience": 3}, ["patience 3", "no validation split", "--val 0.2"]),
        ("conv2", 20, {"precision": "fp16"}, ["fp16", "GPU", "--precision bf16"]),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(name, n, values, words) -> None:
    a = make_learner(network(name), "scratch")
    with pytest.raises(UsageError) as caught:
        run(a, inputs(n), settings(**values))
    for word in words:
        assert word in str(caught.value)


def test_a_batch_of_one_is_fine_without_batch_norm() -> None:
    assert len(run(learner(), inputs(3), settings(batch_size=1, epochs=1)).history) == 1


@pytest.mark.parametrize(
    "values",
    [{"precision": "bf16"}, {"channels_last": False}, {"augment": ("mixup", "flip")}],
)
def test_other_ways_of_computing_learn_as_well(values) -> None:
    outcome = run(learner(), inputs(96, val=30), settings(epochs=8, lr=3e-3, **values))
    assert max(record.top1["val"] for record in outcome.history) > 0.8
