"""The page of a report: what it says, that it says it as text, and that it needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from exhibit_cases import COLUMNS, TILE, make_exhibits, put_exhibits
from hypothesis import given
from hypothesis import strategies as st
from record_cases import COMPARISONS, STUDIES, TRAININGS, make_row, make_study
from report_cases import CASES, make_record, make_result, named, simple_record

from featx.errors import FeatxError
from featx.evaluate import RunRecord
from featx.report import rebuild_report, write_merged, write_report
from featx.report.exhibits import Beside, data_uri, read_beside
from featx.report.page import Source, render_merged, render_page
from featx.report.page.markup import sentence, sort_value
from featx.report.page.probe_charts import pareto
from featx.report.page.sections import merged_rows
from featx.text import human_count, human_seconds

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eevil\u202c \u200fx",
    "<!--",
    "a & b &lt;",
    "n" * 10_000,
    "line\nbreak\0\ud800",
]
VOID = {"meta", "img", "br", "link", "input"}


class Parsed(HTMLParser):
    """Tags, attributes and texts of a page; checks that tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    @property
    def data(self) -> Any:
        return json.loads(next(t for t in self.texts["script"] if t.startswith("[")))

    def all_text(self) -> str:
        hidden = ("script", "style")
        return " ".join(t for tag, ts in self.texts.items() if tag not in hidden for t in ts)


NOTHING = Beside()


def page_of(record: Any, beside: Beside = NOTHING) -> str:
    return render_page(Source(record, beside))


def with_exhibits(record: RunRecord, folder: Path, **fields: Any) -> str:
    put_exhibits(make_exhibits(record, **fields), folder)
    return page_of(record, read_beside(folder, record))


@pytest.mark.parametrize("case", CASES)
def test_a_probe_page_is_whole_and_names_everything(case: str) -> None:
    record = CASES[case]
    parsed = Parsed(page_of(record))
    text = parsed.all_text()
    assert len(parsed.ids) == len(set(parsed.ids))
    for tag, attributes in parsed.tags:
        if tag == "a":
            assert attributes["href"].removeprefix("#") in parsed.ids
        if tag == "svg" and attributes.get("role") == "img":
            assert attributes["aria-label"]
    for result in record.results:
        assert f"{result.splits['test'].accuracy:.3f}" in text
    assert record.command in text
    assert record.environment.versions["torch"] in text
    assert record.recipe["description"] in text
    # Headings never skip a level.
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_the_answer_names_the_best_cut_as_the_record_has_it() -> None:
    record = CASES["5 classes"]
    best = max(record.results, key=lambda r: r.accuracy["val"])
    page = page_of(record)
    answer = re.search(r'<p class="answer">(.*?)</p>', page, re.DOTALL)
    assert answer is not None
    assert f"<strong><bdi>{best.cut}</bdi></strong>" in answer[1]
    test = best.splits["test"]
    assert f"{test.accuracy:.3f} (95 % interval {test.accuracy_low:.3f}" in answer[1]
    assert "the intervals" in answer[1]


def test_the_answer_of_a_study_names_every_setting() -> None:
    """A figure's labels lose their middle; the sentence is there to tell it."""
    settings = {
        "image_size": 128, "pool": "grid:2", "standardize": "per-split", "head": "logistic",
        "C": "auto", "augment": "crop",
    }  # fmt: skip
    row = make_row("best", "best", settings, 0.9, label="conv4_block6_out")
    page = page_of(make_study([row]))
    answer = re.search(r'<p class="answer">(.*?)</p>', page, re.DOTALL)
    assert answer is not None
    assert "128, grid:2, per-split, logistic, C auto, crop · conv4_block6_out<" in answer[1]
    assert "…" not in answer[1]


