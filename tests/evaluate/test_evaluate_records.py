"""Records: through JSON and back, what is refused, and the ranking."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from evaluate_cases import cut, make_record, record_values, result, split_metrics
from pydantic import ValidationError

from featx.errors import FeatxError
from featx.evaluate import (
    SCHEMA_VERSION,
    RunRecord,
    ranking,
    ranking_split,
    read_record,
)


def write(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def refused(path: Path) -> str:
    """Return what reading a file says; it must be a `FeatxError` that names the file."""
    with pytest.raises(FeatxError) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_comes_back_through_json(tmp_path: Path) -> None:
    record = make_record()
    path = tmp_path / "results.json"
    path.write_text(record.model_dump_json(), encoding="utf-8")
    for where in (path, str(path), tmp_path):
        back = read_record(where)
        assert back == record
        assert back.model_dump_json() == record.model_dump_json()
    assert back.dataset.classes == {5: "dog", 6: "frog"}
    assert back.dataset.splits["test"].counts == {5: 10, 6: 0}
    assert back.results[0].objective == 0.1 + 0.2
    assert back.recipe == record_values()["recipe"]
    assert back.cut_record("stage1").n_features == 4
    with pytest.raises(KeyError):
        back.cut_record("stage9")


def paths_of_objects(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every object in a JSON value."""
    children = values.items() if isinstance(values, dict) else enumerate(values)
    found = [path] if isinstance(values, dict) else []
    for key, value in children:
        if isinstance(value, dict | list):
            found += paths_of_objects(value, (*path, key))
    return found


# These hold what the schema does not fix: settings, names, numbers by name.
OPEN = {
    *("recipe", "deep", "provenance", "preprocess", "versions", "classes", "splits", "counts"),
    *("keys", "timing", "accuracy"),
}


@pytest.mark.parametrize(
    "path",
    [p for p in paths_of_objects(record_values()) if not p or p[-1] not in OPEN],
    ids=lambda path: ".".join(map(str, path)) or "record",
)
def test_an_unknown_key_is_refused_everywhere(path: tuple[Any, ...], tmp_path: Path) -> None:
    values = record_values()
    place = values
    for step in path:
        place = place[step]
    place["surprise"] = 1
    message = refused(write(tmp_path / "results.json", values))
    assert ".".join(map(str, (*path, "surprise"))) + ": Extra inputs are not permitted" in message


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99, 0, "1", "new"])
def test_another_schema_is_refused_before_anything_else(version: Any, tmp_path: Path) -> None:
    # A record of the future has keys and forms this featx knows nothing about.
    values = {"schema_version": version, "everything": "else"}
    message = refused(write(tmp_path / "results.json", values))
    assert (
        f"has schema version {version!r}; this featx reads versions 1 and {SCHEMA_VERSION}."
        in message
    )
    assert "Use the featx that wrote it" in message


@pytest.mark.parametrize("values", [{}, {"schema_version": None}, [], 3, "text", None])
def test_json_that_is_no_record(values: Any, tmp_path: Path) -> None:
    message = refused(write(tmp_path / "results.json", values))
    assert "is not a record of featx: it has no 'schema_version'" in message


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xff\xff", b"{'a': 1}", b"[" * 100_000])
def test_text_that_is_no_json(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(data)
    assert "is not valid JSON" in refused(path)


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "There is no record to read at" in refused(tmp_path / "none.json")
    with pytest.raises(FeatxError, match=r"holds results\.json"):
        read_record(tmp_path)


def without(values: dict[str, Any], *path: Any) -> dict[str, Any]:
    place: Any = values
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return values


def test_first_problems_are_named_with_their_place(tmp_path: Path) -> None:
    path = write(tmp_path / "results.json", without(record_values(), "results", 0, "C"))
    assert "results.0.C: Field required. Run the experiment again." in refused(path)
    values = {"schema_version": 1}
    required = [name for name, f in RunRecord.model_fields.items() if f.is_required()]
    message = refused(write(path, values))
    assert message.count("Field required") == 3
    assert f"and {len(required) - 3} more" in message


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("results", "fit_s", math.nan),
        ("results", "duality_gap", math.inf),
        ("results", "head", "tree"),
        ("results", "refit_on", "test"),
        ("results", "accuracy", {"val": 0.9, "test": 0.9}),
        ("results", "accuracy", {"val": 0.9}),
        ("results", "cut", "stage2"),
        ("choices", "edge", "middle"),
    ],
)
def test_values_that_cannot_be_are_refused(place: str, name: str, value: Any) -> None:
    values = record_values()
    values[place][0][name] = value
    with pytest.raises(ValidationError):
        RunRecord.model_validate(values)


