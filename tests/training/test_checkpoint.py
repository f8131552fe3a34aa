"""A checkpoint continues its own run and no other, and a damaged one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_cases import SIZE, inputs, learner, settings

from featx.errors import CheckpointError
from featx.training import load_checkpoint, save_checkpoint, train

IDENTITY = {"network": "featx/conv2", "lr": 0.001, "train images": "abc"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "checkpoint.pt"
    save_checkpoint(path, IDENTITY, {"epoch": 3, "weights": {"a": torch.arange(1000.0)}})
    return path


def test_a_checkpoint_gives_back_what_was_saved(saved: Path) -> None:
    state = load_checkpoint(saved, IDENTITY)
    assert state["epoch"] == 3
    assert torch.equal(state["weights"]["a"], torch.arange(1000.0))
    assert [p.name for p in saved.parent.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(saved: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved, {**IDENTITY, "network": "featx/cnn-a", "lr": 0.01})
    text = str(caught.value)
    assert "network is 'featx/conv2' there and 'featx/cnn-a' here" in text
    assert "lr is '0.001' there and '0.01' here" in text
    assert "train images" not in text
    assert "without --resume" in text


@pytest.mark.parametrize("keep", [0, 10, 500, -40])
def test_a_cut_off_checkpoint_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"is damaged or no checkpoint.*without --resume"):
        load_checkpoint(saved, IDENTITY)


def test_a_flipped_bit_in_the_weights_is_refused(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    at = data.index(torch.arange(1000.0).numpy().tobytes()[400:440])
    data[at] ^= 4
    saved.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(saved, IDENTITY)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (print, ("this must never be printed",))

    torch.save({"format": "featx.checkpoint", "version": 2, "state": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        load_checkpoint(tmp_path / "evil.pt", {})


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"state": 1}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no such header"):
        load_checkpoint(tmp_path / "other.pt", {})
    torch.save({"format": "featx.checkpoint", "version": 9}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="format version 9"):
        load_checkpoint(tmp_path / "new.pt", {})
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nothing.pt", {})


VARIANTS = {
    "adam": {"schedule": "cosine"},
    "sgd": {"optimizer": "sgd", "schedule": "one-cycle", "warmup_epochs": 0.0, "lr": 0.01},
    "everything": {
        "optimizer": "adamw", "schedule": "exponential", "lr_end": 1e-4, "warmup_epochs": 1.0,
        "ema": 0.9, "augment": ("flip", "crop", "mixup"), "clip_norm": 1.0, "label_smoothing": 0.1,
    },
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stop_behind", [1, 3])
def test_an_interrupted_run_ends_like_one_that_was_not(
    tmp_path: Path, variant: str, stop_behind: int
) -> None:
    some, how = inputs(40, val=12), settings(epochs=5, batch_size=16, **VARIANTS[variant])

    def run(module, *, resume: bool, stop: int = 0):
        def on_epoch(record) -> None:
            if record.epoch == stop:
                raise KeyboardInterrupt

        return train(
            module, some, how, n_classes=3, image_size=SIZE, checkpoint=path, identity=IDENTITY,
            resume=resume, on_epoch=on_epoch,
        )  # fmt: skip

    path = tmp_path / "whole.pt"
    whole = learner("custom")
    expected = run(whole, resume=False)
    path = tmp_path / "parts.pt"
    with pytest.raises(KeyboardInterrupt):
        run(learner("custom"), resume=False, stop=stop_behind)
    parts = learner("custom")
    outcome = run(parts, resume=True)
    assert outcome.best_epoch == expected.best_epoch
    for field in ("loss", "top1", "learning_rate"):
        assert [getattr(r, field) for r in outcome.history] == [
            getattr(r, field) for r in expected.history
        ]
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, parts.module.state_dict()[name]), name
