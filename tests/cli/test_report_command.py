"""``featx report``: one report again, several on one page, in the browser if asked."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from featx.cli import app
from featx.evaluate import RunRecord, evaluate_predictions

CLASSES = {0: "cat", 1: "dog"}


def a_record(name: str) -> RunRecord:
    metrics = evaluate_predictions([0, 0, 1, 1], [0, 1, 1, 1], CLASSES).model_dump()
    split = {"n": 4, "counts": {0: 2, 1: 2}, "digest": "a" * 64}
    return RunRecord.model_validate(
        {
            "featx_version": "0.1.0", "name": name, "command": "featx fit-svm", "created": "now",
            "recipe": {},
            "environment": {"python": "3", "platform": "p", "cpu": "c", "n_cpus": 1,
                            "device": "cpu", "versions": {}},
            "dataset": {"name": "d", "classes": CLASSES, "splits": {"val": split}},
            "backbone": {"name": "b", "library": "l", "weights": "w", "source": "s",
                         "digest": "d", "random": False, "preprocess": {}},
            "cuts": [{"cut": "layer1", "module": "m", "aliases": [], "pool": "avg", "kind": "map",
                      "shape": [1], "n_features": 1, "multiply_adds": 1, "n_parameters": 1,
                      "feature_bytes": 1, "keys": {}}],
            "results": [{"cut": "layer1", "head": "svm", "standardize": "train", "C": 1.0,
                         "solver": "s", "n_iter": 1, "converged": True, "fit_s": 1.0,
                         "splits": {"val": metrics}, "accuracy": {"val": 0.75}}],
        }
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _two_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(a_record(name).model_dump_json())


def report(*words: str) -> Result:
    return CliRunner().invoke(app, ["report", *words])


def test_a_page_is_opened_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    done = report("one", "--open")
    assert done.exit_code == 0, done.output
    page = Path("reports/one/index.html")
    assert f"Page: {page}" in done.stdout
    assert opened == [page.resolve().as_uri()]
    opened.clear()
    report("one")
    assert opened == []


def test_without_a_browser_the_path_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    done = report("one", "--open")
    assert done.exit_code == 0
    assert "open the page by hand" in done.output


def test_several_runs_are_merged_into_one_page() -> None:
    done = report("one", "two", "--merged", "both")
    assert done.exit_code == 0, done.output
    page = Path("reports/both/index.html")
    assert f"Page: {page}" in done.stdout
    text = page.read_text()
    for name in ("one", "two"):
        assert f"<bdi>{name}</bdi>" in text
    # Nothing else is written: the runs' own reports stay as they are.
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]


def test_several_runs_need_a_name_for_their_page() -> None:
    done = report("one", "two")
    assert done.exit_code != 0
    assert "--merged" in f"{done.output}{done.exception}"


def test_a_merged_page_never_replaces_a_run() -> None:
    before = json.loads(Path("reports/two/results.json").read_text())
    done = report("one", "two", "--merged", "two")
    assert done.exit_code != 0
    assert "would be overwritten" in f"{done.output}{done.exception}"
    assert json.loads(Path("reports/two/results.json").read_text()) == before
