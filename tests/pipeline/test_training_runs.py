"""A training from recipe to report: what is written, what it is worth, and how it can fail."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import FEW, Ears, training

import featx
from featx.backbones.saved import read_saved
from featx.errors import (
    BudgetExceeded,
    CheckpointError,
    DataError,
    RecipeError,
    ShapeError,
    TrainingDiverged,
    UnknownName,
    UsageError,
    WeightsError,
)
from featx.evaluate import TrainingRecord, read_record
from featx.evaluate.predictions import TRUTH, read_predictions
from featx.heads import C_GRIDS, fit_path
from featx.machine import torch_threads
from featx.pipeline import finished_record, prepare_training, run_rate_range, run_training
from featx.pipeline.train_inputs import cached_part
from featx.pipeline.train_run import run_prepared_training


def test_a_training_leaves_model_record_report_and_predictions(tmp_path: Path) -> None:
    recipe = training(tmp_path, epochs=8, lr=0.003)
    record = featx.run(recipe)
    assert isinstance(record, TrainingRecord)
    assert read_record(recipe.report_path) == record
    assert (record.network.name, record.mode, record.network.random) == (
        "featx/conv2",
        "scratch",
        True,
    )
    assert record.network.n_parameters == record.network.n_trained
    assert record.kept_by == "val loss"
    assert record.splits["test"].accuracy > 0.5
    assert record.splits["test"].top5 > record.splits["test"].accuracy
    names = {p.relative_to(recipe.report_path).as_posix() for p in recipe.report_path.rglob("*")}
    assert {
        "model.safetensors",
        "results.json",
        "results.csv",
        "report.md",
        "predictions.safetensors",
    } <= names
    # Nothing is left to continue.
    assert "checkpoint.pt" not in names
    split = featx.load_dataset("digits", limit=FEW).splits["test"]
    predicted = read_predictions(recipe.report_path, "", "test", split.digest)
    truth = read_predictions(recipe.report_path, TRUTH, "test", split.digest)
    assert np.array_equal(truth, split.y)
    assert np.mean(predicted == truth) == record.splits["test"].accuracy


def test_test_images_may_wait_for_the_end(tmp_path: Path) -> None:
    each = featx.run(training(tmp_path, name="each"))
    end = featx.run(training(tmp_path, name="end", test_each_epoch=False))
    assert [set(epoch.top1) for epoch in each.history] == [{"train", "val", "test"}] * 2
    assert [set(epoch.top1) for epoch in end.history] == [{"train", "val"}] * 2
    assert [set(epoch.loss) for epoch in end.history] == [{"train", "val"}] * 2
    # They choose nothing: the same weights are kept, and evaluated in the end.
    assert end.best_epoch == each.best_epoch
    assert end.splits["test"].accuracy == each.splits["test"].accuracy
    text = (tmp_path / "reports" / "end" / "report.md").read_text()
    assert f"{end.splits['test'].accuracy:.3f}" in text


def test_a_single_training_tells_what_was_published(tmp_path: Path) -> None:
    recipe = training(tmp_path, epochs=1, published={"conv2": {"top1": 0.62}})
    record = run_training(recipe)
    assert "Published: top-1 0.620." in (recipe.report_path / "report.md").read_text()
    # It changes no result: a run without it is the same one, and its command does without.
    assert finished_record(training(tmp_path, epochs=1)) == record
    assert "published" not in record.command


def test_the_model_file_predicts_what_the_training_did_and_is_a_backbone(tmp_path: Path) -> None:
    recipe = training(tmp_path, epochs=4, lr=0.003)
    featx.run(recipe)
    path = recipe.report_path / "model.safetensors"
    saved = read_saved(path)
    assert (saved.n_classes, saved.image_size, saved.labels) == (10, (16, 16), tuple(range(10)))
    repeat = saved.provenance["repeat"]
    assert repeat.startswith("featx train ")
    assert "--network conv2" in repeat
    assert str(tmp_path) not in repeat
    backbone = featx.load_backbone(str(path))
    split = featx.load_dataset("digits", limit=FEW).splits["test"]
    outputs = featx.extract(
        backbone, ["output", "conv2"], split.images, image_size=16, pool="flatten"
    )
    predicted = read_predictions(recipe.report_path, "", "test", split.digest)
    assert np.array_equal(outputs["output"].argmax(axis=1), predicted)
    assert outputs["conv2"].shape == (60, 16 * 2 * 2)


def test_pixels_are_normalized_by_the_training_images_alone(tmp_path: Path) -> None:
    prepared = prepare_training(training(tmp_path))
    train = prepared.preprocess.sized(
        torch.from_numpy(prepared.dataset.splits["train"].images.array), "cpu"
    )
    flat = train.numpy().reshape(-1, 3) / 255
    np.testing.assert_allclose(prepared.preprocess.mean, flat.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(prepared.preprocess.std, flat.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("values", [{"mode": "frozen"}, {"from_cut": "layer3"}])
def test_cached_features_train_the_same_network(tmp_path: Path, values: dict, monkeypatch) -> None:
    """Some features more or less in a batch change the last bits; nothing else may."""
    settings = {
        "network": "resnet18", "weights": "none", "preprocess": "torch", "image_size": 32,
        "limit": {"train": 4, "val": 2, "test": 2}, "lr": 0.01, "optimizer": "sgd", "epochs": 3,
    }  # fmt: skip
    cached = prepare_training(training(tmp_path, **settings, **values, name="cached"))
    assert cached_part(cached) is not None
    first, _ = run_prepared_training(cached)
    monkeypatch.setattr("featx.pipeline.train_run.cached_part", lambda prepared: None)
    plain = prepare_training(training(tmp_path, **settings, **values, name="plain"))
    second, _ = run_prepared_training(plain)
    assert (first.features, second.features) == ("cached", "computed")
    for a, b in zip(first.history, second.history, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=2e-4)
    theirs = plain.trainable.model.state_dict()
    for name, value in cached.trainable.model.state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=2e-3, atol=2e-5)


def test_a_second_training_of_the_same_frozen_part_extracts_nothing(tmp_path: Path) -> None:
    settings = {"network": "resnet18", "weights": "none", "mode": "frozen", "image_size": 32,
                "limit": {"train": 4, "val": 2, "test": 2}, "preprocess": "torch"}  # fmt: skip
    run_training(training(tmp_path, **settings))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.h5")}
    assert before
    run_training(training(tmp_path, **settings, lr=0.1, name="other"))
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.h5")}
    assert after == before


def test_augmented_images_are_not_cached(tmp_path: Path) -> None:
    prepared = prepare_training(
        training(tmp_path, network="resnet18", weights="none", mode="frozen", image_size=32,
                 augment=["flip"])
    )  # fmt: skip
    assert cached_part(prepared) is None


def test_lp_ft_begins_with_the_head_that_a_logistic_regression_finds(tmp_path: Path) -> None:
    from featx.pipeline.linear_first import linear_first

    recipe = training(
        tmp_path, network="resnet18", weights="none", mode="lp-ft", image_size=32,
        limit={"train": 8, "val": 4, "test": 4}, epochs=1, preprocess="torch",
    )  # fmt: skip
    prepared = prepare_training(recipe)
    notes = linear_first(prepared).notes
    assert "chosen on validation" in notes[0]
    C = float(notes[0].partition("C = ")[2].partition(",")[0])
    assert all(p.requires_grad for p in prepared.trainable.model.parameters())
    # scikit-learn's own, on features that extraction gives, standardized.
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    dataset = prepared.dataset
    backbone = featx.load_backbone("resnet18", "none", preprocess="torch")
    model = prepared.trainable.model.eval()
    head = model.fc
    model.fc = torch.nn.Identity()
    rows = {
        name: model(
            prepared.preprocess.to_input(torch.from_numpy(split.images.array), "cpu", False)
        )
        .detach()
        .numpy()
        for name, split in dataset.splits.items()
    }
    assert backbone.weights.random
    scaler = StandardScaler().fit(rows["train"])
    fits = {
        value: LogisticRegression(C=value, max_iter=2000, tol=1e-6).fit(
            scaler.transform(rows["train"]), dataset.splits["train"].y
        )
        for value in (*C_GRIDS["logistic"], C)
    }
    theirs = fits[C]
    # The smallest of the best on validation.
    right = {
        value: fit.score(scaler.transform(rows["val"]), dataset.splits["val"].y)
        for value, fit in fits.items()
    }
    assert min(right, key=lambda value: (-right[value], value)) == C
    ours = torch.softmax(head(torch.from_numpy(rows["test"])), dim=1).detach().numpy()
    expected = theirs.predict_proba(scaler.transform(rows["test"]))
    np.testing.assert_allclose(ours, expected, atol=5e-3)


def test_the_head_of_lp_ft_heeds_the_memory_budget(tmp_path: Path, monkeypatch) -> None:
    from featx.pipeline import linear_first

    recipe = training(tmp_path, **LP_FT, epochs=1, memory_budget=10**9)
    asked = []
    real = linear_first.fit_path

    def fit_path(*args, memory_bytes, **settings):
        asked.append(memory_bytes)
        return real(*args, memory_bytes=memory_bytes, **settings)

    monkeypatch.setattr(linear_first, "fit_path", fit_path)
    linear_first.linear_first(prepare_training(recipe))
    assert set(asked) == {10**9}
    # 40 images of 512 values of four bytes.
    tight = prepare_training(training(tmp_path, **LP_FT, memory_budget=100_000, name="tight"))
    n = sum(len(split) for split in tight.dataset.splits.values())
    with pytest.raises(BudgetExceeded, match=r"lp-ft .*take .*; 100 kB may be used") as caught:
        linear_first.linear_first(tight)
    assert 4 * n * 512 > 100_000
    assert "--mode finetune" in str(caught.value)


def test_the_head_of_lp_ft_tries_larger_C_while_the_largest_is_the_best(monkeypatch) -> None:
    from featx.pipeline.linear_first import _chosen, _notes

    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6)).astype(np.float32)
    # Labels by a column that hardly counts: the penalty must be small for it to be seen.
    X[:, 1:] *= 3
    X[:, 0] *= 0.05
    y = (X[:, 0] > 0).astype(np.int64)
    data = (partial(fit_path, "logistic", X[:80], y[:80], device="cpu"), X[80:], y[80:], Ears())
    monkeypatch.setitem(C_GRIDS, "logistic", (1e-3, 1e-2))
    fit, choice = _chosen(*data)
    tried = [C for C, _ in choice.log]
    assert tried == pytest.approx([10.0**k for k in range(-3, len(tried) - 3)])
    assert len(tried) > 3
    assert choice.edge is None
    assert fit.C == choice.C
    right = (X[80:] @ fit.coef.T + fit.intercept).argmax(axis=1) == y[80:]
    assert right.mean() == max(score for _, score in choice.log)
    (note,) = _notes(fit, choice)
    assert note.endswith(f"as a logistic regression (C = {fit.C:g}, chosen on validation).")
    # Where it may not go on, and where the solver does not end, the record says so.
    monkeypatch.setattr("featx.heads.choice.C_MOST", {"logistic": 1e-2})
    fit, choice = _chosen(*data)
    notes = _notes(replace(fit, converged=False, n_iter=7, duality_gap=0.25), choice)
    assert notes[1:] == [
        "Head: C 0.01 is the largest of the values compared (0.001 to 0.01): a larger one may be "
        "better.",
        "Head: Newton's method stopped after 7 steps with a relative duality gap of 2.5e-01.",
    ]
    assert "no validation split" in _notes(fit, None)[0]


def test_what_never_came_is_not_fine_tuned_by_lp_ft(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"more than one linear layer.*--mode finetune"):
        run_training(
            training(tmp_path, network="vgg11", weights="none", mode="lp-ft", image_size=32,
                     limit={"train": 2, "val": 2, "test": 2})
        )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"network": None}, RecipeError, ["No network is given", "featx networks"]),
        ({"network": "conv7"}, UnknownName, ["'conv7'", "'conv2'"]),
        ({"image_size": 8}, ShapeError, ["8 x 8", "conv2", "16 x 16"]),
        ({"classes": ["3"]}, DataError, ["only one class"]),
        ({"mode": "frozen"}, WeightsError, ["conv2", "--network"]),
        ({"augment": ["flop"]}, UnknownName, ["'flop'", "'flip'"]),
        ({"memory_budget": "10kB"}, BudgetExceeded, ["--limit"]),
        ({"batch_size": 1, "network": "custom"}, UsageError, ["BatchNorm", "--batch-size"]),
        ({"schedule": "exponential"}, UsageError, ["lr_end"]),
        ({"network": "resnet18", "weights": "none", "from_cut": "layr2", "image_size": 32},
         UnknownName, ["'layr2'", "'layer2'"]),
    ],
)  # fmt: skip
def test_bad_input_is_said_before_anything_is_trained(tmp_path, values, error, words) -> None:
    with pytest.raises(error) as caught:
        run_training(training(tmp_path, **values))
    for word in words:
        assert word in str(caught.value), caught.value
    assert not (tmp_path / "reports" / "run" / "results.json").exists()


def test_a_divergence_keeps_the_record_and_the_last_checkpoint(tmp_path: Path) -> None:
    recipe = training(tmp_path, optimizer="sgd", lr=1e4, warmup_epochs=2.5, epochs=6)
    with pytest.raises(TrainingDiverged, match=r"in step \d+ of epoch \d+, at a learning rate of"):
        run_training(recipe)
    record = read_record(recipe.report_path)
    assert record.state == "diverged"
    assert "learning rate" in record.message
    assert "diverged" in (recipe.report_path / "report.md").read_text()
    if record.history:
        assert (recipe.report_path / "checkpoint.pt").is_file()


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, monkeypatch) -> None:
    recipe = training(tmp_path, epochs=3)
    _interrupt(monkeypatch, behind=1)
    with pytest.raises(KeyboardInterrupt):
        run_training(recipe)
    monkeypatch.undo()
    other = training(tmp_path, epochs=3, network="cnn-a", resume=True)
    with pytest.raises(CheckpointError) as caught:
        run_training(other)
    assert "network is 'featx/conv2' there and 'featx/cnn-a' here" in str(caught.value)
    # Without --resume it begins again.
    assert len(run_training(training(tmp_path, epochs=3, network="cnn-a")).history) == 3


def _interrupt(monkeypatch, behind: int) -> Callable:
    """Stop behind an epoch's checkpoint; return what the loop called before."""
    from featx.training import loop

    line = loop.epoch_line

    def stop(record, epochs):
        if record.epoch == behind:
            raise KeyboardInterrupt
        return line(record, epochs)

    monkeypatch.setattr(loop, "epoch_line", stop)
    return line


