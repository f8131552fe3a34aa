"""Read tensors from files, and fit them to a network: strictly, but for a missing classifier.

Nothing here executes pickle code: ``.safetensors`` holds tensors only, and everything else goes
through ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

# Where training programs put the weights inside of a checkpoint, outermost first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher")

# It counts training batches, is absent from old files and never enters a forward pass.
IGNORED = "num_batches_tracked"

# How many names of a kind an error shows.
SHOWN = 6


@dataclass(frozen=True)
class Fit:
    """Which tensors go where.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By the network's own names.
    absent : tuple of str
        Modules of the classifier for which nothing (usable) came.
    notes : tuple of str
        What a user should know, one sentence each.
    """

    tensors: dict[str, torch.Tensor]
    absent: tuple[str, ...]
    notes: tuple[str, ...]


def is_weight_file(text: str) -> bool:
    """Return whether a ``--weights`` value means a file rather than a tag."""
    return Path(text).suffix.lower() in SUFFIXES or "/" in text or "\\" in text


def read_weight_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of a file and its metadata.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or anything `torch.save` wrote.

    Returns
    -------
    tensors : dict of str to Tensor
        In the file's order, taken out of the usual wrappers.
    metadata : dict of str to str
        Of safetensors; empty otherwise.

    Raises
    ------
    WeightsError
        When there is no file, or it is damaged, holds code, or holds no tensors.
    """
    if not path.is_file():
        raise WeightsError(
            f"Weights file '{path}' is not there. Give the path of a {', '.join(SUFFIXES)} file."
        )
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    return _unwrap(_read_torch(path), path), {}


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"Weights file '{path}' is not a whole safetensors file: {error}. Fetch it again."
        ) from error


def _read_torch(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            # Said of checkpoints in a newer pickle protocol, which it reads all the same.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"Weights file '{path}' was refused: it holds Python objects besides tensors, and "
            "loading those could run code. Save its state_dict alone, or convert it to "
            ".safetensors, where you trust it."
        ) from error
    # torch raises these, and more, for files that are cut off or no checkpoints at all.
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"Weights file '{path}' cannot be read as a PyTorch file: {error}. Fetch it again."
        ) from error


def _unwrap(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Take the state dict out of a checkpoint."""
    import torch

    while isinstance(content, Mapping):
        tensors = {
            str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)
        }
        inner = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            if tensors:
                return tensors
            break
        content = content[inner]
    raise WeightsError(
        f"Weights file '{path}' holds no tensors by name. Valid: a state_dict, alone or under one "
        f"of {', '.join(WRAPPERS)}."
    )


def fit(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], head: Sequence[str], what: str
) -> Fit:
    """Find for every tensor of `model` the one that came for it.

    A common prefix of the names (``module.``, ``backbone.``, ...) is dropped, and with it whatever
    stands outside of it, which is another part of the same checkpoint. Only the classifier may be
    missing, of another number of classes, or not finite.

    Parameters
    ----------
    model : nn.Module
        The network.
    tensors : mapping of str to Tensor
        What came.
    head : sequence of str
        The network's classifier modules: ``["fc"]``.
    what : str
        What came and for what, for messages: ``"Weights w.pth for resnet50"``.

    Raises
    ------
    WeightsError
        Lists missing, unexpected and misshapen names.
    """
    wanted = {
        name: tensor for name, tensor in model.state_dict().items() if not name.endswith(IGNORED)
    }
    prefix = _common_prefix([n for n in wanted if not inside(n, head)], tensors, what)
    came = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not name.endswith(IGNORED)
    }
    missing = [name for name in wanted if name not in came]
    unexpected = [name for name in came if name not in wanted]
    misshapen = [n for n in wanted if n in came and _form(came[n]) != _form(wanted[n])]
    broken = [
        name
        for name in wanted
        if name in came and came[name].is_floating_point() and not came[name].isfinite().all()
    ]
    lists = {
        "missing": [name for name in missing if not inside(name, head)],
        "unexpected": unexpected,
        "of another shape": [
            f"{name} {_form(came[name])} instead of {_form(wanted[name])}"
            for name in misshapen
            if not inside(name, head)
        ],
        "not finite (NaN or Inf)": [name for name in broken if not inside(name, head)],
    }
    if any(lists.values()):
        text = "; ".join(_capped(kind, names) for kind, names in lists.items() if names)
        raise WeightsError(
            f"{what} do not fit. {text}. Use the file of this very network, with the names of "
            "its own library."
        )
    unusable = {*missing, *misshapen, *broken}
    absent = _modules_of(unusable, wanted, head)
    reason = "did not come"
    if misshapen or broken:
        reason = "is of another number of classes" if misshapen else "is not finite"
    notes = tuple(f"{what}: '{module}' {reason}; every cut before it works." for module in absent)
    usable = {n: came[n] for n in wanted if n not in unusable and not inside(n, absent)}
    return Fit(usable, absent, notes)


def _form(tensor: torch.Tensor) -> str:
    """Return a tensor's shape, and that it holds no fractions where that is so."""
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else ' of integers'}"


def load(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy fitted tensors into the network, in its own types (float16 becomes float32)."""
    import torch

    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def _common_prefix(wanted: Sequence[str], tensors: Mapping[str, Any], what: str) -> str:
    """Return the prefix with which most of the wanted names are there."""
    # The longest names are the least likely to end another name by chance.
    probes = sorted(wanted, key=len, reverse=True)[:3]
    candidates = {""} | {
        name.removesuffix(probe)
        for probe in probes
        for name in tensors
        if name.endswith("." + probe)
    }
    hits = {
        prefix: sum(prefix + name in tensors for name in wanted) for prefix in sorted(candidates)
    }
    best = max(hits.values())
    winners = [prefix for prefix, count in hits.items() if count == best]
    if best and len(winners) > 1:
        names = ", ".join(f"'{prefix}'" for prefix in winners)
        raise WeightsError(
            f"{what}: the file holds the network more than once, under {names}. "
            "Save the one you want alone."
        )
    return winners[0]


def inside(name: str, modules: Sequence[str]) -> bool:
    """Return whether a tensor or module name lies in one of the modules."""
    return any(name == module or name.startswith(module + ".") for module in modules)


def _modules_of(
    unusable: set[str], wanted: Mapping[str, Any], head: Sequence[str]
) -> tuple[str, ...]:
    """Return the modules of unusable tensors: the whole classifier where all of it is."""
    absent: list[str] = []
    for module in head:
        own = [name for name in wanted if inside(name, [module])]
        gone = [name for name in own if name in unusable]
        if gone and len(gone) == len(own):
            absent.append(module)
        else:
            absent += dict.fromkeys(name.rpartition(".")[0] for name in gone)
    return tuple(absent)


def _capped(kind: str, names: Sequence[str]) -> str:
    """Return ``"3 missing: a, b, c"``, with the first few names."""
    more = f", ... ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return f"{len(names)} {kind}: {', '.join(names[:SHOWN])}{more}"
