"""report.md: the answer first, every number as in the record, nothing of a name executed."""

from __future__ import annotations

import re

import pytest
from report_cases import (
    CASES,
    CIFAR5,
    make_record,
    make_result,
    named,
    simple_record,
    with_accuracies,
)

from featx.report.figures import draw_figures
from featx.report.markdown import answer, code_block, escape, prose, render_markdown, table

pytestmark = pytest.mark.usefixtures("words_only")


def rendered(record) -> str:
    return render_markdown(record, draw_figures(record), "figures")


def tables(text: str) -> list[list[list[str]]]:
    """Return the rows of every Markdown table, without its rule."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        found.append([row for row in rows if not set("".join(row)) <= set("-: ")])
    return found


@pytest.mark.parametrize("name", ["5 classes", "10 classes", "12 cuts spread", "2 heads"])
def test_every_score_in_the_tables_is_the_records(name: str) -> None:
    record = CASES[name]
    reports = [
        t
        for t in tables(rendered(record))
        if t[0] == ["class", "precision", "recall", "F1", "support"]
    ]
    metrics = [m for result in record.results for m in result.splits.values()]
    assert len(reports) == len(metrics)
    for report, m in zip(reports, metrics, strict=True):
        rows = [*m.per_class, m.macro_avg, m.weighted_avg]
        assert [row[1:] for row in report[1:]] == [
            [f"{r.precision:.3f}", f"{r.recall:.3f}", f"{r.f1:.3f}", str(r.support)] for r in rows
        ]


def test_the_ranking_is_by_validation() -> None:
    record = make_record(
        [
            make_result("early", {"val": 20, "test": 60}, CIFAR5),
            make_result("late", {"val": 30, "test": 10}, CIFAR5),
        ]
    )
    text = rendered(record)
    ranked = next(t for t in tables(text) if t[0][0] == "cut" and "val accuracy" in t[0])
    assert [row[0] for row in ranked[1:]] == ["early", "late"]
    # 180 and 170 of 200.
    assert [row[ranked[0].index("val accuracy")] for row in ranked[1:]] == ["0.900", "0.850"]
    assert "**early**" in answer(record).split("Next is")[0]
    assert "0.700" in answer(record)


def test_overlapping_intervals_are_said() -> None:
    near = make_record([make_result(c, {"val": w}, CIFAR5) for c, w in [("a", 20), ("b", 24)]])
    far = make_record([make_result(c, {"val": w}, CIFAR5) for c, w in [("a", 10), ("b", 90)]])
    assert "intervals overlap: the order of the two is not certain" in answer(near)
    assert "intervals do not overlap" in answer(far)


def test_a_ranking_by_test_is_said() -> None:
    assert "test split ranks the cuts" in answer(CASES["no validation"])
    assert "test split ranks" not in answer(CASES["5 classes"])


def test_one_cut_has_no_next() -> None:
    assert "Next is" not in answer(CASES["1 cut"])


def test_the_answer_and_the_warnings_come_first() -> None:
    text = rendered(CASES["5 classes"])
    head = text.split("## ")[0]
    assert "separates these 5 classes" in head
    assert "- Read this first." in head
    assert text.index("Read this first.") < text.index("![")


def test_figures_are_linked_and_the_run_can_be_repeated() -> None:
    record = CASES["5 classes"]
    text = rendered(record)
    for figure in draw_figures(record):
        assert f"](figures/{figure.name})" in text
    assert "    featx fit-svm --name a-run --cut layer1\n" in text
    for word in ("IMAGENET1K_V1", "d" * 16, "torch 2.13.0", "A Processor", "seed 3"):
        assert word in text


def test_random_weights_are_marked() -> None:
    record = simple_record()
    random = record.model_copy(
        update={"backbone": record.backbone.model_copy(update={"random": True})}
    )
    assert "(random)" in rendered(random)
    assert "(random)" not in rendered(record)


def test_a_choice_shows_every_candidate_and_the_edge() -> None:
    text = rendered(CASES["5 classes"])
    assert "C = 12 (the high edge of the list)" in text
    assert "0.01: 0.750, 12: 0.875" in text


HOSTILE = [
    "a|b",
    "<script>alert(1)</script>",
    "[x](http://y)",
    "`code`",
    "two\nlines",
    "*bold*",
    "&lt;",
]


def test_names_stay_names() -> None:
    record = simple_record(named(HOSTILE), name="run <b>x</b>", notes=["- <img src=x>", "# head"])
    text = rendered(record)
    assert not re.search(r"(?<!\\)<(script|b|img)", text)
    assert "](http://y)" not in text
    assert "\n# head" not in text
    for rows in tables(text):
        assert len({len(row) for row in rows}) == 1
    plain_tables = [len(t) for t in tables(rendered(simple_record(named(list("abcdefg")))))]
    assert [len(t) for t in tables(text)] == plain_tables


def test_escaping_keeps_what_is_read() -> None:
    for text in HOSTILE:
        shown = re.sub(r"\\(.)", r"\1", escape(text))
        assert shown == text.replace("\n", " ")
    assert prose("1. x") != "1. x"
    assert code_block("a\nb") == "    a\n    b"
    assert table(("a", "b"), [("x|y", 1)]).splitlines()[2] == r"| x\|y | 1 |"


def test_a_class_named_like_its_label_is_named_once() -> None:
    text = rendered(simple_record({3: "3", 8: "eight"}))
    assert "| 3 |" in text
    assert "| 8 eight |" in text


def test_published_figures_stand_beside_the_cuts_with_their_split() -> None:
    record = with_accuracies(["early", "late"], [{"val": 40, "test": 60}, {"val": 60, "test": 80}])
    published = {"late": {"val": 82, "classes": {"dog": [0.7, 0.8, 0.75]}}, "absent": {"test": 0.5}}
    for source, column in ((published, ["-", "0.820 (val)"]), ({}, None)):
        told = record.model_copy(update={"recipe": {**record.recipe, "published": source}})
        text = render_markdown(told, [], "figures")
        ranked = next(t for t in tables(text) if t[0][0] == "cut" and "val accuracy" in t[0])
        assert ("published" in ranked[0]) == (column is not None)
        if column:
            assert [row[ranked[0].index("published")] for row in ranked[1:]] == column
