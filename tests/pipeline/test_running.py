"""A whole run: its numbers are those of scikit-learn on the cached features."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from training_runs import Ears

import featx
from featx.backbones import Capture
from featx.errors import BudgetExceeded, RecipeError
from featx.heads import C_GRIDS
from featx.pipeline import candidates, make_plan, prepare
from featx.pipeline.about import portable_settings, repeat_command
from featx.pipeline.fitting import jobs_that_fit
from featx.recipes import Recipe, make_recipe

BASE = {
    "backbone": "resnet18",
    "weights": "none",
    "dataset": "digits",
    "image_size": 32,
    "limit": 12,
    "stratified": True,
    "cuts": ["layer1", "layer2"],
    "jobs": 1,
    "C": 0.01,
    "max_iter": 5000,
    # Tested in test_exhibits.py and test_heat_maps.py.
    "exhibits": False,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """One cache for the whole file: features are extracted once."""
    folder = tmp_path_factory.mktemp("run")
    return {"cache_dir": str(folder / "cache"), "out": str(folder / "reports")}


def make(places: dict[str, str], **settings: object) -> Recipe:
    return make_recipe({**BASE, **places, **settings})


def features(recipe: Recipe, cut: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and labels of every split, read from the store by themselves."""
    prepared = prepare(recipe)
    found = {}
    for item in make_plan(prepared).sets:
        if item.cut == cut:
            features = prepared.store.find(item.key)
            assert features is not None
            found[item.split] = (features.read(), features.y)
    return found


def test_accuracies_are_those_of_scikit_learn(places) -> None:
    recipe = make(places, name="plain")
    record = featx.run(recipe)
    assert [result.cut for result in record.results] == ["layer1", "layer2"]
    for result in record.results:
        data = features(recipe, result.cut)
        X, y = data["train"]
        scaler = StandardScaler().fit(X.astype(np.float64))
        model = LinearSVC(C=0.01, dual=True, max_iter=100_000, tol=1e-6, random_state=1)
        model.fit(scaler.transform(X), y)
        for split in ("val", "test"):
            X, y = data[split]
            predicted = model.predict(scaler.transform(X))
            wrong = np.abs(confusion_matrix(y, predicted) - result.splits[split].confusion).sum()
            # Another tolerance and seed: at most a tie falls the other way.
            assert wrong <= 2
            assert result.accuracy[split] == pytest.approx(
                np.mean(predicted == y), abs=1.5 / len(y)
            )


def test_per_split_standardization_uses_each_splits_own_statistics(places) -> None:
    recipe = make(places, name="per-split", standardize="per-split", cuts=["layer2"])
    result = featx.run(recipe).results[0]
    data = features(recipe, "layer2")
    scaled = {
        split: StandardScaler().fit_transform(X.astype(np.float64))
        for split, (X, _) in data.items()
    }
    model = LinearSVC(C=0.01, dual=True, max_iter=100_000, tol=1e-6, random_state=1)
    model.fit(scaled["train"], data["train"][1])
    for split in ("val", "test"):
        y = data[split][1]
        predicted = model.predict(scaled[split])
        assert np.abs(confusion_matrix(y, predicted) - result.splits[split].confusion).sum() <= 2


def test_C_is_the_best_on_validation_and_every_try_is_logged(places) -> None:
    values = [1e-6, 1e-4, 1e-2]
    recipe = make(places, name="chosen", C=values, cuts=["layer2"])
    record = featx.run(recipe)
    data = features(recipe, "layer2")
    scaler = StandardScaler().fit(data["train"][0].astype(np.float64))
    scores = {}
    for C in values:
        model = LinearSVC(C=C, dual=True, max_iter=100_000, tol=1e-6)
        model.fit(scaler.transform(data["train"][0]), data["train"][1])
        scores[C] = model.score(scaler.transform(data["val"][0]), data["val"][1])
    log = {tried.value: tried.score for tried in record.choices[0].candidates}
    assert log == pytest.approx(scores, abs=0.01)
    best = max(log.values())
    assert record.results[0].C == record.choices[0].chosen == min(c for c in log if log[c] == best)
    assert record.choices[0].on == "val"


