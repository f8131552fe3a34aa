"""``folder:PATH``: one folder per class, as users keep their images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featx.data.decode import extensions
from featx.data.files import FileImages
from featx.data.raw import Part, Raw, Request
from featx.errors import DataError, quoted

# Folder name, in lower case -> split: the ways the field writes them.
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}

_LAYOUTS = (
    "featx takes PATH/<class>/<images>, or PATH/train/<class>/<images> with val/, test/ beside it"
)


def load_folder(request: Request) -> Raw:
    """Return the images of a folder: with its own splits, or one folder of classes.

    It has its own splits where there is a ``train`` folder that holds folders. Classes are the
    folder names, sorted, labels 0 to K-1. Images are all files below a class folder whose name
    ends as one of the formats read, in order of their path; hidden files and folders are skipped,
    links to files are followed.

    Raises
    ------
    DataError
        When the folder does not exist, has no class folders, an empty class, or splits with
        different classes.
    """
    root = Path(request.path).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"Folder {root} {what}. {_LAYOUTS}.")
    ignored: Counter[str] = Counter()
    try:
        splits = _split_folders(root)
        found = {split: _class_files(folder, ignored) for split, folder in splits.items()}
        beside = [folder.name for folder in _folders(root) if folder not in splits.values()]
    except OSError as error:
        raise DataError(
            f"Folder {root} cannot be read: {error.filename}: {error.strerror}. Check its "
            "permissions."
        ) from error
    _check_same_classes(found, splits)
    names = list(found["train"])
    parts = {}
    for split in found:
        paths = [path for name in names for path in found[split][name]]
        numbers = [len(found[split][name]) for name in names]
        y = np.repeat(np.arange(len(names), dtype=np.int64), numbers)
        parts[split] = Part(FileImages(paths, root=root), y)
    own_splits = root not in splits.values()
    return Raw(
        name=f"folder:{root.resolve().name}",
        classes=dict(enumerate(names)),
        parts=parts,
        origin={
            "path": request.path,
            "ignored_folders": beside if own_splits else [],
            "ignored_files": dict(sorted(ignored.items())),
        },
    )


def _folders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, by name."""
    return sorted(
        (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: p.name,
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Return split -> folder of classes; the root itself is ``train`` where it has no splits."""
    named = [f for f in _folders(root) if f.name.casefold() in SPLIT_FOLDERS and _folders(f)]
    splits: dict[str, Path] = {}
    for folder in named:
        split = SPLIT_FOLDERS[folder.name.casefold()]
        if split in splits:
            raise DataError(
                f"Folder {root} has two {split} sets, {splits[split].name}/ and "
                f"{folder.name}/: keep one."
            )
        splits[split] = folder
    if not splits:
        return {"train": root}
    if "train" not in splits:
        raise DataError(
            f"Folder {root} has {quoted(f.name for f in named)} but no 'train' with class folders. "
            f"{_LAYOUTS}."
        )
    return splits


def _class_files(folder: Path, ignored: Counter[str]) -> dict[str, list[Path]]:
    """Return class name -> image files of one folder of classes; count the others by their ending.

    Raises
    ------
    DataError
        When there is no class folder, or one without images.
    """
    classes = {f.name: _images_below(f, ignored) for f in _folders(folder)}
    if not classes:
        loose = any(p.suffix.lower() in extensions() for p in folder.iterdir() if p.is_file())
        what = "holds images, but no folder per class" if loose else "has no class folders"
        raise DataError(f"Folder {folder} {what}. {_LAYOUTS}.")
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise DataError(
            f"No images in class {quoted(empty)} of {folder}. Add some, or delete the folder. "
            f"Read are: {' '.join(sorted(extensions()))}"
        )
    return classes


def _refuse(error: OSError) -> None:
    """Let `os.walk` fail on a folder that it cannot list, which it would skip."""
    raise error


def _images_below(folder: Path, ignored: Counter[str]) -> list[Path]:
    """Return the visible image files below a folder, by relative path."""
    files = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() in extensions():
                files.append(path)
            else:
                ignored[path.suffix.lower()] += 1
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _check_same_classes(
    found: Mapping[str, Mapping[str, list[Path]]], splits: Mapping[str, Path]
) -> None:
    """Refuse splits that do not have the same classes."""
    wanted = set(found["train"])
    wrong = []
    for split, classes in found.items():
        if lacking := sorted(wanted - set(classes)):
            wrong.append(f"{splits[split].name}/ lacks {quoted(lacking)}")
        if extra := sorted(set(classes) - wanted):
            wrong.append(f"{splits[split].name}/ has {quoted(extra)}, which train/ has not")
    if wrong:
        raise DataError(
            f"The splits in {splits['train'].parent} have different classes: {'; '.join(wrong)}. "
            "Every split needs the same class folders."
        )
