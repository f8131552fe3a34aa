"""A recipe with lists comes to the runs its author meant, each with its own name and seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from featx.errors import RecipeError
from featx.recipes import Recipe, load_recipe, load_study, make_recipe, make_study
from featx.recipes.loading import LIST_FIELDS

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


def test_a_list_of_c_with_a_grid_or_a_list_in_it_is_a_study() -> None:
    study = make_study({"cuts": ["layer1"], "head": ["svm", "logistic"], "C": [12, "auto"]})
    assert [(m.group, m.recipe.C) for m in study.members] == [
        ("svm-C12", 12.0), ("svm-Cauto", "auto"),
        ("logistic-C12", 12.0), ("logistic-Cauto", "auto"),
    ]  # fmt: skip
    study = make_study({"cuts": ["layer1"], "C": [[0.1, 1], [12], "vissl"]})
    assert [m.recipe.C for m in study.members] == [(0.1, 1.0), (12.0,), "vissl"]
    with pytest.raises(RecipeError, match=r"C is 'atuo'"):
        make_study({"cuts": ["layer1"], "C": ["auto", "atuo"]})
    assert make_study({"cuts": ["layer1"], "C": ["0.1", "1"]}).is_single


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


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"momentum": 0.5}, ["momentum is 0.5", "optimizer adam does not use it: sgd does",
                             "--optimizer sgd"]),
        ({"nesterov": True, "optimizer": "adamw"}, ["nesterov is True", "optimizer adamw does"]),
        ({"lr_end": 1e-5, "schedule": "constant"},
         ["lr_end is 1e-05", "schedule constant does not", "cosine and exponential do"]),
        ({"lr_end": 1e-5, "schedule": "one-cycle"}, ["schedule one-cycle does not use it"]),
        ({"step_gamma": 0.5}, ["step_gamma is 0.5", "schedule cosine does not", "step does"]),
        ({"step_epochs": 3}, ["step_epochs is 3", "Leave step_epochs out"]),
    ],
)  # fmt: skip
def test_a_setting_that_would_do_nothing_is_refused(values: dict, words: list[str]) -> None:
    # Of one run, of every run of a study, and of a recipe made by hand.
    for make in (
        lambda: make_study({**TRAIN, **values}),
        lambda: make_study({**TRAIN, **values, "lr": [0.1, 0.01]}),
        lambda: make_recipe({**TRAIN, **values}),
    ):
        with pytest.raises(RecipeError) as caught:
            make()
        for word in words:
            assert word in str(caught.value)


def test_a_setting_that_some_runs_use_stays() -> None:
    study = load_study("d2-custom")
    assert [(m.recipe.schedule, m.recipe.lr_end) for m in study.members] == [
        ("constant", 8e-5), ("exponential", 8e-5),
    ]  # fmt: skip
    assert groups(optimizer=["adam", "sgd"], momentum=0.5) == ["adam", "sgd"]
    assert groups(schedule=["constant", "cosine"], lr_end=[1e-5, 1e-6]) == [
        "constant", "cosine-lr_end1e-05", "cosine-lr_end1e-06",
    ]  # fmt: skip
    # Nothing is asked for.
    assert groups(nesterov=False, lr_end=None, schedule="step", step_gamma=0.5) == ["all"]


def test_an_override_takes_what_a_file_set_beside_it_along() -> None:
    """d3-conv2 trains with sgd and its momentum; d2-frozen falls exponentially to its lr_end."""
    assert load_recipe("d3-conv2").momentum == 0.9
    adam = load_study("d3-conv2", {"optimizer": "adam"}).recipe
    assert "momentum" not in adam.model_fields_set
    assert load_recipe("d3-conv2", {"optimizer": "adam"}) == adam
    constant = load_study("d2-frozen", {"schedule": "constant"})
    assert {m.recipe.lr_end for m in constant.members} == {None}
    assert load_study("d2-frozen", {"schedule": "cosine"}).recipe.lr_end == 8e-5
    with pytest.raises(RecipeError, match=r"momentum is 0.5 in recipe .*optimizer adam does not"):
        load_study("d3-conv2", {"optimizer": "adam", "momentum": 0.5})


@pytest.mark.parametrize("n", [0, 1])
def test_the_command_of_each_run_of_a_study_is_accepted(n: int) -> None:
    from featx.pipeline.about import repeat_command

    words = repeat_command(load_study("d2-custom").members[n].recipe).split()[2:]
    given = {w[2:].replace("-", "_"): v for w, v in zip(words[::2], words[1::2], strict=True)}
    recipe = make_study({**given, "task": "train"}).recipe
    assert (recipe.schedule, recipe.lr) == (["constant", "exponential"][n], 1e-3)
    assert recipe.lr_end == [None, 8e-5][n]


def test_a_single_training_takes_no_jobs() -> None:
    with pytest.raises(RecipeError, match=r"jobs is 4 in .*a single training is one job.*repeats"):
        make_study({**TRAIN, "jobs": 4})
    with pytest.raises(RecipeError, match="jobs is 4"):
        make_recipe({**TRAIN, "jobs": "4"})
    for values in ({"jobs": 1}, {"jobs": "auto"}, {"jobs": 4, "repeats": 2},
                   {"jobs": 4, "lr": [0.1, 0.2]}):  # fmt: skip
        assert make_study({**TRAIN, **values}).members
    assert make_study({"cuts": ["layer1"], "jobs": 4}).recipe.jobs == 4


@pytest.mark.parametrize("values", [{"repeats": 3}, {"published": {"cnn-a": {"top1": 0.7}}}])
def test_a_comparison_takes_nothing_of_studies(values: dict) -> None:
    with pytest.raises(RecipeError, match=r"belongs to task probe or train, .*is task compare"):
        make_study({"task": "compare", "cuts": ["layer1"], **values})


def test_a_comparison_takes_no_lists() -> None:
    with pytest.raises(RecipeError, match="a comparison is one table"):
        make_study({"task": "compare", "cuts": ["layer1"], "lr": [0.1, 0.2]})


def test_a_study_without_end_is_refused_before_it_is_built() -> None:
    values = {**TRAIN, "lr": [i / 1000 for i in range(1, 1000)], "momentum": [0, 0.5, 0.9]}
    with pytest.raises(RecipeError, match="come to 11,988 runs: a study has at most 10,000"):
        make_study({**values, "repeats": 4})
    with pytest.raises(RecipeError, match="a study has at most 10,000"):
        make_study({**TRAIN, "repeats": 10**12})


def test_loading_one_recipe_of_a_study_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("task: train\nnetwork: conv2\nlr: [0.1, 0.2]\n")
    with pytest.raises(RecipeError, match=r"is a study: lr has more than one value.*featx run"):
        load_recipe(path)
    assert load_recipe(path, {"lr": 0.1}).lr == 0.1


def test_names_tell_trainings_apart() -> None:
    plain = Recipe(task="train", network="cnn-a", dataset="digits")
    frozen = Recipe(task="train", network="resnet18", dataset="digits")
    trained = Recipe(task="train", network="cnn-a", weights="mine.pth", dataset="digits")
    other = Recipe(task="train", network="cnn-a", dataset="digits", lr=0.1)
    file = Recipe(task="train", network="reports/mine/model.safetensors", from_cut="conv3")
    # The mode is told where it was left out, too.
    assert plain.run_name.startswith("digits-cnn-a-scratch-")
    assert frozen.run_name.startswith("digits-resnet18-frozen-")
    assert trained.run_name.startswith("digits-cnn-a-frozen-")
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


def test_a_list_is_one_value_of_every_field_that_holds_several() -> None:
    several = {
        name
        for name, field in Recipe.model_fields.items()
        if str(field.annotation).startswith(("tuple", "list"))
    }
    assert several == set(LIST_FIELDS)
    study = make_study({"name": "few", "backbone": "resnet18", "cuts": ["layer1"],
                        "dataset": "digits", "precision": "auto", "allow": ["bf16"]})  # fmt: skip
    assert study.is_single
    assert study.recipe.allow == ("bf16",)
