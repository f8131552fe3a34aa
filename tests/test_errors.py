"""The error tree: exit codes, the drawing in the docstring, names that are close."""

from __future__ import annotations

import inspect
import pickle
import re

import featx.errors
from featx.errors import FeatxError, UnknownName, UsageError, closest


def test_the_drawn_tree_is_the_real_one() -> None:
    classes = {
        name: cls
        for name, cls in inspect.getmembers(featx.errors, inspect.isclass)
        if issubclass(cls, FeatxError) and cls.__module__ == "featx.errors"
    }
    doc = featx.errors.__doc__ or ""
    drawn = set(re.findall(r"\b([A-Z][A-Za-z]+)\b", doc)) & set(classes)
    assert drawn == set(classes)
    for name, cls in classes.items():
        line = next(line for line in doc.splitlines() if re.search(rf"\b{name}\b", line))
        code = re.search(r"\s(\d+)\s", line)
        if code:
            assert cls.exit_code == int(code.group(1)), name


def test_an_unknown_name_gives_the_closest_and_what_to_do() -> None:
    error = UnknownName(
        "Cut", "layer5", ["layer1", "layer4", "fc"], where="resnet18", hint="List them: x"
    )
    assert str(error).startswith("Cut 'layer5' is not in resnet18. Closest: 'layer")
    assert str(error).endswith("List them: x")
    assert error.exit_code == 2
    assert isinstance(error, ValueError)


def test_an_unknown_name_like_nothing_lists_what_there_is() -> None:
    text = str(UnknownName("Source", "zzz", ["alpha", "beta"]))
    assert text == "Source 'zzz' is not known. Valid: 'alpha', 'beta'."
    many = str(UnknownName("Source", "zzz", [f"name{i}" for i in range(40)]))
    assert many.endswith("'name11' and 28 more.")


def test_errors_survive_the_way_from_a_worker_process() -> None:
    error = UnknownName("Cut", "layer5", ["layer4"], where="resnet18")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.name, again.closest) == (str(error), "layer5", ["layer4"])
    assert type(again) is UnknownName


def test_usage_errors_leave_with_2_and_failures_with_1() -> None:
    assert issubclass(UsageError, FeatxError)
    assert UsageError.exit_code == 2
    assert FeatxError.exit_code == 1


def test_the_best_match_comes_first() -> None:
    assert closest("LAYER1", ["layer1", "Layer2"])[0] == "layer1"
    assert closest("resnet5", ["vgg16", "resnet50", "resnet152"])[0] == "resnet50"
