"""Every setting is a flag of every command that uses it, and every flag a setting."""

from __future__ import annotations

import pytest
import typer.main

from featx.cli import app
from featx.cli.options import (
    COMPARE_FIELDS,
    EXTRACT_FIELDS,
    FIT_FIELDS,
    RUN_FIELDS,
    TRAIN_FIELDS,
)
from featx.recipes import TASK_FIELDS, Recipe, flag

# Prose and figures of a file, and what the command's own name says.
NO_FLAGS = {"description", "published", "task"}


def flags(command: str) -> set[str]:
    group = typer.main.get_command(app)
    return {opt for param in group.commands[command].params for opt in param.opts}  # type: ignore[attr-defined]


def test_every_field_is_somewhere() -> None:
    assert set(RUN_FIELDS) == set(Recipe.model_fields) - NO_FLAGS
    for command, fields in (("probe", FIT_FIELDS), ("train", TRAIN_FIELDS)):
        silent = NO_FLAGS | ({"head"} if command == "probe" else set())
        assert set(fields) == set(TASK_FIELDS[command]) - silent
    # One table is no study, and continues without being told to.
    assert set(COMPARE_FIELDS) == set(TASK_FIELDS["compare"]) - NO_FLAGS - {"resume"}
    assert not {"--resume", "--repeats"} & flags("compare")


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("extract", EXTRACT_FIELDS),
        ("fit-svm", FIT_FIELDS),
        ("fit-logistic", FIT_FIELDS),
        ("run", RUN_FIELDS),
        ("train", TRAIN_FIELDS),
        ("compare", COMPARE_FIELDS),
    ],
)
def test_a_command_has_the_flags_of_its_fields(command: str, fields: tuple[str, ...]) -> None:
    assert {flag(field) for field in fields} <= flags(command)
