"""Grids and repeats: every run once, one table, and what is finished stays finished."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from training_runs import FEW, Ears

from featx.errors import NonFiniteFeatures, UsageError
from featx.evaluate import StudyRecord, read_record
from featx.pipeline import finished_runs, run_study
from featx.pipeline.about import study_command, where_runs_ran
from featx.recipes import Study, load_study, make_study
from featx.training import save_checkpoint


def study(tmp_path: Path, **values: object) -> Study:
    base = {
        "task": "train", "network": "conv2", "dataset": "digits", "image_size": 16, "limit": FEW,
        "epochs": 2, "batch_size": 32, "out": str(tmp_path / "reports"), "jobs": 1,
        "cache_dir": str(tmp_path / "cache"), "name": "study", "exhibits": False,
    }  # fmt: skip
    return make_study({**base, **values})


def test_a_grid_runs_every_combination_and_a_second_call_none(tmp_path: Path) -> None:
    grid = study(tmp_path, network=["conv2", "cnn-a"], lr=[0.003, 1e-9])
    record, report = run_study(grid)
    assert report == tmp_path / "reports" / "study" / "report.md"
    assert read_record(report.parent) == record
    assert record.axes == {"network": ["conv2", "cnn-a"], "lr": [0.003, 1e-9]}
    assert [row.group for row in record.rows] == [
        "conv2-lr0.003", "conv2-lr1e-09", "cnn-a-lr0.003", "cnn-a-lr1e-09",
    ]  # fmt: skip
    states = [row.state for row in record.rows]
    assert states[1] == states[3] == "did not learn"
    assert "did not learn" in report.read_text()
    folders = [report.parent / row.folder for row in record.rows]
    assert all((folder / "report.md").is_file() for folder in folders)
    before = [(folder / "results.json").stat().st_mtime_ns for folder in folders]
    assert finished_runs(grid) == 4
    ears = Ears()
    again, _ = run_study(grid, progress=ears)
    assert "4 of 4 runs are finished already." in ears.said
    assert [(folder / "results.json").stat().st_mtime_ns for folder in folders] == before
    assert again.rows == record.rows


def test_a_run_of_other_settings_is_not_taken_for_finished(tmp_path: Path) -> None:
    run_study(study(tmp_path, lr=[0.003, 0.001]))
    assert finished_runs(study(tmp_path, lr=[0.003, 0.001])) == 2
    assert finished_runs(study(tmp_path, lr=[0.003, 0.001], epochs=3)) == 0


def test_a_study_says_in_which_precision_its_runs_computed(tmp_path: Path) -> None:
    record, report = run_study(study(tmp_path, precision=["fp32", "bf16"], epochs=1))
    assert record.environment.device == "cpu: fp32, bf16"
    assert "ran on cpu: fp32, bf16" in report.read_text()
    runs = [read_record(report.parent / row.folder) for row in record.rows]
    assert [run.environment.device for run in runs] == ["cpu: fp32", "cpu: bf16"]
    # A run from before trainings said it is not taken for one of the others.
    bare = runs[0].environment.model_copy(update={"device": "cpu"})
    old = runs[0].model_copy(update={"environment": bare})
    assert where_runs_ran([old]) == "cpu"
    assert where_runs_ran([old, runs[1]]) == "cpu: not recorded, bf16"
    probes = {
        "backbone": "resnet18", "weights": "none", "preprocess": "torch", "cuts": ["layer1"],
        "dataset": "digits", "image_size": 16, "limit": FEW, "standardize": ["train", "none"],
        "name": "probes", "out": str(tmp_path / "reports"), "cache_dir": str(tmp_path / "cache"),
    }  # fmt: skip
    of_probes, _ = run_study(make_study(probes))
    assert of_probes.environment.device.startswith("cpu: fp32, channels-")
    assert of_probes.environment.device.endswith("BatchNorm folded")


def test_an_interrupted_grid_goes_on_with_what_is_missing(tmp_path: Path, monkeypatch) -> None:
    grid = study(tmp_path, lr=[0.003, 0.002, 0.001])
    from featx.pipeline import studies

    run_one, calls = studies._run_one, []

    def stop_at_second(recipe, parent, progress):
        calls.append(recipe.run_name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_one(recipe, parent, progress)

    monkeypatch.setattr(studies, "_run_one", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        run_study(grid)
    assert finished_runs(grid) == 1
    calls.clear()
    monkeypatch.setattr(
        studies, "_run_one", lambda *a: (calls.append(a[0].run_name), run_one(*a))[1]
    )
    record, _ = run_study(grid)
    assert calls == ["lr0.002", "lr0.001"]
    assert len(record.rows) == 3


def test_the_seconds_are_those_of_every_part_of_a_study(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "study"
    run_study(study(tmp_path, lr=[0.003]))
    whole = json.loads((folder / "results.json").read_text())
    # What took an hour is not told as the seconds of what came behind it.
    whole["timing"]["total_s"] = 3600.0
    (folder / "results.json").write_text(json.dumps(whole))
    second, _ = run_study(study(tmp_path, lr=[0.003, 0.001]))
    assert 3600.0 < second.timing["total_s"] < 3700.0
    # A table of another machine's runs, which came with its report, says nothing of those here.
    other = second.model_copy(deep=True)
    for row in other.rows:
        row.seconds += 1.0
    (folder / "results.json").write_text(other.model_dump_json())
    here, _ = run_study(study(tmp_path, lr=[0.003, 0.001]))
    assert here.timing["total_s"] < 3600.0
    # Without the table the runs say what they took; one that is new says nothing of others.
    (folder / "results.json").unlink()
    took = sum(row.seconds for row in second.rows)
    again, _ = run_study(study(tmp_path, lr=[0.003, 0.001]))
    assert took <= again.timing["total_s"] < 3600.0
    for path in folder.glob("runs/*/results.json"):
        path.unlink()
    anew, _ = run_study(study(tmp_path, lr=[0.003]))
    assert anew.timing["total_s"] < 3600.0


def test_repeats_have_their_own_seeds_images_and_a_spread(tmp_path: Path) -> None:
    record, report = run_study(study(tmp_path, repeats=3, epochs=3, lr=0.003))
    assert [row.seed for row in record.rows] == [0, 1, 2]
    assert [row.repeat for row in record.rows] == [1, 2, 3]
    digests = {
        json.loads((report.parent / row.folder / "results.json").read_text())["dataset"]["splits"][
            "train"
        ]["digest"]
        for row in record.rows
    }
    assert len(digests) == 3
    values = np.array([row.top1["test"] for row in record.rows])
    found = next(s for s in record.spreads if (s.split, s.metric) == ("test", "top1"))
    assert (found.n, found.min, found.max) == (3, values.min(), values.max())
    assert found.mean == pytest.approx(values.mean())
    assert found.std == pytest.approx(values.std(ddof=1))
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((max(low, 0), min(high, 1)))
    assert {s.metric for s in record.spreads} == {"top1", "top5"}
    assert len(record.curves) == 3
    assert len(record.curves[0].values["loss train"]) == 3
    assert any("Each repeat draws its own images" in note for note in record.notes)


def test_a_checkpoint_of_other_settings_begins_again_with_resume_too(tmp_path: Path) -> None:
    """What an interrupt tells the user to call has --resume in it."""
    grid = study(tmp_path, lr=[0.003], resume=True)
    folder = grid.members[0].recipe.report_path
    save_checkpoint(folder / "checkpoint.pt", {"network": "featx/other"}, {})
    record, _ = run_study(grid)
    assert [row.epochs_run for row in record.rows] == [2]


def test_runs_that_would_extract_the_same_features_wait_for_each_other(monkeypatch) -> None:
    from featx.pipeline import studies

    monkeypatch.setattr(studies, "n_cpus", lambda: 8)
    of = {"task": "train", "dataset": "digits", "lr": [0.1, 0.2], "device": "cpu"}
    for values, jobs in (
        ({"network": "conv2"}, 2),
        ({"network": "resnet18"}, 1),
        ({"network": "resnet18", "mode": "finetune"}, 2),
        ({"network": "resnet18", "jobs": 2}, 2),
    ):
        grid = make_study({**of, **values})
        assert studies._jobs(grid.members, grid.recipe) == jobs, values


def test_runs_in_worker_processes_give_the_same_table(tmp_path: Path) -> None:
    one, _ = run_study(study(tmp_path / "one", lr=[0.003, 0.001]))
    two, _ = run_study(study(tmp_path / "two", lr=[0.003, 0.001], jobs=2))
    assert [row.group for row in one.rows] == [row.group for row in two.rows]
    for a, b in zip(one.rows, two.rows, strict=True):
        # Other numbers of threads add in another order.
        assert a.top1["val"] == pytest.approx(b.top1["val"], abs=0.05)


def test_a_run_that_fails_or_diverges_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    record, report = run_study(
        study(tmp_path, network=["conv2", "cnn-c"], optimizer="sgd", lr=[0.01, 1e30])
    )
    states = {row.group: row.state for row in record.rows}
    assert states["conv2-lr1e30"] == "diverged"
    assert states["conv2-lr0.01"] not in ("diverged", "failed")
    assert "learning rate" in record.rows[1].message
    text = report.read_text()
    assert "diverged" in text
    tiny = study(tmp_path, name="tiny", network=["conv2", "conv3"], image_size=20)
    record, _ = run_study(tiny)
    failed = [row for row in record.rows if row.state == "failed"]
    assert [row.group for row in failed] != []
    assert "20 x 20" in failed[0].message


def test_a_study_of_nothing_but_failures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Every run of study failed.*8 x 8"):
        run_study(study(tmp_path, image_size=8, lr=[0.1, 0.2]))


def test_probes_are_studied_per_cut(tmp_path: Path) -> None:
    grid = make_study(
        {
            "backbone": "resnet18", "weights": "none", "cuts": ["layer1", "layer2"],
            "pool": ["avg", "max"], "image_size": 32, "dataset": "digits", "preprocess": "torch",
            "limit": {"train": 6, "val": 3, "test": 3}, "C": 0.01, "name": "probes",
            "out": str(tmp_path / "reports"), "cache_dir": str(tmp_path / "cache"), "jobs": 1,
        }
    )  # fmt: skip
    record, report = run_study(grid)
    assert isinstance(record, StudyRecord)
    assert record.task == "probe"
    assert [(row.group, row.label) for row in record.rows] == [
        ("avg", "layer1"), ("avg", "layer2"), ("max", "layer1"), ("max", "layer2"),
    ]  # fmt: skip
    assert set(record.rows[0].top5) == {"val", "test"}
    for row in record.rows:
        (found,) = (
            r for r in read_record(report.parent / row.folder).results if r.cut == row.label
        )
        assert (row.C, row.converged) == (0.01, found.converged)
        assert row.seconds == found.all_fits_s >= found.fit_s
    assert "layer2" in report.read_text()


def test_probes_of_a_study_share_one_pass_for_their_poolings(tmp_path: Path, monkeypatch) -> None:
    from featx.backbones import Capture

    passed: list[int] = []
    forward = Capture.__call__
    monkeypatch.setattr(
        Capture, "__call__", lambda self, x: (passed.append(len(x)), forward(self, x))[1]
    )
    probes = {
        "backbone": "resnet18", "weights": "none", "cuts": ["layer1", "layer2"],
        "image_size": 32, "dataset": "digits", "preprocess": "torch", "exhibits": False,
        "limit": {"train": 6, "val": 3, "test": 3}, "C": 0.01, "name": "study", "jobs": 1,
    }  # fmt: skip
    pools = ["avg", "cls", "grid:2", "flatten"]
    one = {"out": str(tmp_path / "one"), "cache_dir": str(tmp_path / "cache")}
    together, _ = run_study(make_study({**probes, **one, "pool": pools}))
    assert sum(passed) == 120
    # A pooling that these cuts cannot take fails by itself.
    assert [row.state for row in together.rows if row.group == "cls"] == ["failed"]
    passed.clear()
    apart = []
    for pool in pools:
        alone = {"out": str(tmp_path / pool), "cache_dir": str(tmp_path / f"cache-{pool}")}
        if pool != "cls":
            record, _ = run_study(make_study({**probes, **alone, "pool": pool, "seed": [0]}))
            apart += [row.top1 for row in record.rows]
    assert sum(passed) == 3 * 120
    assert [row.top1 for row in together.rows if row.state == "finished"] == apart


def test_a_pooling_that_fails_takes_no_other_run_with_it(tmp_path: Path, monkeypatch) -> None:
    import sys

    running = sys.modules["featx.pipeline.running"]
    real, asked = running.extract_to_store, []

    def extract(*args, also=(), **kwargs):
        asked.append(tuple(also))
        if also or args[4].pool == "flatten":
            raise NonFiniteFeatures("float16 cannot hold it")
        return real(*args, **kwargs)

    monkeypatch.setattr(running, "extract_to_store", extract)
    ears = Ears()
    record, _ = run_study(
        make_study(
            {
                "backbone": "resnet18", "weights": "none", "cuts": ["layer1"], "image_size": 32,
                "dataset": "digits", "limit": 6, "pool": ["avg", "flatten"], "C": 0.01,
                "exhibits": False, "preprocess": "torch", "name": "study", "jobs": 1,
                "out": str(tmp_path / "reports"), "cache_dir": str(tmp_path / "cache"),
            }
        ),
        progress=ears,
    )  # fmt: skip
    assert [(row.group, row.state) for row in record.rows] == [
        ("avg", "finished"), ("flatten", "failed"),
    ]  # fmt: skip
    assert asked[0] == ("flatten",)
    assert any("Pooling by flatten in the same pass is left out" in said for said in ears.said)


def test_what_does_not_fit_beside_the_others_is_not_shared(tmp_path: Path, monkeypatch) -> None:
    from featx.cache import FeatureStore
    from featx.pipeline.prepare import poolings_to_share, prepare_fit
    from featx.recipes import make_recipe

    settings = {
        "backbone": "resnet18", "weights": "none", "cuts": ["layer1"], "image_size": 32,
        "dataset": "digits", "limit": {"train": 6, "val": 3, "test": 3},
        "cache_dir": str(tmp_path / "cache"), "out": str(tmp_path / "reports"),
    }  # fmt: skip

    def recipe(**values: object):
        return make_recipe({**settings, **values})

    first = prepare_fit(recipe())
    later = [recipe(pool=pool) for pool in ("avg", "max", "flatten", "gem")]
    assert poolings_to_share(first, later) == ("max", "flatten", "gem")
    assert poolings_to_share(first, [recipe(pool="max", image_size=48)]) == ()
    assert poolings_to_share(prepare_fit(recipe(rebuild=True)), later) == ()
    # Flattened, 120 rows of 64 x 8 x 8 values take 2 MB.
    monkeypatch.setattr(FeatureStore, "free_bytes", lambda store: 1_000_000)
    assert poolings_to_share(first, later) == ("max", "gem")


def test_a_studys_record_tells_no_path_of_this_machine(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "task: train\nnetwork: conv2\ndataset: digits\nimage_size: 16\nepochs: 1\nlr: [0.1, 0.2]\n"
        "limit: {train: 4, val: 2, test: 2}\njobs: 1\n"
    )
    out = {"out": str(tmp_path / "reports"), "weights": str(tmp_path / "w.safetensors")}
    grid = load_study(recipe, {**out, "weights": "none"})
    record, report = run_study(grid)
    assert record.command == "featx run mine.yaml --set 'weights=\"none\"'"
    told = study_command(load_study(recipe, out))
    assert str(tmp_path) not in told
    assert "w.safetensors" in told
    assert str(tmp_path) not in report.read_text()


def test_probes_of_a_study_share_images_and_network_where_they_are_the_same(
    tmp_path: Path, monkeypatch
) -> None:
    import sys

    prepare = sys.modules["featx.pipeline.prepare"]

    loaded = []
    for name in ("load_backbone", "load_dataset"):
        real = getattr(prepare, name)
        monkeypatch.setattr(
            prepare,
            name,
            lambda *a, _real=real, _name=name, **k: (loaded.append(_name), _real(*a, **k))[1],
        )
    probes = {
        "task": "probe", "backbone": "resnet18", "weights": "none", "dataset": "digits",
        "limit": 12, "stratified": True, "cuts": ["layer1"], "exhibits": False, "C": 0.01,
        "cache_dir": str(tmp_path / "cache"), "name": "study",
    }  # fmt: skip
    axes = {"image_size": [32, 48], "seed": [0, 1]}
    together, _ = run_study(make_study({**probes, **axes, "out": str(tmp_path / "together")}))
    # Seeds and sizes alternate: a network is of its size and, as random weights are, of its seed.
    assert (loaded.count("load_backbone"), loaded.count("load_dataset")) == (4, 4)
    loaded.clear()
    axes = {"seed": [0, 1], "image_size": [32, 48]}
    apart, _ = run_study(make_study({**probes, **axes, "out": str(tmp_path / "apart")}))
    assert (loaded.count("load_backbone"), loaded.count("load_dataset")) == (4, 2)

    def found(record: StudyRecord) -> dict:
        return {tuple(sorted(r.settings.items())): (r.top1, r.multiply_adds) for r in record.rows}

    assert found(together) == found(apart)
