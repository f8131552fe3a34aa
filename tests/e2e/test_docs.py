"""The commands and links of the documents are real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

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
    group = typer.main.get_command(app)
    context = group.make_context("featx", words, resilient_parsing=False)
    name, command, rest = group.resolve_command(context, [*context.protected_args, *context.args])  # type: ignore[attr-defined]
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
    inner = command.make_context(name, rest, parent=context)
    if name == "run":
        assert recipe_file(inner.params["recipe"]).is_file()


def test_there_are_commands_to_check() -> None:
    assert len(_commands()) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_a_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
