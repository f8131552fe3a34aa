"""``featx layers --profile``: what it prints, and how it fails."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner, Result

from featx.cli import app

SMALL = ("conv2", "--profile", "--batch-size", "2", "--repeats", "3", "--device", "cpu")


def featx(*words: str) -> Result:
    return CliRunner().invoke(app, ["layers", *words])


def test_profile_prints_stages_and_cuts() -> None:
    result = featx(*SMALL)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].strip() == "featx/conv2 at 32 px, fp32, batches of 2, cpu"
    headers = [re.split(r"\s*[┃]\s*", line)[1:-1] for line in lines if line.startswith("┃")]
    assert headers == [
        ["stage", "ends with", "ms", "of the pass", "GFLOP/s", "memory"],
        ["cut", "other names", "ms up to here", "quartiles", "images/s", "GFLOP/s", "peak memory",
         "10,000 by avg"],
    ]  # fmt: skip
    assert re.search(r"│ conv1\s+│.* │ +240 kB │$", result.stdout, re.MULTILINE)
    assert "Whole pass:" in result.stdout
    assert "Modules inside blocks" not in result.stdout


def test_profile_as_json_has_the_cuts_fields_and_their_costs() -> None:
    result = featx(*SMALL, "--precision", "bf16", "--pool", "flatten", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["network"], found["image_size"]) == ("featx/conv2", [32, 32])
    assert (found["precision"], found["device"], found["batch_size"]) == ("bf16", "cpu", 2)
    assert found["versions"]["torch"]
    plain = json.loads(featx("conv2", "--pool", "flatten", "--json").stdout)
    costs = {"seconds", "low_s", "high_s", "images_per_s", "gflops_per_s", "memory_bytes"}
    for cut, listed in zip(found["cuts"], plain, strict=True):
        assert {name: cut[name] for name in listed} == listed
        assert set(cut) == {*listed, *costs}
        assert cut["low_s"] <= cut["seconds"] <= cut["high_s"]
    assert sum(stage["seconds"] for stage in found["stages"]) == pytest.approx(found["seconds"])


def test_timms_networks_can_be_profiled() -> None:
    result = featx("timm/resnet18", "--image-size", "32", *SMALL[1:], "--json")
    assert result.exit_code == 0, result.output
    stages = json.loads(result.stdout)["stages"]
    assert [stage["end"] for stage in stages] == ["layer1", "layer2", "layer3", "layer4", ""]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch-size", "2"], "--batch-size only matters to a measurement. Add --profile."),
        (["--device", "cpu", "--repeats", "5"], "--device, --repeats only matters"),
        (["--profile", "--batch-size", "0"], "--batch-size is '0'. Valid: a number of images"),
        (["--profile", "--repeats", "1"], "1 repeats say nothing of the spread."),
        (["--profile", "--precision", "int8"], "Precision 'int8' is not known. Valid: fp32"),
        (["--profile", "--device", "tpu"], "Device 'tpu' is not known."),
        (["--profile", "--pool", "most"], "Pooling 'most' is not known."),
        (["--profile", "--image-size", "4"], "The smallest square size that works is"),
    ],
)
def test_what_cannot_be_is_refused_with_exit_code_2(words: list[str], said: str) -> None:
    result = featx("conv2", *words)
    assert result.exit_code == 2
    assert said in re.sub(r"\s+", " ", result.stderr)
    assert result.stdout == ""