def test_the_data_of_the_script_is_the_records() -> None:
    record = CASES["2 heads"]
    (run,) = Parsed(page_of(record)).data
    for result, written in zip(record.results, run["results"], strict=True):
        assert written["cut"] == result.cut
        assert list(written["splits"]) == ["test", "val"]
        for split, metrics in result.splits.items():
            assert written["splits"][split]["confusion"] == metrics.confusion
            assert written["splits"][split]["accuracy"][0] == round(metrics.accuracy, 4)
    assert run["classes"] == [[k, v] for k, v in record.dataset.classes.items()]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_everywhere(name: str, tmp_path: Path) -> None:
    classes = named([name, "dog"])
    results = [make_result(name, {"val": 5, "test": 6}, classes)]
    record = make_record(
        results,
        classes,
        name=name.replace("\ud800", ""),
        command=f"featx run {name}",
        notes=[name],
        recipe={"description": name, name: name},
    )
    exhibits = make_exhibits(record)
    heat = exhibits.heat_maps[0]
    heat = heat.model_copy(update={"about": {name: name}})
    exhibits = exhibits.model_copy(update={"notes": [name], "heat_maps": [heat]})
    put_exhibits(make_exhibits(simple_record()), tmp_path)
    page = page_of(record, Beside(exhibits, tmp_path, (name,)))
    _is_harmless(page)
    _is_harmless(render_merged(name, [Source(record, NOTHING)] * 2))


@given(st.text(min_size=1, max_size=60))
def test_any_class_name_is_text(name: str) -> None:
    record = simple_record(named([name, "dog"]), n_cuts=1, notes=[name])
    parsed = _is_harmless(page_of(record))
    assert parsed.data[0]["classes"][1] == [1, "dog"]


def _is_harmless(page: str) -> Parsed:
    page.encode()
    parsed = Parsed(page)
    scripts = [a for tag, a in parsed.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    for tag, attributes in parsed.tags:
        assert not any(key.startswith("on") for key in attributes), (tag, attributes)
        if tag == "img":
            assert attributes["src"].startswith("data:image/")
    # Nothing turns the direction of what stands around it.
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200f\0]", page)
    longest = max(len(t) for tag, ts in parsed.texts.items() if tag in ("bdi", "text") for t in ts)
    assert longest <= 2000
    return parsed


@pytest.mark.parametrize("case", ["5 classes", "100 classes"])
def test_the_policy_allows_the_own_script_and_nothing_else(case: str, tmp_path: Path) -> None:
    page = with_exhibits(CASES[case], tmp_path)
    parsed = Parsed(page)
    policy = next(
        a["content"] for t, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    outside = re.sub(r"http://www\.w3\.org/2000/svg", "", page)
    assert "http:" not in re.sub(r"https?://[^\s<]*(tar\.gz|zip)", "", outside)
    for _, attributes in parsed.tags:
        for key in ("src", "href", "action", "data", "poster"):
            assert (attributes.get(key) or "#").startswith(("#", "data:"))
    for url in re.findall(r"url\((.{6})", page):
        assert url == '"data:'


def test_exhibits_are_on_the_page(tmp_path: Path) -> None:
    record = CASES["5 classes"]
    exhibits = make_exhibits(record)
    put_exhibits(exhibits, tmp_path)
    page = page_of(record, read_beside(tmp_path, record))
    (run,) = Parsed(page).data
    sheet = (tmp_path / "exhibits" / "tiles.png").read_bytes()
    assert page.count(data_uri(sheet, "")) == 1
    assert run["sheet"] == {"tile": TILE, "columns": COLUMNS, "n": 400, "shown": 64}
    for shown in exhibits.results:
        written = next(r for r in run["results"] if r["cut"] == shown.cut)["shown"][shown.split]
        assert [(c.label, c.predicted, c.n) for c in shown.cells] == [
            tuple(c[:3]) for c in written["cells"]
        ]
        image = shown.cells[0].images[0]
        assert written["cells"][0][3][0] == [
            image.index, image.label, image.tile, image.predicted, image.score,
        ]  # fmt: skip
    assert len(run["maps"]) == len(record.cuts)
    text = Parsed(page).all_text()
    for word in ("Linear CKA", "Evidence of the linear head", "Exact, not an estimate.",
                 "pixel for pixel", "Images are a sample.", "32 x 32"):  # fmt: skip
        assert word in text
    for file in exhibits.heat_maps[0].files.values():
        assert data_uri((tmp_path / file).read_bytes(), "") in page


def test_exhibits_of_another_run_are_left_out_with_a_note(tmp_path: Path) -> None:
    record = CASES["5 classes"]
    put_exhibits(make_exhibits(record), tmp_path)
    later = record.model_copy(update={"created": "2027-01-01T00:00:00+00:00"})
    page = page_of(later, read_beside(tmp_path, later))
    assert "Images and curves are left out" in page
    assert "data:image" not in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["results"][0]["cells"][0].update(label=77), "label 77"),
        (lambda d: d["maps"][0]["x"].pop(), "unequal numbers"),
        (lambda d: d["results"][0].update(cut="nowhere"), "'nowhere'"),
        (
            lambda d: d["data"]["samples"]["train"][0].update(tile=400),
            "thumbnail 400; there are 400",
        ),
        (lambda d: d["similarity"]["matrix"].pop(), "not a square"),
        (lambda d: d.update(surprise=1), "surprise"),
    ],
)
def test_damaged_exhibits_are_refused_with_what_to_do(
    change: Any, said: str, tmp_path: Path
) -> None:
    record = CASES["5 classes"]
    put_exhibits(make_exhibits(record), tmp_path)
    path = tmp_path / "exhibits.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(FeatxError, match=said) as caught:
        read_beside(tmp_path, record)
    assert "Run the experiment again" in str(caught.value)
    path.write_text("{")
    with pytest.raises(FeatxError, match="not valid JSON"):
        read_beside(tmp_path, record)


