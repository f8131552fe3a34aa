"""Images with one interface, wherever they are; those that lie in memory."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.data.blocks import Hasher, update_with_pixels
from featx.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Geometry = Callable[["Image.Image"], np.ndarray]
Indices = Sequence[int] | np.ndarray


class Images(ABC):
    """RGB images in a fixed order.

    Attributes
    ----------
    size : tuple of (height, width), or None
        Common size of all images; None when they differ.
    """

    @property
    @abstractmethod
    def size(self) -> tuple[int, int] | None:
        """Common (height, width) of all images; None when they differ."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, indices: Indices) -> Images:
        """Return the images at `indices` (integers, or one boolean per image), in that order."""

    @abstractmethod
    def name_of(self, i: int) -> str:
        """Return what to call image `i` in a message or a gallery."""

    @abstractmethod
    def in_split(self, split: str, origin: str) -> Images:
        """Return the same images, told which split they form and which one of the source's."""

    @abstractmethod
    def update_digest(self, hasher: Hasher) -> None:
        """Feed a hash with content, sizes and order; never with paths or times."""

    @abstractmethod
    def picture(self, i: int, side: int) -> Image.Image:
        """Return image `i` in mode RGB, for a view of `side` pixels.

        It may be decoded more coarsely than it is, but its longer side has `side` pixels or more,
        where the image has.

        Raises
        ------
        DataError
            When a file cannot be decoded.
        """

    @abstractmethod
    def content_digests(self) -> list[bytes]:
        """Return the SHA-256 of each image's content: of pixels in memory, or of files.

        Equal digests are equal images. A picture in two files of different bytes has two.
        """

    @abstractmethod
    def sizes(self) -> dict[tuple[int, int], int]:
        """Return (height, width) -> number of images, the most frequent first."""

    @abstractmethod
    def batches(
        self,
        batch_size: int,
        *,
        start: int = 0,
        geometry: Geometry | None = None,
        workers: int = 0,
    ) -> Generator[np.ndarray, None, None]:
        """Yield the images in order, each once, from row `start` on.

        Parameters
        ----------
        batch_size : int
            Images per batch; the last one may be smaller.
        start : int
            First row.
        geometry : callable, optional
            Brings each decoded image to one size; needed where `size` is None. Images in memory
            stay as they are.
        workers : int
            Threads that decode, ahead of the reader by a batch; 0 decodes when a batch is asked
            for. Closing the generator ends them.

        Yields
        ------
        ndarray of shape (b, height, width, 3), uint8

        Raises
        ------
        DataError
            When a file cannot be decoded, or when images of many sizes come without `geometry`.
        """


def spans(n: int, batch_size: int, start: int) -> Iterator[tuple[int, int]]:
    """Yield (first row, end row) of each batch of rows `start` to `n`."""
    if batch_size < 1 or not 0 <= start <= n:
        raise DataError(
            f"Batches of {batch_size} from row {start} of {n} images are not possible: "
            f"take a batch size of 1 or more and a first row of 0 to {n}."
        )
    for first in range(start, n, batch_size):
        yield first, min(first + batch_size, n)


