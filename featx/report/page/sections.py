"""What the templates of the page show: tables, charts and pictures of each kind of record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from featx.evaluate.reading import ranking, ranking_split
from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import StudyRecord, TrainingRecord
from featx.report.comparison_text import comparison_rows, p_text, ranked_approaches
from featx.report.labels import plain
from featx.report.outcomes import ranked_outcomes
from featx.report.page.charts import matrix_chart
from featx.report.page.markup import Table, make_table
from featx.report.page.probe_charts import (
    class_charts,
    cost_charts,
    f1_charts,
    layer_curve,
    number_key,
    probe_series,
)
from featx.report.page.training_charts import history_charts, parallel_chart
from featx.report.study_text import (
    deciding_split,
    spread_rows,
    study_remarks,
    study_rows,
    study_splits,
    value_text,
)
from featx.report.text import (
    HEAD_NAMES,
    SPLIT_NAMES,
    TERMINAL,
    accuracy_text,
    convergence_text,
    ranked_rows,
    rate_label,
    share_text,
)
from featx.report.training_text import (
    MODE_NAMES,
    cost_rows,
    history_rows,
    kept_by_text,
    shown_epochs,
    training_rows,
)
from featx.text import human_bytes, human_count, human_seconds

if TYPE_CHECKING:
    from featx.evaluate.exhibits import Exhibits
    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.reading import Record
    from featx.evaluate.records import ChoiceRecord
    from featx.evaluate.training_records import ComparisonRecord, StudyRow


_TIMES = {
    "exhibits": "time to make the exhibits",
    "evaluation": "time to evaluate",
    "loop": "time of the training loop",
    "head": "time to fit the first head",
}


def question(record: Record) -> str:
    """Return what the run was to find out: the recipe's description, else the kind's question."""
    said = record.recipe.get("description")
    if said:
        return str(said)
    k = len(record.dataset.classes)
    if isinstance(record, RunRecord):
        return f"Which layer of {record.backbone.name} separates these {k} classes?"
    if isinstance(record, TrainingRecord):
        return f"How well does {record.network.name} learn these {k} classes?"
    if isinstance(record, StudyRecord):
        return f"Which settings are best for these {k} classes?"
    return f"Which approach is best for these {k} classes?"


def context(record: Record) -> dict[str, Any]:
    """Return what the template of the record's kind shows."""
    if isinstance(record, RunRecord):
        return _probe(record)
    if isinstance(record, TrainingRecord):
        return _training(record)
    if isinstance(record, StudyRecord):
        return _study(record)
    return _comparison(record)


def kind(record: Record) -> str:
    """Return the kind of a record, which names its template."""
    return "probe" if isinstance(record, RunRecord) else record.kind


def _probe(record: RunRecord) -> dict[str, Any]:
    best = ranking(record)[0]
    split = ranking_split(record)
    title = f"{plain(record.backbone.name)} on {plain(record.dataset.name)}: accuracy per cut"
    least = _largest_class(record, best.splits[split])
    return {
        "ranked": make_table("Cuts, ranked", *ranked_rows(record), sortable=True),
        "ranked_on": split,
        "least": least,
        "curve": layer_curve(
            probe_series(record), [c.cut for c in record.cuts], title, least=least
        ),
        "results": [_result_facts(record, i, best) for i in range(len(record.results))],
        "costs": cost_charts(record),
        "numbered": number_key(record),
        "f1": f1_charts(record),
        "network": record.backbone,
        "choices": choice_table(record.choices),
    }


def _largest_class(record: RunRecord, metrics: SplitMetrics) -> float:
    """Return the accuracy of always naming the class with most training images."""
    train = record.dataset.splits.get("train")
    counts = train.counts if train else {s.label: s.support for s in metrics.per_class}
    largest = max(counts, key=lambda label: counts[label])
    return sum(s.support for s in metrics.per_class if s.label == largest) / metrics.n


def _result_facts(record: RunRecord, index: int, best: Any) -> dict[str, Any]:
    result = record.results[index]
    cut = record.cut_record(result.cut)
    converged = "" if result.converged else ", NOT converged"
    facts = [
        ("module", cut.module),
        ("activation", f"{' x '.join(map(str, cut.shape))} ({cut.kind})"),
        ("pooling", f"{cut.pool}: {cut.n_features:,} values per image"),
        ("cost", f"{human_count(cut.multiply_adds)} multiply-adds, "
                 f"{human_count(cut.n_parameters)} parameters, "
                 f"{human_bytes(cut.feature_bytes)} cached"),
        ("head", f"{HEAD_NAMES[result.head]}, C = {result.C:g}, standardized: "
                 f"{result.standardize}"),
        ("solver", f"{result.solver}: {result.n_iter:,} iterations in "
                   f"{human_seconds(result.fit_s)}{converged}; {convergence_text(result)}"),
    ]  # fmt: skip
    facts += [("says", message) for message in result.messages]
    scores = [
        (SPLIT_NAMES.get(s, s), f"{result.splits[s].accuracy:.3f}")
        for s in (*[s for s in ("val", "test") if s in result.splits],
                  *[s for s in result.splits if s not in ("val", "test")])
    ]  # fmt: skip
    return {
        "cut": result.cut,
        "head": HEAD_NAMES[result.head],
        "scores": scores,
        "facts": facts,
        "is_best": result is best,
    }


