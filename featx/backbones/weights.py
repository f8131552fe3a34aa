"""Where weights came from, and what is in memory of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones.packages import find_package, preprocess_of_package, read_package
from featx.backbones.preprocessing import named_preprocess, preprocess_of_tag
from featx.backbones.registry import Network
from featx.backbones.tags import fetch_timm, fetch_torchvision
from featx.backbones.weight_files import IGNORED, is_weight_file, read_weight_file
from featx.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featx.data import Preprocess

PACKAGE = "package:"


@dataclass(frozen=True)
class WeightsInfo:
    """Which weights a network has.

    Attributes
    ----------
    tag : str
        ``"IMAGENET1K_V2"``, ``"random"``, a file's name, a package's name.
    source : str
        URL, file name, ``package==version`` or ``"seed 0"``.
    digest : str
        `weights_digest` of the tensors in memory; of those that were loaded, where some are absent.
    random : bool
        Whether nothing was loaded.
    sha256_verified : str
        How the file was checked: ``"full"``, ``"prefix"`` (the digits in its name) or ``"none"``.
    """

    tag: str
    source: str
    digest: str
    random: bool
    sha256_verified: str


@dataclass(frozen=True)
class Source:
    """Weights as they came, before they are fitted to a network.

    Attributes
    ----------
    tag, source, sha256_verified : str
        As in `WeightsInfo`.
    tensors : mapping of str to Tensor, or None
        None for random weights.
    preprocess : Preprocess
        What they say of themselves, else that of the network's default weights.
    says_preprocess : bool
        Whether they say it of themselves.
    """

    tag: str
    source: str
    sha256_verified: str
    tensors: Mapping[str, torch.Tensor] | None
    preprocess: Preprocess
    says_preprocess: bool = True


def read_weights(
    network: Network, weights: str, model: nn.Module, *, seed: int, progress: bool
) -> Source:
    """Return what ``--weights`` asks for; `featx.backbones.load_backbone` documents the values."""
    if weights == "none":
        default = preprocess_of_tag(network, "default")
        return Source("random", f"seed {seed}", "none", None, default)
    if weights.startswith(PACKAGE):
        package = find_package(weights.removeprefix(PACKAGE), network.name)
        tensors, source = read_package(package, model)
        preprocess = preprocess_of_package(package, preprocess_of_tag(network, "default"))
        return Source(package.name, source, "full", tensors, preprocess)
    if is_weight_file(weights):
        path = Path(weights).expanduser()
        tensors, metadata = read_weight_file(path)
        preprocess = preprocess_of_tag(network, "default")
        own = metadata.get("preprocess")
        if own:
            preprocess = named_preprocess(own, network, preprocess)
        return Source(path.name, path.name, "none", tensors, preprocess, bool(own))
    if network.library == "featx":
        raise WeightsError(
            f"There are no weights '{weights}' of {network.short_name}: it comes untrained. Train "
            f"it (featx train --network {network.short_name}), give the file of a trained one "
            "(--weights FILE), or take random ones (--weights none)."
        )
    if network.library == "timm":
        tensors, tag, source = fetch_timm(network, weights)
        verified = "none"
    else:
        tensors, tag, source, verified = fetch_torchvision(network, weights, progress=progress)
    return Source(tag, source, verified, tensors, preprocess_of_tag(network, tag))


def weights_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of tensors: sorted names, types, shapes and bytes, as hex.

    BatchNorm's count of training batches is left out: it never enters a forward pass.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.endswith(IGNORED):
            continue
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
