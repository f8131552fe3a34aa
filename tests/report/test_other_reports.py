"""Reports of trainings, studies and comparisons say what their records hold."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from record_cases import (
    COMPARISONS,
    STUDIES,
    TRAININGS,
    make_network,
    make_row,
    make_study,
    make_training,
    repeated_rows,
)

from featx.evaluate import read_record
from featx.report import (
    answer_text,
    comparison_rows,
    history_rows,
    rebuild_report,
    study_rows,
    training_rows,
    write_report,
)

ALL = {
    **{f"training, {name}": record for name, record in TRAININGS.items()},
    **{f"study, {name}": record for name, record in STUDIES.items()},
    **{f"comparison, {name}": record for name, record in COMPARISONS.items()},
}


def cells(text: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


WRITTEN = (
    "training, 12 epochs", "training, 5 classes", "training, no test", "training, diverged at once",
    "study, 24 runs", "study, published", "study, probes", "study, all failed",
    "comparison, 12 approaches", "comparison, 1 approach", "comparison, no validation",
)  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN)
def test_a_report_is_written_read_back_and_rebuilt_to_the_same_bytes(
    case: str, tmp_path: Path
) -> None:
    record = ALL[case]
    report = write_report(record, tmp_path)
    assert read_record(tmp_path) == record
    files = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    assert {"results.json", "results.csv", "report.md"} <= {p.name for p in files}
    assert rebuild_report(tmp_path) == report
    assert {p: p.read_bytes() for p in files} == files
    text = report.read_text()
    assert record.name in text
    for note in record.notes:
        assert note in text
    # Every figure is shown, with words for those who do not see it.
    for figure in (tmp_path / "figures").glob("*.png"):
        assert f"](figures/{figure.name})" in text
    assert "![](" not in text
    # No row of a table is shorter or longer than its header.
    block: list[int] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            block.append(line.replace("\\|", "").count("|"))
        else:
            assert len(set(block)) <= 1, line
            block = []


@pytest.mark.parametrize("case", ALL)
def test_an_answer_for_the_terminal_has_no_markdown(case: str) -> None:
    text = answer_text(ALL[case])
    assert len(text) > 20
    assert "**" not in text
    assert "\n" not in text


def test_a_training_says_its_accuracy_its_epoch_and_its_cost() -> None:
    record = TRAININGS["12 epochs"]
    text = answer_text(record)
    test = record.splits["test"]
    assert (
        f"{test.accuracy:.3f} (95 % interval {test.accuracy_low:.3f} to {test.accuracy_high:.3f}"
        in text
    )
    assert "weights of epoch 10" in text
    assert "validation loss" in text
    assert "591,274" in text


@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize(
    ("published", "words"),
    [
        ({"cnn-a": {"top1": 0.721, "top5": 97.7}}, " Published: top-1 0.721, top-5 0.977. 12 ep"),
        ({"cnn-a": {"top1": [0.549, 0.593, 0.626]}},
         " Published: top-1 0.549 / 0.593 / 0.626 (min / mean / max). 12 ep"),
    ],
)  # fmt: skip
def test_a_training_stands_beside_what_was_published(published, words, tmp_path: Path) -> None:
    recipe = {"network": "cnn-a", "published": published}
    record = make_training(recipe=recipe, network=make_network(name="featx/cnn-a"))
    assert words in answer_text(record)
    assert words.strip() in write_report(record, tmp_path).read_text()
    # Of another network nothing is said.
    assert "Published" not in answer_text(
        make_training(
            recipe={**recipe, "network": "cnn-b"}, network=make_network(name="featx/cnn-b")
        )
    )


@pytest.mark.usefixtures("words_only")
def test_a_divergence_comes_first_with_its_reason(tmp_path: Path) -> None:
    text = answer_text(TRAININGS["diverged"])
    assert text.index("diverged") < text.index("accuracy")
    assert "loss NaN in step 7 of epoch 4" in text
    report = write_report(TRAININGS["diverged at once"], tmp_path).read_text()
    assert "was not evaluated" in report


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("still improving", "more of them would probably raise the accuracy"),
        ("did not learn", "did not learn"),
        ("stopped early", ""),
    ],
)
def test_how_a_training_ended_is_said_in_words(state: str, words: str) -> None:
    assert words in answer_text(make_training(5, state=state))


def test_a_history_table_has_every_epoch_or_every_few_and_the_kept_one() -> None:
    _, few = history_rows(make_training(30))
    assert len(few) == 30
    record = make_training(200, best_epoch=77)
    header, many = history_rows(record)
    assert len(many) <= 40
    shown = [int(row[0].split()[0]) for row in many]
    assert 77 in shown
    assert shown[-1] == 200
    assert all(len(row) == len(header) for row in many)


def test_a_frozen_network_says_how_much_of_it_was_trained() -> None:
    record = make_training(
        3, mode="frozen", features="cached",
        network=make_network(name="torchvision/resnet18", n_parameters=11_181_642, n_trained=5_130,
                             frozen_up_to="avgpool"),
    )  # fmt: skip
    text = answer_text(record)
    assert "5,130 of 11,181,642" in text
    assert "avgpool" in text
    header, rows = training_rows(record)
    assert len(rows[0]) == len(header)


@pytest.mark.usefixtures("words_only")
def test_a_grid_has_a_row_per_run_and_marks_what_did_not_converge(tmp_path: Path) -> None:
    record = STUDIES["24 runs"]
    header, rows = study_rows(record)
    assert len(rows) == 24
    state = header.index("state")
    for row, made in zip(rows, record.rows, strict=True):
        assert row[0] == made.settings["network"]
        assert made.state in row[state]
    text = write_report(record, tmp_path).read_text()
    assert "loss NaN in step 12 of epoch 3" in text
    assert "out of memory" in text


def test_a_probe_of_a_study_shows_its_C_and_whether_it_converged() -> None:
    record = STUDIES["probes"]
    header, rows = study_rows(record)
    used = [row[header.index("C used")] for row in rows]
    assert used == [f"{made.C:g}" for made in record.rows]
    states = [row[header.index("state")] for row in rows]
    assert states == ["finished"] * 11 + ["finished, not converged"]
    assert "C used" not in study_rows(STUDIES["24 runs"])[0]


def test_a_sentence_names_what_a_bare_value_is_of() -> None:
    answer = answer_text(STUDIES["probes"])
    assert "Of 4 runs, image size 224 · layer2 is best" in answer
    # Extraction is not in the time of a run: the features are shared.
    assert answer.endswith(", in 1 min 35 s of fitting.")
    assert "time of the fits" in study_rows(STUDIES["probes"])[0]
    assert "fitting" not in answer_text(STUDIES["24 runs"])
    mixed = [
        make_row(f"r{i}", f"g{i}", {"pool": "max", "C": C, "refit": False}, 0.5 + i / 10)
        for i, C in enumerate(("auto", 12.0))
    ]
    assert "max, C 12, refit no is best" in answer_text(make_study(mixed))
    reversed_scores = [{split: 1 - v for split, v in row.top1.items()} for row in mixed]
    mixed = [
        row.model_copy(update={"top1": top1})
        for row, top1 in zip(mixed, reversed_scores, strict=True)
    ]
    assert "max, C auto, refit no is best" in answer_text(make_study(mixed))


def test_repeats_become_one_row_with_their_spread_and_the_published_figures() -> None:
    record = STUDIES["published"]
    header, rows = study_rows(record)
    assert [row[0] for row in rows] == ["cnn-a", "cnn-b", "cnn-c"]
    text = " ".join(header)
    assert "published" in text
    published = next(i for i, name in enumerate(header) if "published" in name and "top-1" in name)
    assert rows[0][published] == "0.549 / 0.593 / 0.626"
    assert rows[2][published] == "0.333"
    values = [row.top1["test"] for row in record.rows if row.settings["network"] == "cnn-a"]
    triple = f"{min(values):.3f} / {sum(values) / 5:.3f} / {max(values):.3f}"
    assert any(triple in cell for cell in rows[0])


def test_a_comparison_ranks_by_validation_and_shows_the_paired_tests() -> None:
    record = COMPARISONS["12 approaches"]
    header, rows = comparison_rows(record)
    ranked = sorted(record.approaches, key=lambda a: -a.splits["val"].accuracy)
    assert next(row[header.index("kind")] for row in rows) == "fine-tuned"
    for row, approach in zip(rows, ranked, strict=True):
        test = approach.splits["test"]
        assert any(f"{test.accuracy:.3f}" in cell for cell in row)
    best = next(a for a in record.approaches if a.name == record.best)
    assert f"{best.splits['test'].accuracy:.3f}" in answer_text(record)


@pytest.mark.usefixtures("words_only")
def test_a_comparison_without_validation_says_that_test_has_chosen(tmp_path: Path) -> None:
    text = write_report(COMPARISONS["no validation"], tmp_path).read_text()
    assert "no validation split" in text


@pytest.mark.usefixtures("words_only")
def test_csv_holds_every_run_and_split(tmp_path: Path) -> None:
    write_report(STUDIES["3 groups of 5"], tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert len({row["run"] for row in rows}) == 15
    write_report(TRAININGS["12 epochs"], tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert {row["split"] for row in rows} >= {"val", "test"}


@pytest.mark.usefixtures("words_only")
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "a|b <script>alert(1)</script> **x** [l](http://e)"
    classes = {0: name, 1: "plain"}
    text = write_report(make_training(2, classes), tmp_path).read_text()
    assert "<script>" not in text
    assert not re.search(r"(?<!\\)\]\(http", text)
    rows = repeated_rows()
    rows = [row.model_copy(update={"settings": {"network": name}}) for row in rows]
    text = write_report(make_study(rows), tmp_path).read_text()
    assert "<script>" not in text