def test_a_killed_training_continues_to_the_same_bytes(tmp_path: Path) -> None:
    """Killed without any chance to tidy up, somewhere behind its first checkpoint."""
    settings = {"network": "custom", "epochs": 6, "augment": ["flip", "crop"], "resume": True}
    code = (
        "import json, sys; from training_runs import training; from pathlib import Path;"
        "from featx.pipeline import run_training;"
        "run_training(training(Path(sys.argv[1]), **json.loads(sys.argv[2])))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = [sys.executable, "-c", code, str(parts), json.dumps(settings)]
    checkpoint = parts / "reports" / "run" / "checkpoint.pt"
    # As many threads as the process that is killed: more may add in another order.
    with torch_threads(1):
        run_training(training(whole, **settings))
        process = subprocess.Popen(command, env=env)
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (parts / "reports" / "run" / "results.json").exists()
        heard = Ears()
        run_training(training(parts, **settings), progress=heard)
    assert any("Continuing behind epoch" in text for text in heard.said)
    assert _sha(parts) == _sha(whole)


def _sha(folder: Path) -> str:
    from safetensors.torch import load_file

    tensors = load_file(folder / "reports" / "run" / "model.safetensors")
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def test_the_range_test_leaves_a_plot(tmp_path: Path) -> None:
    found, plot = run_rate_range(prepare_training(training(tmp_path)))
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert len(found.rates) == len(found.losses) > 20


LP_FT = {
    "network": "resnet18", "weights": "none", "mode": "lp-ft", "image_size": 32,
    "limit": {"train": 4, "val": 2, "test": 2}, "preprocess": "torch",
}  # fmt: skip


def test_the_range_test_of_lp_ft_begins_with_the_fitted_head(tmp_path: Path, monkeypatch) -> None:
    from featx.pipeline import rates
    from featx.pipeline.linear_first import linear_first

    began = []
    test = rates.rate_range

    def look(learner, *args, **settings):
        began.append(learner.module.fc.weight.detach().clone())
        return test(learner, *args, **settings)

    monkeypatch.setattr(rates, "rate_range", look)
    monkeypatch.setattr(rates, "STEPS", 12)
    run_rate_range(prepare_training(training(tmp_path, **LP_FT)))
    fitted = prepare_training(training(tmp_path, **LP_FT))
    random = fitted.trainable.model.fc.weight.detach().clone()
    linear_first(fitted)
    torch.testing.assert_close(began[0], fitted.trainable.model.fc.weight.detach())
    assert not torch.allclose(began[0], random)


def test_a_resumed_lp_ft_still_tells_of_its_head(tmp_path: Path, monkeypatch) -> None:
    from featx.pipeline import train_run

    first = []
    fit = train_run.linear_first
    monkeypatch.setattr(train_run, "linear_first", lambda *a: (first.append(fit(*a)), first[-1])[1])
    line = _interrupt(monkeypatch, behind=1)
    recipe = training(tmp_path, **LP_FT, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        run_training(recipe)
    monkeypatch.setattr("featx.training.loop.epoch_line", line)
    record = run_training(training(tmp_path, **LP_FT, epochs=2, resume=True))
    # It was fitted once.
    (begun,) = first
    assert begun.timing["head_s"] > 0
    assert record.timing["head_s"] == begun.timing["head_s"]
    assert record.timing["extract_s"] == begun.timing["extract_s"]
    assert "C = " in begun.notes[0]
    assert set(begun.notes) <= set(record.notes)


@pytest.mark.real
def test_a_frozen_pretrained_network_beats_a_random_one(tmp_path, shared_dir, cifar_dir) -> None:
    weights = shared_dir / "weights" / "resnet18.IMAGENET1K_V1.safetensors"
    settings = {
        "network": "resnet18", "mode": "frozen", "dataset": "cifar10", "data_dir": str(cifar_dir),
        "image_size": 64, "limit": {"train": 30, "val": 10, "test": 20}, "epochs": 20, "lr": 0.01,
        "preprocess": "torch",
    }  # fmt: skip
    trained = run_training(training(tmp_path, **settings, weights=str(weights), name="trained"))
    random = run_training(training(tmp_path, **settings, weights="none", name="random"))
    assert trained.splits["test"].accuracy > random.splits["test"].accuracy + 0.2
