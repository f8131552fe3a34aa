"""Trained networks as one safetensors file each: weights, and all that is needed to use them.

No pickle: tensors, and JSON in the file's header.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.backbones.registry import Network
from featx.backbones.weight_files import read_weight_file
from featx.errors import UsageError, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featx.data import Preprocess

FORMAT = "featx.network"
FORMAT_VERSION = 1
SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A trained network as it was read from its file.

    Attributes
    ----------
    path : Path
        The file.
    network : Network
        Which network it is.
    n_classes : int
        Its outputs.
    class_names : tuple of str
        Name of each output.
    labels : tuple of int
        The data's own label of each output.
    image_size : tuple of int
        Height and width it was trained at, in pixels.
    preprocess : Preprocess
        What its images went through.
    provenance : dict
        Where it comes from: JSON values.
    tensors : dict of str to Tensor
        Its whole state dict, buffers as well, on the CPU.
    """

    path: Path
    network: Network
    n_classes: int
    class_names: tuple[str, ...]
    labels: tuple[int, ...]
    image_size: tuple[int, int]
    preprocess: Preprocess
    provenance: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]


def model_bytes(
    *,
    model: nn.Module,
    network: Network,
    n_classes: int,
    class_names: Sequence[str],
    labels: Sequence[int],
    image_size: tuple[int, int],
    preprocess: Preprocess,
    provenance: Mapping[str, Any],
) -> bytes:
    """Return the content of a file that `read_saved` reads; the same for the same model.

    Parameters
    ----------
    model : nn.Module
        As `featx.backbones.registry.build` makes it for `n_classes` and `image_size`; on any
        device.
    network : Network
        Which one it is.
    n_classes : int
        Its outputs.
    class_names : sequence of str
        Name of each output.
    labels : sequence of int
        The data's own label of each output.
    image_size : tuple of int
        Height and width in pixels.
    preprocess : Preprocess
        What its images went through.
    provenance : mapping
        Where it comes from: JSON values.

    Raises
    ------
    UsageError
        When there is not one name and one label per class.
    """
    from safetensors.torch import save

    if not len(class_names) == len(labels) == n_classes:
        raise UsageError(
            f"A model of {n_classes} classes with {len(class_names)} class names and {len(labels)} "
            "labels: give one of each per class."
        )
    # Copies: safetensors refuses tensors that share memory.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    about = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "network": network.name,
        "n_classes": n_classes,
        "class_names": list(class_names),
        "labels": [int(label) for label in labels],
        "image_size": [int(side) for side in image_size],
        "preprocess": dataclasses.asdict(preprocess),
        "provenance": dict(provenance),
    }
    about["sha256"] = _digest(about, tensors)
    data: bytes = save(tensors, metadata={"featx": json.dumps(about, sort_keys=True)})
    return data


def read_saved(path: str | Path) -> SavedModel:
    """Read a trained network that featx saved.

    Raises
    ------
    WeightsError
        If there is no such file, it is damaged, it is no network of featx, or it was written in
        another version of the format.
    UnknownName
        If no library here has the network.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"Model '{path}' is not there. Give the {SUFFIX} file of a trained network, or the "
            "name of a network of torchvision, timm or featx."
        )
    tensors, metadata = read_weight_file(path)
    about = _about(metadata)
    if about is None or about.get("format") != FORMAT:
        raise WeightsError(
            f"'{path}' is not a network that featx saved. Where it holds the weights of one, name "
            f"that: --backbone NETWORK --weights {path}"
        )
    if about.get("version") != FORMAT_VERSION:
        raise WeightsError(
            f"Model '{path}' has format version {about.get('version')}; this featx reads version "
            f"{FORMAT_VERSION}. Train it again, or use the featx that wrote it."
        )
    digest = about.pop("sha256", None)
    try:
        if _digest(about, tensors) != digest:
            raise ValueError("its content does not have the SHA-256 it was saved with")
        return _from_parts(path, about, tensors)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise WeightsError(f"Model '{path}' is damaged: {error}. Train it again.") from error


def is_saved_name(name: str) -> bool:
    """Return whether the name of a network means a saved model's file."""
    return name.endswith(SUFFIX) or ("/" in name and Path(name).expanduser().is_file())


def is_saved_file(path: Path) -> bool:
    """Return whether a weights file is a network that featx saved, by its header alone."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != SUFFIX or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            about = _about(file.metadata() or {})
    except (SafetensorError, OSError):
        return False
    return about is not None and about.get("format") == FORMAT


def _about(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return featx' own part of a safetensors header; None where there is none."""
    try:
        about = json.loads(metadata["featx"])
    except (KeyError, ValueError, RecursionError):
        return None
    return about if isinstance(about, dict) else None


def _digest(about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a model: what is said about it, and every tensor by name."""
    import torch

    # As a reader gets it: in JSON every key is a string, which changes the order of numbers.
    decoded = json.loads(json.dumps(about))
    digest = hashlib.sha256(json.dumps(decoded, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _from_parts(
    path: Path, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> SavedModel:
    """Put together the model of a file; KeyError, TypeError or ValueError say what is wrong."""
    from featx.backbones.registry import find_network
    from featx.data import Preprocess

    said = dict(about["preprocess"])
    said |= {"mean": tuple(said["mean"]), "std": tuple(said["std"])}
    height, width = about["image_size"]
    return SavedModel(
        path=path,
        network=find_network(about["network"]),
        n_classes=int(about["n_classes"]),
        class_names=tuple(about["class_names"]),
        labels=tuple(about["labels"]),
        image_size=(int(height), int(width)),
        preprocess=Preprocess(**said),
        provenance=dict(about["provenance"]),
        tensors=tensors,
    )
