"""`make reproduce` runs what is missing, once, and what it keeps is what the page needs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from featx.errors import FeatxError, UsageError
from featx.evaluate import StudyRecord, StudyRow, read_record
from featx.recipes import load_study, shipped_recipes

REPO = Path(__file__).resolve().parents[2]
STUDY = """
name: few
backbone: resnet18
weights: none
dataset: digits
limit: 12
stratified: true
cuts: [layer1, layer2]
image_size: [32, 48]
pool: [avg, flatten]
head: svm
C: [12, auto]
exhibits: false
"""


def call(bench, monkeypatch, capsys, places: Path, *words: str) -> tuple[int, str]:
    run = bench.experiments.Run(str(places / "few.yaml"), "few")
    experiments = {"few": bench.experiments.Experiment("a few", (run,))}
    monkeypatch.setattr(bench.reproduce, "EXPERIMENTS", experiments)
    where = ("--out", str(places / "reports"), "--cache-dir", str(places / "cache"))
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "few", *where, *words])
    code = bench.reproduce.main()
    return code, capsys.readouterr().out


def test_every_experiment_is_made_of_recipes_and_every_experiment_of_the_documents_is_there(
    bench,
) -> None:
    shipped = shipped_recipes()
    runs = [run for e in bench.experiments.EXPERIMENTS.values() for run in e.runs]
    assert {run.recipe for run in runs} == set(shipped) - {"demo"}
    assert len({run.report for run in runs}) == len(runs)
    for run in runs:
        assert load_study(run.recipe, {"name": run.report, **run.settings}).members


def test_an_experiment_runs_once_goes_on_and_runs_again_when_asked(
    bench, monkeypatch, capsys, tmp_path: Path
) -> None:
    (tmp_path / "few.yaml").write_text(STUDY)
    report = tmp_path / "reports" / "few"
    code, said = call(bench, monkeypatch, capsys, tmp_path, "--some", "image_size=32", "--dry-run")
    assert (code, report.exists()) == (0, False)
    assert "few: to run; there is no record to say how long it takes." in said
    code, said = call(bench, monkeypatch, capsys, tmp_path, "--some", "image_size=32")
    assert code == 0
    record = read_record(report)
    assert isinstance(record, StudyRecord)
    assert record.axes["image_size"] == [32]
    assert {row.settings["C"] for row in record.rows} == {12, "auto"}

    # What is published is enough to pair runs, and is what the runs predicted.
    answers = bench.answers.read_answers(report, record)
    assert set(answers) == {(row.run, row.label) for row in record.rows}
    for row in record.rows:
        assert answers[row.run, row.label].mean() == pytest.approx(row.top1["test"])

    # Complete: nothing runs, and the last run's time and machine are told.
    before = (report / "results.json").read_bytes()
    code, said = call(bench, monkeypatch, capsys, tmp_path, "--some", "image_size=32")
    assert (code, (report / "results.json").read_bytes()) == (0, before)
    assert "few: complete, skipped; last time" in said
    assert f"{record.environment.cpu}, {record.environment.n_cpus} cores" in said

    # A table from before the runs came with a checkout: it is made anew.
    old = record.model_copy(update={"created": "2000-01-01T00:00:00+00:00"})
    (report / "results.json").write_text(old.model_dump_json())
    small = ("--some", "image_size=32", "--dry-run")
    assert "few: 4 of 5 done" in call(bench, monkeypatch, capsys, tmp_path, *small)[1]
    (report / "results.json").write_bytes(before)

    # Another size goes on, and what was there stays in the table.
    code, said = call(bench, monkeypatch, capsys, tmp_path, "--some", "image_size=48", "--dry-run")
    assert "few: 4 of 9 done" in said
    # A record without predictions came with the checkout, and was not run here.
    run = next((report / "runs").iterdir())
    (run / "predictions.safetensors").rename(run / "kept")
    assert "few: 3 of 5 done" in call(bench, monkeypatch, capsys, tmp_path, *small)[1]
    (run / "kept").rename(run / "predictions.safetensors")
    said = call(bench, monkeypatch, capsys, tmp_path, *small, "--again")[1]
    assert "few: to run; last time" in said
    assert len(list((report / "runs").glob("*/results.json"))) == 4

    # Predictions that are not the record's are refused, as are answers of other images.
    row = record.rows[0]
    wrong = record.model_copy(update={"rows": [row.model_copy(update={"top1": {"test": 0.0}})]})
    (report / "results.json").write_text(wrong.model_dump_json())
    with pytest.raises(FeatxError, match="do not agree with its record"):
        bench.answers.write_answers(report)
    split = record.dataset.splits["test"].model_copy(update={"digest": "0" * 64})
    data = record.dataset.model_copy(update={"splits": {**record.dataset.splits, "test": split}})
    with pytest.raises(FeatxError, match="of other images"):
        bench.answers.read_answers(report, record.model_copy(update={"dataset": data}))


def test_again_forgets_what_a_study_has_finished(bench, tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(STUDY)
    study = load_study(tmp_path / "few.yaml", {"out": str(tmp_path / "reports")})
    for member in study.members:
        member.recipe.report_path.mkdir(parents=True)
        (member.recipe.report_path / "results.json").write_text("{}")
    bench.experiments.forget(study)
    assert not list((tmp_path / "reports").rglob("results.json"))


def test_weight_files_are_found_by_network_and_tag(bench, tmp_path: Path) -> None:
    names = ("vgg16.IMAGENET1K_FEATURES", "vgg16.IMAGENET1K_V1", "resnet50.IMAGENET1K_V1.nofc")
    for name in names:
        (tmp_path / f"{name}.safetensors").touch()
    places = bench.experiments.Places(None, tmp_path, None, tmp_path / "reports")
    found = {
        name: Path(bench.experiments.chosen_settings(run, places).get("weights", "-")).name
        for name in ("d1-vgg16-svm", "d1-depth-resnet50", "networks-500", "d2-frozen", "d3-conv2")
        for run in [bench.experiments.Run(name)]
    }
    assert found == {
        "d1-vgg16-svm": "vgg16.IMAGENET1K_FEATURES.safetensors",
        "d1-depth-resnet50": "resnet50.IMAGENET1K_V1.nofc.safetensors",
        "networks-500": "resnet50.IMAGENET1K_V1.nofc.safetensors",
        "d2-frozen": "-",
        "d3-conv2": "-",
    }


def depth_study(
    folder: Path, network: str, cuts: list[str], wrong: dict[str, dict[str, int]], suffix: str = ""
) -> None:
    """Write a study of one size: `wrong[C][cut]` test images of 1,000 are wrong, the first ones."""
    from safetensors.numpy import save_file

    like = json.loads((REPO / "reports" / "d2-input-size" / "results.json").read_text())
    digest, n = like["dataset"]["splits"]["test"]["digest"], 1000
    rows, arrays = [], {}
    for C, of_cut in wrong.items():
        for cut, n_wrong in of_cut.items():
            head = "logistic" if suffix == "-logistic" else "svm"
            settings = {"image_size": 32, "standardize": "train", "head": head}
            if suffix != "-flatten":
                settings["pool"] = "avg"
            run = f"run-{C}"
            score = 1 - n_wrong / n
            arrays[f"{run}|{cut}"] = np.packbits(np.arange(n) >= n_wrong)
            rows.append(
                StudyRow(
                    run=run, group=run, settings={**settings, "C": C}, seed=0, repeat=1, label=cut,
                    state="finished", seconds=1.0, top1={"val": score, "test": score},
                    folder=f"runs/{run}",
                ).model_dump()
            )  # fmt: skip
    name = {"VGG16": "d1-depth-vgg16", "ResNet-50": "d1-depth-resnet50"}[network] + suffix
    record = like | {
        "name": name, "task": "probe", "axes": {"image_size": [32], "C": list(wrong)},
        "rows": rows, "spreads": [], "curves": [],
        "recipe": {
            "cuts": cuts, "name": name, "pool": "flatten" if suffix == "-flatten" else ["avg"],
        },
    }  # fmt: skip
    (folder / name).mkdir(parents=True)
    (folder / name / "results.json").write_text(json.dumps(record))
    save_file(
        arrays, folder / name / "answers.safetensors", metadata={"digest": digest, "n": "1000"}
    )


def test_the_page_says_of_d1_in_depth_what_its_records_say(bench, tmp_path: Path) -> None:
    vgg = ["block3_conv1", "block4_conv1", "block5_conv1"]
    resnet = ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]
    # VGG16: the middle cut beats the last by far with either C; 190 wrong is the published 0.81.
    few = dict(zip(vgg, (190, 100, 180), strict=True))
    depth_study(tmp_path, "VGG16", vgg, {"auto": few, 12: few | {"block5_conv1": 230}})
    # ResNet-50: the last cut is best, but with C = 12 by two images alone.
    last = dict(zip(resnet, (300, 200, 150, 100), strict=True))
    depth_study(tmp_path, "ResNet-50", resnet, {"auto": last, 12: last | {"conv4_block6_out": 102}})
    known = bench.results.facts(tmp_path)
    verdicts = {
        claim: sorted(test.verdict for test in tests) for claim, tests in known["tested"].items()
    }
    assert list(verdicts.values()) == [["holds"] * 2, ["open", "reversed"], ["open", "open"]]
    assert known["claims"][1][1][1:] == ["0 / 1 / 1"]
    # p of McNemar's test, from scipy: 50 images that only one of the two classifies correctly.
    own = bench.claims.pair(np.arange(1000) >= 100, np.arange(1000) >= 150)
    assert own.p == pytest.approx(binomtest(50, 50, 0.5).pvalue)
    assert own.difference == pytest.approx(0.05)

    published = {row[1]: row for row in known["published_rows"]}
    assert published["`block3_conv1`"][3] == "not run yet"  # flattened features, in both
    assert published["`block3_conv1`"][4].startswith("0.810 (32 px, avg, train, svm")
    assert published["`block3_conv1`"][5] == "2 of 2"
    # 0.77 and 0.82 beside 0.82: the interval of 0.77 from 1,000 images ends at 0.795.
    assert published["`block5_conv1`"][5] == "1 of 2"

    costs = {cost.what: cost for cost in known["costs"]}
    assert costs["VGG16, avg"].differences == pytest.approx([0, 0, 0.05])
    assert (costs["VGG16, avg"].better, costs["VGG16, avg"].worse) == (1, 0)
    assert costs["ResNet-50, avg"].worse == 1

    page, deep = (bench.results.page(known, name) for name in bench.results.PAGES)
    # 5 sizes, 4 poolings, 2 ways to standardize, 3 heads: SVM with C = 12 and chosen, logistic
    # regression.
    assert "ResNet-50: 2 of 120 variants were run: svm with avg at 32 px." in deep
    assert known["one_variant"] == [
        "VGG16: the one variant that comes nearest to all 3 figures is 32 px, avg, train, svm, "
        "C chosen; its largest distance is 6.0 points. 0 of 2 variants agree with all of them."
    ]
    assert [(cells[0], cells[1], cells[3][:5]) for cells in known["best_rows"]] == [
        ("VGG16", "`block4_conv1`", "0.900"), ("ResNet-50", "`conv5_block3_out`", "0.900"),
    ]  # fmt: skip
    layer, network, cost = known["short"]
    assert layer[0] == "Which layer?"
    assert layer[1] == (
        "At 32 px an earlier cut beats the last one in 2 of 2 variants of VGG16 and 0 of 2 of "
        "ResNet-50, and loses in 0 of 2 variants of VGG16 and 1 of 2 of ResNet-50."
    )
    assert network[1].startswith("ResNet-50 beats VGG16 in 0 of 2 variants at 32 px. The best")
    # By network and cut, VGG16 0, 0 and 5 points, ResNet-50 0, 0, -0.2 or 0.2, and 0.
    assert "+5.0)" in cost[1]
    opening = bench.results.opening(known)
    sentences = "\n".join(f"- **{question}** {said}" for question, said in (layer, network, cost))
    assert f" head and C:\n\n{sentences}\n\n" in opening
    _, rows = known["choices"]
    by_head = {row[0]: row[1:] for row in rows if row[0].startswith("svm")}
    assert list(by_head) == ["svm, C chosen", "svm, C 12"]
    assert by_head["svm, C chosen"][0] == "1 / 0 / 0 (+8.0)"
    # A figure is drawn of what is there, and a missing record is never a number.
    assert {"d1-depth.png"} == set(bench.results.pictures(known))
    for experiment in ("d1-ten", "d2"):
        assert f"Not run yet: `make reproduce EXPERIMENT={experiment}`" in page
    bench.results.pictures(known)["d1-depth.png"]().savefig(tmp_path / "figure.png")

    # Flattened features are a study of their own, and the same network's.
    depth_study(tmp_path, "VGG16", vgg, {"auto": few}, "-flatten")
    known = bench.results.facts(tmp_path)
    deep = bench.results.page(known, "docs/results-d1.md")
    assert "VGG16: 3 of 120 variants were run: svm with avg and flatten at 32 px." in deep
    assert [cost.what for cost in known["costs"]] == ["VGG16, avg", "ResNet-50, avg"]
    # Logistic regression is another: beside the SVM on the same cuts, 50 images worse at one.
    assert known["head_rows"] == []
    depth_study(tmp_path, "VGG16", vgg, {"auto": few | {"block4_conv1": 150}}, "-logistic")
    known = bench.results.facts(tmp_path)
    assert known["head_rows"] == [["VGG16, avg", "0.0 (-5.0 to 0.0)", "0 / 2 / 1"]]
    deep = bench.results.page(known, "docs/results-d1.md")
    assert "| VGG16, avg | 0.0 (-5.0 to 0.0) | 0 / 2 / 1 |" in deep
    assert [cost.what for cost in known["costs"]] == ["VGG16, avg", "ResNet-50, avg"]
    path = tmp_path / "d1-depth-vgg16-flatten" / "results.json"
    record = json.loads(path.read_text())
    record["dataset"]["splits"]["test"]["digest"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(FeatxError, match="d1-depth-vgg16-flatten is of other test images"):
        bench.results.facts(tmp_path)
    record["dataset"]["splits"]["test"]["digest"] = known["depth"]["VGG16"].test_images
    record["dataset"]["splits"]["train"]["digest"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(FeatxError, match="d1-depth-vgg16-flatten is of other train images"):
        bench.results.facts(tmp_path)


@pytest.mark.parametrize("text", ["image_size", "=32", "image_size="])
def test_a_part_of_a_study_is_a_field_and_values(bench, capsys, monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "d1-depth", "--some", text])
    with pytest.raises(SystemExit):
        bench.reproduce.main()
    assert f"'{text}' is not FIELD=VALUE,VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "lots"], "Report 'lots' is not in this experiment. Valid: 'few'"),
        (
            ["--some", "size=32"],
            "'size' does not vary in this experiment. What varies: 'image_size'",
        ),
        (
            ["--some", "pool=max", "--only", "few"],
            "No run of this experiment has pool max. Valid: avg, flatten.",
        ),
        (["--weights-dir", "/no/such/folder"], "--weights-dir /no/such/folder is no folder"),
    ],
)
def test_what_it_does_not_know_is_refused_in_a_line(
    bench, monkeypatch, capsys, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "few.yaml").write_text(STUDY)
    run = bench.experiments.Run(str(tmp_path / "few.yaml"), "few")
    monkeypatch.setattr(
        bench.reproduce, "EXPERIMENTS", {"few": bench.experiments.Experiment("a few", (run,))}
    )
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "few", *words])
    assert bench.reproduce.main() == 1
    assert said in capsys.readouterr().err


def test_parts_of_a_study_stand_in_the_recipes_order(bench, tmp_path: Path) -> None:
    run = bench.experiments.Run("d1-depth-vgg16")
    places = bench.experiments.Places(None, None, None, tmp_path)
    some = {"image_size": [96, 32], "head": ["svm"], "epochs": [3]}
    settings = bench.experiments.chosen_settings(run, places, some=some)
    assert settings["image_size"] == [32, 96]
    assert settings["head"] == ["svm"]
    # The recipe varies no epochs, and all values of the other fields run.
    assert not {"epochs", "pool"} & set(settings)


def test_a_size_with_a_report_of_its_own_is_run_there_alone(bench, tmp_path: Path) -> None:
    experiments = bench.experiments
    depth = experiments.EXPERIMENTS["d1-depth"]
    names = ["d1-depth-vgg16", "d1-depth-vgg16-96"]
    both = experiments.chosen_runs(depth, names, {"image_size": [64, 96]})
    assert [run.report for run in both] == names
    places = experiments.Places(None, None, None, tmp_path)
    sizes = [
        experiments.chosen_settings(run, places, some={"image_size": [64, 96]})["image_size"]
        for run in both
    ]
    assert sizes == [[64], [96]]
    only = experiments.chosen_runs(depth, names, {"image_size": [96], "pool": ["avg"]})
    assert [run.report for run in only] == names[1:]
    # None of the values is left out in silence, and the place of one that is elsewhere is named.
    nowhere = "has image_size 160. Valid: 32, 64, 96, 128, 224."
    for values, reports, said in (
        ([64, 160], names, "No run of 'd1-depth-vgg16', 'd1-depth-vgg16-96' has image_size 160. "
                           "Valid: 32, 64, 96."),
        ([160], (), f"No run of this experiment {nowhere}"),
        ([96], names[:1], "No run of 'd1-depth-vgg16' has image_size 96. Valid: 32, 64. 96 is in "
                          "'d1-depth-vgg16-96', 'd1-depth-resnet50-96', "
                          "'d1-depth-vgg16-logistic-96', 'd1-depth-resnet50-logistic-96'."),
    ):  # fmt: skip
        with pytest.raises(UsageError) as refused:
            experiments.chosen_runs(depth, reports, {"image_size": values})
        assert str(refused.value) == said


def test_a_value_is_run_where_a_recipe_has_it(bench) -> None:
    depth, more = (bench.experiments.EXPERIMENTS[name] for name in ("d1-depth", "d1-depth-more"))
    runs = {
        pool: {r.report for r in bench.experiments.chosen_runs(depth, (), {"pool": [pool]})}
        for pool in ("avg", "flatten")
    }
    # Flattened features have reports of their own, one for each size, and no other run has them.
    assert all("-flatten" in report for report in runs["flatten"])
    for family in ("vgg16-flatten", "resnet50-flatten"):
        for study in (f"d1-depth-{family}", f"d1-depth-{family}-logistic"):
            sizes = {
                r.report: r.settings["image_size"]
                for r in (*depth.runs, *more.runs)
                if re.fullmatch(rf"{study}(-\d+)?", r.report)
            }
            assert sizes == {
                study if size == 32 else f"{study}-{size}": [size]
                for size in load_study("d1-depth-vgg16-flatten").axes["image_size"]
            }
    assert len(runs["flatten"]) == 4
    others = {r.report for r in bench.experiments.chosen_runs(more, (), {"pool": ["flatten"]})}
    assert len(others) == 16
    assert not others & runs["flatten"]
    assert runs["avg"] | runs["flatten"] == {run.report for run in depth.runs}
    assert not runs["avg"] & runs["flatten"]
    # What is asked of a report that does not vary it is judged by its one value.
    only = ["d1-depth-vgg16-flatten"]
    assert len(bench.experiments.chosen_runs(depth, only, {"pool": ["flatten"]})) == 1
    with pytest.raises(
        UsageError, match=r"has pool avg\. Valid: flatten\. avg is in 'd1-depth-vgg16'"
    ):
        bench.experiments.chosen_runs(depth, only, {"pool": ["avg"]})
    # Logistic regression has no C = 12: nothing would run, and nothing would say so.
    with pytest.raises(UsageError, match="has head logistic and C 12 together"):
        bench.experiments.chosen_runs(depth, (), {"head": ["logistic"], "C": [12]})
    with pytest.raises(UsageError, match=r"has pool sum\. Valid: avg, max, grid:2, flatten\."):
        bench.experiments.chosen_runs(depth, (), {"pool": ["sum"]})


def test_a_field_that_the_experiment_varies_may_be_named_where_a_report_does_not(
    bench, monkeypatch, capsys
) -> None:
    words = ["d1-depth", "--dry-run", "--only", "d1-depth-vgg16-flatten", "--some", "pool=flatten"]
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *words])
    assert bench.reproduce.main() == 0
    assert "d1-depth-vgg16-flatten: to run" in capsys.readouterr().out


def test_values_of_one_field_may_come_in_two_options(bench, monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        sys, "argv",
        ["reproduce.py", "d1-depth", "--dry-run", "--some", "image_size=64", "--some",
         "image_size=96", "--only", "d1-depth-vgg16", "d1-depth-vgg16-96"],
    )  # fmt: skip
    assert bench.reproduce.main() == 0
    said = capsys.readouterr().out
    assert "d1-depth-vgg16: to run" in said
    assert "d1-depth-vgg16-96: to run" in said
    monkeypatch.setattr(sys, "argv", [*sys.argv[:3], "--some", "image_size=96", *sys.argv[-3:]])
    assert bench.reproduce.main() == 0
    said = capsys.readouterr().out
    assert "d1-depth-vgg16: skipped, it has nothing of what --some asks for." in said
    assert "d1-depth-vgg16: to run" not in said


def test_the_reports_of_a_study_by_size_are_all_variants_of_its_recipe(bench) -> None:
    runs = bench.experiments.EXPERIMENTS["d1-depth"].runs
    for recipe in ("d1-depth-vgg16", "d1-depth-resnet50"):
        own = [r for r in runs if r.recipe == recipe and "image_size" in r.settings]
        sizes = [size for run in own for size in run.settings["image_size"]]
        assert sizes == load_study(recipe).axes["image_size"]
