"""Numbers as people read them."""

from __future__ import annotations

import doctest
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import featx.recipes.recipe
import featx.report.markdown
import featx.text
from featx.text import human_bytes, human_count, human_seconds

STEPS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@pytest.mark.parametrize("module", [featx.text, featx.recipes.recipe, featx.report.markdown])
def test_the_examples_of_the_docstrings(module) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@given(st.floats(1, 9e17))
def test_three_digits_are_kept(n: float) -> None:
    match = re.fullmatch(r"([\d.]+) ?([kMGTP]?)", human_count(n))
    assert match
    value = float(match[1]) * STEPS[match[2]]
    assert value == pytest.approx(n, rel=0.00501)
    assert len(match[1].replace(".", "")) <= 3


@given(st.integers(0, 10**17))
def test_bytes_are_counts_with_a_unit(n: int) -> None:
    assert re.sub(r" ?B$", "", human_bytes(n)) == human_count(n).rstrip()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.05, "0.05 s"), (9.99, "10 s"), (59.4, "59 s"), (60, "1 min 00 s"),
     (3599, "59 min 59 s"), (3600, "1 h 00 min"), (90061, "25 h 01 min")],
)  # fmt: skip
def test_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text
