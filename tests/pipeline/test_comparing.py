"""A comparison sees the same images everywhere, chooses on validation, and tests in pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from scipy import stats
from training_runs import Ears

import featx
from featx.errors import FeatxError, RecipeError
from featx.evaluate import ComparisonRecord, read_record
from featx.evaluate.predictions import TRUTH, read_predictions
from featx.extraction import SampledRate
from featx.pipeline import compared_runs, costs, run_comparison
from featx.recipes import Recipe, make_recipe


def comparison(tmp_path: Path, **values: object) -> Recipe:
    base = {
        "task": "compare", "backbone": "resnet18", "weights": "none", "preprocess": "torch",
        "cuts": ["layer1", "layer2"], "image_size": 32, "dataset": "digits", "C": 0.01,
        "limit": {"train": 10, "val": 5, "test": 10}, "epochs": 2, "batch_size": 25, "jobs": 1,
        "out": str(tmp_path / "reports"), "cache_dir": str(tmp_path / "cache"), "name": "all",
        "approaches": ["probe", "frozen", "scratch"], "scratch": ["conv2"], "exhibits": False,
        "per_approach": {"scratch": {"epochs": 6, "lr": 0.003}},
    }  # fmt: skip
    return make_recipe({**base, **values})


def test_features_are_extracted_on_all_devices_and_networks_trained_on_one(tmp_path: Path) -> None:
    recipe = comparison(tmp_path, device="cpu,cpu")
    devices = {run.approach: run.recipe.device for run in compared_runs(recipe)}
    assert devices == {"probe": "cpu,cpu", "frozen": "cpu", "scratch": "cpu"}
    # What was not set is not set for its runs: they would no longer be those that are finished.
    runs = compared_runs(comparison(tmp_path))
    assert not any("device" in run.recipe.model_fields_set for run in runs)


def test_the_table_holds_every_approach_on_the_same_images(tmp_path: Path) -> None:
    recipe = comparison(tmp_path)
    record = featx.run(recipe)
    assert isinstance(record, ComparisonRecord)
    assert read_record(recipe.report_path) == record
    # Its probes and networks compute differently in all else.
    assert record.environment.device == "cpu: fp32"
    names = [a.name for a in record.approaches]
    assert names == ["probe layer1", "probe layer2", "frozen", "scratch-conv2"]
    val = {a.name: a.splits["val"].accuracy for a in record.approaches}
    assert record.chosen_on == "val"
    assert val[record.best] == max(val.values())
    digest = (
        featx.load_dataset("digits", limit={"train": 10, "val": 5, "test": 10})
        .splits["test"]
        .digest
    )
    folder = recipe.report_path / "runs"
    places = {
        "probe layer1": ("probe", "layer1"), "probe layer2": ("probe", "layer2"),
        "frozen": ("frozen", ""), "scratch-conv2": ("scratch-conv2", ""),
    }  # fmt: skip
    truth = read_predictions(folder / "frozen", TRUTH, "test", digest)
    right = {
        name: read_predictions(folder / run, cut, "test", digest) == truth
        for name, (run, cut) in places.items()
    }
    raw = {}
    for approach in record.approaches:
        name, pair = approach.name, approach.against_best
        assert approach.splits["test"].accuracy == pytest.approx(right[name].mean())
        if name == record.best:
            assert pair is None
            continue
        only_best = int((right[record.best] & ~right[name]).sum())
        only_this = int((right[name] & ~right[record.best]).sum())
        assert (pair.only_best, pair.only_this) == (only_best, only_this)
        assert pair.difference == pytest.approx((only_best - only_this) / len(truth))
        assert pair.low <= pair.difference <= pair.high
        n = only_best + only_this
        raw[name] = stats.binomtest(only_best, n).pvalue if n else 1.0
        assert pair.p == pytest.approx(raw[name])
    # Holm: the smallest p times their number, and so on, never falling.
    largest = 0.0
    for rank, name in enumerate(sorted(raw, key=lambda n: raw[n])):
        largest = max(largest, min(1.0, raw[name] * (len(raw) - rank)))
        pair = next(a.against_best for a in record.approaches if a.name == name)
        assert pair.p_adjusted == pytest.approx(largest)
    text = (recipe.report_path / "report.md").read_text()
    for approach in record.approaches:
        assert approach.what in text


def test_costs_are_those_of_what_is_used(tmp_path: Path) -> None:
    record = featx.run(comparison(tmp_path))
    by_name = {a.name: a for a in record.approaches}
    # ResNet-18 up to layer1: conv1 9,408, bn1 128, four 3x3 convolutions of 64 with BN.
    assert by_name["probe layer1"].stored_bytes > 4 * (9_408 + 128 + 4 * (36_864 + 128))
    assert by_name["probe layer1"].n_trained == 10 * 65
    assert by_name["frozen"].n_trained == 5_130
    assert by_name["scratch-conv2"].n_trained == 62_006
    assert by_name["probe layer1"].multiply_adds < by_name["frozen"].multiply_adds
    assert by_name["frozen"].stored_bytes > 4 * 11_000_000
    assert "sgd" not in by_name["scratch-conv2"].settings
    assert "6 epochs" in by_name["scratch-conv2"].settings


def test_times_are_those_from_images_to_the_model(tmp_path: Path) -> None:
    recipe = comparison(
        tmp_path,
        approaches=["probe", "frozen", "lp-ft", "scratch"],
        test_each_epoch=False,
        C="auto",
    )
    record = featx.run(recipe)
    assert not any("from the cache" in note for note in record.notes)
    by_name = {a.name: a for a in record.approaches}
    runs = {
        run.recipe.run_name: read_record(run.recipe.report_path) for run in compared_runs(recipe)
    }
    n = {name: split.n for name, split in record.dataset.splits.items()}
    needed = n["train"] + n["val"]
    probe = runs["probe"]
    for result in probe.results:
        row = by_name[f"probe {result.cut}"]
        # All values of C, not the last step alone; extraction without the test images.
        assert row.train_s == result.all_fits_s > result.fit_s
        assert row.extract_s == pytest.approx(needed / probe.timing["images_per_s"])
    scratch = runs["scratch-conv2"]
    assert by_name["scratch-conv2"].train_s == pytest.approx(
        sum(epoch.seconds + epoch.evaluation_s for epoch in scratch.history)
    )
    assert by_name["scratch-conv2"].extract_s == pytest.approx(
        needed / sum(n.values()) * scratch.timing["read_s"]
    )
    # LP-FT finds the frozen network's features in the cache, and they were not free.
    frozen, lp_ft = runs["frozen"].timing, runs["lp-ft"].timing
    assert by_name["frozen"].extract_s == pytest.approx(needed / frozen["extract_images_per_s"])
    assert "extract_images_per_s" not in lp_ft
    assert by_name["lp-ft"].extract_s == pytest.approx(
        by_name["frozen"].extract_s + needed / sum(n.values()) * lp_ft["read_s"]
    )
    assert (
        by_name["lp-ft"].train_s > runs["lp-ft"].timing["train_s"] + runs["lp-ft"].timing["head_s"]
    )


def test_of_cached_features_the_rate_is_measured(tmp_path: Path, monkeypatch) -> None:
    settings = {
        "approaches": ["lp-ft", "frozen", "probe"], "epochs": 1, "per_approach": {},
        # Fewer test images than half of the others: the frozen network extracts these alone.
        "limit": {"train": 10, "val": 5, "test": 5},
    }  # fmt: skip
    first = featx.run(comparison(tmp_path, **settings))
    assert not any("from the cache" in note for note in first.notes)
    # The frozen network, which comes second, takes LP-FT's rate.
    runs = tmp_path / "reports" / "all" / "runs"
    rate = read_record(runs / "lp-ft").timing["extract_images_per_s"]
    n = {name: split.n for name, split in first.dataset.splits.items()}
    needed = n["train"] + n["val"]
    by_name = {a.name: a for a in first.approaches}
    assert by_name["frozen"].extract_s == pytest.approx(needed / rate)

    asked: list[tuple[list[str], int]] = []

    def sampled(backbone, points, split, settings):
        asked.append((list(points), len(split)))
        return SampledRate(40.0, 60)

    monkeypatch.setattr(costs, "sample_rate", sampled)
    again = featx.run(comparison(tmp_path, name="again", **settings))
    # The place before the head, once for LP-FT and the frozen network; the cuts of the probes.
    assert [(len(points), rows) for points, rows in asked] == [(1, n["train"]), (2, n["train"])]
    assert asked[-1][0] == ["layer1", "layer2"]
    by_name = {a.name: a for a in again.approaches}
    for name in ("frozen", "probe layer1", "probe layer2"):
        assert by_name[name].extract_s == pytest.approx(needed / 40.0)
    assert by_name["lp-ft"].extract_s > needed / 40.0
    (note,) = (note for note in again.notes if "from the cache" in note)
    assert note == (
        "lp-ft, frozen, probe: The features came from the cache: extracting them is counted at 40 "
        "images/s, measured for this table on 60 images."
    )
    # Settings of its own may make another rate of it.
    asked.clear()
    own = {"per_approach": {"frozen": {"threads": 1}}}
    featx.run(comparison(tmp_path, name="own", **{**settings, **own}))
    assert len(asked) == 3


def test_a_rate_that_cannot_be_measured_costs_no_table(tmp_path: Path, monkeypatch) -> None:
    settings = {"approaches": ["lp-ft"], "epochs": 1, "per_approach": {}, "cuts": ()}
    recipe = comparison(tmp_path, **settings)
    featx.run(recipe)
    run = recipe.report_path / "runs" / "lp-ft" / "results.json"
    record = json.loads(run.read_text())
    del record["timing"]["extract_images_per_s"]
    (n_cpus,) = {record["environment"]["n_cpus"]}

    def again(**environment: object) -> tuple[float, str]:
        changed = {**record["environment"], **environment}
        run.write_text(json.dumps({**record, "environment": changed}))
        table, _ = run_comparison(recipe)
        (note,) = (note for note in table.notes if "from the cache" in note)
        return table.approaches[0].extract_s, note

    took, note = again()
    assert "images/s, measured" in note
    for environment, reason in (
        ({"n_cpus": n_cpus + 30}, f"the run was made on {record['environment']['cpu']}, "
                                  f"{n_cpus + 30} cores."),
        ({"device": "cuda:0 (NVIDIA H100): fp32"},
         "the run was made on cuda:0 (NVIDIA H100); here it would be cpu."),
    ):  # fmt: skip
        without, note = again(**environment)
        assert without < took
        assert note.startswith("lp-ft: The features came from the cache, and what extracting")
        assert note.endswith(f"so that times leave it out: {reason}")

    def fails(*args: object) -> None:
        raise FeatxError("Out of memory on cpu.")

    monkeypatch.setattr(costs, "sample_rate", fails)
    assert again()[1].endswith("leave it out: Out of memory on cpu.")


def test_a_pass_that_ends_before_the_deepest_cut_tells_no_rate(tmp_path: Path) -> None:
    settings = {"approaches": ["probe"], "per_approach": {}}
    featx.run(comparison(tmp_path, **settings, cuts=["layer3"]))
    record = featx.run(comparison(tmp_path, **settings, name="more", cuts=["layer1", "layer3"]))
    probe = read_record(tmp_path / "reports" / "more" / "runs" / "probe")
    assert "images_per_s" not in probe.timing
    assert any("images/s, measured" in note for note in record.notes)
    # Both go through the network to an end behind what is cached.
    featx.run(comparison(tmp_path, **settings, name="deep", cuts=["layer1", "layer4"]))
    assert "images_per_s" in read_record(tmp_path / "reports" / "deep" / "runs" / "probe").timing


def test_a_part_of_the_network_that_stays_frozen_has_a_measured_rate_too(tmp_path: Path) -> None:
    settings = {
        "approaches": ["finetune"], "cuts": (), "epochs": 1,
        "per_approach": {"finetune": {"from_cut": "layer4"}},
    }  # fmt: skip
    first = featx.run(comparison(tmp_path, **settings))
    again = featx.run(comparison(tmp_path, name="again", **settings))
    assert not any("from the cache" in note for note in first.notes)
    (note,) = (note for note in again.notes if "from the cache" in note)
    n = {name: split.n for name, split in again.dataset.splits.items()}
    rate = float(note.partition("counted at ")[2].partition(" ")[0])
    (row,) = again.approaches
    assert row.extract_s == pytest.approx((n["train"] + n["val"]) / rate, rel=0.01)


def test_a_setting_that_one_approach_uses_is_fine(tmp_path: Path) -> None:
    recipe = comparison(tmp_path, momentum=0.5, per_approach={"scratch": {"optimizer": "sgd"}})
    runs = {run.approach: run.recipe for run in compared_runs(recipe)}
    assert (runs["scratch"].optimizer, runs["scratch"].momentum) == ("sgd", 0.5)
    assert runs["frozen"].optimizer == "adam"


def test_of_two_classes_one_row_of_weights_is_fitted(tmp_path: Path) -> None:
    """scikit-learn solves a single problem of two classes: ``coef_`` has one row."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    X, y = np.random.default_rng(0).normal(size=(20, 64)), np.arange(20) % 2
    (probe,) = featx.run(
        comparison(tmp_path, approaches=["probe"], cuts=["layer1"], classes=["3", "8"],
                   scratch=(), per_approach={})
    ).approaches  # fmt: skip
    for model in (LinearSVC().fit(X, y), LogisticRegression().fit(X, y)):
        assert probe.n_trained == model.coef_.size + model.intercept_.size


