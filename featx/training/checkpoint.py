"""The state of a training after an epoch: one file, complete or not there, loaded without code."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.cache import fsio
from featx.errors import CheckpointError

FORMAT = "featx.checkpoint"
FORMAT_VERSION = 2


def save_checkpoint(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a checkpoint in one step; an earlier one of that name is replaced.

    Parameters
    ----------
    path : Path
        The file.
    identity : mapping of str to JSON values
        What makes the run itself: `load_checkpoint` refuses another one.
    state : mapping
        Tensors, numbers, texts, lists and dicts of them.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    import torch

    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "identity": dict(identity),
        "state": dict(state),
    }
    data = io.BytesIO()
    torch.save(content, data)
    fsio.make_folder(path.parent)
    fsio.publish(path, data.getvalue())


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state that `save_checkpoint` wrote for this very run.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is damaged, or belongs to another run: says what differs.
    """
    content = _read(path)
    if content.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"Checkpoint {path} has format version {content.get('version')}; this featx reads "
            f"{FORMAT_VERSION}. Run without --resume to begin again."
        )
    theirs = content["identity"]
    differing = [
        f"{name} is {_short(theirs.get(name))} there and {_short(identity.get(name))} here"
        for name in dict.fromkeys([*identity, *theirs])
        if theirs.get(name) != identity.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"Checkpoint {path} is of another run: {'; '.join(differing)}. Give the settings it "
            "was made with, or run without --resume to begin again."
        )
    state: dict[str, Any] = content["state"]
    return state


def _read(path: Path) -> dict[str, Any]:
    import torch

    damaged = f"Checkpoint {path} is damaged or no checkpoint of featx: "
    advice = " Run without --resume to begin again."
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint at {path} to resume from.") from error
    except (
        OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{damaged}{reason}.{advice}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{damaged}it has no such header.{advice}")
    return content


def _check_sums(path: Path) -> None:
    """Check the CRC of every part: torch reads a flipped bit without a word."""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise zipfile.BadZipFile(f"the sum of its part '{bad}' does not agree")


def _short(value: Any) -> str:
    text = str(value)
    return f"'{text if len(text) <= 40 else text[:37] + '...'}'"