def test_test_images_take_no_part_in_a_choice(places, tmp_path) -> None:
    """Other test images, other test labels: the same C, the same head."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (80, 16, 16, 3), dtype=np.uint8)
    y = np.arange(80) % 2
    train[y == 1, :8] //= 2
    heads, chosen = [], []
    for k in range(2):
        test = np.random.default_rng(k + 1).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
        test_y = np.random.default_rng(k + 1).integers(0, 2, 20)
        test_y[:2] = (0, 1)
        path = tmp_path / f"{k}.npz"
        np.savez(path, train_x=train, train_y=y, test_x=test, test_y=test_y)
        recipe = make(
            places, name=f"npz{k}", dataset=f"npz:{path}", C=[1e-5, 1e-3, 1e-1], cuts=["layer1"],
            image_size="native", limit=None,
        )  # fmt: skip
        record = featx.run(recipe)
        chosen.append(record.choices[0].model_dump())
        heads.append(featx.LinearHead.load(recipe.report_path / record.results[0].head_file))
    assert chosen[0] == chosen[1]
    assert np.array_equal(heads[0].coef, heads[1].coef)


def test_refit_is_fitted_on_train_and_validation(places) -> None:
    recipe = make(
        places, name="refit", head="logistic", C=[0.001, 0.01], refit=True, cuts=["layer2"],
    )  # fmt: skip
    record = featx.run(recipe)
    result = record.results[0]
    assert result.refit_on == "train+val"
    data = features(recipe, "layer2")
    X = np.concatenate([data["train"][0], data["val"][0]]).astype(np.float64)
    y = np.concatenate([data["train"][1], data["val"][1]])
    scaler = StandardScaler().fit(X)
    model = LogisticRegression(C=result.C, max_iter=5000, tol=1e-6).fit(scaler.transform(X), y)
    predicted = model.predict(scaler.transform(data["test"][0]))
    wrong = np.abs(confusion_matrix(data["test"][1], predicted) - result.splits["test"].confusion)
    assert wrong.sum() <= 2


def test_a_saved_head_predicts_what_the_report_counts(places) -> None:
    recipe = make(places, name="saved", cuts=["layer2"])
    record = featx.run(recipe)
    head = featx.LinearHead.load(recipe.report_path / "heads" / "layer2.safetensors")
    X, y = features(recipe, "layer2")["test"]
    assert (
        confusion_matrix(y, head.predict(X)).tolist() == record.results[0].splits["test"].confusion
    )
    assert head.class_names == tuple(record.dataset.classes[c] for c in range(10))
    assert head.provenance["module"] == "layer2"
    assert head.provenance["weights"] == "random"


def test_heads_of_an_earlier_run_do_not_stay(places) -> None:
    featx.run(make(places, name="stale", cuts=["layer1"]))
    recipe = make(places, name="stale", cuts=["layer2"])
    featx.run(recipe)
    heads = recipe.report_path / "heads"
    assert [path.name for path in heads.iterdir()] == ["layer2.safetensors"]


def test_a_second_run_extracts_nothing(places, monkeypatch) -> None:
    recipe = make(places, name="again")
    first = featx.run(recipe)

    def refuse(self, x):
        raise AssertionError("extracted again")

    monkeypatch.setattr(Capture, "__call__", refuse)
    second = featx.run(recipe)
    assert [r.accuracy for r in first.results] == [r.accuracy for r in second.results]


def test_parallel_fits_give_the_same_bits(places) -> None:
    one = make(places, name="one", C=[1e-4, 1e-2])
    two = make(places, name="two", C=[1e-4, 1e-2], jobs=2)
    featx.run(one)
    featx.run(two)
    for cut in BASE["cuts"]:
        a, b = (
            featx.LinearHead.load(r.report_path / "heads" / f"{cut}.safetensors")
            for r in (one, two)
        )
        assert np.array_equal(a.coef, b.coef)
        assert np.array_equal(a.intercept, b.intercept)


def test_parallel_fits_find_the_cache_after_a_change_of_folder(tmp_path, monkeypatch) -> None:
    """Worker processes outlive a run, and stay in the folder where they were started."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        recipe = make({"cache_dir": "cache", "out": "reports"}, name=name, jobs=2, C=[1e-4, 1e-2])
        assert len(featx.run(recipe).results) == 2


def test_the_record_says_what_a_reader_must_know(places) -> None:
    recipe = make(places, name="notes", standardize="per-split", cuts=["layer2"], C=[1e-6, 1e-5])
    record = featx.run(recipe)
    notes = " ".join(record.notes)
    assert "weights of resnet18 are random (seed 0)" in notes
    assert "own statistics" in notes
    assert "limited" in notes
    # Of two values either is an edge.
    end = {"low": "smallest", "high": "largest"}[record.choices[0].edge or ""]
    assert f"layer2: C {record.choices[0].chosen:g} is the {end}" in notes
    assert record.backbone.random
    assert record.cuts[0].n_features == 128
    assert record.cuts[0].shape == [128, 4, 4]
    assert record.dataset.splits["train"].n == 120
    assert {"extract_s", "fit_s"} <= set(record.timing)


