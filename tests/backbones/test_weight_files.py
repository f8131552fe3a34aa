from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from featx.backbones import Backbone, Capture, load_backbone
from featx.errors import UnknownName, WeightsError


@pytest.fixture(scope="session")
def tensors() -> dict[str, torch.Tensor]:
    """Another ResNet-18's weights, so that loading them changes something."""
    return dict(load_backbone("resnet18", "none", seed=7).model.state_dict())


def same(backbone: Backbone, tensors: dict[str, torch.Tensor], *, but: str = "-") -> bool:
    return all(
        torch.equal(own, tensors[name])
        for name, own in backbone.model.state_dict().items()
        if not name.startswith(but) and not name.endswith("num_batches_tracked")
    )


def save(path: Path, content: Any) -> str:
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_every_format_loads_to_the_same_weights(
    tmp_path: Path, tensors: dict[str, torch.Tensor], suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    backbone = load_backbone("resnet18", str(path))
    assert same(backbone, tensors)
    assert backbone.absent == ()
    assert (backbone.weights.tag, backbone.weights.source) == (path.name, path.name)
    assert not backbone.weights.random
    # The digest is of what is in memory, not of the file.
    assert backbone.weights.digest == load_backbone("resnet18", "none", seed=7).weights.digest


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": t, "epoch": 3},
        lambda t: {"model": {"state_dict": t}, "step": torch.tensor(1)},
        lambda t: {"student": {}, "teacher": {f"module.backbone.{k}": v for k, v in t.items()}},
        lambda t: {"model_state_dict": {f"module.{k}": v for k, v in t.items()}},
        lambda t: {f"encoder.{k}": v for k, v in t.items()} | {"decoder.weight": torch.ones(2)},
        lambda t: {k: v for k, v in t.items() if not k.endswith("num_batches_tracked")},
    ],
)
def test_wrappers_and_prefixes_are_seen_through(
    tmp_path: Path, tensors: dict[str, torch.Tensor], wrap: Any
) -> None:
    backbone = load_backbone("resnet18", save(tmp_path / "w.pth", wrap(tensors)))
    assert same(backbone, tensors)


def test_half_precision_becomes_float32(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    backbone = load_backbone("resnet18", save(tmp_path / "w.pth", halves))
    assert backbone.model.conv1.weight.dtype == torch.float32
    assert torch.equal(backbone.model.conv1.weight, halves["conv1.weight"].float())


def test_without_its_classifier_every_cut_before_works(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    features = {f"backbone.{k}": v for k, v in tensors.items() if not k.startswith("fc")}
    backbone = load_backbone("resnet18", save(tmp_path / "w.pth", features), preprocess="torch")
    assert backbone.absent == ("fc",)
    assert backbone.notes == (
        "Weights w.pth for resnet18: 'fc' did not come; every cut before it works.",
    )
    assert same(backbone, tensors, but="fc")
    assert [p.module for p in backbone.cut_points(32)][-1] == "avgpool"
    with Capture(backbone, ["avg_pool"]) as capture:
        assert capture(torch.zeros(1, 3, 32, 32))["avg_pool"].shape == (1, 512)
    for refuse in (lambda: Capture(backbone, ["fc"]), lambda: backbone.describe_cuts(["fc"], 32)):
        with pytest.raises(WeightsError, match=r"needs the weights of 'fc', which w\.pth"):
            refuse()
    # The digest is of what came: the seed of the rest does not matter.
    path = str(tmp_path / "w.pth")
    assert load_backbone("resnet18", path, seed=5).weights.digest == backbone.weights.digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: v[:10], "is of another number of classes"),
        (lambda v: v * float("nan"), "is not finite"),
    ],
)
def test_a_classifier_that_is_of_no_use_is_left_out(
    tmp_path: Path, tensors: dict[str, torch.Tensor], change: Any, reason: str
) -> None:
    other = tensors | {k: change(tensors[k]) for k in ("fc.weight", "fc.bias")}
    backbone = load_backbone("resnet18", save(tmp_path / "w.pth", other))
    assert backbone.absent == ("fc",)
    assert reason in backbone.notes[0]
    assert same(backbone, tensors, but="fc")


