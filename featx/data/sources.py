"""Every source by name, and the one way from a source to a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.data.arrays import load_digits, load_npz
from featx.data.cifar import load_cifar5, load_cifar10
from featx.data.dataset import Dataset, Split
from featx.data.decode import probe_all
from featx.data.files import FileImages
from featx.data.folder import load_folder
from featx.data.idx import load_fashion_mnist
from featx.data.images import ArrayImages, Images
from featx.data.raw import Raw, Request
from featx.data.splits import (
    SPLITS,
    check_classes,
    choose_classes,
    hold_out,
    limit_rows,
    limits_per_split,
)
from featx.errors import DataError, UnknownName
from featx.machine import user_cache_dir


@dataclass(frozen=True)
class Source:
    """A kind of source.

    Attributes
    ----------
    form : str
        How it is written: ``"folder:PATH"``.
    about : str
        What it is, in one line.
    load : callable
        Takes a `Request`, gives a `Raw`.
    """

    form: str
    about: str
    load: Callable[[Request], Raw]


SOURCES = {
    "cifar10": Source(
        "cifar10", "CIFAR-10: 50,000 + 10,000 images of 32 x 32, 10 classes", load_cifar10
    ),
    "cifar5": Source(
        "cifar5", "CIFAR-10's dog, frog, horse, ship, truck: 25,000 + 5,000", load_cifar5
    ),
    "digits": Source("digits", "scikit-learn's digits: 1,797 greys of 8 x 8", load_digits),
    "fashion-mnist": Source(
        "fashion-mnist",
        "Fashion-MNIST: 60,000 + 10,000 greys of 28 x 28, 10 classes",
        load_fashion_mnist,
    ),
    "folder": Source("folder:PATH", "your images: one folder per class", load_folder),
    "npz": Source("npz:PATH", "a NumPy file: train_x, train_y, test_x, test_y", load_npz),
}


def default_data_dir() -> Path:
    """Return the folder for data: FEATX_DATA_DIR, or ``featx/data`` in the user's cache folder."""
    if chosen := os.environ.get("FEATX_DATA_DIR"):
        return Path(chosen).expanduser()
    return user_cache_dir() / "data"