def test_a_record_tells_no_path_of_this_machine(places, tmp_path) -> None:
    from safetensors.torch import save_file

    weights = tmp_path / "my-weights.safetensors"
    model = featx.load_backbone("resnet18", "none", seed=5).model
    save_file({k: v.clone() for k, v in model.state_dict().items()}, weights)
    folder = tmp_path / "images"
    from PIL import Image

    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = np.random.default_rng(i).integers(0, 256, (40, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    recipe = make(
        places, name="private", weights=str(weights), dataset=f"folder:{folder}", cuts=["layer1"],
        limit=None, workers=0,
    )  # fmt: skip
    record = featx.run(recipe)
    text = (recipe.report_path / "results.json").read_text()
    text += (recipe.report_path / "report.md").read_text()
    assert str(tmp_path) not in text
    assert "my-weights.safetensors" in record.command
    assert any("does not say its preprocessing" in note for note in record.notes)
    assert json.loads((recipe.report_path / "results.json").read_text())["schema_version"] == 2


def test_a_record_says_the_threads_that_were_set(places) -> None:
    """They may be in the key of the features: docs/decisions/0027."""
    recipe = make(places, name="threads", cuts=["layer1"], threads=1)
    record = featx.run(recipe)
    assert record.environment.device.endswith("BatchNorm folded, 1 thread")
    assert "BatchNorm folded, 1 thread" in (recipe.report_path / "report.md").read_text()
    again = featx.run(make(places, name="own", cuts=["layer1"]))
    assert again.environment.device.endswith("BatchNorm folded")


def test_the_repeat_command_makes_the_same_settings(monkeypatch) -> None:
    from typer.testing import CliRunner

    import featx.cli.running
    from featx.cli import app

    recipe = make_recipe(
        {
            **BASE,
            "C": [0.123456789, 12.0],
            "val": 1 / 3,
            "classes": ["3", "8"],
            "limit": {"train": 5, "test": None},
        }
    )
    seen: list[Recipe] = []
    monkeypatch.setattr(
        featx.cli.running, "run_and_print", lambda recipe, dry_run: seen.append(recipe)
    )
    words = shlex.split(repeat_command(recipe))[1:]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    wanted = portable_settings(recipe)
    wanted["limit"] = {"train": 5}
    assert portable_settings(seen[0]) == wanted


def test_candidates() -> None:
    assert candidates(Recipe()) == (12.0,)
    assert candidates(Recipe(head="logistic")) == (1.0,)
    assert candidates(Recipe(C=(1.0, 0.1, 1.0))) == (0.1, 1.0)
    assert len(candidates(Recipe(C="auto"))) > 4


@pytest.mark.parametrize("solver", ["featx", "liblinear"])
def test_auto_goes_on_while_its_largest_C_wins(places, monkeypatch, solver: str) -> None:
    """On a grid cut short, as on few images; where it ends is what the whole list gives."""
    whole = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    monkeypatch.setitem(C_GRIDS, "svm", whole[:2])
    short = featx.run(make(places, name=f"short-{solver}", C="auto", solver=solver))
    for choice, result in zip(short.choices, short.results, strict=True):
        tried = [each.value for each in choice.candidates]
        assert tried == pytest.approx(list(whole[: len(tried)]))
        scores = [each.score for each in choice.candidates]
        # It went on while the last one was better than all before, and then stopped.
        for n in range(2, len(tried)):
            assert scores[n - 1] > max(scores[: n - 1])
        assert scores[-1] <= max(scores[:-1])
        assert result.accuracy["val"] == max(scores)
    assert max(len(choice.candidates) for choice in short.choices) > 2
    listed = featx.run(make(places, name=f"long-{solver}", C=list(whole), solver=solver))
    for auto, plain in zip(short.choices, listed.choices, strict=True):
        # Another start of the path, other last digits: an image or two of 120.
        for one, other in zip(auto.candidates, plain.candidates, strict=False):
            assert one.value == pytest.approx(other.value)
            assert one.score == pytest.approx(other.score, abs=2 / 120 + 1e-9)
    # A list is what was asked for, and auto does not go on for ever.
    monkeypatch.setattr("featx.heads.choice.C_MOST", {"svm": 1e-4})
    asked = [make(places, name="list", C=[1e-5, 1e-4]), make(places, name="end", C="auto")]
    for recipe in asked:
        first, _ = featx.run(recipe).choices
        assert [each.value for each in first.candidates] == [1e-5, 1e-4]
        assert first.edge == "high"


def test_parallel_fits_stay_within_the_memory_budget(monkeypatch) -> None:
    monkeypatch.setattr("featx.pipeline.fitting.n_cpus", lambda: 8)
    sizes = {"deep": (1000, 1000), "small": (1000, 10)}
    many = Recipe(C=(0.1, 0.2, 0.3, 0.4, 0.5), solver="liblinear")
    need = 32 * 1000 * 1000
    assert jobs_that_fit(sizes, many, need) == 1
    assert jobs_that_fit(sizes, many, 3 * need) == 3
    assert jobs_that_fit(sizes, many, 100 * need) == 8
    assert jobs_that_fit(sizes, Recipe(solver="liblinear"), 100 * need) == 2
    assert jobs_that_fit(sizes, Recipe(jobs=5, C=many.C, solver="liblinear"), 100 * need) == 5
    with pytest.raises(BudgetExceeded, match=r"'deep' \(1,000 rows of 1,000 values\).*--pool avg"):
        jobs_that_fit(sizes, many, need - 1)


def test_featx_solver_takes_all_cores_and_a_matrix_of_the_smaller_side(monkeypatch) -> None:
    monkeypatch.setattr("featx.pipeline.fitting.n_cpus", lambda: 8)
    sizes = {"deep": (1000, 5000), "small": (1000, 10)}
    # Seven kernels and factors in double precision at most.
    need = 56 * 1000 * 1000
    assert jobs_that_fit(sizes, Recipe(C=(0.1, 1.0)), 100 * need) == 1
    assert jobs_that_fit(sizes, Recipe(C=(0.1, 1.0), jobs=2), 100 * need) == 2
    with pytest.raises(BudgetExceeded, match=r"'deep' \(1,000 rows of 5,000 values\)"):
        jobs_that_fit(sizes, Recipe(), need - 1)


def test_a_fit_that_does_not_fit_is_refused_before_anything_is_extracted(places, tmp_path) -> None:
    recipe = make(
        {**places, "cache_dir": str(tmp_path / "cache")}, cuts=["layer1"], pool="flatten",
        memory_budget="8MB", solver="liblinear",
    )  # fmt: skip
    with pytest.raises(BudgetExceeded, match="Fitting the head of 'layer1'"):
        featx.run(recipe)
    assert not (tmp_path / "cache").exists()


def test_a_refit_counts_validation_rows_too(places) -> None:
    plan = make_plan(prepare(make(places, cuts=["layer2"])))
    assert plan.fit_sizes(Recipe()) == {"layer2": (120, 128)}
    assert plan.fit_sizes(Recipe(refit=True)) == {"layer2": (240, 128)}


def test_no_cut_says_how_to_find_one(places) -> None:
    with pytest.raises(RecipeError, match="featx layers resnet18"):
        featx.run(make(places, cuts=[]))


def test_cuts_are_reported_in_order_of_execution(places) -> None:
    record = featx.run(make(places, name="order", cuts=["layer2", "conv1_relu", "layer1"]))
    assert [cut.cut for cut in record.cuts] == ["conv1_relu", "layer1", "layer2"]
    depth = [cut.multiply_adds for cut in record.cuts]
    assert depth == sorted(depth)
    assert not math.isnan(record.results[0].fit_s)


@pytest.mark.figures
def test_the_report_folder_holds_everything(places) -> None:
    recipe = make(places, name="files", cuts=["layer2"])
    featx.run(recipe)
    folder = Path(recipe.report_path)
    names = {path.name for path in folder.iterdir()}
    assert {"results.json", "results.csv", "report.md", "figures", "heads"} <= names
    assert list((folder / "figures").glob("*.png"))


def test_a_grid_finer_than_the_map_is_said(places) -> None:
    ears = Ears()
    # At 32 px layer3 is a map of 2 x 2, layer4 of 1 x 1.
    recipe = make(places, name="fine", pool="grid:2", cuts=["layer3", "layer4"])
    record = featx.run(recipe, progress=ears)
    (note,) = (note for note in record.notes if "values repeat" in note)
    assert note == (
        "layer4: grid:2 makes 2,048 values an image of a map that holds 512 (512 x 1 x 1), so that "
        "values repeat: flatten keeps all there is."
    )
    assert note in ears.said
