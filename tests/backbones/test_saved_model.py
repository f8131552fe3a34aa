"""Trained networks in files: written, read, used as backbones, refused where they are wrong."""

from __future__ import annotations

import dataclasses
import functools
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, load_file, save, save_file
from torch import nn

from featx.backbones import Capture, load_backbone
from featx.backbones.registry import Network, build
from featx.backbones.saved import model_bytes, read_saved
from featx.data import Preprocess
from featx.errors import ShapeError, UnknownName, UsageError, WeightsError

CNN = Network("featx", "cnn-a")
WANTS = Preprocess("mine", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), image_size=20, crop="none")
NAMES = ("cat", "dog", 'ünïcode "quoted"')


def trained(network: Network, n_classes: int, size: tuple[int, int], seed: int = 4) -> nn.Module:
    """A network as after a training: other weights than those of seed 0, and used buffers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(network, n_classes, size)
        model.train()(torch.randn(4, 3, *size))
    return model


def content(model: nn.Module, network: Network = CNN, **changes: Any) -> bytes:
    said: dict[str, Any] = {
        "n_classes": 3,
        "class_names": NAMES,
        "labels": (5, 6, 9),
        "image_size": (20, 24),
        "preprocess": WANTS,
        "provenance": {"run": "x", "epochs": 3, "nested": {"2": 1.5}},
    }
    return model_bytes(model=model, network=network, **(said | changes))


@functools.cache
def example() -> bytes:
    return content(trained(CNN, 3, (20, 24)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(example())
    return path


def forged(data: bytes, **changes: Any) -> bytes:
    """A file with other words in its header than it was saved with."""
    (length,) = struct.unpack_from("<Q", data)
    about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["featx"])
    return save(load(data), metadata={"featx": json.dumps(about | changes)})


def test_what_was_saved_is_read(file: Path) -> None:
    saved = read_saved(file)
    assert saved.network == CNN
    assert (saved.n_classes, saved.class_names, saved.labels) == (3, NAMES, (5, 6, 9))
    assert (saved.image_size, saved.preprocess) == ((20, 24), WANTS)
    assert saved.provenance == {"run": "x", "epochs": 3, "nested": {"2": 1.5}}
    expected = trained(CNN, 3, (20, 24)).state_dict()
    assert set(saved.tensors) == set(expected)
    assert all(torch.equal(saved.tensors[name], expected[name]) for name in expected)


def test_other_programs_read_the_tensors(file: Path) -> None:
    model = build(CNN, 3, (20, 24))
    model.load_state_dict(load_file(file))
    assert torch.equal(model[0].weight, trained(CNN, 3, (20, 24))[0].weight)


def test_the_same_model_gives_the_same_bytes() -> None:
    assert content(trained(CNN, 3, (20, 24))) == example()
    assert content(trained(CNN, 3, (20, 24), seed=5)) != example()


def test_tensors_that_share_memory_or_lie_otherwise_are_saved(tmp_path: Path) -> None:
    model = trained(CNN, 3, (20, 24)).to(memory_format=torch.channels_last)
    model.get_submodule("conv2").bias = model.get_submodule("conv1").bias
    path = tmp_path / "m.safetensors"
    path.write_bytes(content(model))
    tensors = read_saved(path).tensors
    assert torch.equal(tensors["conv2.bias"], tensors["conv1.bias"])
    assert torch.equal(tensors["conv3.weight"], model.get_submodule("conv3").weight)


def test_a_saved_model_is_a_backbone(file: Path) -> None:
    backbone = load_backbone(str(file))
    model = trained(CNN, 3, (20, 24)).eval()
    assert (backbone.name, backbone.short_name) == ("featx/cnn-a", "cnn-a")
    assert (backbone.preprocess, backbone.image_size) == (WANTS, (20, 24))
    info = backbone.weights
    assert (info.tag, info.source) == ("model.safetensors", "model.safetensors")
    assert (info.random, info.sha256_verified) == (False, "full")
    x = torch.randn(2, 3, 20, 24)
    with Capture(backbone, ["conv3", "output"], pool="flatten") as capture:
        found = capture(x)
    torch.testing.assert_close(found["output"], model(x))
    torch.testing.assert_close(found["conv3"], model[:6](x).flatten(1))
    assert backbone.describe_cuts(["output"], (20, 24))[0].shape == (3,)
    assert (backbone.absent, backbone.notes) == ((), ())


def test_its_file_is_weights_of_its_network(file: Path) -> None:
    by_path, by_name = load_backbone(str(file)), load_backbone("cnn-a", str(file))
    assert by_name.weights == by_path.weights
    assert by_name.preprocess == WANTS
    assert load_backbone("cnn-a", str(file), preprocess="caffe").preprocess.scale == 1
    with pytest.raises(WeightsError) as caught:
        load_backbone("cnn-b", str(file))
    assert "is a featx/cnn-a, not a featx/cnn-b" in str(caught.value)
    assert f"--backbone {file}" in str(caught.value)


def test_the_same_network_without_its_training(file: Path) -> None:
    backbone = load_backbone(str(file), "none", seed=11)
    torch.manual_seed(11)
    expected = build(CNN, 3, (20, 24)).state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in backbone.model.state_dict().items())
    assert (backbone.weights.random, backbone.weights.source) == (True, "seed 11")
    assert backbone.preprocess == WANTS


def test_it_takes_no_other_weights(file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_backbone(str(file), "IMAGENET1K_V1")
    assert "brings its own weights" in str(caught.value)
    assert "--backbone cnn-a --weights IMAGENET1K_V1" in str(caught.value)


def test_a_network_of_torchvision_comes_back_as_it_was_trained(tmp_path: Path) -> None:
    """GoogLeNet is trained without auxiliary heads, and normalizes its input once more inside."""
    network = Network("torchvision", "googlenet")
    model = trained(network, 3, (32, 32)).eval()
    path = tmp_path / "g.safetensors"
    path.write_bytes(content(model, network, image_size=(32, 32)))
    backbone = load_backbone(str(path))
    x = torch.randn(2, 3, 32, 32)
    with Capture(backbone, ["inception3a", "fc"], pool="flatten") as capture:
        torch.testing.assert_close(capture(x)["fc"], model(x))
    # Found without asking how large images are: the preprocessing need not say it.
    native = dataclasses.replace(WANTS, image_size=None)
    path.write_bytes(content(model, network, image_size=(32, 32), preprocess=native))
    assert load_backbone(str(path)).image_size == (32, 32)


@pytest.mark.parametrize("wrong", [{"class_names": ("a", "b")}, {"labels": (1,)}, {"n_classes": 4}])
def test_classes_without_name_or_label_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give one of each per class"):
        content(build(CNN, 3, (20, 24)), **wrong)


def test_a_file_that_is_not_there_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no.safetensors' is not there\. Give the .safetensors"):
        load_backbone(str(tmp_path / "no.safetensors"))
    with pytest.raises(UnknownName):
        load_backbone("reports/nothing/model")


def test_a_file_of_something_else_says_how_to_use_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for metadata in (None, {"featx": "["}, {"featx": '{"format": "featx.linear-head"}'}):
        save_file({"a": torch.zeros(1)}, path, metadata=metadata)
        with pytest.raises(WeightsError) as caught:
            load_backbone(str(path))
        assert "is not a network that featx saved" in str(caught.value)
        assert f"--backbone NETWORK --weights {path}" in str(caught.value)
    # A path that is there means a file, whatever its name ends in.
    other = tmp_path / "plain.pth"
    torch.save({"a": torch.zeros(1)}, other)
    with pytest.raises(WeightsError, match="is not a network that featx saved"):
        load_backbone(str(other))


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(forged(example(), version=2))
    with pytest.raises(WeightsError, match="format version 2; this featx reads version 1"):
        load_backbone(str(path))


@pytest.mark.parametrize(
    "changes",
    [{"n_classes": 2}, {"network": "featx/cnn-b"}, {"image_size": [20, 20]}, {"sha256": "0" * 64}],
)
def test_a_header_that_was_changed_is_damage(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(forged(example(), **changes))
    for name, weights in ((str(path), "default"), ("cnn-a", str(path))):
        with pytest.raises(WeightsError, match="is damaged: its content does not have the SHA-256"):
            load_backbone(name, weights)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), header=st.booleans())
def test_no_changed_byte_goes_unnoticed(place: float, flip: int, header: bool) -> None:
    data = bytearray(example())
    (length,) = struct.unpack_from("<Q", data)
    data[int(place * (8 + length if header else len(data)))] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        path.write_bytes(data)
        with pytest.raises(WeightsError):
            read_saved(path)


@pytest.mark.parametrize("kept", [0, 7, 100, 5000, -1])
def test_half_a_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(example()[:kept])
    for name, weights in ((str(path), "default"), ("cnn-a", str(path))):
        with pytest.raises(WeightsError, match="is not a whole safetensors file"):
            load_backbone(name, weights)


def test_a_file_with_less_than_the_network_is_refused(tmp_path: Path) -> None:
    """Its digest is right, but another build of the network wrote it."""
    model = trained(CNN, 3, (20, 24))
    del model.output
    path = tmp_path / "m.safetensors"
    path.write_bytes(content(model))
    with pytest.raises(WeightsError, match=r"do not fit\. 2 missing: output.weight, output.bias"):
        load_backbone(str(path))


def test_a_file_that_says_too_little_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(forged(example(), preprocess={"name": "x"}))
    monkeypatch.setattr("featx.backbones.saved._digest", lambda about, tensors: "same")
    path.write_bytes(forged(path.read_bytes(), sha256="same"))
    with pytest.raises(WeightsError, match="is damaged: 'mean'"):
        read_saved(path)
    path.write_bytes(forged(example(), network="timm/of_tomorrow", sha256="same"))
    with pytest.raises(UnknownName, match="timm/of_tomorrow"):
        read_saved(path)


def test_another_image_size_is_a_clear_error(file: Path) -> None:
    with pytest.raises(ShapeError, match="Its own size is 20 x 24"):
        load_backbone(str(file)).describe_cuts(["conv3"], 32)
