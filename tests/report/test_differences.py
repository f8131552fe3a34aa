"""Runs beside each other: what is said to differ differs, and by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from record_cases import COMPARISONS, STUDIES, TRAININGS, make_training
from report_cases import CASES, make_record, make_result, named, simple_record
from safetensors.numpy import save_file

from featx.errors import FeatxError
from featx.evaluate import mcnemar_exact, newcombe_interval, paired_difference
from featx.report import read_compared, write_differences, write_record
from featx.report.difference_tables import (
    best_metrics,
    best_rows,
    class_rows,
    confusion_rows,
    cost_rows,
    matched_rows,
)
from featx.report.differences import (
    Compared,
    cautions,
    compare_records,
    difference_answer,
    setting_rows,
    signed,
)
from featx.report.outcomes import best_outcome, outcomes
from featx.report.page import render_differences
from featx.report.text import TERMINAL

CLASSES = named(["cat", "dog", "frog", "horse"])
ALL = {**CASES, **TRAININGS, **STUDIES, **COMPARISONS}


def run(name: str, wrong: dict[str, dict[str, int]], **fields: object):
    results = [make_result(cut, of, CLASSES) for cut, of in wrong.items()]
    recipe = {"name": name, "C": 12.0, "limit": {"train": 10}}
    return make_record(results, CLASSES, **{"name": name, "recipe": recipe, **fields})


A = run("a", {"layer1": {"val": 60, "test": 70}, "layer2": {"val": 20, "test": 30}})
B = run("b", {"layer2": {"val": 40, "test": 50}, "layer3": {"val": 10, "test": 20}},
        recipe={"name": "b", "C": 1.0, "limit": {"train": 20}, "pool": "max"})  # fmt: skip


def compared(*records, names: tuple[str, ...] = ()) -> Compared:
    found = compare_records(names or [record.name for record in records], records)
    assert isinstance(found, Compared)
    return found


def test_the_best_of_each_and_their_difference() -> None:
    of = compared(A, B)
    assert [best.what for best in of.best] == ["layer2", "layer3"]
    assert (of.decided_on, of.split) == ("val", "test")
    header, rows = best_rows(of)
    low, high = newcombe_interval(180, 200, 170, 200)
    at = next(i for i, name in enumerate(header) if "minus" in name)
    assert rows[0][at] == "-"
    assert rows[1][at] == f"+0.050 ({low:+.3f} to {high:+.3f})"
    text = difference_answer(of, TERMINAL)
    assert text.startswith("b is best on the validation split: layer3 (linear SVM), test accuracy")
    assert "Next is a: layer2 (linear SVM), 0.850." in text
    assert "holds 0: which is better is not certain" in text


def test_validation_decides_though_test_says_otherwise() -> None:
    worse = run("worse", {"x": {"val": 5, "test": 60}})
    better = run("better", {"x": {"val": 50, "test": 10}})
    text = difference_answer(compared(better, worse), TERMINAL)
    assert text.startswith("worse is best on the validation split")
    assert "-0.250 (" in text
    assert "does not hold 0" in text


def test_results_are_matched_by_cut_and_head() -> None:
    header, rows = matched_rows(compared(A, B))
    assert [row[0] for row in rows] == ["layer2"]
    assert rows[0][2:4] == ["0.850", "0.750"]
    low, high = newcombe_interval(150, 200, 170, 200)
    assert rows[0][4] == f"-0.100 ({low:+.3f} to {high:+.3f})"
    assert header[4] == "b minus a (95 % interval)"
    _, costs = cost_rows(compared(A, B))
    assert costs[0][2:4] == ["2.47 M", "1.23 M"]


def test_settings_that_differ_are_listed_and_equal_ones_counted() -> None:
    rows, n_equal = setting_rows(compared(A, B))
    assert rows == [
        ["C", "12", "1"],
        ["limit: train", "10", "20"],
        ["pool", "not set", "max"],
    ]
    same, all_equal = setting_rows(compared(A, A.model_copy(update={"name": "c"})))
    assert same == []
    assert all_equal == n_equal + 2


def test_floats_that_look_alike_are_different() -> None:
    other = A.model_copy(update={"recipe": {**A.recipe, "C": 12.0000001}})
    rows, _ = setting_rows(compared(A, other, names=("a", "b")))
    assert rows == [["C", "12.0", "12.0000001"]]


def test_classes_and_confusions_of_the_best_results() -> None:
    of = compared(A, B)
    metrics = best_metrics(of)
    assert metrics is not None
    _, rows = class_rows(of, metrics)
    f1 = [[scores.f1 for scores in m.per_class] for m in metrics]
    assert [row[0] for row in rows] == list(CLASSES.values())
    assert rows[0][1:] == [f"{f1[0][0]:.3f}", f"{f1[1][0]:.3f}", signed(f1[1][0] - f1[0][0])]
    _, confusions = confusion_rows(of, metrics)
    for true, predicted, first, second, change in confusions:
        i, j = (list(CLASSES.values()).index(name) for name in (true, predicted))
        counts = [m.confusion[i][j] for m in metrics]
        assert [first, second] == [f"{n / 50:.3f} ({n:,} of 50)" for n in counts]
        assert change == f"{abs(counts[0] - counts[1]) / 50:.3f}"
        assert counts[0] != counts[1]
    changes = [float(row[-1]) for row in confusions]
    assert changes == sorted(changes, reverse=True)


def test_other_classes_have_no_table_of_classes() -> None:
    other = simple_record(named(["x", "y", "z", "w"]), name="other")
    of = compared(A, other)
    assert best_metrics(of) is None
    assert any("different classes" in said for said in cautions(of))
    twice = run("t", {"layer1": {"val": 1, "test": 1}})
    names = {0: "same", 1: "same"}
    alike = make_record([make_result("layer1", {"val": 1, "test": 1}, names)], names)
    assert best_metrics(compared(alike, alike, names=("a", "b"))) is None
    assert best_metrics(compared(twice, twice, names=("a", "b"))) is not None


@pytest.mark.parametrize(("split", "said"), [
    ("test", "The test images are not the same in all runs: a difference may come from"),
    ("val", "The validation images are not the same in all runs"),
    ("train", "The training images are not the same in all runs."),
])  # fmt: skip
def test_other_images_are_said(split: str, said: str) -> None:
    splits = dict(A.dataset.splits)
    splits[split] = splits[split].model_copy(update={"digest": "f" * 64})
    other = A.model_copy(update={"dataset": A.dataset.model_copy(update={"splits": splits})})
    assert cautions(compared(A, A, names=("a", "b"))) == []
    found = cautions(compared(A, other, names=("a", "b")))
    assert len(found) == 1
    assert found[0].startswith(said)


def test_without_validation_the_test_split_decides_and_that_is_said() -> None:
    only_test = run("t", {"layer1": {"test": 10}})
    of = compared(A, only_test)
    assert (of.decided_on, of.split) == ("test", "test")
    assert "so it flatters the best" in difference_answer(of, TERMINAL)


def test_nothing_in_common_is_an_error() -> None:
    a, b = run("a", {"layer1": {"val": 10}}), run("b", {"layer1": {"test": 10}})
    said = compare_records(["a", "b"], [a, b])
    assert said == ("No split was measured in all of these runs ('a': val; 'b': test): there is "
                    "nothing to compare.")  # fmt: skip
    empty = make_training(2, splits=("train",))
    assert compare_records(["a", "e"], [a, empty]) == (
        "'e' has no accuracy: nothing was measured. Run it again."
    )


def test_means_of_repeats_have_no_interval() -> None:
    study = STUDIES["5 repeats"] if "5 repeats" in STUDIES else next(
        s for s in STUDIES.values() if s.repeats > 1
    )  # fmt: skip
    group = outcomes(study)[0]
    assert group.n == {}
    rows = [row for row in study.rows if (row.group, row.label) == (group.what, group.how)]
    assert group.accuracy["test"] == pytest.approx(sum(r.top1["test"] for r in rows) / len(rows))
    of = compared(study, study, names=("a", "b"))
    found = of.difference(0, group, 1, group)
    assert found is not None
    assert (found.low, str(found)) == (None, "0.000")


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_best_of_a_comparison_is_the_one_it_names(name: str) -> None:
    found = best_outcome(COMPARISONS[name])
    assert found is not None
    assert found.what == COMPARISONS[name].best


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_record_can_be_compared(name: str) -> None:
    record = ALL[name]
    of = compare_records(["first", "second"], [record, record])
    if isinstance(of, str):
        assert "nothing was measured" in of
        return
    page = render_differences("title", of)
    assert "Nothing that the records tell" in page


def test_names_are_kept_apart() -> None:
    of = compared(A, A, names=("x" * 60, "x" * 60 + "y"))
    assert len(set(of.names)) == 2
    assert all(len(name) <= 45 for name in of.names)
    assert len(set(compared(A, A, A, names=("a", "a", "a (2)")).names)) == 3


def test_the_page_is_written_beside_the_runs(tmp_path: Path) -> None:
    for record in (A, B):
        write_record(record, tmp_path / record.name)
    of = read_compared([tmp_path / "a", tmp_path / "b"])
    page = write_differences(of, tmp_path / "both")
    assert page == tmp_path / "both" / "index.html"
    assert "layer3" in page.read_text()
    with pytest.raises(FeatxError, match="is the report of a run, whose page would be overwritten"):
        write_differences(of, tmp_path / "a")
    with pytest.raises(FeatxError, match="is named twice"):
        read_compared([tmp_path / "a", tmp_path / "b", tmp_path / "." / "a"])


def keep_predictions(folder: Path, record, cut: str, right: np.ndarray) -> None:
    """Write predictions of the test split that are right where it is said."""
    truth = np.zeros(len(right), dtype=np.int64)
    predicted = np.where(right, 0, 1).astype(np.int64)
    digest = {"digest test": record.dataset.splits["test"].digest}
    arrays = {f"{cut}|test": predicted, "(truth)|test": truth}
    save_file(arrays, folder / "predictions.safetensors", metadata=digest)


def paired_runs(folder: Path, **fields: object) -> tuple[Compared, np.ndarray, np.ndarray]:
    """Return two runs on disk with their predictions: 20 and 30 wrong, 12 of them in both."""
    first, second = np.ones(200, dtype=bool), np.ones(200, dtype=bool)
    first[:20], second[8:38] = False, False
    a = run("a", {"layer1": {"val": 30, "test": 20}})
    b = run("b", {"layer1": {"val": 20, "test": 30}}, **fields)
    for record, right in ((a, first), (b, second)):
        write_record(record, folder / record.name)
        keep_predictions(folder / record.name, record, "layer1", right)
    return read_compared([folder / "a", folder / "b"]), first, second


def test_predictions_of_the_same_images_are_paired(tmp_path: Path) -> None:
    of, first, second = paired_runs(tmp_path)
    found = of.difference(0, of.best[0], 1, of.best[1])
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx(paired_difference(second, first))
    assert found.p == mcnemar_exact(18, 8)
    low, high = newcombe_interval(170, 200, 180, 200)
    assert high - low > found.high - found.low
    text = difference_answer(of, TERMINAL)
    assert f"image by image (McNemar's p: {mcnemar_exact(18, 8):.3f})" in text


def test_predictions_of_other_images_are_not(tmp_path: Path) -> None:
    splits = {**A.dataset.splits}
    splits["test"] = splits["test"].model_copy(update={"digest": "f" * 64})
    dataset = A.dataset.model_copy(update={"splits": splits})
    of, _, _ = paired_runs(tmp_path, dataset=dataset)
    found = of.difference(0, of.best[0], 1, of.best[1])
    assert found is not None
    assert (found.low, found.high) == newcombe_interval(170, 200, 180, 200)
    assert found.p is None


def test_predictions_that_contradict_the_record_are_not_used_and_that_is_said(
    tmp_path: Path,
) -> None:
    of, first, _ = paired_runs(tmp_path)
    assert not any("predictions" in said for said in cautions(of))
    keep_predictions(tmp_path / "b", of.records[1], "layer1", first)
    of = read_compared([tmp_path / "a", tmp_path / "b"])
    found = of.difference(0, of.best[0], 1, of.best[1])
    assert found is not None
    assert found.p is None
    assert "The predictions of b do not agree with its record" in " ".join(cautions(of))


@pytest.mark.parametrize("broken", [b"", b"not a file of tensors"])
def test_predictions_that_cannot_be_read_are_as_none(tmp_path: Path, broken: bytes) -> None:
    of, _, _ = paired_runs(tmp_path)
    (tmp_path / "b" / "predictions.safetensors").write_bytes(broken)
    of = read_compared([tmp_path / "a", tmp_path / "b"])
    found = of.difference(0, of.best[0], 1, of.best[1])
    assert found is not None
    assert (found.low, found.high) == newcombe_interval(170, 200, 180, 200)


def test_predictions_are_looked_for_where_each_kind_of_run_keeps_them() -> None:
    assert {outcome.place for outcome in outcomes(A)} == {("", "layer1"), ("", "layer2")}
    (training,) = outcomes(TRAININGS["12 epochs"])
    assert training.place == ("", "")
    record = COMPARISONS["12 approaches"]
    for approach, outcome in zip(record.approaches, outcomes(record), strict=True):
        cut = approach.what if approach.approach == "probe" else ""
        assert outcome.place == (approach.folder, cut)
    grid = STUDIES["24 runs"]
    assert [o.place for o in outcomes(grid)] == [(row.folder, row.label) for row in grid.rows]
    varied = grid.model_copy(update={"axes": {**grid.axes, "limit": [1, 2]}})
    assert {(o.place, tuple(o.n)) for o in outcomes(varied)} == {(None, ())}


def test_other_means_and_clear_losses_are_said() -> None:
    repeated = next(s for s in STUDIES.values() if s.repeats > 1)
    text = difference_answer(compared(repeated, STUDIES["24 runs"], names=("a", "b")), TERMINAL)
    assert "has no interval: at least one of the two is a mean over repeats" in text
    worse = run("worse", {"x": {"val": 5, "test": 60}})
    better = run("better", {"x": {"val": 50, "test": 10}})
    text = difference_answer(compared(better, worse), TERMINAL)
    assert "On the test split the next one is clearly better." in text
    only_val = run("v", {"layer1": {"val": 10}})
    text = difference_answer(compared(only_val, A), TERMINAL)
    assert "validation, which chose these results, compares them as well" in text


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("left", "right"):
        write_record(A, tmp_path / folder)
    of = read_compared([tmp_path / "left", tmp_path / "right"])
    assert of.names[0] != of.names[1]
    assert of.names[0].endswith("left")


HOSTILE = ["<script>window.hacked=1</script>", "\"'>&lt;", "\u202eabc", "n" * 10_000]


def test_hostile_text_is_shown_as_text() -> None:
    classes = named(HOSTILE)
    record = simple_record(classes, name=HOSTILE[0], command=HOSTILE[0])
    other = record.model_copy(
        update={"recipe": {HOSTILE[0]: HOSTILE[2]}, "name": HOSTILE[1], "featx_version": "2"}
    )
    page = render_differences(HOSTILE[0], compared(record, other))
    assert "<script>window" not in page
    assert "\u202e" not in page
