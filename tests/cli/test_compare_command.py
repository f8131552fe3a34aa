"""``featx compare REPORT REPORT``: what is different between runs that are done."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest
from test_report_command import a_record
from typer.testing import CliRunner, Result

from featx.cli import app
from featx.cli.places import joined_name


@pytest.fixture(autouse=True)
def _two_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, C in (("one", 1.0), ("two", 12.0)):
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True)
        record = a_record(name).model_copy(update={"recipe": {"name": name, "C": C}})
        (folder / "results.json").write_text(record.model_dump_json())


def compare(*words: str) -> Result:
    return CliRunner().invoke(app, ["compare", *words])


def test_it_prints_what_differs_and_writes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    done = compare("one", "two", "--open")
    assert done.exit_code == 0, done.output
    page = Path("reports/one-vs-two/index.html")
    assert f"Page: {page}" in done.stdout
    assert "what differs" in done.stdout
    assert "holds 0: which is better is not certain" in done.stdout
    assert opened == [page.resolve().as_uri()]
    assert "<title>one-vs-two" in page.read_text()


def test_the_page_goes_where_it_is_told() -> None:
    done = compare("reports/one", "reports/two", "--out", "elsewhere", "--name", "both")
    assert done.exit_code == 0, done.output
    assert Path("elsewhere/both/index.html").is_file()


def test_a_dry_run_writes_nothing() -> None:
    done = compare("one", "two", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "The page would be: reports/one-vs-two/index.html" in done.stdout
    assert not Path("reports/one-vs-two").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one"], "There is one report, 'one': expected at least two to tell apart."),
        (["one", "one"], "is named twice: expected different ones."),
        (["one", "tow"], "Report 'tow' is not in reports. Closest: 'two'."),
        (["one", "two", "--epochs", "3"], "--epochs: reports were named, and what they ran is"),
        (["one", "two", "--name", "../x"], "'../x' is no name for a page: expected one folder"),
        (["one", "two", "--name", "two"], "is the report of a run, whose page would be"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_printed(words, said) -> None:
    done = compare(*words)
    assert done.exit_code != 0
    assert said in done.stderr
    assert done.stdout == ""


def test_a_damaged_record_is_named() -> None:
    Path("reports/two/results.json").write_text(json.dumps({"schema_version": 2}))
    done = compare("one", "two")
    assert done.exit_code != 0
    assert "two/results.json is not a valid record" in done.stderr


def test_long_names_make_a_name_that_a_disk_takes() -> None:
    folders = [Path(f"{i}" + "犬" * 70) for i in range(3)]
    names = {joined_name(folders), joined_name(folders[::-1]), joined_name(folders[:2])}
    assert len(names) == 3
    assert all(len(name.encode()) <= 120 for name in names)
    assert joined_name([Path("a"), Path()]) == f"a-vs-{Path().resolve().name}"


def test_reports_are_found_where_they_usually_are() -> None:
    done = compare("one", "two", "--out", "pages")
    assert done.exit_code == 0, done.output
    assert Path("pages/one-vs-two/index.html").is_file()