def test_an_interrupted_comparison_continues_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.training import loop

    recipe = comparison(tmp_path, approaches=["scratch"], cuts=())
    whole, _ = run_comparison(comparison(tmp_path / "other", approaches=["scratch"],
                                         cuts=()))  # fmt: skip
    line = loop.epoch_line

    def stop(record, epochs):
        if epochs == 6 and record.epoch == 4:
            raise KeyboardInterrupt
        return line(record, epochs)

    monkeypatch.setattr(loop, "epoch_line", stop)
    with pytest.raises(KeyboardInterrupt):
        run_comparison(recipe)
    monkeypatch.undo()
    heard = Ears()
    record, _ = run_comparison(recipe, progress=heard)
    assert any("Continuing behind epoch 4 of 6" in text for text in heard.said)
    assert [a.splits for a in record.approaches] == [a.splits for a in whole.approaches]


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    recipe = comparison(tmp_path)
    featx.run(recipe)
    records = sorted((recipe.report_path / "runs").glob("*/results.json"))
    before = [path.stat().st_mtime_ns for path in records]
    assert len(before) == 3
    featx.run(recipe)
    assert [path.stat().st_mtime_ns for path in records] == before


def test_an_approach_can_have_settings_of_its_own(tmp_path: Path) -> None:
    recipe = comparison(
        tmp_path, approaches=["frozen", "finetune", "lp-ft"], cuts=(),
        per_approach={"finetune": {"lr": 1e-5, "augment": ["flip"]}},
    )  # fmt: skip
    runs = {run.approach: run.recipe for run in compared_runs(recipe)}
    assert runs["finetune"].lr == 1e-5
    assert runs["finetune"].augment == ("flip",)
    assert (runs["frozen"].lr, runs["frozen"].augment) == (None, ())
    assert {r.network for r in runs.values()} == {"resnet18"}
    assert {r.mode for r in runs.values()} == {"frozen", "finetune", "lp-ft"}
    assert len({r.seed for r in runs.values()}) == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cuts": ()}, ["No cut is given to probe", "--approaches frozen,finetune"]),
        ({"per_approach": {"fintune": {}}}, ["'fintune'", "no approach of this comparison"]),
        ({"per_approach": {"scratch": {"lrr": 1}}}, ["approach scratch", "'lrr'", "'lr'"]),
        ({"approaches": ["probe", "magic"]}, ["approaches", "'probe'"]),
        ({"approaches": []}, ["approaches is []"]),
        ({"momentum": 0.5}, ["momentum is 0.5 in the comparison", "optimizer adam does not"]),
        ({"schedule": "constant", "per_approach": {"frozen": {"lr_end": 1e-5}}},
         ["lr_end is 1e-05 in the comparison"]),
    ],
)  # fmt: skip
def test_a_wrong_comparison_is_explained(tmp_path: Path, values: dict, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        compared_runs(comparison(tmp_path, **values))
    for word in words:
        assert word in str(caught.value)


def test_predictions_of_other_images_are_never_compared(tmp_path: Path) -> None:
    recipe = comparison(tmp_path, approaches=["frozen", "scratch"], cuts=())
    run_comparison(recipe)
    folder = recipe.report_path / "runs" / "frozen"
    with pytest.raises(FeatxError, match="of other test images"):
        read_predictions(folder, "", "test", "0" * 64)
    with pytest.raises(FeatxError, match="cannot be read"):
        read_predictions(folder, "layer9", "test", "0" * 64)
    from safetensors.numpy import save_file

    path = folder / "predictions.safetensors"
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # One more is right, or one that was right is not.
    first = arrays["|test"][0] == arrays["(truth)|test"][0]
    arrays["|test"][0] = arrays["(truth)|test"][0] + (1 if first else 0)
    save_file(arrays, path, metadata=metadata)
    with pytest.raises(FeatxError, match="do not agree with its record"):
        run_comparison(recipe)


def test_a_diverged_approach_is_left_out_and_said(tmp_path: Path) -> None:
    recipe = comparison(
        tmp_path, approaches=["frozen", "scratch"], cuts=(),
        per_approach={"scratch": {"lr": 1e30, "optimizer": "sgd"}},
    )  # fmt: skip
    record, _ = run_comparison(recipe)
    assert [a.name for a in record.approaches] == ["frozen"]
    assert any("scratch-conv2 is left out: The loss was" in note for note in record.notes)


def test_without_validation_the_test_split_chooses_and_that_is_said(tmp_path: Path) -> None:
    recipe = comparison(tmp_path, approaches=["frozen", "scratch"], cuts=(), val=0,
                        limit={"train": 10, "test": 10})  # fmt: skip
    record, _ = run_comparison(recipe)
    assert record.chosen_on == "test"
    assert "flatters" in record.notes[0]
    # What holds for several is said once.
    limited = [note for note in record.notes if "limited" in note]
    assert [note.partition(":")[0] for note in limited] == ["frozen, scratch-conv2"]
    assert np.isfinite(record.timing["total_s"])
