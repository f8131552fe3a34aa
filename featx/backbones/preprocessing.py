"""What weights say of the images they were trained on, as a `featx.data.Preprocess`."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from featx.backbones.registry import Network
from featx.backbones.tags import offered_tags, timm_config, torchvision_weights
from featx.errors import UnknownName

if TYPE_CHECKING:
    from featx.data import Preprocess


def preprocess_of_tag(network: Network, tag: str) -> Preprocess:
    """Return the preprocessing of a network's weights, by the library's own metadata.

    Parameters
    ----------
    network : Network
        Which one. Those of featx have no weights: ImageNet's mean and deviation on the whole image
        at their own size stand for them.
    tag : str
        ``"IMAGENET1K_V2"``, ``"a1_in1k"``; ``"default"`` for the library's default weights, or
        for what it says of the network itself where it has none.

    Raises
    ------
    UnknownName
        When the network has no such weights.
    """
    if network.library == "featx":
        return _of_zoo()
    if network.library == "torchvision":
        return _from_torchvision(torchvision_weights(network, tag))
    return _from_timm(timm_config(network, tag), network)


def named_preprocess(name: str, network: Network, default: Preprocess) -> Preprocess:
    """Return what ``--preprocess NAME`` means for a network.

    Parameters
    ----------
    name : str
        ``torch`` (ImageNet mean and deviation on 0..1), ``caffe`` (RGB on 0..255 minus the mean),
        both with the geometry of `default`; or a tag of the network's weights.
    network : Network
        Whose weights a tag is of.
    default : Preprocess
        Of the network's default weights.

    Raises
    ------
    UnknownName
        When it is none of these.
    """
    from featx.data import CAFFE, TORCH

    for known in (TORCH, CAFFE):
        if name == known.name:
            return dataclasses.replace(
                default, name=name, mean=known.mean, std=known.std, scale=known.scale
            )
    tags = offered_tags(network)
    if name not in tags:
        raise UnknownName("Preprocessing", name, ["auto", TORCH.name, CAFFE.name, *tags])
    return preprocess_of_tag(network, name)


def _of_zoo() -> Preprocess:
    """Return what stands in for the preprocessing of weights that a small network has not."""
    from featx.data import TORCH
    from featx.networks import SIZE

    return dataclasses.replace(TORCH, image_size=SIZE, resize_size=None, crop="none")


def _from_torchvision(weights: Any) -> Preprocess:
    """Read torchvision's evaluation transform."""
    from featx.data import Preprocess

    preset = weights.transforms()
    return Preprocess(
        name=weights.name,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        scale=1 / 255,
        image_size=preset.crop_size[0],
        resize_size=preset.resize_size[0],
        crop="center",
        interpolation=preset.interpolation.value,
    )


def _from_timm(config: dict[str, Any], network: Network) -> Preprocess:
    """Read timm's data configuration, with the resize size as its evaluation transform has it."""
    from timm.data import resolve_data_config

    from featx.data import Preprocess

    data = resolve_data_config(pretrained_cfg=config)
    size = data["input_size"][-1]
    # "squash" resizes the whole image whatever its proportions; "border" pads, which featx leaves.
    squash = data["crop_mode"] == "squash"
    return Preprocess(
        name=config.get("tag") or network.model,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        scale=1 / 255,
        image_size=size,
        resize_size=None if squash else math.floor(size / data["crop_pct"]),
        crop="none" if squash else "center",
        interpolation=data["interpolation"],
    )
