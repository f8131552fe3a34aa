"""Recipes: strict keys, clear errors, one meaning on the command line and in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.errors import RecipeError
from featx.recipes import (
    Recipe,
    flag,
    load_recipe,
    load_study,
    make_recipe,
    parse_overrides,
    shipped_recipes,
)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("0.1,1,10", "C", (0.1, 1.0, 10.0)),
        ("auto", "C", "auto"),
        ("3", "C", 3.0),
        ("64", "image_size", 64),
        ("native", "image_size", "native"),
        ("600", "limit", 600),
        ("train=600,test=1000", "limit", {"train": 600, "test": 1000}),
        ("5000", "val", 5000),
        ("0.1", "val", 0.1),
        ("8GB", "memory_budget", 8_000_000_000),
        ("500 MB", "memory_budget", 500_000_000),
        ("dog,frog", "classes", ("dog", "frog")),
        ("layer1, layer2", "cuts", ("layer1", "layer2")),
        ([3, 5], "classes", ("3", "5")),
    ],
)
def test_a_flag_means_what_the_field_means(text: object, field: str, value: object) -> None:
    assert getattr(make_recipe({field: text}), field) == value


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"imagesize": 3}, ["'imagesize'", "closest: 'image_size'", "Valid keys: task, name"]),
        ({"C": "abc"}, ["C is 'abc'", "auto"]),
        ({"C": -1}, ["C is -1", "greater than 0"]),
        ({"C": float("nan")}, ["C is nan"]),
        ({"image_size": 0}, ["image_size is 0", "'native'"]),
        ({"image_size": "big"}, ["image_size is 'big'", "'native'"]),
        ({"memory_budget": "lots"}, ["'lots' is not a size in bytes", "8GB"]),
        ({"head": "forest"}, ["head is 'forest'", "'svm' or 'logistic'"]),
        ({"name": "../up"}, ["name is '../up'"]),
        ({"val": 0, "C": "auto"}, ["no validation split", "val: 0.2"]),
        ({"limit": 0}, ["limit is 0"]),
        ({"seed": -1}, ["seed is -1"]),
        ({"C": []}, ["C is []"]),
        ({"C": ","}, ["C is []"]),
        ({"limit": "train=5,9"}, ["limit is"]),
        ({"val": 0, "refit": True}, ["refit adds the validation images"]),
        ({"storage": "int8"}, ["storage is 'int8'", "'float32' or 'float16'"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_valid(values: dict, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(values)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


def test_several_wrong_fields_are_all_named() -> None:
    with pytest.raises(RecipeError, match=r"head is .* tol is"):
        make_recipe({"head": "x", "tol": 0})


def test_a_file_is_named_after_itself_and_overridden(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("backbone: resnet18\ncuts: [layer4]\nC: [0.1, 1]\n")
    recipe = load_recipe(path, {"C": 3})
    assert (recipe.run_name, recipe.backbone, recipe.cuts, recipe.C) == (
        "mine", "resnet18", ("layer4",), 3.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("backbone: [", "not valid YAML"),
        ("- a\n- b", "holds list"),
        ("", "holds NoneType"),
        ("backbone: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[" * 100_000, "more than 20 lists or mappings inside each other"),
        ("backbone: " + "{a: " * 21 + "1" + "}" * 21, "more than 20 lists or mappings"),
        ("- a\n" * 200_000, "more than 10000 values"),
        ("seed: " + "9" * 101, "a number of 101 digits"),
        ("seed: " + "1:" * 400_000 + "1", "a number of 800001 digits"),
        ("cuts: &a [layer1]\nclasses: *a", r"an alias, \*a: write its value out"),
        ("seed: !!timestamp x", "not valid YAML"),
        ("? [a]\n: b", "not valid YAML"),
        ("a: " + "x" * 2_000_000, "at most 1000000"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=words):
        load_recipe(path)


def test_an_absent_file_names_the_shipped_recipes() -> None:
    with pytest.raises(RecipeError, match=r"Closest: 'demo'.*d1-resnet50-svm"):
        load_recipe("dem")


def test_overrides_are_read_as_yaml() -> None:
    values = parse_overrides(["image-size=64", "C=[1, 2]", "weights=none", "refit=true"])
    assert values == {"image_size": 64, "C": [1, 2], "weights": "none", "refit": True}


def test_a_recipe_may_be_as_deep_and_as_long_as_recipes_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    inner: object = 1
    for _ in range(19):
        inner = {"a": inner}
    path.write_text(json.dumps({"published": inner, "C": list(range(1, 4000))}))
    recipe = load_recipe(path)
    assert recipe.published == inner
    assert len(recipe.C) == 3999


@pytest.mark.parametrize("pair", ["image_size", "=3", "C=[", "C=" + "[" * 5000, "C=!!timestamp x"])
def test_a_broken_override_is_refused(pair: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        parse_overrides([pair])


def test_every_shipped_recipe_is_valid() -> None:
    names = shipped_recipes()
    assert {"demo", "d1-resnet50-svm", "d1-vgg16-svm"} <= set(names)
    for name in names:
        assert load_study(name).recipe.run_name == name


def test_d1_is_the_published_experiment() -> None:
    for name in ("d1-resnet50-svm", "d1-vgg16-svm"):
        recipe = load_recipe(name)
        assert (recipe.C, recipe.max_iter, recipe.head) == (12.0, 1000, "svm")
        assert (recipe.standardize, recipe.val, recipe.stratified) == ("per-split", 5000, False)
        assert recipe.dataset == "cifar5"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "image_size": st.one_of(st.integers(1, 4096), st.sampled_from(["auto", "native"])),
            "C": st.one_of(st.floats(1e-9, 1e9), st.lists(st.floats(1e-9, 1e9), min_size=1)),
            "val": st.one_of(st.floats(0.01, 0.9), st.integers(1, 10_000)),
            "limit": st.one_of(st.none(), st.integers(1, 10**6)),
            "refit": st.booleans(),
            "seed": st.integers(0, 2**32 - 1),
            "description": st.text(max_size=20),
        },
    )
)
def test_settings_make_the_same_recipe_again(values: dict) -> None:
    recipe = make_recipe(values)
    assert make_recipe(recipe.settings()) == recipe


def test_flags_are_fields() -> None:
    assert flag("image_size") == "--image-size"
    assert flag("cuts") == "--cut"
    assert flag("C") == "--C"


def test_a_shipped_recipe_is_found_by_the_path_of_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe("pipelines/demo.yaml").run_name == "demo"
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe("elsewhere/demo.yaml")


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "_my recipe.yaml"
    path.write_text("cuts: [layer1]")
    assert load_recipe(path).run_name == "my-recipe"


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Recipe(out="~/r", name="x").report_path == Path.home() / "r" / "x"
    assert Recipe(cache_dir="~/c").cache_path == Path.home() / "c"
    monkeypatch.setenv("FEATX_CACHE_DIR", "~/d")
    assert Recipe().cache_path == Path.home() / "d"


def test_places_come_from_the_setting_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Recipe().cache_path == Path("cache")
    monkeypatch.setenv("FEATX_CACHE_DIR", "/somewhere")
    assert Recipe().cache_path == Path("/somewhere")
    assert Recipe(cache_dir="here").cache_path == Path("here")


def test_a_run_is_named_after_what_it_does() -> None:
    recipe = Recipe(dataset="folder:/home/me/my photos", backbone="timm/vit_tiny", head="logistic")
    stem, mark = recipe.run_name.rsplit("-", 1)
    assert stem == "folder-my-photos-timm-vit_tiny-logistic"
    assert recipe.report_path == Path("reports") / recipe.run_name
    other = Recipe(dataset="digits", weights="none", pool="grid:2", image_size=64)
    assert other.run_name.startswith("digits-resnet50-random-64px-grid-2-svm-")
    # Whatever changes a result changes the folder; where and how fast it runs does not.
    for change in ({"C": 3.0}, {"limit": 5}, {"seed": 1}, {"cuts": ("layer1",)}, {"refit": True}):
        assert recipe.model_copy(update=change).run_name not in (recipe.run_name, other.run_name)
    for change in ({"jobs": 2}, {"out": "elsewhere"}, {"cache_dir": "c"}, {"description": "x"}):
        assert recipe.model_copy(update=change).run_name == f"{stem}-{mark}"
