"""A recipe with lists comes to the runs its author meant, each with its own name and seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from featx.errors import RecipeError
from featx.recipes import Recipe, load_recipe, load_study, make_study

TRAIN = {"task": "train", "network": "conv2", "dataset": "digits"}


def groups(**values: object) -> list[str]:
    return [member.group for member in make_study({**TRAIN, **values}).members]


def test_d3s_grid_has_its_24_runs() -> None:
    study = load_study("d3-grid")
    assert len(study.members) == 24
    settings = {
        (r.network, r.lr, r.optimizer, r.momentum if r.optimizer == "sgd" else None)
        for r in (member.recipe for member in study.members)
    }
    networks = ("grid-relu", "grid-relu-bn", "grid-leaky-bn", "grid-leaky-bn-dropout")
    ways = (("adam", None), ("sgd", 0.5), ("sgd", 0.9))
    assert settings == {(n, lr, o, m) for n in networks for lr in (0.001, 0.005) for o, m in ways}
    assert {m.recipe.epochs for m in study.members} == {20}
    assert {m.recipe.patience for m in study.members} == {5}


def test_d4s_study_repeats_each_depth_with_its_own_images() -> None:
    study = load_study("d4-study")
    assert [m.group for m in study.members] == ["cnn-a"] * 5 + ["cnn-b"] * 5 + ["cnn-c"] * 5
    assert [m.recipe.seed for m in study.members[:5]] == [0, 1, 2, 3, 4]
    assert [m.repeat for m in study.members[:5]] == [1, 2, 3, 4, 5]
    assert len({m.recipe.report_path for m in study.members}) == 15
    assert all(m.recipe.report_path.is_relative_to("reports/d4-study/runs") for m in study.members)
    assert all(m.recipe.repeats == 1 for m in study.members)


def test_lists_are_combined_in_their_order() -> None:
    assert groups(lr=[0.1, 0.01], epochs=[1, 2]) == [
        "lr0.1-epochs1", "lr0.1-epochs2", "lr0.01-epochs1", "lr0.01-epochs2",
    ]  # fmt: skip


def test_large_and_small_numbers_have_names_of_their_own() -> None:
    assert groups(lr=[1e30, 1e-30]) == ["lr1e30", "lr1e-30"]


def test_momentum_varies_with_sgd_alone() -> None:
    assert groups(optimizer=["adam", "sgd"], momentum=[0.5, 0.9], nesterov=[False, True]) == [
        "adam",
        "sgd-momentum0.5-nesterovFalse",
        "sgd-momentum0.5-nesterovTrue",
        "sgd-momentum0.9-nesterovFalse",
        "sgd-momentum0.9-nesterovTrue",
    ]


def test_a_list_is_one_value_of_a_list_field() -> None:
    assert make_study({**TRAIN, "augment": ["flip", "crop"]}).is_single
    study = make_study({**TRAIN, "augment": [[], ["flip"], ["flip", "crop"]]})
    assert [m.recipe.augment for m in study.members] == [(), ("flip",), ("flip", "crop")]
    assert len({m.group for m in study.members}) == 3


def test_a_list_of_c_is_a_choice_and_not_a_study() -> None:
    study = make_study({"cuts": ["layer1"], "C": [0.1, 1]})
    assert study.is_single
    assert study.recipe.C == (0.1, 1.0)


def test_probes_can_be_varied_too() -> None:
    study = make_study({"cuts": ["layer1"], "image_size": [32, 64], "pool": ["avg", "max"]})
    assert [(m.recipe.image_size, m.recipe.pool) for m in study.members] == [
        (32, "avg"), (32, "max"), (64, "avg"), (64, "max"),
    ]  # fmt: skip


def test_a_plain_recipe_is_a_study_of_one() -> None:
    study = load_study("d4-cnn-a")
    assert study.is_single
    assert study.recipe == load_recipe("d4-cnn-a")
    assert len(study.members) == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lr": []}, ["lr is an empty list"]),
        ({"lr": [0.1, -1]}, ["lr is -1", "greater than 0"]),
        ({"optimizer": ["adam", "adamx"]}, ["optimizer is 'adamx'", "'adam', 'adamw' or 'sgd'"]),
        ({"cuts": ["layer1"]}, ["cuts belongs to task probe or compare", "this is task train"]),
        ({"patience": 3, "val": 0}, ["patience stops by val_loss", "val: 0.2"]),
        ({"keep": "best", "val": 0}, ["keep: best chooses", "val: 0.2"]),
        ({"from_cut": "conv1", "mode": "frozen"}, ["from_cut", "mode frozen does not"]),
        ({"augument": "flip"}, ["'augument' (closest: 'augment'"]),
    ],
)
def test_a_wrong_study_is_explained(values: dict, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        make_study({**TRAIN, **values})
    for word in words:
        assert word in str(caught.value)


def test_a_comparison_takes_no_lists() -> None:
    with pytest.raises(RecipeError, match="a comparison is one table"):
        make_study({"task": "compare", "cuts": ["layer1"], "lr": [0.1, 0.2]})


def test_loading_one_recipe_of_a_study_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("task: train\nnetwork: conv2\nlr: [0.1, 0.2]\n")
    with pytest.raises(RecipeError, match=r"is a study: lr has more than one value.*featx run"):
        load_recipe(path)
    assert load_recipe(path, {"lr": 0.1}).lr == 0.1


def test_names_tell_trainings_apart() -> None:
    plain = Recipe(task="train", network="cnn-a", dataset="digits")
    other = Recipe(task="train", network="cnn-a", dataset="digits", lr=0.1)
    file = Recipe(task="train", network="reports/mine/model.safetensors", from_cut="conv3")
    assert plain.run_name.startswith("digits-cnn-a-train-")
    assert plain.run_name != other.run_name
    assert file.run_name.startswith("cifar5-mine-from-conv3-")
    # Where it runs and what hears of it changes no result.
    assert Recipe(**plain.settings(), track="mlflow", resume=True).run_name == plain.run_name


def test_long_names_stay_apart_and_keep_their_repeats() -> None:
    many = [
        ["flip", "crop", "jitter", "affine", "perspective", "randaugment"][: n + 1]
        for n in range(6)
    ]
    study = make_study(
        {**TRAIN, "augment": many, "lr": [0.1], "epochs": [12], "weight_decay": [0.0001],
         "label_smoothing": [0.05], "warmup_epochs": [1.25], "repeats": 3}
    )  # fmt: skip
    names = [member.recipe.run_name for member in study.members]
    assert len(set(names)) == len(names) == 18
    assert max(map(len, names)) <= 100


def test_nesterov_is_left_to_sgd() -> None:
    study = make_study({**TRAIN, "nesterov": [True, False], "optimizer": ["adam", "sgd"]})
    assert [(m.recipe.optimizer, m.recipe.nesterov) for m in study.members] == [
        ("adam", False), ("sgd", True), ("sgd", False),
    ]  # fmt: skip


def test_settings_of_single_approaches_are_read_from_the_command_line() -> None:
    recipe = make_study({"task": "compare", "per_approach": '{"scratch": {"lr": 0.01}}'}).recipe
    assert recipe.per_approach == {"scratch": {"lr": 0.01}}