def test_pictures_come_from_their_folder_alone(tmp_path: Path) -> None:
    record = CASES["5 classes"]
    exhibits = make_exhibits(record)
    put_exhibits(exhibits, tmp_path / "report")
    (tmp_path / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    beside = Beside(exhibits, tmp_path / "report")
    for file in ("../secret.png", "exhibits/../../secret.png", str(tmp_path / "secret.png")):
        with pytest.raises(FeatxError, match="not in its folder"):
            beside.picture(file)
    with pytest.raises(FeatxError, match="no picture to read"):
        beside.picture("exhibits/none.png")
    with pytest.raises(FeatxError, match="neither PNG"):
        data_uri(b"<svg onload=alert(1)>", "x.svg")


def test_the_page_is_written_rebuilt_to_the_same_bytes_and_merged(tmp_path: Path) -> None:
    for place, record in (("a", CASES["5 classes"]), ("b", CASES["2 heads"])):
        put_exhibits(make_exhibits(record), tmp_path / place)
        write_report(record, tmp_path / place)
        first = (tmp_path / place / "index.html").read_bytes()
        rebuild_report(tmp_path / place)
        assert (tmp_path / place / "index.html").read_bytes() == first
    write_report(TRAININGS["5 classes"], tmp_path / "c")
    merged = write_merged([tmp_path / p for p in "abc"], tmp_path / "all")
    assert merged == tmp_path / "all" / "index.html"
    parsed = Parsed(merged.read_text())
    assert len(parsed.data) == 3
    assert len(parsed.ids) == len(set(parsed.ids))
    with pytest.raises(FeatxError, match="would be overwritten"):
        write_merged([tmp_path / "a", tmp_path / "b"], tmp_path / "c")


OTHERS = {
    **{f"training, {name}": record for name, record in TRAININGS.items()},
    **{f"study, {name}": record for name, record in STUDIES.items()},
    **{f"comparison, {name}": record for name, record in COMPARISONS.items()},
}


@pytest.mark.parametrize("case", OTHERS)
def test_pages_of_other_records_are_whole(case: str) -> None:
    record = OTHERS[case]
    parsed = Parsed(page_of(record))
    text = parsed.all_text()
    assert record.command in text
    assert len(parsed.ids) == len(set(parsed.ids))
    for attributes in (a for tag, a in parsed.tags if tag == "a"):
        assert attributes["href"].removeprefix("#") in parsed.ids
    assert parsed.tags[[t for t, _ in parsed.tags].index("p") :][0][1] == {"class": "question"}


def test_a_merged_page_ranks_the_rows_of_all_runs() -> None:
    records = [CASES["5 classes"], CASES["2 heads"], COMPARISONS["2 approaches"]]
    page = render_merged("all", [Source(record, NOTHING) for record in records])
    table = page[page.index("All results, ranked") :]
    table = table[: table.index("</table>")]
    scores = [float(v) for v in re.findall(r'<td data-v="(0\.\d+)">', table)[::2]]
    wanted = [r.accuracy["val"] for record in records[:2] for r in record.results]
    wanted += [a.splits["val"].accuracy for a in records[2].approaches]
    assert scores == pytest.approx(sorted(wanted, reverse=True), abs=5e-4)


def test_equal_validation_accuracies_are_not_ranked_by_test() -> None:
    classes = named(["a", "b"])
    wrong = {"low": {"val": 5, "test": 60}, "high": {"val": 5, "test": 1}}
    for order in (["low", "high"], ["high", "low"]):
        record = make_record([make_result(cut, wrong[cut], classes) for cut in order], classes)
        header, rows = merged_rows([record])
        # Fewer features win, which the first cut has.
        assert [row[1] for row in rows] == order
        assert header[1] == "cut, network or approach"


def test_the_largest_class_is_that_of_the_training_images() -> None:
    record = simple_record()
    test = record.results[0].splits["val"]
    counts = record.dataset.splits["train"].counts
    largest = max(counts, key=lambda label: counts[label])
    share = next(s.support for s in test.per_class if s.label == largest) / test.n
    assert f"class with most training images would reach {share:.3f} on" in page_of(record)


@pytest.mark.parametrize("wrong", [20, 190])
def test_the_largest_class_is_a_line_across_or_an_arrow_down_to_it(wrong: int) -> None:
    classes = named(["a", "b", "c", "d"])
    record = make_record([make_result("layer1", {"val": wrong, "test": wrong}, classes)], classes)
    page = page_of(record)
    svg = next(p for p in page.split("<svg ")[1:] if "accuracy per cut" in p[:300])
    arrow = "\u2193 largest class of training 0.250</text>" in svg
    line = svg.split("</svg>")[0].count("line across") == 1
    assert (arrow, line) == (wrong == 20, wrong == 190)


def test_a_map_keeps_its_proportions(tmp_path: Path) -> None:
    record = simple_record()
    exhibits = make_exhibits(record)
    drawn = exhibits.maps[0].model_copy(
        update={"x": [0.0, 10.0, 5.0], "y": [0.0, 2.0, 1.0], "images": exhibits.maps[0].images[:3]}
    )
    put_exhibits(exhibits.model_copy(update={"maps": [drawn]}), tmp_path)
    found = Parsed(page_of(record, read_beside(tmp_path, record))).data[0]["maps"][0]
    assert (found["x"], found["y"]) == ([0, 999, 500], [400, 599, 500])


def test_gaps_sort_as_numbers() -> None:
    texts = ["gap 4e-07", "gap 2e-06", "NOT converged, gap 3e-02", "converged"]
    assert [sort_value(text) for text in texts] == [4e-7, 2e-6, 3e-2, None]


def test_samples_without_thumbnails_have_no_heading(tmp_path: Path) -> None:
    record = simple_record()
    bare = make_exhibits(record).model_copy(deep=True)
    bare.tiles, bare.heat_maps = None, []
    for _, image in bare.shown():
        image.tile = None
    assert "Samples of" not in page_of(record, Beside(bare, tmp_path))


@given(st.floats(0.01, 1e17))
def test_a_shown_count_sorts_as_what_it_counts(n: float) -> None:
    assert sort_value(human_count(n)) == pytest.approx(n, rel=0.006)


@given(st.floats(0.01, 1e6))
def test_a_shown_duration_sorts_as_what_it_lasts(seconds: float) -> None:
    assert sort_value(human_seconds(seconds)) == pytest.approx(seconds, rel=0.06, abs=0.6)


@pytest.mark.parametrize("text", ["layer4", "3 dogs", "svm", "-", "", "1.2.3", "yes"])
def test_words_are_no_numbers(text: str) -> None:
    assert sort_value(text) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_the_pareto_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    def beaten(p: tuple[int, int]) -> bool:
        return any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)

    assert {points[i] for i in pareto(points)} == {p for p in points if not beaten(p)}


