"""What is published agrees with its records."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from featx.evaluate import RunRecord, read_record
from featx.report import rebuild_report

REPO = Path(__file__).resolve().parents[2]
RECORDS = sorted((REPO / "reports").glob("d*/results.json"))


def test_there_are_published_records() -> None:
    names = {path.parent.name for path in RECORDS}
    assert {"d1-resnet50-svm", "d1-vgg16-svm", "d3-conv2", "d4-cnn-a"} <= names


def test_the_tables_of_the_readme_are_those_of_the_records() -> None:
    command = [sys.executable, str(REPO / "benchmarks" / "tables.py"), "--check"]
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
    rebuild_report(copy)
    for name in ("report.md", "results.csv"):
        assert (copy / name).read_text() == (path.parent / name).read_text()
    figures = {figure.name for figure in (path.parent / "figures").glob("*.png")}
    assert figures == {figure.name for figure in (copy / "figures").glob("*.png")}


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.parent.name)
def test_a_published_probe_has_real_weights_and_no_record_tells_a_folder(path: Path) -> None:
    record = read_record(path)
    if isinstance(record, RunRecord):
        assert not record.backbone.random
    text = path.read_text() + (path.parent / "report.md").read_text()
    for folder in ("/tmp", "/home", "/root/", "/work/", "shared/"):
        assert folder not in text
