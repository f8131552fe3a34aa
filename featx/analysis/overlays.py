"""A map of numbers as colours over an image."""

from __future__ import annotations

import io

import numpy as np

from featx.errors import ShapeError

# Told apart with every common form of colour blindness: viridis by its lightness (Nuñez, Anderton
# and Renslow, PLOS ONE 13 (2018), e0199239), orange and blue of Okabe and Ito's palette.
COLOURS = "viridis"
FOR, AGAINST = (230, 159, 0), (0, 114, 178)

# Share of the colour in a pixel; the image below it is grey, so that it adds no colour of its own.
ALPHA = 0.6

# Longer side of a picture in a report: some 100 of them stay under a megabyte.
PICTURE_PX = 192
_WEBP_QUALITY = 80


def colour_range(values: np.ndarray, *, signed: bool = False) -> tuple[float, float]:
    """Return the values of the first and the last colour: a map's own range.

    Parameters
    ----------
    values : ndarray of shape (rows, columns), float
    signed : bool
        Whether zero must lie in the middle.
    """
    if signed:
        largest = float(np.abs(values).max())
        return -largest, largest
    return float(values.min()), float(values.max())


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map at another size, by bilinear interpolation between the middles of its places.

    Parameters
    ----------
    values : ndarray of shape (rows, columns), float
    size : tuple of int
        Height and width.

    Returns
    -------
    ndarray of shape `size`, float32
        Averaged (antialiased) where it becomes smaller.
    """
    from PIL import Image

    height, width = size
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))


def overlay(
    image: np.ndarray, values: np.ndarray, *, signed: bool = False, alpha: float = ALPHA
) -> np.ndarray:
    """Return an image in grey with a map over it in colours, scaled to the map's own range.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    values : ndarray of shape (rows, columns), float
        A map over the whole image, of any size.
    signed : bool
        Whether the map speaks for and against something: orange above zero, blue below, and the
        more of it the farther from zero.
    alpha : float
        Share of the colour, from 0 to 1; of signed maps, where they are farthest from zero.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8

    Raises
    ------
    ShapeError
        For an image or a map of another shape or type.
    """
    from matplotlib import colormaps
    from PIL import Image

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ShapeError(
            f"An image of shape {image.shape}, {image.dtype}: an overlay takes (H, W, 3), uint8."
        )
    if values.ndim != 2 or values.size == 0:
        raise ShapeError(f"A map of shape {values.shape}: an overlay takes (rows, columns).")
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)[..., None]
    low, high = colour_range(values, signed=signed)
    at_pixels = resized(values, image.shape[:2])[..., None]
    # The range is that of the places: interpolation and averaging stay within it.
    if signed:
        strength = np.clip(at_pixels / (high or 1.0), -1.0, 1.0)
        colours = np.where(strength > 0, FOR, AGAINST)
        share = alpha * np.abs(strength)
    else:
        scaled = (at_pixels[..., 0] - low) / ((high - low) or 1.0)
        colours = colormaps[COLOURS](scaled)[..., :3] * 255.0
        share = np.full_like(grey, alpha)
    return np.round((1 - share) * grey + share * colours).astype(np.uint8)


def shown_at(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image with `side` pixels at its longer side, (H, W, 3) uint8."""
    from PIL import Image

    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def picture(image: np.ndarray, values: np.ndarray, *, signed: bool = False) -> bytes:
    """Return an overlay as WebP, `PICTURE_PX` pixels at its longer side."""
    from PIL import Image

    shown = overlay(shown_at(image, PICTURE_PX), values, signed=signed)
    data = io.BytesIO()
    Image.fromarray(shown).save(data, format="WEBP", quality=_WEBP_QUALITY)
    return data.getvalue()