@pytest.mark.slow
def test_a_hundred_cuts_of_a_hundred_classes_stay_small(tmp_path: Path) -> None:
    classes = named([f"class number {i}" for i in range(100)])
    first = make_result("block0", {"val": 4000, "test": 4000}, classes, n=10_000)
    results = [first.model_copy(update={"cut": f"block{i}"}) for i in range(100)]
    record = make_record(results, classes)
    put_exhibits(make_exhibits(record, n_tiles=1000, n_points=500, n_curve=60), tmp_path)
    page = page_of(record, read_beside(tmp_path, record))
    assert len(page.encode()) < 25_000_000
    assert "are left out" in page
    # The best cut keeps its images.
    best = Parsed(page).data[0]["results"][0]
    assert best["shown"]["test"]["cells"]


def test_the_usual_page_stays_under_10_megabytes(tmp_path: Path) -> None:
    page = with_exhibits(CASES["12 cuts spread"], tmp_path, n_tiles=1500, per_cell=12, n_points=800)
    assert len(page.encode()) < 10_000_000


def chart_of(page: str, label: str) -> str:
    """Return the inner SVG of a chart."""
    svg = next(part for part in page.split("<svg ")[1:] if label in part.split(">")[0])
    return svg.split("</svg>")[0]


def chart_points(page: str, label: str) -> list[str]:
    """Return the titles of a chart's points, which hold its values."""
    return re.findall(r"<title>([^<]*)</title>", chart_of(page, label))


