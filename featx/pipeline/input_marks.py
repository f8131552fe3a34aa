"""Marks of the files a run reads, by which a finished run is known again.

A record tells no folder of its machine, so that it could not tell two files of one name apart.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones.saved import is_saved_name
from featx.backbones.weight_files import is_weight_file
from featx.errors import DataError
from featx.fetch import file_digest

if TYPE_CHECKING:
    from featx.recipes import Recipe


@dataclass(frozen=True)
class InputMarks:
    """What stands for the files of a run; an empty text where there is none.

    Attributes
    ----------
    dataset : str
        From `dataset_mark`.
    weights : str
        From `weights_mark`.
    """

    dataset: str
    weights: str

    @property
    def digest(self) -> str:
        """Both as 16 hex digits; empty where the run reads no file of the user's."""
        marks = [mark for mark in (self.dataset, self.weights) if mark]
        return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16] if marks else ""


def input_marks(recipe: Recipe) -> InputMarks:
    """Return the marks of a recipe's files as they are now."""
    return InputMarks(dataset_mark(recipe.dataset), weights_mark(recipe))


def dataset_mark(source: str) -> str:
    """Return the digest of a dataset's file, or of the names, lengths and times of its images.

    To read all photos of a folder would take longer than many runs. Where the folder lies does not
    count, nor does a file that is not read. What cannot be read has no mark: loading it will say
    why.
    """
    kind, _, path = source.partition(":")
    try:
        if kind == "npz" and path:
            return _content(path)
        return _folder(path) if kind == "folder" and path else ""
    except (OSError, DataError):
        return ""


def weights_mark(recipe: Recipe) -> str:
    """Return the digests of those files of a recipe that bring weights, wherever they lie."""
    files = []
    if recipe.weights and is_weight_file(recipe.weights):
        files.append(recipe.weights)
    files += [name for name in (recipe.backbone, recipe.network) if name and is_saved_name(name)]
    try:
        return "\n".join(map(_content, files))
    except OSError:
        return ""


def _content(path: str) -> str:
    file = Path(path).expanduser()
    stat = file.stat()
    return _digest_once(file.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_once(path: Path, size: int, changed: int) -> str:
    """Return the digest of a file, read once while its length and time stay the same."""
    return file_digest(path)


def _folder(path: str) -> str:
    """Return the digest of the images that are read of a folder, as a list of files."""
    from featx.data.files import FileImages
    from featx.data.folder import load_folder
    from featx.data.raw import Request

    digest = hashlib.sha256()
    for split, part in load_folder(Request(path, Path(), download=False)).parts.items():
        assert isinstance(part.images, FileImages)
        for image in part.images.paths:
            stat = image.stat()
            name = os.fsencode(os.path.relpath(image, part.images.root))
            facts = f"\0{split}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            digest.update(name + facts.encode())
    return digest.hexdigest()
