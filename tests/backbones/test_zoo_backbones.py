"""featx' own networks in their place among the libraries' ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from featx.backbones import Capture, list_networks, load_backbone
from featx.backbones.registry import Network, build, find_network, library_models
from featx.data import TORCH
from featx.errors import ShapeError, UnknownName, UsageError, WeightsError
from featx.networks import build_zoo, zoo_names


def test_no_other_library_has_their_names() -> None:
    others = library_models("torchvision") | library_models("timm")
    assert not others & set(zoo_names())
    assert set(zoo_names()) <= set(list_networks())


@pytest.mark.parametrize("asked", ["cnn-a", "featx/cnn-a"])
def test_they_are_found_by_name(asked: str) -> None:
    network = find_network(asked)
    assert (network.name, network.short_name) == ("featx/cnn-a", "cnn-a")


@pytest.mark.parametrize("wrong", ["cnn-d", "featx/cnn-d"])
def test_a_wrong_name_gets_the_closest(wrong: str) -> None:
    with pytest.raises(UnknownName, match=r"Closest: '(featx/)?cnn-"):
        find_network(wrong)


def test_random_weights_are_those_of_the_seed() -> None:
    torch.manual_seed(3)
    expected = build_zoo("conv2").state_dict()
    backbone = load_backbone("conv2", "none", seed=3)
    found = backbone.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (backbone.name, backbone.library) == ("featx/conv2", "featx")
    assert backbone.weights.random


def test_their_images_are_resized_whole_to_32_px() -> None:
    wants = load_backbone("cnn-a", "none").preprocess
    assert (wants.mean, wants.std, wants.scale) == (TORCH.mean, TORCH.std, TORCH.scale)
    assert (wants.image_size, wants.resize_size, wants.crop) == (32, None, "none")
    assert load_backbone("cnn-a", "none", preprocess="caffe").preprocess.scale == 1
    with pytest.raises(UnknownName, match="Preprocessing 'IMAGENET1K_V1' is not known"):
        load_backbone("cnn-a", "none", preprocess="IMAGENET1K_V1")


def test_cuts_give_what_the_layers_up_to_them_give() -> None:
    backbone = load_backbone("cnn-a", "none")
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    cuts = ["conv3", "relu3", "pool1", "fc1", "output"]
    with Capture(backbone, cuts, pool="flatten") as capture:
        found = capture(x)
    names = [name for name, _ in backbone.model.named_children()]
    for cut in cuts:
        up_to = backbone.model[: names.index(cut) + 1]
        expected = up_to(x).flatten(1)
        torch.testing.assert_close(found[cut], expected)
    assert found["conv3"].shape == (3, 64 * 16 * 16)
    assert found["conv3"].min() < 0 <= found["relu3"].min()


def test_every_layer_is_a_place_to_cut_with_its_costs() -> None:
    points = {point.module: point for point in load_backbone("conv2", "none").cut_points(32)}
    assert list(points) == [name for name, _ in build_zoo("conv2").named_children()]
    assert points["pool2"].shape == (16, 5, 5)
    assert points["pool2"].n_parameters == 6 * (75 + 1) + 16 * (150 + 1)
    assert points["output"].n_parameters == 62_006
    expected = 28 * 28 * 75 * 6 + 10 * 10 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    assert points["output"].multiply_adds == expected


def test_another_size_is_asked_for_when_it_is_built() -> None:
    built = load_backbone("cnn-a", "none", image_size=64)
    assert built.preprocess.image_size == 64
    assert built.describe_cuts(["pool2"], 64)[0].shape == (64, 16, 16)
    with pytest.raises(ShapeError) as caught:
        load_backbone("cnn-a", "none").describe_cuts(["pool2"], 64)
    assert "Images of 64 x 64 px do not pass through cnn-a" in str(caught.value)
    assert "Its own size is 32 x 32" in str(caught.value)
    with pytest.raises(ShapeError, match="too small for cnn-c"):
        load_backbone("cnn-c", "none", image_size=8)


@pytest.mark.parametrize("weights", ["default", "IMAGENET1K_V1"])
def test_they_come_untrained(weights: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone("cnn-a", weights)
    text = str(caught.value)
    assert f"There are no weights '{weights}' of cnn-a" in text
    assert "featx train --network cnn-a" in text
    assert "--weights none" in text


def test_plain_tensors_are_weights_like_any(tmp_path: Path) -> None:
    torch.manual_seed(8)
    donor = build_zoo("conv2", n_classes=7)
    path = tmp_path / "w.safetensors"
    save_file(donor.state_dict(), path)
    backbone = load_backbone("conv2", str(path))
    assert torch.equal(
        backbone.model.get_submodule("fc2").weight, donor.get_submodule("fc2").weight
    )
    # A file without featx' header does not say its classes: the output is of another number.
    assert backbone.absent == ("output",)
    with pytest.raises(WeightsError, match="do not fit"):
        load_backbone("cnn-a", str(path))


@pytest.mark.parametrize(
    ("network", "width"),
    [
        (Network("torchvision", "resnet18"), "fc.weight"),
        (Network("timm", "resnet18"), "fc.weight"),
        (Network("featx", "conv3"), "output.weight"),
        (Network("torchvision", "squeezenet1_1"), "classifier.1.weight"),
    ],
)
def test_every_library_builds_for_a_number_of_classes(network: Network, width: str) -> None:
    assert build(network, 7).state_dict()[width].shape[0] == 7
    with pytest.raises(UsageError, match="2 classes or more"):
        build(network, 1)


def test_auxiliary_classifiers_are_only_there_for_the_librarys_weights() -> None:
    googlenet = Network("torchvision", "googlenet")
    for_weights, for_training = build(googlenet), build(googlenet, 1000)
    assert any(name.startswith("aux") for name, _ in for_weights.named_parameters())
    # torchvision's published number.
    assert sum(p.numel() for p in for_training.parameters()) == 6_624_904
    assert for_training.training
    # Weights that were made with it are no use without.
    assert for_training.transform_input is True
    out = for_training(torch.zeros(2, 3, 64, 64))
    assert isinstance(out, torch.Tensor)
    assert build(Network("torchvision", "inception_v3"), 4).AuxLogits is None
