"""The page itself: records and their exhibits through Jinja2, with style and script inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from featx.evaluate.training_records import TrainingRecord
from featx.report.exhibits import Beside, data_uri
from featx.report.page.data import MAPS_BUDGET, SHOWN_BUDGET, run_data
from featx.report.page.markup import answer_markup, kept, make_table, name
from featx.report.page.probe_charts import runs_curve
from featx.report.page.rendering import render
from featx.report.page.sections import (
    context,
    data_context,
    kind,
    merged_rows,
    provenance,
    question,
    similarity_chart,
)
from featx.report.page.training_charts import histories_charts, rate_chart
from featx.report.text import SPLIT_NAMES

if TYPE_CHECKING:
    from featx.evaluate.exhibits import HeatMapExhibit
    from featx.evaluate.reading import Record
    from featx.report.canvas import ReportFigure

PICTURE_BUDGET = 8_000_000
"""Characters that pictures may take in a page, of all runs together."""
_SHOWN_SIDE = 64  # pixels that a tile has on the page, at least
_SECTIONS = {
    "probe": (("cuts", "Cuts, ranked"), ("each", "Each cut"), ("over", "Over cuts"),
              ("heat", "Heat maps")),
    "training": (("history", "History"), ("rates", "Range test"), ("each", "Classes"),
                 ("network", "Network")),
    "study": (("cuts", "Runs"), ("spread", "Spread"), ("folders", "Reports")),
    "comparison": (("cuts", "Approaches"), ("pairs", "Image by image"), ("folders", "Reports")),
}  # fmt: skip
_HEAT_TITLES = {
    "activation": "Mean activation of all channels",
    "channel": "One channel at each cut",
    "evidence": "Evidence of the linear head",
}


@dataclass(frozen=True)
class Source:
    """What a page is made of: a record, what stands beside it, its drawn figures."""

    record: Record
    beside: Beside
    figures: Sequence[ReportFigure] = ()


def render_page(source: Source) -> str:
    """Return the page of one record as HTML that needs no other file."""
    return _render(source.record.name, [source])


def render_merged(title: str, sources: Sequence[Source]) -> str:
    """Return one page of several records: all rows and curves together, then each of them."""
    curve = runs_curve([source.record for source in sources])
    trainings = [s.record for s in sources if isinstance(s.record, TrainingRecord)]
    histories = histories_charts(trainings) if len(trainings) > 1 else []
    rows = merged_rows([source.record for source in sources])
    ranked = make_table("All results, ranked", *rows, sortable=True)
    return _render(title, sources, curve=curve, ranked=ranked, histories=histories)


def _render(title: str, sources: Sequence[Source], **shared: Any) -> str:
    budgets = {"shown": SHOWN_BUDGET, "maps": MAPS_BUDGET, "pictures": PICTURE_BUDGET}
    runs, data = [], []
    for number, source in enumerate(sources):
        run, of_run = _run(number, source, budgets)
        runs.append(run)
        data.append(of_run)
    shown = {"curve": None, "ranked": None, "histories": [], **shared}
    return render("page.html.j2", title, data, runs=runs, **shown)


def _run(
    number: int, source: Source, budgets: dict[str, int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the templates and what the script need of one run."""
    record, exhibits = source.record, source.beside.exhibits
    data, notes = run_data(record, exhibits, budgets)
    sheet, more = _sheet(source.beside, budgets)
    notes += more
    if "sheet" in data:
        data["sheet"] = {k: v for k, v in sheet.items() if k != "uri"} if sheet else None
    heat_maps, more = _heat_maps(source, budgets)
    notes += more
    shown = context(record)
    run = {
        "number": number,
        "record": record,
        "kind": kind(record),
        "question": question(record),
        "answer": answer_markup(record),
        "notes": [*record.notes, *source.beside.notes, *notes],
        "sheet": sheet,
        "similarity": similarity_chart(exhibits),
        "has_maps": bool(data["maps"]),
        "heat_maps": heat_maps,
        "rates": rate_chart(source.beside.rates) if source.beside.rates else None,
        "data": data_context(record, exhibits),
        "provenance": provenance(record, shown["network"]),
        "figures": [{"alt": f.alt, "uri": data_uri(f.png, f.name)} for f in source.figures],
        **shown,
    }
    run["sections"] = _sections(run)
    return run, data


def _sections(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the sections that this run has, for the list of links."""
    there = {"heat": run["heat_maps"], "spread": run.get("spreads"), "pairs": run.get("pairs"),
             "rates": run["rates"]}  # fmt: skip
    if run["kind"] == "training":
        there["each"] = run["record"].splits
    own = [s for s in _SECTIONS[run["kind"]] if there.get(s[0], True)]
    return [*own, ("data", "Data"), ("run", "What was run")]


def _sheet(beside: Beside, budgets: dict[str, int]) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the sheet of thumbnails with its address, and a note where it is too large."""
    tiles = beside.exhibits.tiles if beside.exhibits else None
    if tiles is None:
        return None, []
    uri = data_uri(beside.picture(tiles.file), tiles.file)
    if len(uri) > budgets["pictures"]:
        return None, ["To keep the page small, the images themselves are left out."]
    budgets["pictures"] -= len(uri)
    shown = tiles.tile * max(1, -(-_SHOWN_SIDE // tiles.tile))
    return {**tiles.model_dump(exclude={"file"}), "shown": shown, "uri": uri}, []


def _heat_maps(source: Source, budgets: dict[str, int]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the heat maps with their pictures, as many as the budget holds."""
    exhibits = source.beside.exhibits
    if exhibits is None:
        return [], []
    maps, left_out = [], 0
    for heat in exhibits.heat_maps:
        uris = {cut: data_uri(source.beside.picture(f), f) for cut, f in heat.files.items()}
        size = sum(map(len, uris.values()))
        if size > budgets["pictures"]:
            left_out += 1
            continue
        budgets["pictures"] -= size
        maps.append(
            {
                "title": _heat_title(heat, source.record.dataset.classes),
                "exact": heat.exact,
                "signed": heat.what == "evidence",
                "image": heat.image,
                "pictures": [(cut, uri, heat.about.get(cut, "")) for cut, uri in uris.items()],
            }
        )
    notes = [f"To keep the page small, {left_out} heat maps are left out."] if left_out else []
    return maps, notes


def _heat_title(heat: HeatMapExhibit, classes: dict[int, str]) -> Markup:
    split = SPLIT_NAMES.get(heat.split, heat.split)
    return Markup("{}: image {} of {} (true class {})").format(
        _HEAT_TITLES[heat.what], heat.image.index, kept(split), name(classes[heat.image.label])
    )
