"""The images themselves: samples, sizes, and which are in two splits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from featx.analysis.cells import SAMPLES, class_samples, shown
from featx.evaluate.exhibits import DuplicateExhibit, SizeExhibit

if TYPE_CHECKING:
    from featx.data import Dataset, Images, Split
    from featx.evaluate.exhibits import ShownImage

PAIRS = 20
"""Pairs of equal images that are shown, of two splits."""

SIZES = 500
"""Sizes of a split that are listed, the most frequent ones."""

# Samples of all splits and classes together: a thousand classes have one each.
_MOST_SAMPLES = 1500


def samples(dataset: Dataset) -> dict[str, list[ShownImage]]:
    """Return images of every class of every split: 5, or fewer where there are many classes."""
    n_groups = len(dataset.splits) * len(dataset.classes)
    per_class = max(1, min(SAMPLES, _MOST_SAMPLES // n_groups))
    return {
        name: class_samples(split.y, list(dataset.classes), per_class)
        for name, split in dataset.splits.items()
    }


def duplicates(splits: Mapping[str, Split]) -> list[DuplicateExhibit]:
    """Return, for any two splits, how many images of the second are in the first.

    Images in memory are compared pixel for pixel, files byte for byte: the same picture saved
    twice with other bytes is not found.

    Parameters
    ----------
    splits : mapping of str to Split
        In order: each is looked up in those before it.

    Returns
    -------
    list of DuplicateExhibit
        One per two splits, also where nothing is in both; with up to 20 pairs.
    """
    digests = {name: split.images.content_digests() for name, split in splits.items()}
    found = []
    for first, second in itertools.combinations(splits, 2):
        # Read backwards, so that of equal images the earliest one stays.
        place = {digest: i for i, digest in reversed(list(enumerate(digests[first])))}
        pairs = [(place[digest], i) for i, digest in enumerate(digests[second]) if digest in place]
        y, other_y = splits[first].y, splits[second].y
        found.append(
            DuplicateExhibit(
                first=first,
                second=second,
                n=len(pairs),
                compared=_compared(splits[first].images, splits[second].images),
                pairs=[(shown(a, y), shown(b, other_y)) for a, b in pairs[:PAIRS]],
            )
        )
    return found


def _compared(first: Images, second: Images) -> Literal["pixels", "files"]:
    from featx.data import FileImages

    in_files = isinstance(first, FileImages) or isinstance(second, FileImages)
    return "files" if in_files else "pixels"


def leaks(found: Sequence[DuplicateExhibit]) -> list[str]:
    """Return a note per split that holds images of the training split: they flatter its figures."""
    return [
        f"Of the {d.second} images {d.n:,} {'is' if d.n == 1 else 'are'} in the training split as "
        "well: what is measured there flatters every result. The report's page lists them under "
        "Data."
        for d in found
        if d.first == "train" and d.n
    ]


def sizes(splits: Mapping[str, Split]) -> list[SizeExhibit]:
    """Return the sizes of the images of every split, up to 500 of each, the most frequent first."""
    return [
        SizeExhibit(split=name, width=width, height=height, n=n)
        for name, split in splits.items()
        for (height, width), n in itertools.islice(split.images.sizes().items(), SIZES)
    ]
