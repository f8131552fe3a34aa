"""Records in, files out: all of them again from results.json alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from report_cases import CASES, simple_record

from featx.cache import fsio
from featx.errors import CacheWriteError, FeatxError
from featx.evaluate import read_record
from featx.report import rebuild_report, write_report


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["5 classes", "no validation", "2 heads"])
def test_everything_is_made_again_from_the_record(tmp_path: Path, name: str) -> None:
    record = CASES[name]
    assert write_report(record, tmp_path) == tmp_path / "report.md"
    first = content(tmp_path)
    assert {"results.json", "results.csv", "report.md", "figures/accuracy.png"} <= set(first)
    assert read_record(tmp_path) == record
    for path in first:
        if path != "results.json":
            (tmp_path / path).unlink()
    rebuild_report(tmp_path)
    assert content(tmp_path) == first


def test_results_json_has_an_accuracy_per_cut_and_split(tmp_path: Path) -> None:
    record = CASES["5 classes"]
    write_report(record, tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["schema_version"] == 2
    for result, written in zip(record.results, document["results"], strict=True):
        assert written["accuracy"] == {s: m.accuracy for s, m in result.splits.items()}


def test_results_csv_has_a_row_per_cut_and_split(tmp_path: Path) -> None:
    record = CASES["2 heads"]
    write_report(record, tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [
        (r.cut, r.head, split, m.accuracy, m.macro_avg.f1, r.C)
        for r in record.results
        for split, m in r.splits.items()
    ]
    found = [
        (r["cut"], r["head"], r["split"], float(r["accuracy"]), float(r["macro_f1"]), float(r["C"]))
        for r in rows
    ]
    assert found == wanted


def test_figures_of_other_cuts_do_not_stay(tmp_path: Path) -> None:
    write_report(simple_record(n_cuts=4), tmp_path)
    (tmp_path / "figures" / "mine.png").write_bytes(b"not featx's")
    write_report(simple_record(n_cuts=1), tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert len([name for name in names if name.startswith("confusion-")]) == 1
    assert "mine.png" in names


def test_a_disk_that_refuses_is_named_and_the_record_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = fsio.publish

    def refuse(path: Path, data: bytes) -> None:
        if path.suffix == ".png":
            raise CacheWriteError(f"{path}: no space") from OSError(28, "No space left on device")
        publish(path, data)

    monkeypatch.setattr(fsio, "publish", refuse)
    with pytest.raises(
        FeatxError, match=r"accuracy\.png.*No space left on device.*--out"
    ) as caught:
        write_report(CASES["5 classes"], tmp_path)
    assert "--cache-dir" not in str(caught.value)
    assert read_record(tmp_path) == CASES["5 classes"]
