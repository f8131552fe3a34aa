"""What cuts put out for one image at a time, not pooled, and laid out over its places."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import parse_pooling
from featx.errors import ShapeError
from featx.extraction import cut_points
from featx.extraction.forward import forward_batches

if TYPE_CHECKING:
    from featx.backbones import Backbone, CutPoint
    from featx.data import Images
    from featx.extraction import Settings


@dataclass(frozen=True, eq=False)
class Activation:
    """What a cut put out for one image.

    Attributes
    ----------
    cut : str
        As it was asked for.
    kind : {"map", "tokens"}
    values : ndarray of shape (C, H, W) or (T, D), float32
        A map's channels, or tokens.
    grid : tuple of int
        Rows and columns of places: (H, W), or that of the patches.
    prefix_tokens : int
        Tokens before the patches' own: the class token and registers.
    class_token : bool
        Whether the first token is a class token.
    """

    cut: str
    kind: str
    values: np.ndarray
    grid: tuple[int, int]
    prefix_tokens: int
    class_token: bool

    def places(self) -> np.ndarray:
        """Return the channels of every place, (C, rows, columns) float32; no class token."""
        if self.kind == "map":
            return self.values
        return self.values[self.prefix_tokens :].T.reshape(-1, *self.grid)

    def pooled(self, pool: str) -> np.ndarray:
        """Return the features that a head gets, (n_features,) float32.

        Raises
        ------
        UsageError
            When the cut cannot be pooled that way.
        """
        import torch

        found = parse_pooling(pool).apply(
            torch.from_numpy(self.values[None]),
            self.kind,
            prefix_tokens=self.prefix_tokens,
            class_token=self.class_token,
        )
        return found[0].numpy()


def cut_grid(
    backbone: Backbone, cut: str, point: CutPoint, image_size: tuple[int, int]
) -> tuple[int, int]:
    """Return the rows and columns of a cut's places.

    Patches lie in a grid of the image's own proportion, row by row: a square one for a square
    image (Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, section 3.1).

    Parameters
    ----------
    point : CutPoint
        Of the cut, at that image size.
    image_size : tuple of int
        Height and width in pixels of the network's input.

    Raises
    ------
    ShapeError
        For vectors, and for tokens that do not form such a grid.
    """
    where = f"Cut '{cut}' of {backbone.short_name}"
    if point.kind == "map":
        return point.shape[1], point.shape[2]
    if point.kind == "vector":
        raise ShapeError(
            f"{where} is a vector of {point.shape[0]} values: it has no places, and so no heat "
            f"map. Take a cut before the pooling: featx layers {backbone.short_name}"
        )
    prefix, _ = backbone.prefix_tokens(point.module)
    n_patches = point.shape[0] - prefix
    height, width = image_size
    rows = max(1, round(math.sqrt(max(n_patches, 0) * height / width)))
    columns = n_patches // rows
    if n_patches < 1 or rows * columns != n_patches or rows * width != columns * height:
        raise ShapeError(
            f"{where} is a row of {point.shape[0]} tokens, {prefix} of them class token or "
            f"registers. The other {n_patches} form no grid in the proportion of an image of "
            f"{height} x {width} px, so their places are not known. Take another cut, or a square "
            "--image-size that is a multiple of the patch."
        )
    return rows, columns


def cut_grids(
    backbone: Backbone, cuts: Sequence[str], settings: Settings
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Return the grid of every cut that has one, and by cut why the others have none.

    Raises
    ------
    UsageError
        When the network cannot be cut there, or two cuts are the same place.
    """
    grids, refused = {}, {}
    points = cut_points(backbone, cuts, replace(settings, pool="flatten"))
    for cut, point in points.items():
        try:
            grids[cut] = cut_grid(backbone, cut, point, settings.input_size)
        except ShapeError as error:
            refused[cut] = str(error)
    return grids, refused


def activations(
    backbone: Backbone, cuts: Sequence[str], images: Images, settings: Settings
) -> Generator[dict[str, Activation], None, None]:
    """Yield, image by image, what every cut puts out.

    One image is held at a time, because the first maps of a network are large. Close the iterator
    (`contextlib.closing`) where it may not be read to its end: that removes the hooks.

    Parameters
    ----------
    cuts : sequence of str
        Names as the user writes them.
    settings : Settings
        Of the run; its pooling and batch size have no effect.

    Yields
    ------
    dict of str to Activation
        By cut.

    Raises
    ------
    ShapeError
        For a cut without places.
    UsageError, NonFiniteFeatures
        As extraction.
    """
    # Flattened is what keeps every value.
    flat = replace(settings, pool="flatten", storage="float32", workers=0, compile=False)
    points = cut_points(backbone, cuts, flat)
    grids = {
        cut: cut_grid(backbone, cut, point, settings.input_size) for cut, point in points.items()
    }
    with closing(forward_batches(backbone, points, images, flat, 1)) as batches:
        for _, found in batches:
            yield {
                cut: Activation(
                    cut,
                    point.kind,
                    found[cut][0].reshape(point.shape),
                    grids[cut],
                    *backbone.prefix_tokens(point.module),
                )
                for cut, point in points.items()
            }


def seen_images(images: Images, settings: Settings) -> list[np.ndarray]:
    """Return images as the network sees them: resized and cropped, (H, W, 3) uint8 each."""
    import torch

    geometry = settings.preprocess.geometry if images.size is None else None
    shown = []
    for batch in images.batches(1, geometry=geometry):
        sized = batch
        if geometry is None:
            sized = settings.preprocess.sized(torch.from_numpy(batch), "cpu").numpy()
        shown.append(sized[0])
    return shown