def _load_raw(source: str, data_dir: str | Path | None, download: bool) -> Raw:
    """Return what the named source gives."""
    kind, colon, path = source.partition(":")
    forms = [entry.form for entry in SOURCES.values()]
    if kind not in SOURCES:
        hint = f"Valid: {', '.join(forms)}."
        if Path(source).expanduser().is_dir():
            hint += f" For this folder: folder:{source}"
        raise UnknownName("Dataset", source, forms, hint=hint)
    entry = SOURCES[kind]
    takes_path = ":" in entry.form
    if takes_path and not path:
        raise DataError(f"Dataset '{source}' needs a path: {entry.form}")
    if colon and not takes_path:
        raise DataError(f"Dataset '{kind}' takes no path, but '{path}' was given: {entry.form}")
    folder = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    return entry.load(Request(path=path, data_dir=folder, download=download))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of one part of a source that form a split."""

    origin: str
    rows: np.ndarray


def load_dataset(
    source: str,
    *,
    data_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    val: float = 0.2,
    test: float = 0.2,
    stratified: bool = False,
    seed: int = 0,
    limit: int | Mapping[str, int | None] | None = None,
    workers: int = 0,
    download: bool = True,
) -> Dataset:
    """Return images with labels, split: class filter first, then hold-out, then limit.

    Parameters
    ----------
    source : str
        ``cifar10``, ``cifar5``, ``digits``, ``fashion-mnist``, ``folder:PATH`` or ``npz:PATH``.
    data_dir : str or Path, optional
        Where data files are looked for and downloaded to; FEATX_DATA_DIR or ``~/.cache/featx/data``
        otherwise.
    classes : sequence of str, optional
        Keep these classes only, with their labels.
    val, test : float or int
        What is held out where the source has no such split of its own: a float is a fraction, an
        int a number of images, 0 none. The test split is drawn first, the validation split from
        what is left. ``val=0`` leaves out a source's own validation split, too.
    stratified : bool
        Whether each class gives its share to a hold-out; a plain random draw otherwise.
    seed : int
        Seed of every draw, 0 to 2**32 - 1.
    limit : int or mapping of split to int, optional
        Most images per class: in every split, or per split.
    workers : int
        How many image files are checked at a time; 0 takes one per core.
    download : bool
        Whether missing files may be fetched.

    Returns
    -------
    Dataset
        Splits of images in memory share the array that was read where together they use half of it
        or more; ``split.take(range(len(split)))`` makes one independent.

    Raises
    ------
    UnknownName
        For a source, class or split that does not exist.
    DataError
        For images, labels or splits that cannot be used; lists every damaged image file.
    DownloadError
        When a file cannot be fetched.

    Examples
    --------
    >>> digits = load_dataset("digits", limit=10)
    >>> {name: len(split) for name, split in digits.splits.items()}
    {'train': 100, 'val': 100, 'test': 100}
    """
    raw = _load_raw(source, data_dir, download)
    kept = dict(sorted(raw.classes.items()))
    if classes is not None:
        names = [classes] if isinstance(classes, str) else classes
        kept = choose_classes(kept, names, raw.name)
    chosen = {
        split: _Rows(split, np.flatnonzero(np.isin(part.y, list(kept))))
        for split, part in raw.parts.items()
    }
    check_classes(_labels(raw, chosen), kept, drawn=False)
    rules = _hold_out(raw, chosen, {"test": test, "val": val}, stratified=stratified, seed=seed)
    drawn = any("rule" in rule for rule in rules.values())
    check_classes(_labels(raw, chosen), kept, drawn=drawn)
    limits = limits_per_split(limit, list(chosen))
    for split, y in _labels(raw, chosen).items():
        most = limits[split]
        if most is not None:
            rows = limit_rows(y, most, split=split, seed=seed)
            chosen[split] = _Rows(chosen[split].origin, chosen[split].rows[rows])
    splits = {name: _split(raw, name, chosen) for name in SPLITS if name in chosen}
    _check_files([split.images for split in splits.values()], workers or os.cpu_count() or 1)
    provenance: dict[str, Any] = {
        "source": source,
        "origin": raw.origin,
        "classes": None if classes is None else list(kept.values()),
        "splits": {name: rules[name] for name in splits},
        "limit_per_class": (
            {name: limits[name] for name in splits} if any(limits.values()) else None
        ),
        "seed": seed,
    }
    return Dataset(raw.name, kept, splits, provenance)


def _labels(raw: Raw, chosen: Mapping[str, _Rows]) -> dict[str, np.ndarray]:
    """Return split -> labels of its rows."""
    return {split: raw.parts[rows.origin].y[rows.rows] for split, rows in chosen.items()}


def _hold_out(
    raw: Raw,
    chosen: dict[str, _Rows],
    amounts: Mapping[str, float],
    *,
    stratified: bool,
    seed: int,
) -> dict[str, Any]:
    """Draw the splits that the source lacks from its training rows, in place.

    Returns
    -------
    dict
        Split -> how it came to be, for the record.
    """
    rules: dict[str, Any] = {split: {"from": "the source's own"} for split in chosen}
    if amounts["val"] == 0:
        chosen.pop("val", None)
        rules.pop("val", None)
    for split, amount in amounts.items():
        if split in chosen or amount == 0:
            continue
        by_class = stratified or (split == "test" and raw.stratify_test)
        train = chosen["train"]
        y = raw.parts["train"].y[train.rows]
        rest, held = hold_out(y, amount, split=split, stratified=by_class, seed=seed)
        chosen["train"] = _Rows("train", train.rows[rest])
        rules["train"] = {"from": "the source's own, less what is held out of it"}
        chosen[split] = _Rows("train", train.rows[held])
        rules[split] = {
            "from": "held out of train",
            "rule": "stratified" if by_class else "random",
            "amount": amount,
            "images": len(held),
            "seed": seed,
        }
    return rules


def _split(raw: Raw, name: str, chosen: Mapping[str, _Rows]) -> Split:
    """Return one split: its rows of the part that they come from."""
    origin, rows = chosen[name].origin, chosen[name].rows
    part = raw.parts[origin]
    images = part.images.in_split(name, origin)
    # A copy would take memory and time; but few images shall not keep an array of many.
    n_used = sum(len(each.rows) for each in chosen.values() if each.origin == origin)
    if isinstance(images, ArrayImages) and 2 * n_used >= len(images):
        is_all = np.array_equal(rows, np.arange(len(images)))
        return Split(name, images if is_all else images.sharing(rows), part.y[rows])
    return Split(name, images.take(rows), part.y[rows])


def _check_files(images: Sequence[Images], threads: int) -> None:
    """Read all image files of all splits once, so that every damaged one is listed."""
    files = [each for each in images if isinstance(each, FileImages)]
    if not files:
        return
    headers = iter(probe_all([p for each in files for p in each.paths], files[0].root, threads))
    for each in files:
        each.set_headers([next(headers) for _ in each.paths])
