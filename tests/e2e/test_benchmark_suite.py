"""What turns measurements into published tables: medians, turns, words; nothing is timed here."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    names = ("groups", "limits", "ours", "peers", "table", "workers")
    yield SimpleNamespace(**{name: importlib.import_module(f"lines.{name}") for name in names})
    for name in [n for n in sys.modules if n.partition(".")[0] in ("lines", "preprocessing")]:
        del sys.modules[name]


def machine(**changes) -> dict:
    return {
        "processor": "AMD EPYC", "capability": "AVX2", "cores": 2, "threads": 2, "device": "cpu",
        "system": "Linux", "python": "3.11.7", "versions": {"torch": "2.13.0"}, **changes,
    }  # fmt: skip


def result(lines, found: list, **changes) -> dict:
    return {
        "machine": machine(**changes),
        "peers": {"thingsvision": "2.7.3"},
        "command": "python benchmarks/suite.py",
        "repeats": 5,
        "limits": {"rounds": {}, "convolution fp32": 187.6, "convolution bf16": None, "disk": 0.5},
        "lines": [line.as_dict() for line in found],
    }


def measured(lines, name: str, value: float, target: float, **more):
    line = lines.groups.Line(name, f"what {name} is", target, **more)
    line.take({"value": value, "low": value - 0.25, "high": value + 0.25})
    return line


def test_a_line_is_bold_where_it_reaches_its_target_and_says_why_it_is_not_there(lines) -> None:
    missing = lines.groups.Line("bf16", "bf16 against peers", 3.0, reason="no avx512_bf16")
    cut = measured(lines, "cut", 1.75, 1.8)
    cut.beside = {"thingsvision": 1.754}
    found = [
        cut,
        measured(lines, "stages", 4.0, 4.0),
        measured(lines, "peak", 54.5, 55.0, unit="%"),
        measured(lines, "memory", 0.75, 1.0, unit="GiB", smaller_is_better=True),
        measured(lines, "more", 1.25, 1.0, unit="GiB", smaller_is_better=True),
        missing,
    ]
    text = lines.table.text([result(lines, found)])
    rows = [line for line in text.splitlines() if line.startswith("|")][:8]
    assert rows == [
        "|  | target | AMD EPYC, 2 cores | a GPU |",
        "| --- | ---: | ---: | ---: |",
        "| what cut is | 1.8x | 1.75x (1.50x to 2.00x) | not measured |",
        "| what stages is | 4x | **4.00x** (3.75x to 4.25x) | not measured |",
        "| what peak is | 55 % | 54 % (54 % to 55 %) | not measured |",
        "| what memory is | at most 1 GiB | **0.75 GiB** (0.50 GiB to 1.00 GiB) | not measured |",
        "| what more is | at most 1 GiB | 1.25 GiB (1.00 GiB to 1.50 GiB) | not measured |",
        "| bf16 against peers | 3x | not measured | not measured |",
    ]
    assert "| convolution fp32 | 188 GFLOP/s |\n| convolution bf16 | not measured |" in text
    assert "- what cut is: thingsvision 1.75x." in text
    assert "- bf16 against peers: not measured: no avx512_bf16." in text


def test_a_gpu_that_was_measured_has_a_column_of_its_own(lines) -> None:
    gpu = result(lines, [measured(lines, "gpu", 0.95, 0.9)], device="cuda (NVIDIA H200)")
    text = lines.table.text([result(lines, [measured(lines, "cut", 2.0, 1.8)]), gpu])
    first, _, cut, whole = text.splitlines()[:4]
    assert first == "|  | target | AMD EPYC, 2 cores | AMD EPYC, 2 cores, cuda (NVIDIA H200) |"
    assert cut.endswith("| **2.00x** (1.75x to 2.25x) | not measured |")
    assert whole.endswith("| not measured | **0.95x** (0.70x to 1.20x) |")


def test_a_line_of_one_machine_alone_stays_behind_its_neighbour(lines) -> None:
    unmeasured = lines.groups.Line("gpu", "what it was called", 0.9, reason="no GPU at hand")
    old = result(lines, [measured(lines, "cut", 2.0, 1.8), unmeasured, measured(lines, "z", 1, 1)])
    new = result(lines, [measured(lines, "gpu", 0.95, 0.9), measured(lines, "large", 0.5, 0.9)])
    rows = lines.table.text([old, new]).splitlines()[2:6]
    titles = [row.split(" | ")[0].strip("| ") for row in rows]
    assert titles == ["what cut is", "what gpu is", "what large is", "what z is"]


def test_a_line_that_was_measured_again_says_so(lines, tmp_path, monkeypatch, capsys) -> None:
    import suite

    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    whole = result(lines, [measured(lines, "cut", 2.0, 1.8), measured(lines, "peak", 1.0, 2.0)])
    name = f"{lines.limits.name_of(whole['machine'])}.json"
    again = result(lines, [measured(lines, "peak", 3.0, 2.0)]) | {"command": "suite --only peak"}
    assert suite._update(again) == 1
    assert "measure all lines" in capsys.readouterr().err
    (tmp_path / name).write_text(json.dumps(whole))
    assert suite._update(again) == 0
    kept = json.loads((tmp_path / name).read_text())
    assert [(line["name"], line["value"]) for line in kept["lines"]] == [
        ("cut", 2.0),
        ("peak", 3.0),
    ]
    assert "Measured again later, by `suite --only peak`: peak." in lines.table.text([kept])
    assert suite._update(again | {"machine": {**whole["machine"], "threads": 64}}) == 1


def test_a_group_that_is_none_is_said_before_anything_is_measured(lines, monkeypatch) -> None:
    import suite

    monkeypatch.setattr(lines.limits, "measured", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["suite.py", "--only", "cut", "--only", "peaks"])
    with pytest.raises(SystemExit, match=r"called 'peaks'\. Valid: cut, bf16, .*million"):
        suite.main()


def test_rendering_measures_nothing_and_takes_no_flags_that_say_how(
    lines, monkeypatch, capsys
) -> None:
    import suite

    monkeypatch.setattr(sys, "argv", ["suite.py", "--folder", "x", "--write-docs"])
    with pytest.raises(SystemExit):
        suite.main()
    assert "measure nothing: give one of them, alone" in capsys.readouterr().err


def test_only_what_is_between_the_markers_changes(lines) -> None:
    page = (
        "before\n<!-- extraction -->\nold\n<!-- end of extraction -->\nbetween\n"
        "<!-- accuracy -->\nold\n<!-- end of accuracy -->\nafter\n"
    )
    new = lines.table.in_page(page, [], [])
    assert "old" not in new
    assert new.startswith("before\n<!-- extraction -->\nNo machine has been measured yet")
    assert "<!-- end of extraction -->\nbetween\n<!-- accuracy -->\nNot measured yet" in new
    assert new.endswith("<!-- end of accuracy -->\nafter\n")
    assert lines.table.in_page(new, [], []) == new
    with pytest.raises(ValueError, match="no part between <!-- extraction -->"):
        lines.table.in_page("a page", [], [])


def test_accuracies_are_shown_with_their_largest_loss(lines) -> None:
    def split(accuracy: float, apart: float) -> dict:
        low, high = apart - 0.001, apart + 0.001
        return {"accuracy": accuracy, "n": 5000, "difference": apart, "low": low, "high": high}

    rows = [
        {"size": 32, "cut": "layer3", "variant": "bf16", "val": split(0.9, -0.0012),
         "test": split(0.91, 0.0004)},
    ]  # fmt: skip
    found = {
        "machine": machine(), "images": {"train": 20_000, "val": 5000}, "weights": "IMAGENET1K_V1",
        "pool": {"32": "flatten"}, "rows": rows,
    }  # fmt: skip
    text = lines.table.accuracy_text([found])
    assert "20,000 train, 5,000 val images" in text
    assert "The largest loss is 0.12 points; the limit is 0.2." in text
    assert text.splitlines()[-1] == (
        "| 32 (flatten) | `layer3` | bf16 | 0.9000 | -0.12 (-0.22 to -0.02) | 0.9100 | "
        "+0.04 (-0.06 to +0.14) |"
    )


def test_hold_outs_are_told_by_their_mean_with_students_interval(lines) -> None:
    # By hold-out and split the mean of two cuts, in points: validation -0.1, 0.0 and 0.4.
    rows = [
        {"size": 32, "cut": cut, "seed": seed, "val": val / 100, "test": 0.0}
        for cut, vals in (("a", (-0.2, -0.1, 0.4)), ("b", (0.0, 0.1, 0.4)))
        for seed, val in enumerate(vals)
    ]
    found = {"machine": machine(), "variant": "bf16", "held_out": 5000, "rows": rows}
    means = np.array([-0.1, 0.0, 0.4])
    # Student's 97.5 % quantile with two degrees of freedom, from a table.
    half = 4.3027 * means.std(ddof=1) / np.sqrt(3)
    said = lines.table.hold_out_text(found)
    assert said.startswith("AMD EPYC, 2 cores, 3 random hold-outs of 5,000 validation images")
    assert f"by +0.10 points on validation ({0.1 - half:+.2f} to {0.1 + half:+.2f})" in said
    assert "and +0.00 points on test (+0.00 to +0.00)" in said
    page = "\n".join(f"<!-- {n} -->\n<!-- end of {n} -->" for n in ("extraction", "accuracy"))
    assert said in lines.table.in_page(page, [], [], [found])


def test_a_gpu_has_limits_of_its_own(lines, monkeypatch, tmp_path) -> None:
    """Which need one to be measured: here stands a processor for it."""
    sides = lines.limits.sides_of(tmp_path, True, True)
    names = ("convolution fp32", "convolution bf16", "memory copy", "upload")
    on_gpu = {name: sides[f"GPU {name}"] for name in names}
    assert all(side.settings["device"] == "cuda" for side in on_gpu.values())
    assert not any(name.startswith("GPU") for name in lines.limits.sides_of(tmp_path, True, False))
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("cuda"))
    zeros = torch.zeros

    def on_the_processor(n: int, device: str) -> torch.Tensor:
        return zeros(n)

    monkeypatch.setattr(torch, "zeros", on_the_processor)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    for name in ("memory copy", "upload"):
        run = lines.limits.memory_copy(**{**on_gpu[name].settings, "n_bytes": 4096})
        assert run()["gb_per_s"] > 0
    assert waited == ["cuda", "cuda"], "the clock is read behind what the GPU does"


def test_limits_are_medians_by_name(lines, monkeypatch, tmp_path) -> None:
    def rounds(sides: dict, repeats: int, threads: int) -> dict:
        values = range(1, repeats + 1)
        fields = ("gflops", "gb_per_s", "write_gb_per_s", "read_gb_per_s")
        return {name: [dict.fromkeys(fields, n * len(name)) for n in values] for name in sides}

    monkeypatch.setattr(lines.workers, "interleaved", rounds)
    monkeypatch.setattr(lines.limits, "has_bf16", lambda: False)
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has=gpu: has)
        found = lines.limits.measured(tmp_path, 5, 2, True)
        found.pop("rounds")
        on_gpu = ["GPU convolution fp32", "GPU convolution bf16", "GPU memory copy", "GPU upload"]
        assert found == {
            "convolution fp32": 3 * len("convolution fp32"),
            "convolution bf16": None,
            "memory copy": 3 * len("memory copy"),
            "disk write": 3 * len("disk"),
            "disk read": 3 * len("disk"),
            **({name: 3 * len(name) for name in on_gpu} if gpu else {}),
        }
    assert lines.table._limit("GPU convolution bf16", 400_000.0) == "400,000 GFLOP/s"
    assert lines.table._limit("GPU upload", 50.0) == "50.00 GB/s"


def test_a_machine_s_file_is_named_by_processor_cores_and_device(lines) -> None:
    assert lines.limits.name_of(machine()) == "amd-epyc-2-cores-cpu"
    gpu = machine(device="cuda (NVIDIA H200)", cores=16)
    assert lines.limits.name_of(gpu) == "amd-epyc-16-cores-nvidia-h200"


def test_ratios_are_taken_round_by_round(lines) -> None:
    found = lines.workers.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert found == {"value": 2.0, "low": 1.0, "high": 3.0}


def test_sides_take_turns_and_the_first_one_changes(lines, monkeypatch) -> None:
    calls: list[str] = []

    class Worker:
        def __init__(self, name, side, threads):
            self.name = name

        def ready(self):
            calls.append(f"{self.name} ready")

        def round(self):
            calls.append(self.name)
            if self.name == "c" and len(calls) > 12:
                raise lines.workers.SideFailed("c: broken")
            return {"s": float(len(calls))}

        def close(self):
            calls.append(f"{self.name} closed")

    monkeypatch.setattr(lines.workers, "Worker", Worker)
    sides = dict.fromkeys("abc")
    rounds = lines.workers.interleaved(sides, 3, 1)
    assert calls[:3] == ["a ready", "b ready", "c ready"]
    assert calls[3:12] == [*"abc", *"bca", *"cab"]
    assert calls[12:] == ["a closed", "b closed", "c closed"]
    assert [one["s"] for one in rounds["b"]] == [5.0, 7.0, 12.0]
    calls.clear()
    with pytest.raises(lines.workers.SideFailed):
        lines.workers.interleaved(sides, 9, 1)
    assert calls[-3:] == ["a closed", "b closed", "c closed"]


def test_a_side_runs_in_a_process_of_its_own_and_says_why_it_cannot(lines, tmp_path) -> None:
    disk = {"folder": str(tmp_path), "n_bytes": 1 << 22}
    good = lines.workers.Side("lines.limits:disk", disk)
    rounds = lines.workers.interleaved({"disk": good}, 2, 1)
    assert [set(one) for one in rounds["disk"]] == [{"s", "write_gb_per_s", "read_gb_per_s"}] * 2
    bad = lines.workers.Side("lines.limits:nothing", {})
    with pytest.raises(lines.workers.SideFailed, match=r"^bad: AttributeError.*'nothing'"):
        lines.workers.interleaved({"bad": bad}, 1, 1)


def test_another_tool_has_the_memory_that_its_users_have(lines, monkeypatch, tmp_path) -> None:
    (tmp_path / "asked.py").write_text(
        "import os\n"
        "def side():\n"
        "    return lambda: {'s': 1.0, 'asks': os.environ.get('THP_MEM_ALLOC_ENABLE')}\n"
    )
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    sides = {
        name: lines.workers.Side("asked:side", {}, str(tmp_path), peer=name == "peer")
        for name in ("featx", "peer")
    }
    rounds = lines.workers.interleaved(sides, 1, 1)
    assert {name: each[0]["asks"] for name, each in rounds.items()} == {"featx": "1", "peer": "0"}


def test_preprocessing_is_compared_with_the_faster_loader_of_each_round(lines) -> None:
    import preprocessing

    took = {"featx": [1.0, 2.0, 1.0], "a": [4.0, 4.0, 9.0], "b": [5.0, 3.0, 8.0]}
    found = preprocessing.summary("x", took)
    assert [found[key] for key in ("low", "ratio", "high")] == [1.5, 4.0, 8.0]
    assert found["ratios"] == {"a": 4.0, "b": 5.0}
    same = {"featx": [{"digest": "1"}], "a": [{"digest": "1"}]}
    preprocessing.check_bits(same)
    with pytest.raises(preprocessing.SideFailed, match=r"^a: its pixels are not featx'"):
        preprocessing.check_bits(same | {"a": [{"digest": "2"}]})


def test_the_rate_of_many_images_leaves_out_what_every_run_costs(lines, monkeypatch) -> None:
    """2 s a run, and then 1,000 images a second, or 800 of many."""
    options = lines.groups.Options(Path("/"), Path("/"), "", 2, 1, 10_000, False)
    monkeypatch.setattr(lines.groups.made, "dataset", lambda path, n, size: path)

    def took(sides, repeats, threads):
        n_s = {"1250": 2 + 1.25, "5000": 2 + 5.0, "10000": 2 + 1.25 + 8750 / 800}
        return {name: [{"s": n_s[name]}] * repeats for name in sides}

    monkeypatch.setattr(lines.groups, "interleaved", took)
    (line,) = lines.groups.million(options)
    assert line.value == pytest.approx(0.8)
    assert line.title == "images/s behind the first 1,250 images, of 10,000 images against of 5,000"
    whole = (10_000 / 14.1875) / (1250 / 3.25)
    assert list(line.beside.values()) == pytest.approx([whole])
    monkeypatch.setattr(
        lines.groups, "interleaved", lambda *a: {n: [{"s": 1.0}] for n in ("1250", "5000", "10000")}
    )
    with pytest.raises(lines.workers.SideFailed, match="10,000 images took no longer than 1,250"):
        lines.groups.million(options)
    few = lines.groups.Options(Path("/"), Path("/"), "", 2, 1, 5, False)
    assert lines.groups.million(few)[0].reason == "5 images are too few: give at least 8"


def test_sides_with_other_features_are_refused(lines) -> None:
    ours = [{"samples": [[1.0, -4.0]]}]
    check = lines.workers.check_agreement
    check({"featx": ours, "peer": [{"samples": [[1.0, -4.0003]]}]})
    with pytest.raises(lines.workers.SideFailed, match=r"^peer: features differ from featx' by"):
        check({"featx": ours, "peer": [{"samples": [[1.0, -4.001]]}]})


def test_a_peer_puts_out_what_featx_does(lines) -> None:
    settings = {"network": "resnet18", "size": 32, "cuts": ["layer1", "layer2"], "n": 3}
    ours = lines.ours.arrays(**settings, pool="flatten", batch_size=2)()
    theirs = lines.peers.features_only(**settings, batch_size=2)()
    np.testing.assert_allclose(theirs["samples"], ours["samples"], rtol=1e-4, atol=1e-5)


def test_a_line_that_needs_what_is_not_there_says_so(lines, monkeypatch, tmp_path) -> None:
    options = lines.groups.Options(tmp_path, tmp_path, "no network", 1, 1, None, True)
    monkeypatch.setattr(lines.groups, "has_bf16", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(lines.groups.importlib.util, "find_spec", lambda name: None)
    reasons = [
        lines.groups.GROUPS[name](options)[0].reason
        for name in ("bf16", "gpu", "preprocessing", "photos")
    ]
    assert reasons == [
        "the processor has no avx512_bf16",
        "no GPU at hand",
        "benchmarks/preprocessing.py is not there",
        "benchmarks/photos.py is not there",
    ]