def test_a_training_draws_every_epoch_of_every_split() -> None:
    record = TRAININGS["12 epochs"]
    page = page_of(record)
    titles = chart_points(page, "Loss per epoch")
    for epoch in record.history:
        for split, shown in (("train", "training"), ("val", "validation"), ("test", "test")):
            assert f"{shown}, epoch {epoch.epoch}: {epoch.loss[split]:.4g}" in titles
    assert len(titles) == 3 * len(record.history) + 3  # the legend's
    rates = chart_points(page, "Learning rate per epoch")
    assert f"learning rate, epoch 1: {record.history[0].learning_rate:.4g}" in rates
    assert f"kept: epoch {record.best_epoch}<" in page


def test_the_kept_epoch_is_named_above_every_line() -> None:
    """At the top of the plot is a perfect accuracy, and a text there would lie on its line."""
    record = TRAININGS["12 epochs"]
    perfect = [e.model_copy(update={"top1": dict.fromkeys(e.top1, 1.0)}) for e in record.history]
    svg = chart_of(page_of(record.model_copy(update={"history": perfect})), "Top-1 accuracy per")
    (text,) = re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>kept: epoch', svg)
    lines = re.findall(r'<path class="line s\d[^"]*" d="M([^"]*)"', svg)
    heights = {
        float(point.split()[1])
        for line in lines
        if line.count("L") == len(perfect) - 1  # not the legend's
        for point in line.split("L")
    }
    assert len(heights) == 1
    assert float(text) + 3 < min(heights)  # as far below its foot as a letter goes


def test_several_trainings_share_a_chart() -> None:
    first = TRAININGS["12 epochs"].model_copy(update={"name": "first"})
    second = first.model_copy(update={"name": "second", "history": first.history[:4]})
    page = render_merged("two", [Source(first, NOTHING), Source(second, NOTHING)])
    titles = chart_points(page, "Top-1 accuracy per epoch, every training")
    last = second.history[-1]
    assert f"second, validation, epoch 4: {last.top1['val']:.4g}" in titles
    assert sum(title.startswith("first, validation, epoch") for title in titles) == 12


def test_a_trained_network_is_a_line_across_the_layer_curve() -> None:
    record = simple_record()
    training = TRAININGS["12 epochs"].model_copy(update={"name": "a network"})
    page = render_merged("both", [Source(record, NOTHING), Source(training, NOTHING)])
    svg = next(p for p in page.split("<svg ")[1:] if "Accuracy per cut of every run" in p[:400])
    assert "a network, validation</text>" in svg
    assert svg.split("</svg>")[0].count("line across") == 1


