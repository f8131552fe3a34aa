"""``featx train``, ``featx compare`` and studies as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featx.cli import app

SMALL = "--dataset digits --image-size 16 --limit train=8,val=4,test=4 --epochs 1"


def featx(line: str, tmp_path: Path):
    places = f" --out {tmp_path}/reports --cache-dir {tmp_path}/cache"
    words = [word for word in (line + places).split(" ") if word]
    return CliRunner().invoke(app, words)


def test_a_training_prints_reports_the_answer_and_the_way_on(tmp_path: Path) -> None:
    result = featx(f"train --network conv2 --name mine {SMALL}", tmp_path)
    assert result.exit_code == 0, result.output
    assert "featx/conv2 · scratch · test" in result.output
    assert "macro avg" in result.output
    assert f"Report: {tmp_path}/reports/mine/report.md" in result.output
    assert f"--backbone {tmp_path}/reports/mine/model.safetensors" in result.output
    shown = CliRunner().invoke(app, ["report", "mine", "--out", f"{tmp_path}/reports"])
    assert shown.exit_code == 0, shown.output
    assert "featx/conv2 (trained from scratch)" in shown.output


def test_what_was_trained_is_extracted_at_its_layers(tmp_path: Path) -> None:
    featx(f"train --network conv2 --name mine {SMALL}", tmp_path)
    model = f"{tmp_path}/reports/mine/model.safetensors"
    data = "--dataset digits --limit train=8,val=4,test=4"
    result = featx(f"extract --backbone {model} --cut conv2 {data} --pool flatten", tmp_path)
    assert result.exit_code == 0, result.output
    assert "conv2" in result.output


def test_a_dry_run_trains_nothing(tmp_path: Path) -> None:
    result = featx(f"train --network conv2 --name mine {SMALL} --dry-run", tmp_path)
    assert result.exit_code == 0, result.output
    assert "conv2, scratch: " in result.output
    assert not (tmp_path / "reports").exists()


def test_repeats_print_a_table_of_the_group(tmp_path: Path) -> None:
    result = featx(f"train --network conv2 --name many --repeats 2 --jobs 1 {SMALL}", tmp_path)
    assert result.exit_code == 0, result.output
    assert "2 runs: 2 repeats" in result.output
    assert (tmp_path / "reports" / "many" / "runs" / "all-2" / "results.json").is_file()


def test_a_comparison_prints_its_plan_and_its_table(tmp_path: Path) -> None:
    line = (
        "compare --backbone resnet18 --weights none --preprocess torch --cut layer1 --C 0.01 "
        f"--name both --approaches probe,scratch --scratch conv2 {SMALL} --image-size 32"
    )
    plan = featx(line + " --dry-run", tmp_path)
    assert plan.exit_code == 0, plan.output
    assert "probe: layer1: to run" in plan.output
    assert "scratch: conv2: to run" in plan.output
    result = featx(line, tmp_path)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "reports" / "both" / "results.json").read_text())
    assert record["kind"] == "comparison"
    assert "p (Holm)" in result.output
    assert "probe: layer1: finished" in featx(line + " --dry-run", tmp_path).output


def test_the_range_test_suggests_a_rate(tmp_path: Path) -> None:
    line = f"train --network conv2 --name rates {SMALL} --find-lr"
    plan = featx(f"{line} --dry-run", tmp_path)
    assert "conv2, scratch: a range test." in plan.output
    assert not (tmp_path / "reports").exists()
    result = featx(line, tmp_path)
    assert result.exit_code == 0, result.output
    assert f"Plot: {tmp_path}/reports/rates/lr-range.png" in result.output


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (f"train {SMALL}", 2, ["No network is given", "featx networks"]),
        (f"train --network conv9 {SMALL}", 2, ["'conv9'", "'conv5'"]),
        (f"train --network conv2 {SMALL} --classes 3", 2, ["only one class"]),
        (f"train --network custom {SMALL} --batch-size 1", 2, ["BatchNorm"]),
        (f"train --network conv2 {SMALL} --lr 1e30 --optimizer sgd", 1, ["learning rate", "--lr"]),
        (f"train --network conv2 {SMALL} --track mlflov", 2, ["mlflov", "'mlflow'"]),
        (f"train --network conv2 {SMALL} --momentum 0.5", 2,
         ["momentum is 0.5 in the options", "optimizer adam does not use it", "--optimizer sgd"]),
        (f"train --network conv2 {SMALL} --jobs 3", 2, ["jobs is 3", "--repeats"]),
        (f"train --network custom {SMALL} --batch-size 1 --find-lr", 2, ["BatchNorm"]),
        (f"compare --backbone resnet18 {SMALL}", 2, ["No cut is given to probe"]),
    ],
)  # fmt: skip
def test_bad_input_has_a_message_and_an_exit_code(tmp_path, line, code, words) -> None:
    result = featx(line, tmp_path)
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.output + result.stderr


def test_an_interrupt_says_how_to_resume(tmp_path: Path, monkeypatch) -> None:
    from featx.training import loop

    def stop(record, epochs):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "epoch_line", stop)
    monkeypatch.setattr("sys.argv", ["featx", "train", "--network", "conv2"])
    result = featx(f"train --network conv2 --name mine {SMALL}", tmp_path)
    assert result.exit_code == 130
    assert "featx train --network conv2 --resume" in result.output + result.stderr
    assert (tmp_path / "reports" / "mine" / "checkpoint.pt").is_file()
