"""The measuring scripts beside the suite run to their end, on a small network and a few images."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from featx.backbones import load_backbone

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    ours = ("accuracy", "lines", "forward", "hold_outs", "loading", "pieces", "same_bits")
    for name in [n for n in sys.modules if n.partition(".")[0] in ours]:
        del sys.modules[name]


def test_forward_compares_every_variant_with_plain_hooks(script, monkeypatch, capsys) -> None:
    forward = script("forward")
    monkeypatch.setattr(forward, "CASES", (("resnet18", 32, 2, "layer1"),))
    monkeypatch.setattr(sys, "argv", ["forward.py", "--rounds", "1", "--threads", "1", "--json"])
    monkeypatch.setattr(forward, "BF16", {})
    forward.main()
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["network"], row["side"], row["batch"], row["cut"]) == ("resnet18", 32, 2, "layer1")
    assert set(row["images_per_s"]) == set(row["ratio"]) == set(forward.VARIANTS)
    plain = row["images_per_s"]["plain"]
    for variant, speed in row["images_per_s"].items():
        assert row["ratio"][variant] == pytest.approx(speed / plain)
    monkeypatch.setattr(sys, "argv", ["forward.py", "--batch", "0"])
    with pytest.raises(SystemExit):
        forward.main()
    assert "--batch 0: give at least 1 image." in capsys.readouterr().err


def test_apart_makes_working_copies_that_leave_sums_and_relu_to_torch(script) -> None:
    forward = script("forward")
    backbone = load_backbone("resnet18", "none")
    numerics = forward.VARIANTS["small maps first, apart"]

    def n_fused() -> int:
        trunk = backbone.trunk(["layer1"], numerics)
        backbone.fuse(trunk, numerics, (64, 64))
        fusions = [getattr(module, "fusion", None) for module in trunk.model.modules()]
        return sum(fusion is not None for fusion in fusions)

    before = n_fused()
    with forward.apart():
        assert n_fused() == 0
    assert n_fused() == before > 0


def test_same_bits_names_what_differs(script, monkeypatch, capsys) -> None:
    script("forward")
    same_bits = script("same_bits")
    monkeypatch.setattr(same_bits, "SIDE", 64)
    monkeypatch.setattr(same_bits, "BATCHES", ((2, 1),))
    monkeypatch.setattr(same_bits, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(sys, "argv", ["same_bits.py", "resnet18"])
    assert same_bits.main() == 0
    assert capsys.readouterr().out == "resnet18: the same bits\n"
    features = same_bits.features
    monkeypatch.setattr(
        same_bits, "features", lambda *args: [found + torch.rand(()) for found in features(*args)]
    )
    assert same_bits.main() == 1
    assert capsys.readouterr().out == "resnet18: fp32, 2 images, 1 threads\n"
    monkeypatch.setattr(sys, "argv", ["same_bits.py", "resnet19"])
    with pytest.raises(SystemExit):
        same_bits.main()
    assert "Network 'resnet19' is not known." in capsys.readouterr().err


def test_pieces_tells_every_piece_for_every_size(script, monkeypatch, capsys) -> None:
    pieces = script("pieces")
    for name, value in {"NETWORK": "resnet18", "SIZE": 64, "SIDES": (32, 64)}.items():
        monkeypatch.setattr(pieces, name, value)
    monkeypatch.setattr(sys, "argv", ["pieces.py", "--images", "20", "--repeats", "1"])
    pieces.main()
    found: dict[str, object] = {}
    for line in capsys.readouterr().out.splitlines():
        found |= json.loads(line)
    of_sizes = {
        f"{what}, {side} px"
        for what in ("ms a batch", "images/s of the loop", "seconds of a whole run")
        for side in (32, 64)
    }
    assert set(found) == {"images/s on a batch that lies there", *of_sizes}
    assert set(found["seconds of a whole run, 32 px"]) == {"load", "digest", "extract", "verify"}
    monkeypatch.setattr(sys, "argv", ["pieces.py", "--repeats", "0"])
    with pytest.raises(SystemExit):
        pieces.main()
    assert "--repeats 0: give at least 1." in capsys.readouterr().err


def test_loading_compares_reading_and_the_digest(script, monkeypatch, capsys) -> None:
    loading = script("loading")
    words = ["loading.py", "--images", "200", "--size", "8", "--repeats", "2", "--val", "0.5"]
    monkeypatch.setattr(sys, "argv", words)
    loading.main()
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["images"], found["px"], found["val"]) == (200, 8, 0.5)
    assert set(found["seconds"]) == {"featx", "one thread"}
    for each in (*found["seconds"].values(), found["ratio"]):
        assert set(each) == {"load", "digest", "s"}
    assert all(each["low"] <= each["value"] <= each["high"] for each in found["ratio"].values())
    monkeypatch.setattr(sys, "argv", ["loading.py", "--images", "19"])
    with pytest.raises(SystemExit):
        loading.main()
    assert "--images 19: give at least 20." in capsys.readouterr().err


def test_hold_outs_compare_heads_of_the_same_images(script, monkeypatch, capsys) -> None:
    hold_outs = script("hold_outs")
    rng = np.random.default_rng(0)
    y = {"train": rng.integers(0, 2, 200), "test": rng.integers(0, 2, 100)}

    def features(noise: float) -> dict:
        return {
            cut: {s: (v[:, None] + noise * rng.normal(size=(len(v), 8))).astype(np.float32)
                  for s, v in y.items()}
            for cut in hold_outs.CUTS
        }  # fmt: skip

    good, bad = features(0.1), features(50.0)
    same = list(hold_outs.differences({"fp32": good, "bf16": good}, y, range(2), 40))
    assert [(cut, seed) for cut, seed, _ in same] == [
        (c, s) for s in (0, 1) for c in hold_outs.CUTS
    ]
    assert all(apart == {"val": 0.0, "test": 0.0} for _, _, apart in same)
    # Features that tell nothing apart lose, on validation and on test.
    for _, _, apart in hold_outs.differences({"fp32": good, "bf16": bad}, y, range(2), 40):
        assert apart["val"] < -0.2
        assert apart["test"] < -0.2
    monkeypatch.setattr(
        sys, "argv", ["hold_outs.py", "--data-dir", ".", "--weights", "none", "--seeds", "1"]
    )
    with pytest.raises(SystemExit):
        hold_outs.main()
    assert "--seeds 1: an interval needs at least 2." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["accuracy", "hold_outs"])
def test_images_that_are_not_there_are_said_in_a_line(
    script, monkeypatch, capsys, tmp_path: Path, name: str
) -> None:
    words = [f"{name}.py", "--data-dir", str(tmp_path), "--weights", "none"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        script(name).main()
    assert f"error: CIFAR-10 is not in {tmp_path}, and downloads" in capsys.readouterr().err