def choice_table(choices: Sequence[ChoiceRecord]) -> Table | None:
    """Return what was chosen from what, on which split; None where nothing was."""
    rows = []
    for choice in choices:
        tried = ", ".join(f"{c.value:g}: {c.score:.3f}" for c in choice.candidates)
        edge = f" (the {choice.edge} edge of the list)" if choice.edge else ""
        on = SPLIT_NAMES.get(choice.on, choice.on)
        rows.append((choice.cut, f"{choice.what} = {choice.chosen:g}{edge}", on, tried))
    header = ("cut", "chosen", "on", "candidates and their accuracy there")
    return make_table("What was chosen, and on which split", header, rows) if rows else None


def _training(record: TrainingRecord) -> dict[str, Any]:
    network = record.network
    facts = [
        ("network", network.name),
        ("mode", MODE_NAMES[record.mode]),
        ("image size", " x ".join(map(str, network.image_size))),
        ("parameters", f"{network.n_parameters:,}, of these trained {network.n_trained:,}"),
        ("multiply-adds per image", f"{network.multiply_adds:,}"),
    ]
    if network.frozen_up_to is not None:
        facts.append(("frozen up to", f"{network.frozen_up_to}, features {record.features}"))
    if record.model_file is not None:
        size = "" if record.model_bytes is None else f", {human_bytes(record.model_bytes)}"
        facts.append(("model file", f"{record.model_file}{size}"))
    history = make_table("History", *history_rows(record)) if record.history else None
    return {
        "network": network,
        "reached": make_table("What the kept weights reach", *training_rows(record)),
        "facts": make_table("Network", ("", ""), facts),
        "history": history,
        "curves": history_charts(record),
        "shown_epochs": len(shown_epochs(record)),
        "kept_by": kept_by_text(record.kept_by),
        "costs": make_table("Cost", ("", ""), cost_rows(record)) if record.history else None,
        "settings": _pairs("Settings of the training", record.settings),
        "choices": None,
    }


def _study(record: StudyRecord) -> dict[str, Any]:
    caption = "Groups" if record.repeats > 1 else "Runs"
    spreads = []
    if record.repeats > 1:
        spreads = [
            make_table(f"Spread on {SPLIT_NAMES.get(split, split)}", *spread_rows(record, split))
            for split in study_splits(record)
        ]
    return {
        "network": None,
        "ranked": make_table(caption, *study_rows(record), sortable=True),
        "decided_on": deciding_split(record),
        "remarks": study_remarks(record, TERMINAL),
        "grid": parallel_chart(record),
        "spreads": spreads,
        "folders": {row.run: row.folder for row in record.rows},
        "choices": None,
    }


def _comparison(record: ComparisonRecord) -> dict[str, Any]:
    pairs = [
        (a.name, a.against_best.only_best, a.against_best.only_this, p_text(a.against_best.p),
         p_text(a.against_best.p_adjusted))
        for a in ranked_approaches(record)
        if a.against_best
    ]  # fmt: skip
    header = ("approach", "only the best is right", "only this is right", "p", "p after Holm")
    return {
        "network": None,
        "ranked": make_table("Approaches, ranked", *comparison_rows(record), sortable=True),
        "pairs": make_table("Image by image on the test split", header, pairs) if pairs else None,
        "folders": {approach.name: approach.folder for approach in record.approaches},
        "choices": None,
    }


def provenance(record: Record, network: Any) -> list[Table]:
    """Return the tables of what was run, on what, with which settings and versions."""
    dataset, machine = record.dataset, record.environment
    images = [
        (SPLIT_NAMES.get(s, s), f"{of.n:,}", _origin(dataset.provenance, s), of.digest)
        for s, of in dataset.splits.items()
    ]
    run = [("record", f"schema {record.schema_version}, {record.created}")]
    if record.inputs_digest:
        run.append(("digest of the files read", record.inputs_digest))
    run += [("seed", value_text(record.recipe.get("seed", 0)))]
    run += [("machine", f"{machine.cpu}, {machine.n_cpus} cores, {machine.platform}"),
            ("device", machine.device)]  # fmt: skip
    tables = [
        make_table(f"Images: {plain(dataset.name, 80)}",
                   ("split", "images", "from", "SHA-256 of pixels, labels and order"), images),
        _pairs("Where the images come from",
               {k: v for k, v in dataset.provenance.items() if k != "splits"}),
    ]  # fmt: skip
    if network is not None:
        random = " (random)" if network.random else ""
        values = {
            "name": network.name,
            "library": network.library,
            "weights": f"{network.weights}{random}, from {network.source}",
            "digest": network.digest,
            "seed": getattr(network, "seed", None),
            **{f"preprocessing: {k}": v for k, v in network.preprocess.items()},
        }
        tables.append(_pairs("Network", values))
    versions = {"featx": record.featx_version, "Python": machine.python, **machine.versions}
    return [
        *tables,
        _pairs("Settings", _set_in(record.recipe)),
        make_table("Run", ("", ""), run),
        make_table("Times and rates", ("", ""), [_timing(*item) for item in record.timing.items()]),
        _pairs("Versions", versions),
    ]


