from __future__ import annotations

import functools
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from featx.backbones import Backbone, load_backbone, weights_dir
from featx.backbones import tags as tags_module
from featx.backbones.preprocessing import preprocess_of_tag
from featx.backbones.registry import Network
from featx.errors import DownloadError, UnknownName, WeightsError
from featx.torchvision_compat import import_timm, import_torchvision

SQUEEZENET = Network("torchvision", "squeezenet1_1")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of torch.hub's."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    return tmp_path / "torch-home" / "hub" / "checkpoints"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server for one folder: its address, and the folder."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


class Offered:
    """Stands in for torchvision's description of weights, at another address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = "IMAGENET1K_V1"


def publish(folder: Path, *, seed: int) -> Path:
    """Write a SqueezeNet's weights under a name that holds the first digits of its SHA-256."""
    path = folder / "weights"
    torch.save(load_backbone("squeezenet1_1", "none", seed=seed).model.state_dict(), path)
    prefix = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(folder / f"squeezenet1_1-{prefix}.pth")


def offer(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    real = tags_module.torchvision_weights
    monkeypatch.setattr(tags_module, "torchvision_weights", lambda network, tag: Offered(url))
    # The preprocessing still comes from torchvision.
    monkeypatch.setattr("featx.backbones.preprocessing.torchvision_weights", real)


def test_a_download_is_verified_kept_and_found_again(
    hub: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    file = publish(folder, seed=3)
    offer(monkeypatch, f"{address}/{file.name}")
    backbone = load_backbone("squeezenet1_1", progress=False)
    assert backbone.weights.digest == load_backbone("squeezenet1_1", "none", seed=3).weights.digest
    assert backbone.weights.source == f"{address}/{file.name}"
    assert (backbone.weights.tag, backbone.weights.sha256_verified) == ("IMAGENET1K_V1", "prefix")
    assert [p.name for p in hub.iterdir()] == [file.name]
    assert weights_dir() == hub
    # The second time nothing is fetched.
    file.unlink()
    again = load_backbone("squeezenet1_1", progress=False)
    assert again.weights == backbone.weights


def test_a_full_digest_is_used_where_it_is_known(
    hub: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    file = publish(folder, seed=3)
    offer(monkeypatch, f"{address}/{file.name}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(tags_module.KNOWN_SHA256, file.name, digest)
    assert load_backbone("squeezenet1_1", progress=False).weights.sha256_verified == "full"
    # Right in the digits of its name, wrong behind them.
    monkeypatch.setitem(tags_module.KNOWN_SHA256, file.name, digest[:-1] + "x")
    with pytest.raises(DownloadError, match="not the right one"):
        load_backbone("squeezenet1_1", progress=False)


def test_a_file_that_is_there_but_wrong_is_not_used(
    hub: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    file = publish(folder, seed=3)
    offer(monkeypatch, f"{address}/{file.name}")
    hub.mkdir(parents=True)
    (hub / file.name).write_bytes(b"half of it")
    with pytest.raises(DownloadError, match="not the right one"):
        load_backbone("squeezenet1_1", progress=False)


def test_a_failed_download_says_how_to_do_without(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    offer(monkeypatch, f"http://127.0.0.1:{port}/gone-12345678.pth")
    with pytest.raises(DownloadError) as caught:
        load_backbone("squeezenet1_1", progress=False)
    text = str(caught.value)
    assert f"put it at {hub / 'gone-12345678.pth'}" in text
    assert "--weights FILE" in text
    assert not hub.exists() or list(hub.iterdir()) == []


def test_full_digests_begin_as_torchvisions_file_names_do() -> None:
    models = import_torchvision().models
    files = {
        weights.url.rpartition("/")[2]
        for name in models.list_models(module=models)
        for weights in models.get_model_weights(name)
    }
    for file, digest in tags_module.KNOWN_SHA256.items():
        assert file in files
        assert len(digest) == 64
        assert digest.startswith(file.rpartition("-")[2].removesuffix(".pth"))


def test_timms_failed_download_becomes_a_download_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_timm()
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DownloadError) as caught:
        load_backbone("timm/resnet18", "a1_in1k")
    text = str(caught.value)
    assert "Weights a1_in1k of timm/resnet18" in text
    assert "https://huggingface.co/timm/resnet18.a1_in1k" in text
    assert "--weights FILE" in text


def test_timms_weights_are_taken_from_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = import_timm()
    donor = load_backbone("timm/resnet18", "none", seed=9)
    asked: list[tuple[str, bool]] = []
    real = timm.create_model

    def create(name: str, pretrained: bool = False) -> torch.nn.Module:
        asked.append((name, pretrained))
        return donor.model if pretrained else real(name)

    monkeypatch.setattr(timm, "create_model", create)
    backbone = load_backbone("timm/resnet18", "a1_in1k")
    assert ("resnet18.a1_in1k", True) in asked
    assert backbone.weights.digest == donor.weights.digest
    assert (backbone.weights.tag, backbone.weights.sha256_verified) == ("a1_in1k", "none")
    assert backbone.preprocess.name == "a1_in1k"


def test_a_timm_network_without_weights_says_so() -> None:
    with pytest.raises(WeightsError, match="timm offers no weights for efficientnet_lite4"):
        load_backbone("efficientnet_lite4")


@pytest.mark.parametrize(
    ("name", "weights", "closest"),
    [
        ("resnet50", "IMAGENET1K_V3", "'IMAGENET1K_V2'"),
        ("timm/resnet50", "a1_in1", "'a1_in1k'"),
        ("resnet50", "non", "'none'"),
    ],
)
def test_an_unknown_tag_gets_the_closest(name: str, weights: str, closest: str) -> None:
    with pytest.raises(UnknownName) as caught:
        load_backbone(name, weights)
    assert f"Weights '{weights}' is not in the list of {name}" in str(caught.value)
    assert closest in str(caught.value)


def test_random_weights_are_those_of_the_seed(resnet18: Backbone) -> None:
    before = torch.random.get_rng_state()
    again = load_backbone("resnet18", "none", seed=0)
    other = load_backbone("resnet18", "none", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.weights == resnet18.weights
    assert other.weights.digest != resnet18.weights.digest
    assert resnet18.weights.random
    assert (resnet18.weights.tag, other.weights.source) == ("random", "seed 1")


def test_one_changed_bit_changes_the_digest() -> None:
    backbone = load_backbone("squeezenet1_1", "none")
    from featx.backbones.weights import weights_digest

    state = backbone.model.state_dict()
    assert weights_digest(state) == backbone.weights.digest
    bias = state["features.0.bias"]
    bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    assert weights_digest(state) != backbone.weights.digest


def test_a_backbone_is_ready(resnet18: Backbone) -> None:
    assert (resnet18.name, resnet18.short_name) == ("torchvision/resnet18", "resnet18")
    assert resnet18.library == "torchvision"
    assert not resnet18.model.training
    assert repr(resnet18) == "Backbone('torchvision/resnet18', weights='random')"
    assert resnet18.to("cpu") is resnet18


@pytest.mark.parametrize(
    ("network", "tag"),
    [
        ("resnet50", "IMAGENET1K_V1"),
        ("resnet50", "IMAGENET1K_V2"),
        ("vgg16", "IMAGENET1K_FEATURES"),
    ],
)
def test_normalization_is_torchvisions(network: str, tag: str) -> None:
    weights = import_torchvision().models.get_model_weights(network)[tag]
    preset = weights.transforms()
    size = preset.crop_size[0]
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    ours = preprocess_of_tag(Network("torchvision", network), tag)
    found = ours.to_input(torch.from_numpy(pixels), "cpu", already_sized=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preset.mean, preset.std))
    wanted = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-4)
    assert (ours.image_size, ours.resize_size) == (size, preset.resize_size[0])
    assert (ours.interpolation, ours.crop) == (preset.interpolation.value, "center")
    assert ours.name == tag


def test_vgg16s_original_weights_take_values_on_0_to_255() -> None:
    ours = preprocess_of_tag(Network("torchvision", "vgg16"), "IMAGENET1K_FEATURES")
    pixels = torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)
    found = ours.to_input(pixels, "cpu", already_sized=True).flatten()
    # torchvision's metadata rounds the Caffe mean (123.68, 116.779, 103.939) to whole numbers.
    assert found.tolist() == pytest.approx([255 - 123, 255 - 117, 255 - 104], abs=0.01)


@pytest.mark.parametrize(
    ("network", "tag", "size", "resize", "crop"),
    [
        ("resnet50", "a1_in1k", 224, 235, "center"),
        ("tf_efficientnet_lite2", "in1k", 260, 292, "center"),
        ("vit_small_patch14_reg4_dinov2", "lvd142m", 518, 518, "center"),
        ("tf_efficientnet_lite0", "default", 224, 256, "center"),
    ],
)
def test_geometry_is_timms(network: str, tag: str, size: int, resize: int, crop: str) -> None:
    timm = import_timm()
    ours = preprocess_of_tag(Network("timm", network), tag)
    assert (ours.image_size, ours.resize_size, ours.crop) == (size, resize, crop)
    name = network if tag == "default" else f"{network}.{tag}"
    config = timm.data.resolve_data_config(
        pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict()
    )
    transform = timm.data.create_transform(**config)
    assert transform.transforms[0].size == resize
    assert (ours.mean, ours.std) == (config["mean"], config["std"])
    assert ours.interpolation == config["interpolation"]


def test_squashed_images_are_not_cropped() -> None:
    ours = preprocess_of_tag(Network("timm", "convnext_tiny"), "in12k_ft_in1k_384")
    assert (ours.crop, ours.resize_size, ours.image_size) == ("none", None, 384)


@pytest.mark.parametrize(
    ("name", "mean", "std", "scale"),
    [
        ("torch", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255),
        ("caffe", (123.68, 116.779, 103.939), (1.0, 1.0, 1.0), 1.0),
        ("IMAGENET1K_V2", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255),
    ],
)
def test_preprocessing_by_name(
    name: str, mean: tuple[float, ...], std: tuple[float, ...], scale: float
) -> None:
    chosen = load_backbone("resnet50", "none", preprocess=name).preprocess
    assert (chosen.name, chosen.mean, chosen.std, chosen.scale) == (name, mean, std, scale)
    # The geometry is that of the default weights, IMAGENET1K_V2.
    assert chosen.resize_size == 232


def test_an_unknown_preprocessing_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'cafe' is not known\. Closest: 'caffe'"):
        load_backbone("resnet18", str(tmp_path / "not-there.pth"), preprocess="cafe")


def test_old_densenet_names_are_todays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    donor = load_backbone("densenet121", "none", seed=2)
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in donor.model.state_dict().items()
    }
    path = tmp_path / "densenet121-a639ec97.pth"
    torch.save(old, path)
    monkeypatch.setattr(tags_module, "fetch", lambda url, dest, **known: dest)
    monkeypatch.setattr(tags_module, "weights_dir", lambda: tmp_path)
    backbone = load_backbone("densenet121", "IMAGENET1K_V1")
    assert backbone.weights.digest == donor.weights.digest


def test_what_timm_downloaded_before_is_known_to_be_here(tmp_path: Path, monkeypatch) -> None:
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    of_hub, own = {"hf_hub_id": "timm/a"}, {"hf_hub_id": "timm/a", "hf_hub_filename": "b.bin"}
    by_url = {"url": "https://example.org/weights/c-12345678.pth"}
    for config in (of_hub, own, by_url):
        assert not tags_module._is_here(config)
    # As the hub lays out its cache: a commit by the name of its branch, and the commit's files.
    files = hub / "models--timm--a" / "snapshots" / "0123abc"
    files.mkdir(parents=True)
    (hub / "models--timm--a" / "refs").mkdir()
    (hub / "models--timm--a" / "refs" / "main").write_text("0123abc")
    (files / "model.safetensors").touch()
    assert tags_module._is_here(of_hub)
    assert not tags_module._is_here(own)
    assert not tags_module._is_here({"hf_hub_id": "timm/a@other"})
    (files / "b.bin").touch()
    assert tags_module._is_here(own)
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / "c-12345678.pth").touch()
    assert tags_module._is_here(by_url)
