"""The command line: what it prints, how it fails, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from featx.backbones import Capture
from featx.cli import app

COMMANDS = [
    "layers", "extract", "fit-svm", "fit-logistic", "run", "demo", "report", "heatmaps", "doctor",
]  # fmt: skip
SMALL = [
    "--backbone", "resnet18", "--weights", "none", "--dataset", "digits", "--image-size", "32",
    "--limit", "8", "--stratified",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def featx(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = featx(command, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"featx {command}" in squeezed(result.output)


def test_the_main_help_has_an_example_and_every_command() -> None:
    result = featx("--help")
    assert result.exit_code == 0
    assert "Example:" in result.output
    for command in [*COMMANDS, "cache"]:
        assert command in result.output


def test_layers_as_json_gives_the_known_shapes() -> None:
    result = featx("layers", "resnet50", "--image-size", "32", "--json")
    assert result.exit_code == 0, result.output
    cuts = json.loads(result.stdout)
    by_alias = {alias: cut for cut in cuts for alias in cut["aliases"]}
    # The sizes of Keras' ResNet50 at 32 px.
    for alias, module, shape in [
        ("conv2_block3_out", "layer1.2", [256, 8, 8]),
        ("conv3_block4_out", "layer2.3", [512, 4, 4]),
        ("conv4_block6_out", "layer3.5", [1024, 2, 2]),
        ("conv5_block3_out", "layer4.2", [2048, 1, 1]),
    ]:
        cut = by_alias[alias]
        assert (cut["module"], cut["shape"]) == (module, shape)
        assert cut["n_flat"] == np.prod(shape)
        assert cut["n_pooled"] == shape[0]
        assert cut["bytes_per_10000_flat"] == 40_000 * np.prod(shape)
        assert cut["bytes_per_10000_pooled"] == 40_000 * shape[0]
    orders = [cut["order"] for cut in cuts]
    assert orders == sorted(orders)


def test_layers_prints_a_table() -> None:
    result = featx("layers", "vgg16", "--image-size", "32")
    assert result.exit_code == 0, result.output
    line = next(line for line in result.stdout.splitlines() if "block4_conv1" in line)
    assert "features.18" in line
    assert "512 x 4 x 4" in line
    assert "8,192" in line


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["layers", "resnet5"], ["Closest: 'resnet50'"]),
        (["layers", "resnet18", "--image-size", "big"], ["--image-size is 'big'"]),
        (["extract", *SMALL, "--cut", "layer5"], ["Cut 'layer5' is not in resnet18", "'layer4'"]),
        (["extract", *SMALL], ["No cut is given", "featx layers resnet18"]),
        (["extract", *SMALL, "--cut", "layer1", "--pool", "median"], ["median", "avg"]),
        (["extract", *SMALL, "--cut", "layer1", "--device", "tpu"], ["Device 'tpu'", "cuda"]),
        (["extract", *SMALL, "--cut", "layer1", "--dataset", "cifar11"], ["'cifar10'"]),
        (["extract", *SMALL, "--cut", "layer1", "--dataset", "folder:/no"], ["/no"]),
        (["extract", *SMALL, "--cut", "layer1", "--batch-size", "x"], ["batch_size is 'x'"]),
        (["fit-svm", *SMALL, "--cut", "layer1", "--C", "-1"], ["C is '-1'"]),
        (["fit-svm", *SMALL, "--cut", "layer1", "--classes", "3,cow"], ["'cow'"]),
        (["fit-svm", *SMALL, "--cut", "layer1", "--classes", "3"], ["only one class ('3')"]),
        (["run", "nowhere"], ["no recipe file 'nowhere'", "demo"]),
        (["run", "demo", "--set", "bakbone=vgg16"], ["'bakbone' (closest: 'backbone'"]),
        (["report", "nothing"], ["Report 'nothing'"]),
        (["cache", "list", "--cache-dir", "nowhere"], ["no cache at nowhere"]),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(words: list[str], messages: list[str]) -> None:
    result = featx(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    for message in messages:
        assert message in squeezed(result.stderr)
    assert "Traceback" not in result.output
    assert not Path("cache").exists()
    assert not Path("reports").exists()


def test_an_unknown_flag_is_exit_code_2() -> None:
    result = featx("extract", "--bakbone", "x")
    assert result.exit_code == 2
    assert "--backbone" in result.output


def test_debug_shows_the_traceback() -> None:
    result = featx("--debug", "layers", "resnet5")
    assert type(result.exception).__name__ == "UnknownName"


def test_what_was_not_expected_is_one_message_too(monkeypatch) -> None:
    def fail(self, x):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Capture, "__call__", fail)
    result = featx("extract", *SMALL, "--cut", "layer1")
    assert result.exit_code == 1
    assert "error: ZeroDivisionError: a bug" in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" not in result.output


def test_debug_is_welcome_behind_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "featx", "layers", "resnet5", "--debug"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" in done.stderr
    assert "UnknownName" in done.stderr


def test_extract_says_what_it_writes_and_a_second_call_does_no_work(monkeypatch) -> None:
    first = featx("extract", *SMALL, "--cut", "layer1", "--cut", "conv3_block2_out")
    assert first.exit_code == 0, first.output
    assert "240 images through resnet18 (random weights) at 32 px, 2 cuts" in first.stderr
    assert "images/s" in first.stderr
    assert list(Path("cache").rglob("*.h5"))

    def refuse(self, x):
        raise AssertionError("extracted again")

    monkeypatch.setattr(Capture, "__call__", refuse)
    second = featx("extract", *SMALL, "--cut", "layer1", "--cut", "layer2.1")
    assert second.exit_code == 0, second.output
    assert "nothing to extract" in second.stderr
    assert "to compute" not in second.stdout


def test_a_dry_run_writes_nothing() -> None:
    for command in ("extract", "fit-svm"):
        result = featx(command, *SMALL, "--cut", "layer1", "--pool", "flatten", "--dry-run")
        assert result.exit_code == 0, result.output
        # resnet18's layer1 at 32 px is 64 x 8 x 8.
        assert "4,096" in result.stdout
        assert "to compute" in result.stdout
    assert "1 fit: svm for 1 cut, C = 12" in squeezed(result.stdout)
    assert not list(Path().rglob("*.h5"))
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weights", "none", "--dataset", "cifar5"], "CIFAR-10 would be downloaded from "),
        (["--weights", "IMAGENET1K_V1"], "Weights IMAGENET1K_V1 of resnet18 would be "),
        (["--backbone", "timm/resnet18", "--weights", "a1_in1k"],
         "Weights a1_in1k of timm/resnet18 would be downloaded from https://huggingface.co/"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["extract", "fit-svm", "run d1-resnet50-svm"])
def test_a_dry_run_downloads_nothing(
    monkeypatch, tmp_path: Path, command: str, words: list[str], said: str
) -> None:
    for variable in ("FEATX_DATA_DIR", "TORCH_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    result = featx(*command.split(), *SMALL, *words, "--cut", "layer1", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(said)
    assert result.stdout.endswith("depends on it, and a dry run downloads nothing.\n")
    assert not (tmp_path / "empty").exists()


def test_fit_svm_prints_reports_and_a_ranking_and_keeps_the_record() -> None:
    words = [*SMALL, "--cut", "layer1", "--cut", "layer2", "--C", "0.001,0.01", "--name", "mine"]
    result = featx("fit-svm", *words)
    assert result.exit_code == 0, result.output
    text = result.stdout
    for cut in ("layer1", "layer2"):
        for split in ("val", "test"):
            assert re.search(rf"{cut} · svm \(C = 0\.0\d+\) · {split}", text)
    for word in ("precision", "recall", "f1-score", "support", "macro avg", "weighted avg"):
        assert text.count(word) == 4
    assert "mine: cuts ranked" in text
    assert "Page: reports/mine/index.html\nReport: reports/mine/report.md" in text
    record = json.loads(Path("reports/mine/results.json").read_text())
    accuracy = record["results"][0]["accuracy"]
    assert set(accuracy) == {"val", "test"}
    rebuilt = featx("report", "mine")
    assert rebuilt.exit_code == 0, rebuilt.output
    assert json.loads(Path("reports/mine/results.json").read_text()) == record


def test_an_interrupt_is_130_and_says_how_to_go_on(monkeypatch) -> None:
    def interrupt(self, x):
        raise KeyboardInterrupt

    monkeypatch.setattr(Capture, "__call__", interrupt)
    monkeypatch.setattr(sys, "argv", ["featx", "extract", "--cut", "a b"])
    result = featx("extract", *SMALL, "--cut", "layer1")
    assert result.exit_code == 130
    assert "Continue with:\n  featx extract --cut 'a b'" in result.stderr
    assert not list(Path("cache").rglob("manifest*"))


def test_names_are_not_markup() -> None:
    places = ["--out", "r[bold]", "--cache-dir", "c[/x]"]
    result = featx("fit-svm", *SMALL, "--cut", "layer1", "--C", "0.01", *places)
    assert result.exit_code == 0, result.output
    assert "Report: r[bold]/" in result.stdout
    listed = featx("extract", *SMALL, "--cut", "layer1", "--cache-dir", "c[/x]")
    assert "Features in c[/x]" in listed.stdout


def test_a_recipe_called_demo_in_the_folder_is_not_the_demo(monkeypatch) -> None:
    Path("demo").write_text("cuts: [nothing]")
    seen = []
    monkeypatch.setattr("featx.cli.running.run_and_print", seen.append)
    assert featx("demo").exit_code == 0
    assert seen[0].cuts[0] == "stage1"


def test_a_full_disk_is_refused_before_it_starts(monkeypatch) -> None:
    monkeypatch.setattr("featx.cache.FeatureStore.free_bytes", lambda self: 1000)
    result = featx("extract", *SMALL, "--cut", "layer1")
    assert result.exit_code == 2
    assert "free on the disk" in result.stderr
    assert not list(Path().rglob("*.h5"))


def test_a_place_for_reports_that_cannot_be_is_refused_before_it_starts() -> None:
    Path("taken").write_text("a file")
    result = featx("fit-svm", *SMALL, "--cut", "layer1", "--out", "taken")
    assert result.exit_code == 2
    assert "is a file. Choose another place with --out" in result.stderr
    assert not Path("cache").exists()


def test_a_memory_budget_is_kept() -> None:
    result = featx(
        "fit-svm", *SMALL, "--cut", "layer1", "--pool", "flatten", "--memory-budget", "1MB"
    )
    assert result.exit_code == 2
    assert "--pool avg" in result.stderr


def test_cache_commands_list_verify_and_find_damage() -> None:
    assert featx("extract", *SMALL, "--cut", "layer1").exit_code == 0
    listed = featx("cache", "list")
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.count("complete") == 3
    assert "3 feature sets" in listed.stdout
    assert listed.stdout.count(" 32 ") == 3
    assert "resnet18" in listed.stdout
    verified = featx("cache", "verify")
    assert verified.exit_code == 0, verified.output
    assert "3 entries, every digest agrees" in verified.stdout
    assert "0 files and 0 entries removed" in featx("cache", "gc").stdout

    shard = max(Path("cache").rglob("*.h5"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)
    damaged = featx("cache", "verify")
    assert damaged.exit_code == 1
    assert shard.name in damaged.stderr
    refused = featx("fit-svm", *SMALL, "--cut", "layer1", "--C", "0.01")
    assert refused.exit_code == 1
    assert shard.name in refused.stderr
    assert "--rebuild" in refused.stderr
    rebuilt = featx("fit-svm", *SMALL, "--cut", "layer1", "--C", "0.01", "--rebuild")
    assert rebuilt.exit_code == 0, rebuilt.output


def test_a_plan_says_how_the_network_will_compute() -> None:
    result = featx("extract", *SMALL, "--cut", "layer1", "--dry-run", "--precision", "auto")
    assert result.exit_code == 0, result.output
    assert (
        "1 cut, on cpu (fp32, channels-last, small maps channels-first, BatchNorm folded)"
        in squeezed(result.output)
    )
    plain = featx(
        "extract", *SMALL, "--cut", "layer1", "--dry-run", "--no-fold", "--no-channels-last"
    )
    assert "on cpu (fp32, channels-first)" in squeezed(plain.output)


def test_tune_prints_what_it_measured_and_remembers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(
        "featx.extraction.tuning._one_pass",
        lambda backbone, modules, settings: 2.0 if settings.channels_last else 1.0,
    )
    words = ("extract", *SMALL, "--cut", "layer1", "--batch-size", "8", "--tune")
    planned = featx(*words, "--dry-run")
    assert "nothing is measured yet" in squeezed(planned.output)
    assert "on cpu (fp32, channels-last, small maps channels-first, BatchNorm folded)" in squeezed(
        planned.output
    )
    first, second = featx(*words), featx(*words, "--rebuild", "--dry-run")
    assert first.exit_code == 0, first.output
    assert "kept for later runs with --tune" in first.output
    assert "found by an earlier run" in second.output
    for result in (first, second):
        assert re.search(r"fp32, channels-first, BatchNorm folded .*8\.0.*kept", result.output)
        assert "on cpu (fp32, channels-first, BatchNorm folded)" in squeezed(result.output)


def test_what_auto_may_take_is_refused_without_auto() -> None:
    result = featx("extract", *SMALL, "--cut", "layer1", "--allow", "bf16", "--dry-run")
    assert result.exit_code == 2
    assert "Leave allow out, or take precision auto" in squeezed(result.output)


def test_doctor_finds_what_is_here(tmp_path: Path) -> None:
    result = featx("doctor", "--data-dir", str(tmp_path))
    assert "bf16 on the processor" in result.output
    assert result.exit_code == 0, result.output
    for word in ("torch", "devices", "cifar10", "weights", "cache", "writable", "featx demo"):
        assert word in result.stdout


@pytest.mark.skipif(os.name == "nt", reason="folders are not read-only there")
def test_doctor_reports_a_place_that_cannot_be_written(monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("featx.cli.doctor.tempfile.TemporaryFile", refuse)
    result = featx("doctor")
    assert result.exit_code == 1
    assert "Does not work: cache, reports" in result.stderr


def test_shell_completion_completes_commands_and_flags() -> None:
    def complete(line: str) -> str:
        environment = {
            **os.environ,
            "_FEATX_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        return subprocess.run(
            [str(Path(sys.executable).parent / "featx")],
            env=environment, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip

    assert {"extract", "fit-svm"} <= set(complete("featx ").split())
    assert "--image-size" in complete("featx extract --im")


def test_version() -> None:
    result = featx("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"featx \d+\.\d+\.\d+\n", result.stdout)
