"""The weights a library offers for a network, by their tags; and fetching them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.backbones.registry import Network
from featx.backbones.weight_files import read_weight_file
from featx.errors import DownloadError, UnknownName, WeightsError
from featx.fetch import check_allowed, downloads_allowed, fetch
from featx.torchvision_compat import import_timm, import_torchvision

if TYPE_CHECKING:
    import torch

# Full SHA-256 of torchvision's files where more than one independent publication agrees on it; of
# the others the file's name holds the first eight digits.
KNOWN_SHA256 = {
    "resnet18-f37072fd.pth": "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "resnet34-b627a593.pth": "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    "resnet50-0676ba61.pth": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "resnet50-11ad3fa6.pth": "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
    "resnet101-63fe2227.pth": "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    "resnet152-394f9c45.pth": "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
    "vgg16-397923af.pth": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
}

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")

# DenseNet's published files name their layers as torchvision did before 2018.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def weights_dir() -> Path:
    """Return torch.hub's folder of checkpoints: files that people already have are found there."""
    import torch

    return Path(torch.hub.get_dir(), "checkpoints")


def offered_tags(network: Network) -> list[str]:
    """Return the tags of the weights the library offers for a network; none for featx' own."""
    if network.library == "featx":
        return []
    if network.library == "torchvision":
        offered = import_torchvision().models.get_model_weights(network.model)
        return [weights.name for weights in offered]
    names = import_timm().models.list_pretrained(f"{network.model}.*")
    return [name.partition(".")[2] for name in names]


def check_tag(network: Network, tag: str) -> None:
    """Raise UnknownName, with the closest tags, unless `tag` is offered or is ``"default"``."""
    offered = ["default", *offered_tags(network)]
    if tag not in offered:
        raise UnknownName(
            "Weights",
            tag,
            ["none", *offered],
            where=f"the list of {network.short_name}",
            hint="A file (.safetensors, .pth) or package:NAME will do, too.",
        )


def torchvision_weights(network: Network, tag: str) -> Any:
    """Return torchvision's description of the weights called `tag` (or ``"default"``).

    Raises
    ------
    UnknownName
        Names the closest tags.
    """
    check_tag(network, tag)
    offered = import_torchvision().models.get_model_weights(network.model)
    return offered.DEFAULT if tag == "default" else offered[tag]


def timm_config(network: Network, tag: str) -> dict[str, Any]:
    """Return timm's description of the weights called `tag` (or ``"default"``).

    Raises
    ------
    UnknownName
        Names the closest tags.
    """
    check_tag(network, tag)
    name = network.model if tag == "default" else f"{network.model}.{tag}"
    config = import_timm().models.get_pretrained_cfg(name)
    description: dict[str, Any] = config.to_dict() if config is not None else {}
    return description


def fetch_torchvision(
    network: Network, tag: str, *, progress: bool
) -> tuple[dict[str, torch.Tensor], str, str, str]:
    """Return tensors, tag, URL and how they were verified (``"full"``, ``"prefix"``, ``"none"``).

    Raises
    ------
    DownloadError
        Says how to bring the file by hand.
    UnknownName
        When there is no such tag.
    """
    weights = torchvision_weights(network, tag)
    file = weights.url.rpartition("/")[2]
    known = KNOWN_SHA256.get(file)
    found = _HASH_IN_NAME.search(file)
    dest = weights_dir() / file
    fetch(
        weights.url,
        dest,
        sha256=known,
        sha256_prefix=None if known or found is None else found[1],
        what=f"Weights {weights.name} of {network.short_name}",
        by_hand=(
            f"Download {weights.url} by hand and put it at {dest}, or give a file of your own: "
            "--weights FILE."
        ),
        progress=progress,
    )
    tensors, _ = read_weight_file(dest)
    tensors = {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    verified = "full" if known else "prefix" if found else "none"
    return tensors, weights.name, weights.url, verified


def fetch_timm(network: Network, tag: str) -> tuple[dict[str, torch.Tensor], str, str]:
    """Return tensors, tag and where they come from, through timm's own functions.

    Raises
    ------
    DownloadError
        When timm could not get them; says to use a file.
    UnknownName, WeightsError
        When there is no such tag, or no weights at all.
    """
    config = timm_config(network, tag)
    source = config.get("hf_hub_id") or config.get("url")
    if not source:
        raise WeightsError(
            f"timm offers no weights for {network.short_name}. Give a file (--weights FILE), or "
            "--weights none for random ones."
        )
    if config.get("hf_hub_id"):
        source = f"https://huggingface.co/{source}"
    name = f"{network.model}.{config['tag']}" if config.get("tag") else network.model
    if not downloads_allowed() and not _is_here(config):
        check_allowed(f"Weights {config.get('tag', '')} of {network.short_name}", source)
    try:
        model = import_timm().create_model(name, pretrained=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DownloadError(
            f"Weights {config.get('tag', '')} of {network.short_name} could not be fetched from "
            f"{source}: {reason}. Bring the file by hand: --weights FILE."
        ) from error
    return model.state_dict(), config.get("tag") or "default", source


def _is_here(config: Mapping[str, Any]) -> bool:
    """Return whether timm downloaded these weights before: into the hub's cache, or torch's."""
    if not config.get("hf_hub_id"):
        return (weights_dir() / str(config["url"]).rpartition("/")[2]).is_file()
    from huggingface_hub import try_to_load_from_cache

    repo, _, revision = str(config["hf_hub_id"]).partition("@")
    own = config.get("hf_hub_filename")
    # Where a network does not name its file, timm looks for these.
    names = [own] if own else ["model.safetensors", "pytorch_model.bin"]
    found = [try_to_load_from_cache(repo, name, revision=revision or None) for name in names]
    return any(isinstance(path, str) for path in found)