def test_the_range_test_of_a_training_is_on_its_page(tmp_path: Path) -> None:
    found = {"rates": [1e-4, 1e-3, 1e-2], "losses": [2.0, 1.5, 4.0], "suggestion": 7.5e-4}
    (tmp_path / "lr-range.json").write_text(json.dumps(found))
    record = TRAININGS["12 epochs"]
    write_report(record, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "the loss falls fastest at 0.00075" in page
    titles = chart_points(page, "Learning-rate range test")
    assert "training loss, smoothed, learning rate 0.001: 1.5" in titles
    # A probe has no such test, whatever lies in its folder.
    assert read_beside(tmp_path, simple_record()).rates is None


@pytest.mark.parametrize("text", [
    "{", "[]", '{"rates": [1], "losses": []}', '{"rates": [0], "losses": [1]}',
    '{"rates": [], "losses": []}', '{"rates": [1], "losses": [NaN]}',
])  # fmt: skip
def test_a_damaged_range_test_is_left_out_with_a_note(tmp_path: Path, text: str) -> None:
    (tmp_path / "lr-range.json").write_text(text)
    beside = read_beside(tmp_path, TRAININGS["12 epochs"])
    assert beside.rates is None
    assert beside.notes[0].startswith("The range test is left out: lr-range.json cannot be read (")


def test_a_grid_is_drawn_as_parallel_lines() -> None:
    record = STUDIES["24 runs"]
    page = page_of(record)
    titles = chart_points(page, "The grid: ")
    measured = [row for row in record.rows if "val" in row.top1]
    assert len(titles) == len(measured)
    best = max(measured, key=lambda row: row.top1["val"])
    assert titles[-1] == f"{best.group}: {best.top1['val']:.3f}"
    svg = next(p for p in page.split("<svg ")[1:] if "The grid: " in p[:300]).split("</svg>")[0]
    for axis, values in record.axes.items():
        assert f">{axis.replace('_', ' ')}</text>" in svg
        for value in values:
            assert f">{value[:6]}" in svg


def test_a_study_without_a_grid_has_no_parallel_lines() -> None:
    record = STUDIES["24 runs"].model_copy(update={"axes": {"network": ["grid-relu"]}})
    assert "The grid: " not in page_of(record)


def test_a_grid_with_a_setting_that_is_none_is_drawn() -> None:
    rows = [
        row.model_copy(update={"settings": {**row.settings, "patience": None if i % 2 else 5}})
        for i, row in enumerate(STUDIES["24 runs"].rows)
    ]
    record = STUDIES["24 runs"].model_copy(
        update={"rows": rows, "axes": {"patience": [None, 5], "network": ["grid-relu", "x"]}}
    )
    assert "The grid: " in page_of(record)


def test_of_equal_groups_the_dashed_line_is_the_best_of_the_report() -> None:
    rows = [
        row.model_copy(update={"top1": {"val": 0.5, "test": 0.5}})
        for row in STUDIES["24 runs"].rows
    ]
    record = STUDIES["24 runs"].model_copy(update={"rows": rows})
    titles = chart_points(page_of(record), "The grid: ")
    assert titles[-1] == f"{rows[0].group}: 0.500"


@pytest.mark.parametrize("rates", [[1.2e-6, 1.4e-6], [1.2e-6], [1e-7, 1.0]])
def test_a_range_test_of_any_rates_is_drawn(tmp_path: Path, rates: list[float]) -> None:
    found = {"rates": rates, "losses": [1.0] * len(rates)}
    (tmp_path / "lr-range.json").write_text(json.dumps(found))
    record = TRAININGS["12 epochs"]
    assert "no rate is suggested" in page_of(record, read_beside(tmp_path, record))


def test_the_dark_theme_sets_nothing_but_colours() -> None:
    """What is checked in the light theme, contrast apart, then holds in the dark one."""
    css = files("featx.report.page").joinpath("static/page.css").read_text(encoding="utf-8")
    blocks = re.findall(r"@media[^{]*prefers-color-scheme: dark[^{]*\{(.*?\})\s*\}", css, re.DOTALL)
    assert blocks
    for block in blocks:
        rules = re.findall(r"([^{}]+)\{([^{}]*)\}", block)
        assert [selector.strip() for selector, _ in rules] == [":root"]
        for line in filter(None, map(str.strip, rules[0][1].split(";"))):
            assert re.fullmatch(r"--[\w-]+: #[0-9a-f]{6}", line)


def test_a_flag_in_a_note_stays_in_one_piece() -> None:
    flags = re.findall(
        r'<span class="flag">([^<]*)</span>', sentence("--C, (--max-iter=3) a--b -C")
    )
    assert flags == ["--C", "--max-iter"]
    hostile = str(sentence('<i title="--x"> --y" onload=1'))
    assert hostile.count("<") == hostile.count("</") * 2 == 6
    assert "&lt;i title=&#34;" in hostile
    # One that is shortened is whole in its title, without markup; what is no flag may be broken.
    long = str(sentence("--flag " * 1000))
    assert long.count("--flag") > 1000
    assert "span" not in long
    assert "span" not in sentence("--" + "n" * 200)
    record = simple_record().model_copy(update={"notes": ["Extend the list with --C."]})
    assert '<span class="flag">--C</span>.' in page_of(record)
