"""`ahead`: the same items in the same order, errors as they are, and nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.extraction.ahead import ahead


def numbers(n: int, made: list[int] | None = None) -> Generator[int, None, None]:
    for i in range(n):
        if made is not None:
            made.append(i)
        yield i


def no_thread_is_left() -> bool:
    return not any(t.name.startswith("featx-ahead") for t in threading.enumerate())


@given(st.integers(0, 20), st.integers(1, 5))
def test_every_item_once_and_in_order(n: int, depth: int) -> None:
    assert list(ahead(numbers(n), depth)) == list(range(n))
    assert no_thread_is_left()


@pytest.mark.parametrize("depth", [1, 3])
def test_it_is_ahead_by_the_depth_and_no_more(depth: int) -> None:
    made: list[int] = []
    items = ahead(numbers(50, made), depth)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(made) < depth + 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(made) == depth + 1
    items.close()


def test_items_are_made_in_another_thread() -> None:
    def names() -> Generator[str, None, None]:
        yield threading.current_thread().name

    (name,) = ahead(names(), 2)
    assert name.startswith("featx-ahead")


class OwnError(Exception):
    pass


def test_an_error_comes_in_its_place_with_its_own_type() -> None:
    def failing() -> Generator[int, None, None]:
        yield 0
        yield 1
        raise OwnError("in the thread")

    items = ahead(failing(), 2)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OwnError, match="in the thread"):
        next(items)
    assert no_thread_is_left()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OwnError, GeneratorExit])
def test_leaving_early_closes_the_source_and_ends_the_thread(error: type[BaseException]) -> None:
    closed = []

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    source = endless()
    items = ahead(source, 2)
    next(items)
    if error is GeneratorExit:
        items.close()
    else:
        with pytest.raises(error):
            items.throw(error())
    assert closed == [True]
    assert no_thread_is_left()