def test_a_result_without_a_split_is_refused() -> None:
    values = record_values()
    values["results"][0] |= {"splits": {}, "accuracy": {}}
    with pytest.raises(ValidationError, match=r"results\.0\.splits"):
        RunRecord.model_validate(values)


def test_cuts_are_listed_once_and_there_is_a_result() -> None:
    with pytest.raises(ValidationError, match="a cut is listed twice"):
        make_record(cuts=[cut("stage1", 4), cut("stage1", 5)])
    for name in ("cuts", "results"):
        with pytest.raises(ValidationError):
            RunRecord.model_validate(record_values() | {name: []})


CUTS = [cut("a", 512), cut("b", 64), cut("c", 256), cut("d", 8)]


def order(results: list[dict[str, Any]], *split: str) -> list[str]:
    return [r.cut for r in ranking(make_record(cuts=CUTS, results=results), *split)]


def test_validation_ranks_not_test() -> None:
    results = [result("a", val=5, test=10), result("b", val=9, test=1), result("c", val=7, test=7)]
    assert order(results) == ["b", "c", "a"]
    assert order(results, "test") == ["a", "c", "b"]
    record = make_record(cuts=CUTS, results=results)
    assert ranking_split(record) == "val"
    assert ranking_split(record, "test") == "test"
    assert ranking_split(record, "train") == "val"
    assert [r.cut for r in record.results] == ["a", "b", "c"]


def test_of_equal_ones_fewer_features_stand_first_then_the_earlier() -> None:
    names = ["a", "b", "c", "d", "b"]
    results = [result(name, val=8, test=k) for k, name in enumerate(names)]
    results[3] = result("d", val=7, test=9)
    record = make_record(cuts=CUTS, results=results)
    ranked = ranking(record)
    assert [r.cut for r in ranked] == ["b", "b", "c", "a", "d"]
    assert [r.accuracy["test"] for r in ranked[:2]] == [0.1, 0.4]


def test_test_ranks_where_validation_is_missing() -> None:
    # One result without a validation split is enough: the others cannot be compared with it.
    results = [result("a", val=9, test=3), result("b", test=4)]
    assert order(results) == ["b", "a"]
    assert ranking_split(make_record(cuts=CUTS, results=results)) == "test"


def test_results_without_a_common_split_have_no_ranking() -> None:
    record = make_record(cuts=CUTS, results=[result("a", val=9), result("b", test=4)])
    with pytest.raises(FeatxError, match="The results of 'a-run' share neither"):
        ranking(record)
    other = make_record(cuts=CUTS, results=[result("a", extra=9)])
    with pytest.raises(FeatxError, match="cannot be ranked"):
        ranking_split(other)
    assert ranking_split(other, "extra") == "extra"


def test_metrics_of_the_cases_are_what_they_claim() -> None:
    assert split_metrics(9, 10)["accuracy"] == 0.9


def test_the_package_says_what_it_does_not_have() -> None:
    import featx.evaluate

    assert all(getattr(featx.evaluate, name) is not None for name in featx.evaluate.__all__)
    with pytest.raises(AttributeError, match=r"'featx\.evaluate' has no attribute 'auc'"):
        featx.evaluate.auc  # noqa: B018
