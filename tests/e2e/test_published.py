"""What is published agrees with its records."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featx.evaluate import ComparisonRecord, RunRecord, StudyRecord, read_record
from featx.report import rebuild_report

REPO = Path(__file__).resolve().parents[2]
RECORDS = sorted(
    path for path in (REPO / "reports").glob("*/results.json") if path.parent.name != "demo"
)
# Of a probe, a study or a comparison that ran since answers are kept.
ANSWERED = [path for path in RECORDS if (path.parent / "answers.safetensors").is_file()]
# A page of a published report is meant to be looked at in a repository.
MOST_BYTES = 1_000_000


def test_there_are_published_records() -> None:
    assert ANSWERED
    names = {path.parent.name for path in RECORDS}
    assert {"d1-resnet50-svm", "d1-vgg16-svm", "d3-conv2", "d4-cnn-a"} <= names


def test_the_tables_of_the_readme_are_those_of_the_records() -> None:
    command = [sys.executable, str(REPO / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_of_results_is_that_of_the_records() -> None:
    command = [sys.executable, str(REPO / "benchmarks" / "results.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tables_of_the_performance_page_are_those_of_the_measurements() -> None:
    command = [sys.executable, str(REPO / "benchmarks" / "suite.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.parent.name)
def test_a_published_report_is_what_its_record_renders(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.parent.name
    copy.mkdir()
    (copy / "results.json").write_bytes(path.read_bytes())
    if (path.parent / "exhibits.json").is_file():
        shutil.copy(path.parent / "exhibits.json", copy)
        shutil.copytree(path.parent / "exhibits", copy / "exhibits")
    rebuild_report(copy)
    for name in ("report.md", "results.csv", "index.html"):
        assert (copy / name).read_text() == (path.parent / name).read_text()
    assert (path.parent / "index.html").stat().st_size < MOST_BYTES
    figures = {figure.name for figure in (path.parent / "figures").glob("*.png")}
    assert figures == {figure.name for figure in (copy / "figures").glob("*.png")}


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.parent.name)
def test_a_published_probe_has_real_weights_and_no_record_tells_a_folder(path: Path) -> None:
    record = read_record(path)
    if isinstance(record, RunRecord):
        assert not record.backbone.random
    names = ("results.json", "report.md", "index.html")
    text = "".join((path.parent / name).read_text() for name in names)
    for folder in ("/tmp", "/home", "/root/", "/work/", "shared/"):
        assert folder not in text


@pytest.mark.parametrize("path", ANSWERED, ids=lambda p: p.parent.name)
def test_published_answers_are_those_of_the_record(path: Path) -> None:
    """Which test images were classified correctly: their number is the record's accuracy."""
    from safetensors import safe_open

    record = read_record(path)
    with safe_open(path.parent / "answers.safetensors", framework="np") as answers:
        assert answers.metadata()["digest"] == record.dataset.splits["test"].digest
        n = int(answers.metadata()["n"])
        assert n == record.dataset.splits["test"].n
        bits = {key: answers.get_tensor(key) for key in answers.keys()}  # noqa: SIM118
    if isinstance(record, RunRecord):
        wanted = {f"|{r.cut}": r.accuracy["test"] for r in record.results}
    elif isinstance(record, StudyRecord):
        wanted = {f"{r.run}|{r.label}": r.top1["test"] for r in record.rows if r.top1}
    else:
        assert isinstance(record, ComparisonRecord)
        wanted = {
            f"{a.name}|{a.what if a.approach == 'probe' else ''}": a.splits["test"].accuracy
            for a in record.approaches
        }
    correct = {key: np.unpackbits(packed, count=n).mean() for key, packed in bits.items()}
    assert correct == pytest.approx(wanted)