class ArrayImages(Images):
    """Images in one array.

    Parameters
    ----------
    array : ndarray of shape (n, height, width, 3), uint8
        RGB images.
    rows : ndarray of shape (n,), int, optional
        Their rows in the source, for names.
    split, origin : str
        The split they form and the part of the source they come from, for names.

    Raises
    ------
    DataError
        For another dtype or shape.
    """

    def __init__(
        self,
        array: np.ndarray,
        *,
        rows: np.ndarray | None = None,
        split: str = "",
        origin: str = "",
    ) -> None:
        self._all = as_rgb(array)
        # Which of them these are, in order; None is all.
        self._at: np.ndarray | None = None
        self.rows = np.arange(len(self._all)) if rows is None else rows
        self.split = split
        self.origin = origin

    @property
    def array(self) -> np.ndarray:
        """The images, shape (n, height, width, 3), uint8.

        Where they share an array with others (see `sharing`) every access copies them, and what is
        written there does not reach them.
        """
        return self._images(0, len(self))

    @property
    def size(self) -> tuple[int, int]:
        """Common (height, width) of all images."""
        return self._all.shape[1], self._all.shape[2]

    def __len__(self) -> int:
        return len(self._all if self._at is None else self._at)

    def _images(self, first: int, end: int) -> np.ndarray:
        """Return the images from one row to another: a view, or a copy where they are spread."""
        return self._all[first:end] if self._at is None else self._all[self._at[first:end]]

    def take(self, indices: Indices) -> ArrayImages:
        """Return a copy of the images at `indices`, in that order."""
        chosen = np.arange(len(self))[indices]
        return ArrayImages(
            self._all[chosen if self._at is None else self._at[chosen]],
            rows=self.rows[chosen], split=self.split, origin=self.origin,
        )  # fmt: skip

    def sharing(self, indices: Indices) -> ArrayImages:
        """Return the images at `indices`, in that order, of which none is copied.

        They keep the whole array; pickled, they take only themselves along.

        Raises
        ------
        DataError
            When there are none.
        """
        chosen = np.arange(len(self))[indices]
        if not len(chosen):
            raise DataError(f"None of {len(self)} images is chosen: choose at least one.")
        shared = ArrayImages(
            self._all, rows=self.rows[chosen], split=self.split, origin=self.origin
        )
        shared._at = chosen if self._at is None else self._at[chosen]
        return shared

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: of a shared array, the images that these are."""
        return vars(self) | {"_all": self.array, "_at": None}

    def _image(self, i: int) -> np.ndarray:
        return self._all[i if self._at is None else self._at[i]]

    def name_of(self, i: int) -> str:
        """Return ``"train image 123 (source row 4711)"``."""
        if not self.split:
            return f"image {i}"
        of = f" of {self.origin}" if self.origin != self.split else ""
        return f"{self.split} image {i} (source row {self.rows[i]}{of})"

    def in_split(self, split: str, origin: str) -> ArrayImages:
        """Return the same images, told which split they form and which one of the source's."""
        moved = ArrayImages(self._all, rows=self.rows, split=split, origin=origin)
        moved._at = self._at
        return moved

    def update_digest(self, hasher: Hasher) -> None:
        """Feed a hash with the shape and every pixel; see `update_with_pixels`."""
        update_with_pixels(hasher, (len(self), *self.size, 3), self._images)

    def picture(self, i: int, side: int) -> Image.Image:
        """Return image `i`, at its full size."""
        from PIL import Image

        return Image.fromarray(self._image(i))

    def content_digests(self) -> list[bytes]:
        """Return the SHA-256 of each image's size and pixels."""
        return list(self._content_digests)

    @cached_property
    def _content_digests(self) -> list[bytes]:
        shape = json.dumps(self.size).encode()
        return [hashlib.sha256(shape + self._image(i).tobytes()).digest() for i in range(len(self))]

    def sizes(self) -> dict[tuple[int, int], int]:
        """Return the one size, with the number of all images."""
        return {self.size: len(self)}

    def batches(
        self,
        batch_size: int,
        *,
        start: int = 0,
        geometry: Geometry | None = None,
        workers: int = 0,
    ) -> Generator[np.ndarray, None, None]:
        """Yield parts of the array; nothing is decoded, so the other parameters have no effect."""
        for first, end in spans(len(self), batch_size, start):
            # Writable and contiguous (copied only where it is not): torch.from_numpy asks for it.
            yield np.require(self._images(first, end), requirements=("C", "W"))


def as_rgb(array: np.ndarray, what: str = "The images") -> np.ndarray:
    """Return uint8 images as (n, height, width, 3); greys are repeated over the channels.

    Parameters
    ----------
    array : ndarray of shape (n, height, width, 3), (n, height, width, 1) or (n, height, width)
        Of dtype uint8.
    what : str
        What the images are, for the message.

    Raises
    ------
    DataError
        For another dtype or shape, for no image, or for images without a pixel.
    """
    got = f"{what} are {array.dtype} of shape {array.shape}"
    wanted = "featx takes uint8 of shape (n, height, width, 3) or, for greys, (n, height, width)"
    if array.dtype != np.uint8:
        hint = " Values on 0..1: multiply with 255, round, astype('uint8')."
        raise DataError(f"{got}; {wanted}.{hint if array.dtype.kind == 'f' else ''}")
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        raise DataError(f"{got}; {wanted}. Channels come last: transpose(0, 2, 3, 1).")
    if array.ndim == 3 and array.shape[2] in (3, 4):
        raise DataError(
            f"Images have shape {array.shape}: is it one colour image? Give a batch of one: "
            "image[None]. Grey images have shape (n, height, width) and are wider than 4 pixels."
        )
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise DataError(f"{got}; {wanted}.")
    if 0 in array.shape:
        raise DataError(f"{got}; there must be at least one image, with at least one pixel.")
    if array.ndim == 3:
        array = array[..., None]
    return np.repeat(array, 3, axis=3) if array.shape[3] == 1 else array
