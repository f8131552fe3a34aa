"""Which rows go where: class filter, hold-out, limit. Indices in, indices out, all seeded.

The draws come from numpy's `RandomState`, whose numbers are frozen for all versions, so that a
split stays what it is when numpy is updated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from featx.errors import DataError, UnknownName, UsageError

# Each use draws from a stream of its own: another hold-out must not move the limit.
_STREAMS = {"test": 1, "val": 2, "limit": 3}

SPLITS = ("train", "val", "test")


def _draws(seed: int, *stream: int) -> np.random.RandomState:
    """Return a generator for one seed and one use."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"Seed {seed} is not possible: take a whole number from 0 to 4294967295.")
    return np.random.RandomState([seed, *stream])


def choose_classes(classes: Mapping[int, str], wanted: Sequence[str], where: str) -> dict[int, str]:
    """Return the classes with the wanted names, labels kept and ascending.

    Raises
    ------
    UnknownName
        For a name that the source does not have.
    DataError
        When no name is given.
    """
    names = list(dict.fromkeys(wanted))
    if not names:
        raise DataError("The class filter is empty: name at least one class, or leave it out.")
    for name in names:
        if name not in classes.values():
            raise UnknownName("Class", name, classes.values(), where=where)
    return {label: name for label, name in classes.items() if name in names}


def hold_out_count(n: int, amount: float, what: str) -> int:
    """Return how many of `n` images a hold-out of `amount` takes.

    Parameters
    ----------
    n : int
        Images there are.
    amount : float or int
        A float is a fraction (rounded to whole images), an int a count; 0 is no hold-out.
    what : str
        The split's name, for messages.

    Raises
    ------
    DataError
        For a fraction that is not between 0 and 1, or a count that leaves nothing.
    """
    if amount == 0:
        return 0
    if isinstance(amount, float):
        if not 0 < amount < 1:
            raise DataError(
                f"A {what} fraction of {amount} is not possible: take one between 0 and 1, "
                "a whole number of images, or 0 for none."
            )
        count = round(n * amount)
        if not 0 < count < n:
            raise DataError(
                f"A {what} fraction of {amount} takes {count} of {n} images: "
                "both sides need at least one. Take another fraction, or a count."
            )
        return count
    if not 0 < amount < n:
        raise DataError(
            f"A {what} split of {amount} images cannot be held out of {n}: "
            f"take 1 to {n - 1}, a fraction between 0 and 1, or 0 for none."
        )
    return int(amount)


def hold_out(
    y: np.ndarray, amount: float, *, split: str, stratified: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a part of the images for another split.

    Parameters
    ----------
    y : ndarray of shape (n,), int64
        Labels.
    amount : float or int
        Fraction or count; see `hold_out_count`.
    split : {"val", "test"}
        What the part is for; each draws its own numbers.
    stratified : bool
        Each class gives its share (largest remainders first, so that the total is kept). A plain
        random draw otherwise.
    seed : int
        Seed of the draw.

    Returns
    -------
    rest, held : ndarray of int64
        Rows of each part, ascending; together all rows.
    """
    n = len(y)
    count = hold_out_count(n, amount, split)
    draws = _draws(seed, _STREAMS[split])
    if not stratified:
        held = draws.permutation(n)[:count]
    else:
        parts = [draws.permutation(np.flatnonzero(y == label)) for label in np.unique(y)]
        shares = np.array([len(part) for part in parts]) * (count / n)
        take = np.floor(shares).astype(int)
        by_remainder = np.argsort(take - shares, kind="stable")
        take[by_remainder[: count - take.sum()]] += 1
        held = np.concatenate([part[:k] for part, k in zip(parts, take, strict=True)])
    held = np.sort(held).astype(np.int64)
    return np.setdiff1d(np.arange(n), held, assume_unique=True), held


def check_classes(
    labels: Mapping[str, np.ndarray], classes: Mapping[int, str], *, drawn: bool
) -> None:
    """Refuse splits in which a class has no image.

    Parameters
    ----------
    labels : mapping of str to ndarray
        Split name -> labels.
    classes : mapping of int to str
        Label -> class name.
    drawn : bool
        Whether the splits were drawn here (then the message says how to draw better ones).

    Raises
    ------
    DataError
        Naming each class and the splits that lack it.
    """
    missing = []
    for label, name in classes.items():
        lacking = [split for split, y in labels.items() if not (y == label).any()]
        if lacking:
            total = sum(int((y == label).sum()) for y in labels.values())
            missing.append(f"'{name}' ({total} in all) in {' and '.join(lacking)}")
    if not missing:
        return
    remedy = (
        "Hold out more, draw from every class (--stratified), or take classes with more images "
        f"(each needs one per split: {len(labels)})."
        if drawn
        else "Add images of it, or leave the class out with a class filter."
    )
    raise DataError(f"A class has no image in a split: {'; '.join(missing)}. {remedy}")


def limits_per_split(
    limit: int | Mapping[str, int | None] | None, splits: Sequence[str]
) -> dict[str, int | None]:
    """Return split -> most images per class; None is no limit.

    Raises
    ------
    UnknownName
        For a limit of a split that does not exist.
    DataError
        For a limit below 1.
    """
    wanted = dict(limit) if isinstance(limit, Mapping) else dict.fromkeys(splits, limit)
    for name, value in wanted.items():
        if name not in SPLITS:
            raise UnknownName("Split", name, SPLITS)
        if value is not None and value < 1:
            raise DataError(
                f"A limit of {value} images per class is not possible: take 1 or more, or none."
            )
    return {name: wanted.get(name) for name in splits}


def limit_rows(y: np.ndarray, limit: int, *, split: str, seed: int) -> np.ndarray:
    """Return at most `limit` rows of each class, ascending.

    A class's rows are drawn from one permutation that depends on the seed, the split and the label
    only, so that a smaller limit takes a subset of what a larger one takes.
    """
    chosen = []
    for label in np.unique(y):
        draws = _draws(seed, _STREAMS["limit"], SPLITS.index(split), int(label) % 2**32)
        chosen.append(draws.permutation(np.flatnonzero(y == label))[:limit])
    return np.sort(np.concatenate(chosen)).astype(np.int64)
