"""The report's page as its reader has it: in Chromium, by mouse, by keyboard, on paper."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from exhibit_cases import COLUMNS, make_exhibits, put_exhibits
from record_cases import COMPARISONS, STUDIES, TRAININGS
from report_cases import CASES, named, simple_record

from featx.report import read_compared, write_differences, write_merged, write_report

RECORD = CASES["5 classes"]
EXHIBITS = make_exhibits(RECORD)
HOSTILE = simple_record(
    named(["<script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>",
           '"\'>&lt;', "\u202eabc", "n" * 10_000]),
    name="</script><script>window.hacked=1</script>",
)  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, record in (("probe", RECORD), ("heads", CASES["2 heads"]), ("hostile", HOSTILE)):
        put_exhibits(make_exhibits(record), folder / name)
        write_report(record, folder / name)
    write_report(TRAININGS["12 epochs"], folder / "training")
    write_report(STUDIES["24 runs"], folder / "study")
    write_report(COMPARISONS["12 approaches"], folder / "comparison")
    write_merged([folder / n for n in ("probe", "heads", "training")], folder / "merged")
    several = read_compared([folder / n for n in ("probe", "heads", "comparison")])
    write_differences(several, folder / "differences")
    return folder


def show(browser: Any, page: Path, width: int = 1280, scheme: str = "light") -> list[str]:
    """Open a page and return what its console says."""
    from page_screenshots import show_as

    show_as(browser, width, 900, scheme)
    browser.get_log("browser")
    browser.get((page / "index.html").as_uri())
    return [entry["message"] for entry in browser.get_log("browser")]


def find(browser: Any, css: str) -> Any:
    return browser.find_element("css selector", css)


def find_all(browser: Any, css: str) -> list[Any]:
    return browser.find_elements("css selector", css)


EVERY = ("probe", "heads", "hostile", "training", "study", "comparison", "merged", "differences")


@pytest.mark.parametrize("name", EVERY)
def test_a_page_loads_in_silence_and_asks_for_nothing(browser: Any, pages: Path, name: str) -> None:
    assert show(browser, pages / name) == []
    for node in find_all(browser, "details:not([open]) > summary"):
        browser.execute_script("arguments[0].click()", node)
    assert browser.get_log("browser") == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [url for url in loaded if not url.startswith("data:")] == []
    assert browser.execute_script("return window.hacked") is None


def test_the_policy_refuses_what_is_not_the_pages_own(browser: Any, pages: Path) -> None:
    show(browser, pages / "probe")
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        "document.body.append(s); const i = new Image(); i.src = 'file:///nowhere.png';"
        "document.body.append(i);"
    )
    said = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert browser.execute_script("return window.hacked") is None
    assert "Content Security Policy" in said


def test_the_ranked_table_sorts_both_ways(browser: Any, pages: Path) -> None:
    show(browser, pages / "probe")
    wanted = [(c.cut, c.n_features) for c in RECORD.cuts]
    header = next(
        b for b in find_all(browser, "th[aria-sort] button") if b.text == "values per image"
    )

    def rows() -> list[str]:
        return [cell.text for cell in find_all(browser, "#cuts-0 ~ .scroll tbody th")]

    header.click()
    assert rows() == [c for c, _ in sorted(wanted, key=lambda p: -p[1])]
    header.click()
    assert rows() == [c for c, _ in sorted(wanted, key=lambda p: p[1])]
    state = header.find_element("xpath", "..").get_attribute("aria-sort")
    assert state == "ascending"


def _best_cell(label: int, predicted: int) -> tuple[Any, str]:
    best = max(RECORD.results, key=lambda r: r.accuracy["val"])
    shown = next(e for e in EXHIBITS.results if (e.cut, e.split) == (best.cut, "test"))
    cell = next(c for c in shown.cells if (c.label, c.predicted) == (label, predicted))
    return cell, f"button[data-label='{label}'][data-predicted='{predicted}']"


@pytest.mark.parametrize("key", ["click", "\ue007"])
def test_a_cell_shows_its_images(browser: Any, pages: Path, key: str) -> None:
    show(browser, pages / "probe")
    pair = next(
        (c.label, c.predicted)
        for e in EXHIBITS.results
        if e.cut == max(RECORD.results, key=lambda r: r.accuracy["val"]).cut and e.split == "test"
        for c in e.cells
        if c.label != c.predicted
    )
    cell, css = _best_cell(*pair)
    button = find(browser, f"details.result[open] {css}")
    button.click() if key == "click" else button.send_keys(key)
    names = RECORD.dataset.classes
    said = find(browser, "details.result[open] .said")
    assert said.text.startswith(
        f"True {names[pair[0]]}, predicted {names[pair[1]]}: {cell.n} images"
    )
    assert said.get_attribute("aria-live") == "polite"
    cards = find_all(browser, "details.result[open] .shown .card")
    assert len(cards) == len(cell.images)
    for card, image in zip(cards, cell.images, strict=True):
        assert f"score {image.score:.2f}" in card.text
        assert f"image {image.index}" in card.text
        assert f"true {names[image.label]}" in card.text
        tile = card.find_element("css selector", ".tile")
        place = tile.value_of_css_property("background-position")
        x, y = (-float(v) for v in re.findall(r"(-?[\d.]+)px", place))
        assert (x / 64, y / 64) == (image.tile % COLUMNS, image.tile // COLUMNS)
        assert tile.value_of_css_property("background-image").startswith('url("data:image/png')


def test_the_matrix_has_three_views(browser: Any, pages: Path) -> None:
    show(browser, pages / "probe")
    best = max(RECORD.results, key=lambda r: r.accuracy["val"]).splits["test"]

    def cells() -> list[list[str]]:
        rows = find_all(browser, "details.result[open] .matrix tbody tr")
        return [[td.text for td in row.find_elements("css selector", "td")] for row in rows]

    assert cells() == [[str(n) for n in row] for row in best.confusion]
    counts, shares, errors = find_all(browser, "details.result[open] .toggles button")
    shares.click()
    assert [shares.get_attribute("aria-pressed"), counts.get_attribute("aria-pressed")] == [
        "true", "false",
    ]  # fmt: skip
    for row, true in zip(cells(), best.confusion, strict=True):
        for text, n in zip(row, true, strict=True):
            assert float(text) == pytest.approx(n / sum(true), abs=0.0051)
    errors.click()
    for i, (row, true) in enumerate(zip(cells(), best.confusion, strict=True)):
        assert row == ["" if j == i else str(n) for j, n in enumerate(true)]


def test_arrows_move_in_the_matrix_and_the_map(browser: Any, pages: Path) -> None:
    show(browser, pages / "probe")
    button = find(browser, "details.result[open] .matrix td button")
    button.send_keys("\ue014")  # right
    focused = browser.switch_to.active_element
    assert focused.get_attribute("data-label") == button.get_attribute("data-label")
    assert focused.get_attribute("data-predicted") != button.get_attribute("data-predicted")
    assert [focused.get_attribute("tabindex"), button.get_attribute("tabindex")] == ["0", "-1"]
    stage = find(browser, ".stage")
    stage.send_keys("\ue014")
    first = find(browser, ".beside .card").text
    assert f"image {EXHIBITS.maps[0].images[0].index}" in first
    stage.send_keys("\ue014")
    assert f"image {EXHIBITS.maps[0].images[1].index}" in find(browser, ".beside .card").text


def test_what_has_the_focus_is_seen(browser: Any, pages: Path) -> None:
    show(browser, pages / "probe")
    find(browser, "body").send_keys("\ue004")  # tab
    first = browser.switch_to.active_element
    assert first.get_attribute("class") == "skip"
    assert first.location["x"] >= 0
    assert first.value_of_css_property("outline-style") == "solid"


def _luminance(colour: str) -> float:
    red, green, blue = (float(v) for v in re.findall(r"[\d.]+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_dark_theme_is_dark(browser: Any, pages: Path) -> None:
    found = {}
    for scheme in ("light", "dark"):
        show(browser, pages / "probe", scheme=scheme)
        body = find(browser, "body")
        found[scheme] = [
            _luminance(body.value_of_css_property(what)) for what in ("background-color", "color")
        ]
        text = find(browser, "svg.chart text")
        found[scheme].append(_luminance(text.value_of_css_property("fill")))
    (light, *dark_text), (dark, *light_text) = found["light"], found["dark"]
    assert light > 200
    assert max(dark_text) < 60
    assert dark < 40
    assert min(light_text) > 180


def test_paper_has_everything_open_and_no_controls(browser: Any, pages: Path) -> None:
    show(browser, pages / "probe", scheme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    closed = browser.execute_script(
        "return document.querySelectorAll('details:not([open])').length"
    )
    reports = [t for t in find_all(browser, "caption") if t.text.startswith("Classification")]
    shown = [find(browser, css).is_displayed() for css in ("nav", ".toggles", ".hint")]
    background = _luminance(find(browser, "body").value_of_css_property("background-color"))
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert closed == 0
    assert len(reports) == 2 * len(RECORD.results)
    assert shown == [False, False, False]
    assert background > 200
    assert find_all(browser, "details.result:not([open])")


@pytest.mark.parametrize("name", EVERY)
def test_a_phone_scrolls_down_only(browser: Any, pages: Path, name: str) -> None:
    show(browser, pages / name, width=390)
    for node in find_all(browser, "details:not([open]) > summary"):
        browser.execute_script("arguments[0].click()", node)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", EVERY)
def test_axe_finds_nothing_serious(browser: Any, pages: Path, name: str, scheme: str) -> None:
    show(browser, pages / name, scheme=scheme)
    for button in find_all(browser, ".pairs button")[:1]:
        button.click()
    axe = files("axe_core_python") / "axe.min.js"
    browser.execute_script(axe.read_text(encoding="utf-8"))
    # A theme changes colours alone, as `test_the_dark_theme_sets_nothing_but_colours` checks.
    rules = {"runOnly": {"type": "tag", "values": ["cat.color"]}} if scheme == "dark" else {}
    found = browser.execute_async_script(
        "const done = arguments[1]; axe.run(document, arguments[0]).then(r => done(r))", rules
    )
    # A rule that breaks off says nothing at all: contrast must have been looked at.
    checked = {rule["id"] for rule in (*found["passes"], *found["violations"]) if rule["nodes"]}
    assert "color-contrast" in checked
    serious = [
        (v["id"], [node["html"][:200] for node in v["nodes"][:3]])
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == [], json.dumps(serious, indent=1)
