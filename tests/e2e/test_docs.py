"""The commands and links of the documents are real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featx.cli import app
from featx.recipes import recipe_file

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([REPO / "README.md", *REPO.glob("docs/**/*.md"), REPO / "CONTRIBUTING.md"])


def _commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"^```(?:\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
            joined = block.replace("\\\n", " ")
            for line in joined.splitlines():
                words = line.removeprefix("$ ").split("  #")[0]
                if words.startswith("featx "):
                    found.append((page.name, words))
    return found


@pytest.mark.parametrize(("page", "line"), _commands())
def test_a_documented_command_is_understood(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    # With --help every word is parsed, an unknown command or flag is refused, and nothing runs.
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output
    if words[0] == "run":
        assert recipe_file(words[1]).is_file()


def test_a_command_that_is_not_understood_would_be_seen() -> None:
    assert CliRunner().invoke(app, ["extract", "--bakbone", "x", "--help"]).exit_code == 2
    assert CliRunner().invoke(app, ["exract", "--help"]).exit_code == 2


def test_there_are_commands_to_check() -> None:
    assert len(_commands()) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_a_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