def test_only_the_last_layer_of_a_classifier_may_be_missing(tmp_path: Path) -> None:
    ten_classes = dict(load_backbone("mobilenet_v3_small", "none").model.state_dict())
    ten_classes["classifier.3.weight"] = torch.zeros(10, 1024)
    ten_classes["classifier.3.bias"] = torch.zeros(10)
    backbone = load_backbone("mobilenet_v3_small", save(tmp_path / "w.pth", ten_classes))
    assert backbone.absent == ("classifier.3",)
    modules = [p.module for p in backbone.cut_points(32, all_modules=True)]
    assert modules[-1] == "classifier.2"
    with pytest.raises(WeightsError, match=r"Every cut before 'classifier\.3' works"):
        backbone.describe_cuts(["classifier"], 32)


def test_nothing_inside_of_an_absent_classifier_can_be_cut(tmp_path: Path) -> None:
    state = load_backbone("mobilenet_v3_small", "none").model.state_dict()
    features = {name: tensor for name, tensor in state.items() if name.startswith("features")}
    backbone = load_backbone("mobilenet_v3_small", save(tmp_path / "w.pth", features))
    assert backbone.absent == ("classifier",)
    assert backbone.cut_points(32, all_modules=True)[-1].module == "avgpool"
    with pytest.raises(WeightsError, match="Every cut before 'classifier' works"):
        Capture(backbone, ["classifier.0"])


def test_what_does_not_fit_is_listed(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    wrong = dict(tensors)
    del wrong["layer1.0.conv1.weight"]
    wrong["layer9.weight"] = torch.zeros(1)
    wrong["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    wrong["bn1.bias"] = torch.full((64,), float("inf"))
    wrong["bn1.weight"] = torch.ones(64, dtype=torch.int64)
    with pytest.raises(WeightsError) as caught:
        load_backbone("resnet18", save(tmp_path / "w.pth", wrong))
    text = str(caught.value)
    assert "1 missing: layer1.0.conv1.weight" in text
    assert "1 unexpected: layer9.weight" in text
    assert "conv1.weight (64, 1, 7, 7) instead of (64, 3, 7, 7)" in text
    assert "bn1.weight (64,) of integers instead of (64,)" in text
    assert "1 not finite (NaN or Inf): bn1.bias" in text


def test_long_lists_are_cut_short(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    few = {"conv1.weight": tensors["conv1.weight"]}
    with pytest.raises(WeightsError, match=r"99 missing: bn1\.weight, .*\.\.\. \(93 more\)"):
        load_backbone("resnet18", save(tmp_path / "w.pth", few))


def test_two_networks_in_one_file_are_ambiguous(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    both = {f"{p}.{k}": v for p in ("query", "key") for k, v in tensors.items()}
    with pytest.raises(WeightsError, match=r"more than once, under 'key\.', 'query\.'"):
        load_backbone("resnet18", save(tmp_path / "w.pth", both))


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", [torch.save, lambda c, p: p.write_bytes(pickle.dumps(c))])
def test_pickled_code_does_not_run(tmp_path: Path, write: Any) -> None:
    victim = tmp_path / "made-by-the-file"
    path = tmp_path / "w.pth"
    write({"state_dict": Malicious(victim)}, path)
    with pytest.raises(WeightsError, match="could run code"):
        load_backbone("resnet18", str(path))
    assert not victim.exists()
    # The same file does run it where nobody is careful: the test is worth its name.
    if write is not torch.save:
        pickle.loads(path.read_bytes())
        assert victim.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", b"not a safetensors file at all", "not a whole safetensors file"),
        ("w.pth", b"", "cannot be read as a PyTorch file"),
        ("w.pth", b"PK\x03\x04 cut off", "cannot be read as a PyTorch file"),
        ("w.bin", None, "is not there"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        load_backbone("resnet18", str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], {"state_dict": {}}])
def test_a_file_without_tensors(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        load_backbone("resnet18", save(tmp_path / "w.pth", content))


def test_safetensors_may_say_their_preprocessing(tmp_path: Path) -> None:
    tensors = load_backbone("squeezenet1_1", "none").model.state_dict()
    for says, mean in (("caffe", 123.68), (None, 0.485)):
        path = tmp_path / "w.safetensors"
        save_file(tensors, path, metadata={"preprocess": says} if says else None)
        assert load_backbone("squeezenet1_1", str(path)).preprocess.mean[0] == mean
        # What the user says counts more.
        chosen = load_backbone("squeezenet1_1", str(path), preprocess="torch").preprocess
        assert (chosen.name, chosen.mean[0]) == ("torch", 0.485)
    save_file(tensors, path, metadata={"preprocess": "kaffee"})
    with pytest.raises(UnknownName, match="Preprocessing 'kaffee' is not known"):
        load_backbone("squeezenet1_1", str(path))
