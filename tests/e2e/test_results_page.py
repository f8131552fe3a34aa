"""docs/results.md: its sentences and figures say what the records hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from featx.evaluate import read_record

REPO = Path(__file__).resolve().parents[2]


def test_the_claims_of_d1s_plain_runs_are_differences_of_their_records(bench) -> None:
    rows, _ = bench.claims.plain_claims(REPO / "reports")
    vgg, resnet = (read_record(REPO / "reports" / f"d1-{name}-svm-pooled")
                   for name in ("vgg16", "resnet50"))  # fmt: skip
    test = {r.cut: r.accuracy["test"] for record in (vgg, resnet) for r in record.results}
    wanted = [("block4_conv1", "block5_conv1"), ("conv3_block4_out", "conv5_block3_out"),
              ("conv3_block4_out", "block4_conv1")]  # fmt: skip
    for (a, b), (claim, difference, verdict) in zip(wanted, rows, strict=True):
        assert claim.index(f"`{a}`") < claim.index(f"`{b}`")
        assert float(difference.split()[0]) == pytest.approx(100 * (test[a] - test[b]), abs=0.051)
        # An interval without 0 and Holm's verdict agree here.
        low, high = (float(t.strip("()")) for t in difference.split()[1::2])
        assert verdict == ("holds" if low > 0 else "reversed" if high < 0 else "open")


def test_a_page_that_disagrees_with_its_records_is_found(bench, monkeypatch, tmp_path) -> None:
    assert bench.results.problems() == []
    copy = tmp_path / "reports"
    shutil.copytree(REPO / "reports", copy, ignore=lambda _, names: [
        name for name in names if name in ("runs", "heads", "figures")
    ])  # fmt: skip
    path = copy / "d2-input-size" / "results.json"
    text = path.read_text()
    record = json.loads(text)
    next(r for r in record["rows"] if "test" in r["top1"])["top1"]["test"] = 0.481
    path.write_text(json.dumps(record))
    facts = bench.results.facts
    monkeypatch.setattr(bench.results, "facts", lambda: facts(copy))
    assert bench.results.problems() == ["docs/results.md"]
    # And the page of D1 by itself: validation accuracies of a variant stand there alone.
    shutil.copy(REPO / "reports" / "d2-input-size" / "results.json", path)
    path = copy / "d1-depth-vgg16-logistic-128" / "results.json"
    record = json.loads(path.read_text())
    max(record["rows"], key=lambda row: row["top1"]["val"])["top1"]["val"] += 0.001
    path.write_text(json.dumps(record))
    assert bench.results.problems() == ["docs/results-d1.md"]


def test_probes_and_networks_are_paired_over_all_sizes(bench, tmp_path: Path) -> None:
    """Three copies of a published comparison: another number of images, and other answers."""
    from safetensors.numpy import load_file, save_file

    source = REPO / "reports" / "networks-500"
    names = dict(zip(bench.networks.NETWORKS, (500, 5000, 20_000), strict=True))
    answers = load_file(source / "answers.safetensors")
    record = json.loads((source / "results.json").read_text())
    for name, n in names.items():
        (tmp_path / name).mkdir()
        copy = json.loads(json.dumps(record)) | {"name": name}
        copy["dataset"]["splits"]["train"]["n"] = n
        (tmp_path / name / "results.json").write_text(json.dumps(copy))
        bits = dict(answers)
        if n == 5000:
            # The probe's answers are those of the network: nothing tells them apart.
            probe = next(key for key in bits if key.startswith("probe conv4_block6_out|"))
            bits[probe] = bits["lp-ft|"]
        digest = record["dataset"]["splits"]["test"]["digest"]
        if n != 20_000:
            save_file(
                bits, tmp_path / name / "answers.safetensors",
                metadata={"digest": digest, "n": "5000"},
            )  # fmt: skip
    found = bench.networks.read_networks(tmp_path)
    by_name = {a["name"]: a for a in record["approaches"]}
    assert {c.probe.name for c in found.values()} == {"probe conv4_block6_out"}
    assert {c.tuned.name for c in found.values()} == {"lp-ft"}
    few, many, untested = found.values()
    test = {name: by_name[name]["splits"]["test"]["accuracy"] for name in by_name}
    apart = test["lp-ft"] - test["probe conv4_block6_out"]
    assert few.pair.difference == pytest.approx(apart)
    # Holm: two were tested, and the smaller p counts twice.
    assert few.p == pytest.approx(2 * few.pair.p)
    assert [c.verdict for c in (few, many, untested)] == [
        "fine-tuning wins", "not told apart", "not tested",
    ]  # fmt: skip
    words = bench.networks.head_words(found)
    tuned, probe = (
        by_name[name]["train_s"] + by_name[name]["extract_s"]
        for name in ("lp-ft", "probe conv4_block6_out")
    )
    longer, gain = f"{tuned / probe:.0f}", f"{100 * apart:.1f}"
    network = "the better of LP-FT and fine-tuning all of ResNet-50"
    begins = f"At 64 px, on {record['environment']['n_cpus']} cores: with 500"
    assert words == (
        f"{begins} training images {network} beats the best linear head by {gain} points and "
        f"takes {longer} times as long; with 5,000 training images the best linear head and "
        f"{network} are not told apart; the network takes {longer} times as long; with 20,000 "
        f"training images the best linear head and {network} were not compared."
    )
    # Sizes with the same answer share a sentence.
    alike = {"a": few, "b": replace(few, record=many.record)}
    assert bench.networks.head_words(alike) == (
        f"{begins} and 5,000 training images {network} beats the best linear head by {gain} and "
        f"{gain} points and takes {longer} and {longer} times as long."
    )
    worse = replace(
        few,
        pair=replace(few.pair, difference=-apart),
        probe=few.probe.model_copy(update={"train_s": tuned / 1.5, "extract_s": 0.0}),
    )
    assert bench.networks.head_words({"a": worse}) == (
        f"{begins} training images the best linear head beats {network} by {gain} points, which "
        "takes 1.5 times as long."
    )
    assert bench.networks.head_words({}) == ""
    header, rows = bench.networks.approach_rows(found)
    assert header == ["approach", "500 images", "5,000 images", "20,000 images"]
    assert {row[0] for row in rows} == {f"`{name}`" for name in by_name}
    assert sum("**" in cell for row in rows for cell in row) == 6
    told = {row[0]: row[1].rpartition(", ")[2] for row in rows}
    assert (told["`lp-ft`"], told["`scratch-conv5`"]) == ("20 epochs", "40 epochs")


@pytest.mark.parametrize(
    ("correct", "verdict"),
    [(9147, "not told apart"), (9080, "not told apart"), (9000, "told apart")],
)
def test_ten_classes_stand_beside_the_published_figure(bench, correct: int, verdict: str) -> None:
    published = read_record(REPO / "reports" / "d1-ten")
    row = published.rows[0]
    rows = [
        row.model_copy(update={"settings": {"image_size": size}, "C": C, "top1": {"test": score}})
        for size, C, score in ((32, 0.01, 0.7), (224, 0.03, correct / 10_000))
    ]
    record = published.model_copy(update={"rows": rows, "recipe": {"C": [0.01, 0.03, 10]}})
    ten = bench.others.BySize(record, {32: 0.7, 224: correct / 10_000})
    assert bench.others.ten_values(ten) == "3 values from 0.01 to 10"
    assert [cells[2] for cells in bench.others.ten_rows(ten)] == ["0.01", "0.03"]
    assert [cells[-1] for cells in bench.others.ten_rows(ten)] == ["", "0.9147"]
    # Newcombe's method 10, from another implementation of Wilson's intervals.
    ours, theirs = (binomtest(k, 10_000).proportion_ci(method="wilson") for k in (correct, 9147))
    apart = (correct - 9147) / 10_000
    low = apart - np.hypot(correct / 10_000 - ours.low, theirs.high - 0.9147)
    high = apart + np.hypot(ours.high - correct / 10_000, 0.9147 - theirs.low)
    assert (low > 0 or high < 0) == (verdict == "told apart")
    words = bench.others.ten_words(ten)
    assert words.startswith(
        f"The usual probe of all ten classes reaches {correct / 10_000:.3f} on test at 224 px, "
        "where 0.9147 is published ("
    )
    assert f"published ({100 * apart:+.1f} points, ".replace("+0.0", "0.0") in words
    assert words.endswith(
        f" points, {100 * low:+.1f} to {100 * high:+.1f} by Newcombe's interval: {verdict}); at 32 "
        "px it reaches 0.700."
    )
    small = bench.others.ten_words(bench.others.BySize(record, {32: 0.7}))
    assert "reaches 0.700 on test at 32 px; " in small
    assert small.endswith("0.9147 is published at 224 px, which was not run yet.")
    named = record.model_copy(update={"recipe": {"C": "dinov2"}})
    ten = bench.others.BySize(named, {32: 0.7})
    assert bench.others.ten_values(ten) == "45 values from 1e-06 to 100000"
    axes = bench.figures.draw_by_size(ten, (224, 0.9147), "t", "s", 4).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["32", "224"]
    assert "s: 0.9147" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_figure_of_networks_marks_the_best_and_names_every_kind(bench) -> None:
    found = bench.networks.read_networks(REPO / "reports")
    panels = bench.figures.draw_networks(found).axes
    for panel, compared in zip(panels, found.values(), strict=True):
        points = {tuple(line.get_xydata()[0]): line for line in panel.lines}
        for approach in compared.record.approaches:
            took = approach.train_s + approach.extract_s
            line = points[took, approach.splits["test"].accuracy]
            best = approach.name in (compared.probe.name, compared.tuned.name)
            assert (line.get_markerfacecolor() == line.get_color()) == best
    (legend,) = panels[0].figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[0] == "linear head on cached features"
    assert labels[-1] == "filled: the best probe, the best fine-tuned network"
    assert len(labels) == 6


def test_d2s_figure_stands_beside_its_own_setup_and_sizes_beside_each_other(bench) -> None:
    d2 = bench.others.read_sizes(REPO / "reports", "d2-input-size")
    whole = bench.others.read_study(REPO / "reports", "d2-frozen")
    best = max(whole.rows, key=lambda row: row.top1["val"]).top1["test"]
    words = bench.others.d2_words(d2, whole)
    assert words.startswith(f"On all 45,000 training images it reaches {best:.3f} at 32 px, ")
    assert f", {100 * (best - 0.48):.0f} points above the published figure" in words
    assert words.endswith("Why the published figure is another stays unexplained.")
    short = bench.others.d2_short(d2, whole, None)
    assert short == f"D2's 48 % on a frozen ResNet-18 at 32 px is {100 * best:.0f} % here."
    prepared = bench.others.read_study(REPO / "reports", "d2-frozen-preprocess")
    row = prepared.rows[1]
    assert row.settings == {"preprocess": "caffe"}
    train = prepared.curves[1].values["top1 train"][row.best_epoch - 1]
    words = bench.others.d2_words(d2, whole, prepared)
    reaches = f"{row.top1['val']:.3f} on validation, {row.top1['test']:.3f} on test and {train:.3f}"
    assert f"the same head reaches {reaches} on training images as they are trained on," in words
    assert "A candidate for the published figure is images prepared" in words
    assert "unexplained" not in words
    short = bench.others.d2_short(d2, whole, prepared)
    percent = f"{100 * row.top1['test']:.0f} %"
    assert short.endswith(f"it is {percent} in one run, a candidate for the reason.")
    # Newcombe's interval of two shares of 10,000 is about 1.4 points to either side.
    far = row.model_copy(update={"top1": row.top1 | {"test": 0.50}})
    other = prepared.model_copy(update={"rows": [prepared.rows[0], far]})
    assert bench.others.d2_short(d2, whole, other).endswith(
        "it is 50 % in one run, which does not explain it."
    )
    assert "other weights do not give the published figure" in (
        bench.others.d2_words(d2, whole, other)
    )
    torch_alone = prepared.model_copy(update={"rows": prepared.rows[:1]})
    assert bench.others.d2_short(d2, whole, torch_alone).endswith(" % here.")
    assert bench.others.d2_words(d2, whole, torch_alone).endswith("stays unexplained.")
    # Neither the sentence nor the section where one of both records is missing.
    assert bench.others.d2_short(None, whole, prepared) == ""
    assert bench.others.d2_short(d2, None, prepared) == ""
    assert f"over {d2.test[32]:.3f} at 32 px, with 2,000 training images." in words
    rows = bench.others.d2_rows(d2, whole)
    assert [(row[2], row[4]) for row in rows] == [("45,000", "0.48"), *[("2,000", "")] * 4]
    assert [row[4] for row in bench.others.d2_rows(d2, None)] == ["0.48", "", "", ""]
    assert "published figure" not in bench.others.d2_words(d2, None)


def test_records_that_differ_from_the_recipe_are_told_beside_the_others(bench, monkeypatch) -> None:
    names = ("d2-frozen", "d2-input-size")
    frozen, sizes = (read_record(REPO / "reports" / name) for name in names)
    made = bench.commands.made_by("d2", [frozen, sizes])
    assert made.startswith("Made by `make reproduce EXPERIMENT=d2 ARGS='--only d2-frozen'`, `")
    assert f"`{sizes.command}` on " in made
    # Alone in their experiment the one that does not differ is still named.
    two = tuple(run for run in bench.commands.EXPERIMENTS["d2"].runs if run.report in names)
    monkeypatch.setitem(
        bench.commands.EXPERIMENTS, "d2", replace(bench.commands.EXPERIMENTS["d2"], runs=two)
    )
    assert "ARGS='--only d2-frozen'`" in bench.commands.made_by("d2", [frozen, sizes])


def test_a_part_of_an_experiment_is_named_in_its_command(bench) -> None:
    records = [read_record(REPO / "reports" / f"networks-{n}") for n in (500, 5000)]
    made = bench.commands.made_by("networks", records)
    assert "ARGS='--only networks-500 networks-5000'`" in made
    alone = bench.commands.made_by("d1-ten", [read_record(REPO / "reports" / "d1-ten")])
    assert "EXPERIMENT=d1-ten" in alone
    assert "--only" not in alone


def test_what_a_comparison_notes_on_its_best_probe_is_told(bench) -> None:
    found = bench.networks.read_networks(REPO / "reports")
    few = found["networks-500"]
    note = f"probe: {few.probe.what}: C 1 is the largest of the values compared."
    few = replace(few, record=few.record.model_copy(update={"notes": ["another", note]}))
    (told,) = bench.networks.notes_on_probes({"networks-500": few})
    assert told.startswith(f"With 500 training images, {few.probe.what}: C 1 is the largest")
    quiet = few.record.model_copy(update={"notes": ["probe: another_cut: C 1 is the largest"]})
    few = bench.networks.Compared(quiet, few.probe, few.tuned, few.pair)
    assert bench.networks.notes_on_probes({"networks-500": few}) == []


def test_a_machine_is_named_once_with_all_its_days(bench) -> None:
    record = read_record(REPO / "reports" / "d1-ten")
    other = record.environment.model_copy(update={"n_cpus": 64})
    records = [
        record.model_copy(update={"created": f"2026-01-{day:02}T00:00:00+00:00"})
        for day in (3, 2, 3)
    ]
    away = records[0].model_copy(update={"environment": other})
    card = record.environment.model_copy(update={"device": "cuda:0 (NVIDIA H200): bf16, compiled"})
    on_card = records[0].model_copy(update={"environment": card})
    cpu, n = record.environment.cpu, record.environment.n_cpus
    assert bench.commands.measured_on([*records, away]) == (
        f"{cpu}, {n} cores, 2026-01-02 and 2026-01-03; {cpu}, 64 cores, 2026-01-03"
    )
    assert bench.commands.measured_on([on_card]) == (
        f"{cpu}, {n} cores, cuda:0 (NVIDIA H200), 2026-01-03"
    )


def test_records_of_two_experiments_have_two_commands(bench) -> None:
    records = [read_record(REPO / "reports" / name) for name in ("d1-ten", "networks-500")]
    made = bench.commands.made_by(["d1-ten", "networks"], records)
    assert made.startswith(
        "Made by `make reproduce EXPERIMENT=d1-ten`, `make reproduce EXPERIMENT=networks "
        "ARGS='--only networks-500'` on "
    )


@pytest.mark.parametrize(("name", "network"), [("vgg16", "VGG16"), ("resnet50", "ResNet-50")])
def test_the_best_of_all_variants_is_that_of_the_rows(bench, name: str, network: str) -> None:
    reports = [p for p in (REPO / "reports").glob(f"d1-depth-{name}*") if "-v1" not in p.name]
    assert len(reports) >= 3
    rows = [row for report in reports for row in read_record(report).rows]
    best = max(rows, key=lambda row: row.top1["val"])
    own = bench.depth.best_rows(bench.depth.read_depth(REPO / "reports"))
    (_, cut, variant, val, test) = next(row for row in own if row[0] == network)
    assert cut == f"`{best.label}`"
    assert variant.startswith(f"{best.settings['image_size']} px, {best.settings['pool']}")
    assert [val[:5], test[:5]] == [f"{best.top1[split]:.3f}" for split in ("val", "test")]


def verdicts_of(bench, *verdicts: tuple[int, str, str]) -> list:
    pair = bench.claims.Pair(0.0, 0.0, 0.0, 1.0)
    return [
        bench.claims.Tested(bench.depth.Variant(size, pool, "train", "svm", "12"), verdict, pair)
        for size, pool, verdict in verdicts
    ]


def test_the_short_answer_on_layers_compares_the_same_variants_at_both_ends(bench) -> None:
    words = bench.short.layer_words
    # Flattened features at one end alone, and a size between them, take no part.
    early = [
        (32, "avg", "holds"),
        (32, "max", "holds"),
        (32, "flatten", "open"),
        (64, "avg", "open"),
    ]
    late = [(96, "avg", "reversed"), (96, "max", "open")]
    found = {name: verdicts_of(bench, *early, *late) for name in ("A", "B")}
    assert words(found) == (
        "An earlier one for small images: at 32 px an earlier cut beats the last one in 2 of 2 "
        "variants of A and 2 of 2 of B, and loses in none; at 96 px an earlier cut beats the last "
        "one in none, and loses in 1 of 2 variants of A and 1 of 2 of B."
    )
    # Where most variants say the same at both ends, nothing depends on the size.
    same = verdicts_of(bench, (32, "avg", "holds"), (64, "avg", "holds"))
    assert words({"A": same}) == (
        "At 32 px an earlier cut beats the last one in 1 of 1 variants of A, and loses in none; at "
        "64 px an earlier cut beats the last one in 1 of 1 variants of A, and loses in none."
    )
    assert words({"A": verdicts_of(bench, (64, "avg", "open"))}).startswith("At 64 px an earlier")
    # Networks that were run at other sizes, and no variant at both ends, cannot be compared.
    assert words({"A": same, "B": found["B"]}) == ""
    assert words({"A": verdicts_of(bench, (32, "avg", "holds"), (64, "max", "open"))}) == ""
    assert words({}) == words({"A": []}) == ""


def test_the_best_of_all_is_chosen_on_validation(bench) -> None:
    def depth(name: str, **scores: tuple[float, float]):
        variant = bench.depth.Variant(96, "avg", "train", "svm", "12")
        of = {cut: {"val": val, "test": test} for cut, (val, test) in scores.items()}
        return bench.depth.Depth(name, [], list(scores), {variant: of}, {}, {})

    found = {"A": depth("A", x=(0.8, 0.9), y=(0.7, 0.95)), "B": depth("B", z=(0.81, 0.7))}
    best = "The best variant of all, chosen on validation, is `z` of B at 96 px with 0.700 on test."
    tested = verdicts_of(bench, (32, "avg", "open"))
    assert bench.short.network_words(tested, found) == (
        f"ResNet-50 beats VGG16 in 0 of 1 variants at 32 px. {best}"
    )
    assert bench.short.network_words([], found) == best
    assert bench.short.network_words([], {"A": found["A"]}) == ""


def test_of_equal_variants_the_one_with_the_training_images_statistics_is_best(bench) -> None:
    scores = {
        bench.depth.Variant(32, "avg", how, "svm", "12"): {"x": {"val": 0.8, "test": test}}
        for how, test in (("per-split", 0.9), ("train", 0.7))
    }
    depth = bench.depth.Depth("A", [], ["x"], scores, {}, {})
    assert depth.best_variant()[0].standardize == "train"


def test_what_a_fixed_c_cost_is_the_middle_and_the_most_of_all_pairs(bench) -> None:
    gains = [bench.claims.Gain("a", [0.01, 0.05], 1, 0), bench.claims.Gain("b", [0.02], 0, 0)]
    said = bench.short.cost_words(gains)
    assert said.endswith("accuracy by +2.0 points in the median (+1.0 to +5.0).")
    assert bench.short.cost_words([]) == ""


def test_features_are_called_bf16_where_the_record_says_so(bench) -> None:
    record = read_record(REPO / "reports" / "d1-depth-vgg16")

    def study(name: str, device: str, allow: list[str]):
        where = record.environment.model_copy(update={"device": device})
        recipe = {**record.recipe, "allow": allow}
        return record.model_copy(update={"name": name, "recipe": recipe, "environment": where})

    # Allowed and not there, taken, and a record from before records said it.
    records = [
        study("a", "cpu: fp32, channels-last", ["bf16"]), study("b", "cpu: bf16, folded", ["bf16"]),
        study("c", "cpu: fp32, bf16", []), study("d", "cpu", ["bf16"]), study("e", "cpu", []),
    ]  # fmt: skip
    told = bench.depth.rounded_words({"A": bench.depth.Depth("A", records, [], {}, {}, {})})
    assert told.startswith("The features of `b`, `c` and `d` were computed in bf16, ")
    assert (
        bench.depth.rounded_words({"A": bench.depth.Depth("A", records[:1], [], {}, {}, {})}) == ""
    )


def test_the_table_of_studies_has_the_accuracy_of_the_last_epoch_too() -> None:
    record = read_record(REPO / "reports" / "d4-study")
    line = next(
        text for text in (REPO / "README.md").read_text().splitlines()
        if text.startswith("| [d4-study]") and "| cnn-b |" in text
    )  # fmt: skip
    runs = [curve.values["top1 test"] for curve in record.curves if curve.group == "cnn-b"]
    last = [run[record.recipe.get("epochs", 100) - 1] for run in runs]
    assert len(last) == 5
    assert f"| {min(last):.3f} / {np.mean(last):.3f} / {max(last):.3f} |" in line


def test_the_best_run_of_each_network_of_the_grid_is_chosen_on_validation(bench) -> None:
    record = read_record(REPO / "reports" / "d3-grid")
    rows = bench.trainings.grid_rows(REPO / "reports")
    assert [row[0] for row in rows] == record.axes["network"]
    for network, n, failed, how, val, test in rows:
        own = [row for row in record.rows if row.run.startswith(f"{network}-lr")]
        assert (len(own), int(n)) == (6, 6)
        assert int(failed) == sum(row.state == "did not learn" for row in own)
        best = max(own, key=lambda row: row.top1["val"])
        assert [val[:5], test[:5]] == [f"{best.top1[split]:.3f}" for split in ("val", "test")]
        assert how.startswith(f"lr {best.settings['lr']}, optimizer {best.settings['optimizer']}")
    assert bench.trainings.grid_rows(REPO / "nowhere") == []
