"""``featx networks``: what it lists, and how it fails."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner, Result

from featx.cli import app
from featx.networks import zoo_names

PUBLISHED = {
    "conv2": 62_006,
    "conv3": 110_598,
    "conv5": 3_154_982,
    "cerberus": 3_223_882,
    "cnn-a": 591_274,
    "cnn-b": 550_570,
    "cnn-c": 1_304_746,
    "custom": 4_294_218,
    # As torchvision documents them; GoogLeNet's without auxiliary heads.
    "alexnet": 61_100_840,
    "googlenet": 6_624_904,
}


def featx(*words: str) -> Result:
    return CliRunner().invoke(app, ["networks", *words])


def test_every_network_is_listed_with_the_published_numbers() -> None:
    result = featx("--json")
    assert result.exit_code == 0, result.output
    found = {network["name"]: network for network in json.loads(result.stdout)}
    assert list(found) == [*zoo_names(), "alexnet", "googlenet"]
    for name, n_parameters in PUBLISHED.items():
        assert found[name]["n_parameters"] == n_parameters
    # torchvision publishes 0.714 G and 1.498 G.
    assert round(found["alexnet"]["multiply_adds"] / 1e9, 3) == 0.714
    assert round(found["googlenet"]["multiply_adds"] / 1e9, 3) == 1.498
    assert (found["cnn-a"]["image_size"], found["cnn-a"]["n_classes"]) == ([32, 32], 10)
    assert (found["alexnet"]["image_size"], found["alexnet"]["n_classes"]) == ([224, 224], 1000)
    for network in found.values():
        layers = network["layers"]
        assert sum(layer["n_parameters"] for layer in layers) == network["n_parameters"]
        assert sum(layer["multiply_adds"] for layer in layers) == network["multiply_adds"]
    assert found["conv2"]["layers"][0] == {
        "name": "conv1",
        "kind": "Conv2d",
        "shape": [6, 28, 28],
        "n_parameters": 456,
        "multiply_adds": 28 * 28 * 75 * 6,
    }


def test_size_and_classes_can_be_chosen() -> None:
    result = featx("conv2", "timm/resnet18", "--image-size", "64", "--classes", "5", "--json")
    assert result.exit_code == 0, result.output
    small, large = json.loads(result.stdout)
    # 64 -> 60 -> 30 -> 26 -> 13
    dense = [16 * 13 * 13, 120, 84, 5]
    assert [layer["n_parameters"] for layer in small["layers"] if layer["kind"] == "Linear"] == [
        (dense[n] + 1) * dense[n + 1] for n in range(3)
    ]
    assert (large["name"], large["n_classes"]) == ("timm/resnet18", 5)
    assert large["layers"][-1]["shape"] == [5]


def test_timms_own_number_of_classes_is_taken_where_none_is_given() -> None:
    result = featx("timm/resnet18", "--json", "--image-size", "32")
    (network,) = json.loads(result.stdout)
    assert (network["n_classes"], network["n_parameters"]) == (1000, 11_689_512)


def test_the_table_says_what_each_network_is() -> None:
    result = featx()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    (line,) = [line for line in lines if re.search(r"\bcnn-a\b", line)]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[:5] == ["cnn-a", "591,274", "25 M", "32", "10"]
    assert cells[5].endswith("(D4)")
    assert "conv1" not in result.stdout


def test_named_networks_have_their_layers_printed() -> None:
    result = featx("cnn-a")
    assert result.exit_code == 0, result.output
    assert "cnn-a at 32 x 32 px" in result.stdout
    assert re.search(r"conv3\s*│ Conv2d\s*│ 64 x 16 x 16\s*│\s*18,496 │\s*4.72 M", result.stdout)
    assert "custom" not in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cnn-d"], "Network 'cnn-d' is not known. Closest: 'cnn-"),
        (["cnn-c", "--image-size", "8"], "The smallest square size that works is 16 x 16."),
        (["alexnet", "--image-size", "20"], "The smallest square size that works is 63 x 63."),
        (["cnn-a", "--image-size", "big"], "--image-size is 'big'. Valid: a number of pixels"),
        (["cnn-a", "--image-size", "0"], "--image-size is '0'. Valid: a number of pixels"),
        (["cnn-a", "--classes", "1"], "Give images of 2 classes or more."),
        # Nothing is printed of the networks before it.
        (["cnn-a", "conv3", "--image-size", "16", "--json"], "too small for conv3"),
    ],
)
def test_what_cannot_be_is_refused_with_exit_code_2(words: list[str], said: str) -> None:
    result = featx(*words)
    assert result.exit_code == 2
    assert said in re.sub(r"\s+", " ", result.stderr)
    assert result.stdout == ""


def test_help_has_an_example() -> None:
    result = featx("--help")
    assert result.exit_code == 0
    assert "Example:" in result.output
