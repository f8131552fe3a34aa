"""Every setting is a flag of every command that uses it, and every flag a setting."""

from __future__ import annotations

import pytest
import typer.main

from featx.cli import app
from featx.cli.options import EXTRACT_FIELDS, FIT_FIELDS, RUN_FIELDS
from featx.recipes import Recipe, flag

# `description` is prose of a file; `head` is the command's own name in fit-svm and fit-logistic.
NOT_ON_FIT = {"description", "head"}


def flags(command: str) -> set[str]:
    group = typer.main.get_command(app)
    return {opt for param in group.commands[command].params for opt in param.opts}  # type: ignore[attr-defined]


def test_every_field_is_somewhere() -> None:
    assert set(FIT_FIELDS) == set(Recipe.model_fields) - NOT_ON_FIT


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("extract", EXTRACT_FIELDS),
        ("fit-svm", FIT_FIELDS),
        ("fit-logistic", FIT_FIELDS),
        ("run", RUN_FIELDS),
    ],
)
def test_a_command_has_the_flags_of_its_fields(command: str, fields: tuple[str, ...]) -> None:
    assert {flag(field) for field in fields} <= flags(command)