def _set_in(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was set; what it is about, and a source's figures, are no settings."""
    return {k: v for k, v in recipe.items() if k not in ("description", "published")}


def _origin(provenance: Mapping[str, Any], split: str) -> str:
    splits = provenance.get("splits", {})
    made = splits.get(split, {}) if isinstance(splits, Mapping) else {}
    return value_text(made) if made else "-"


def _pairs(caption: str, values: Mapping[str, Any]) -> Table:
    rows = [(k.replace("_", " "), value_text(v)) for k, v in values.items() if v is not None]
    return make_table(caption, ("", ""), rows, longest=2000)


def _timing(name: str, value: float) -> tuple[str, str]:
    if name.endswith("_per_s"):
        return rate_label(name), human_count(value)
    did = name.removesuffix("_s")
    return _TIMES.get(did, f"time to {did}"), human_seconds(value)


def data_context(record: Record, exhibits: Exhibits | None) -> dict[str, Any]:
    """Return what is shown of the images: bars per split, samples, duplicates, sizes."""
    shown: dict[str, Any] = {"bars": class_charts(record.dataset), "samples": [], "sizes": None}
    shown |= {"duplicates": []}
    if exhibits is None:
        return shown
    data = exhibits.data
    for split, images in data.samples.items():
        by_class = {
            name: [image for image in images if image.label == label and image.tile is not None]
            for label, name in record.dataset.classes.items()
        }
        if any(by_class.values()):
            shown["samples"].append((SPLIT_NAMES.get(split, split), by_class))
    shown["duplicates"] = data.duplicates
    if data.sizes:
        rows = [(SPLIT_NAMES.get(s.split, s.split), f"{s.width} x {s.height}", f"{s.n:,}")
                for s in data.sizes]  # fmt: skip
        shown["sizes"] = make_table("Sizes of the images", ("split", "pixels", "images"), rows)
    return shown


def similarity_chart(exhibits: Exhibits | None) -> tuple[str, Markup] | None:
    """Return the matrix of similarities between cuts with its title; None without one."""
    like = exhibits.similarity if exhibits else None
    if like is None or not like.cuts:
        return None
    split = SPLIT_NAMES.get(like.split, like.split)
    pairs = [(like.matrix[i][j], i, j) for i in range(len(like.cuts)) for j in range(i)]
    title = f"Linear CKA between cuts, {like.n:,} images of {plain(split)}"
    words = ""
    if pairs:
        (high, a, b), (low, c, d) = max(pairs), min(pairs)
        words = (f"; most alike {plain(like.cuts[b])} and {plain(like.cuts[a])} {high:.2f}, "
                 f"least {plain(like.cuts[d])} and {plain(like.cuts[c])} {low:.2f}")  # fmt: skip
    return title, matrix_chart(title + words, like.cuts, like.cuts, like.matrix, "CKA")


def merged_rows(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table over several runs, the best first.

    A probe has a row per cut and head, a comparison one per approach, a study one per run, a
    training just one. They are ranked by validation accuracy, equal ones as their own reports have
    them; those without one stand last, by test accuracy.
    """
    rows: list[tuple[tuple[float, float], list[str]]] = []
    for record in records:
        if isinstance(record, StudyRecord):
            rows += [_study_row(record, row) for row in record.rows]
            continue
        for found in ranked_outcomes(record):
            test = found.splits.get("test")
            cells = [record.name, found.what, found.how, share_text(found.accuracy.get("val")),
                     accuracy_text(test) if test else "-", human_count(found.multiply_adds or 0),
                     human_seconds(found.seconds)]  # fmt: skip
            rows.append((_place(found.accuracy), cells))
    rows.sort(key=lambda row: row[0])
    header = ["run", "cut, network or approach", "head or kind", "val accuracy",
              "test accuracy (95 % interval)", "multiply-adds", "time to fit or train"]  # fmt: skip
    return header, [cells for _, cells in rows]


def _place(accuracy: Mapping[str, float]) -> tuple[float, float]:
    """Return what rows are sorted by: test accuracies where there is no other one only."""
    if "val" in accuracy:
        return -accuracy["val"], 0.0
    return 1.0, -accuracy.get("test", 0.0)


def _study_row(record: StudyRecord, row: StudyRow) -> tuple[tuple[float, float], list[str]]:
    val, test = row.top1.get("val"), row.top1.get("test")
    adds = "-" if row.multiply_adds is None else human_count(row.multiply_adds)
    cells = [record.name, row.label or row.run, row.group, share_text(val), share_text(test), adds,
             human_seconds(row.seconds)]  # fmt: skip
    return _place(row.top1), cells
