"""Pillow's resize, number for number, for a whole batch on any device.

Pillow resizes 8-bit images in two passes, one per axis, each in integers: weights of 22 fractional
bits, a sum, half a unit, a shift, and a clip to 0..255 between the passes. Integers leave no room
for rounding of one's own, so the same arithmetic in int32 tensors gives the same pixels on every
device. (torch's own antialiased resize does not: measured on noise, its uint8 kernel is up to 19
levels away from Pillow for bicubic weights, its float kernel up to 26, because nothing is clipped
between its passes.)

torch's uint8 kernel has weights of 15 bits. Enlarging bilinearly by a ratio of small numbers (32 to
224, 96 to 224), no sum comes so near to half a level that the missing bits matter, and it gives
Pillow's pixels at a fraction of the time; by others (64 to 224) it does not. `torch_is_pillow`
tries it out on everything that can occur.

Which axis comes first decides the last bits. Older Pillow makes the width first; Pillow 13
makes the height first where that is cheaper. `pillow_order` asks the installed Pillow.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# Fractional bits of a weight: 32 - 8 (pixel) - 2 (overshoot of bicubic), as in Pillow's Resample.c.
WEIGHT_BITS = 22

# Half the width of each kernel, in source pixels when enlarging.
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}

# Values at least that show in which order Pillow takes the axes, and pixels at most that they are
# made of, but for one image.
_PROBES = 3000
_PROBE_PIXELS = 10**6

# Axes of an (n, height, width, channels) tensor.
_ROWS, _COLUMNS = 1, 2


def _kernel(x: np.ndarray, interpolation: str) -> np.ndarray:
    """Return the weight at each distance `x` >= 0: a triangle, or Keys' cubic with a = -1/2."""
    if interpolation == "bilinear":
        return np.where(x < 1, 1 - x, 0.0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@functools.lru_cache(maxsize=64)
def weights(n_in: int, n_out: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which source pixels make each output pixel of one axis, and with what weight.

    Parameters
    ----------
    n_in, n_out : int
        Length of the axis before and after.
    interpolation : {"bilinear", "bicubic"}
        The kernel; widened by the factor of reduction, which is what antialiasing is.

    Returns
    -------
    positions : ndarray of shape (n_out, taps), int64
        Source pixels; those with weight 0 may repeat the last pixel.
    weights : ndarray of shape (n_out, taps), int64
        In units of 2**-22.
    """
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    support = _SUPPORT[interpolation] * stretch
    centers = (np.arange(n_out) + 0.5) * scale
    first = np.maximum(np.trunc(centers - support + 0.5), 0).astype(np.int64)
    end = np.minimum(np.trunc(centers + support + 0.5), n_in).astype(np.int64)
    positions = first[:, None] + np.arange(math.ceil(support) * 2 + 1)
    inside = positions < end[:, None]
    distance = np.abs((positions - centers[:, None] + 0.5) * (1.0 / stretch))
    values = np.where(inside, _kernel(distance, interpolation), 0.0)
    # One by one, as C sums them: numpy's pairwise sum may round the last bit otherwise.
    total = np.cumsum(values, axis=1)[:, -1:]
    fixed = values / total * (1 << WEIGHT_BITS)
    rounded = np.trunc(fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int64)
    return np.minimum(positions, n_in - 1), rounded


@functools.cache
def _taps(
    n_in: int, n_out: int, interpolation: str, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the pixels and weights of one axis on a device, a pair a tap that weighs anything.

    Kept there, and never freed: bringing them anew for every batch would hold up the thread that
    brings the images.
    """
    import torch

    positions, values = weights(n_in, n_out, interpolation)
    return [
        (
            torch.from_numpy(np.ascontiguousarray(pixels)).to(device),
            torch.from_numpy(np.ascontiguousarray(factors)).to(device, torch.int32),
        )
        for pixels, factors in zip(positions.T, values.T, strict=True)
        if factors.any()
    ]


@functools.cache
def _half(device: torch.device) -> torch.Tensor:
    """Return half a unit of a weighted sum, where a sum begins so that its shift rounds."""
    import torch

    return torch.tensor(1 << (WEIGHT_BITS - 1), dtype=torch.int32, device=device)


def _resize_axis(x: torch.Tensor, axis: int, n_out: int, interpolation: str) -> torch.Tensor:
    """Resize one axis of a uint8 tensor (n, height, width, channels)."""
    import torch

    n_in = x.shape[axis]
    if n_in == n_out:
        return x
    shape = [1, 1, 1, 1]
    shape[axis] = n_out
    # As few and as narrow passes over memory as can be: on a GPU they are what this takes.
    total = _half(x.device)
    for pixels, factors in _taps(n_in, n_out, interpolation, x.device):
        total = torch.addcmul(total, x.index_select(axis, pixels), factors.view(shape))
    if interpolation == "bilinear":
        # Weights that are not negative never leave the range of a pixel.
        out = torch.empty(total.shape, dtype=torch.uint8, device=x.device)
        return torch.bitwise_right_shift(total, WEIGHT_BITS, out=out)
    return total.bitwise_right_shift_(WEIGHT_BITS).clamp_(0, 255).to(torch.uint8)


def resize(
    batch: torch.Tensor,
    height: int,
    width: int,
    interpolation: str,
    *,
    order: tuple[int, int] = (_COLUMNS, _ROWS),
) -> torch.Tensor:
    """Return the images resized to `height` x `width`, as Pillow resizes them.

    Parameters
    ----------
    batch : Tensor of shape (n, height, width, channels), uint8
        On any device.
    height, width : int
        The new size.
    interpolation : {"bilinear", "bicubic"}
        Always antialiased.
    order : tuple of int
        The axes in the order in which they are resized; see `pillow_order`.

    Returns
    -------
    Tensor of shape (n, height, width, channels), uint8
        On the same device.
    """
    out = {_ROWS: height, _COLUMNS: width}
    for axis in order:
        batch = _resize_axis(batch, axis, out[axis], interpolation)
    return batch


@functools.lru_cache(maxsize=64)
def pillow_order(
    height: int, width: int, new_height: int, new_width: int, interpolation: str
) -> tuple[int, int] | None:
    """Return the order of axes with which `resize` equals the installed Pillow for these sizes.

    Noise is resized by both and compared: more images of it, the fewer pixels come out, as the
    orders differ in few of them.

    Returns
    -------
    tuple of int or None
        The order for `resize`; None where neither order gives Pillow's pixels (a Pillow with
        another resize inside), so that the caller lets Pillow itself do the work.
    """
    import torch

    n = min(-(-_PROBES // (3 * new_height * new_width)), -(-_PROBE_PIXELS // (height * width)))
    noise = np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    expected = [_by_pillow(each, new_height, new_width, interpolation) for each in noise]
    batch = torch.from_numpy(noise)
    for order in ((_COLUMNS, _ROWS), (_ROWS, _COLUMNS)):
        got = resize(batch, new_height, new_width, interpolation, order=order)
        if np.array_equal(got.numpy(), expected):
            return order
    return None


def resize_by_torch(batch: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the images resized bilinearly by torch's uint8 kernel; see `torch_is_pillow`.

    Parameters
    ----------
    batch : Tensor of shape (n, height, width, 3), uint8
        On the CPU.
    height, width : int
        The new size.

    Returns
    -------
    Tensor of shape (n, height, width, 3), uint8
    """
    from torch.nn.functional import interpolate

    x = batch.permute(0, 3, 1, 2)
    x = interpolate(x, size=(height, width), mode="bilinear", antialias=True)
    return x.permute(0, 2, 3, 1)


@functools.lru_cache(maxsize=64)
def torch_is_pillow(height: int, width: int, new_height: int, new_width: int) -> bool:
    """Return whether `resize_by_torch` gives the installed Pillow's pixels, whatever the images.

    Where no axis shrinks, an output pixel of one axis is made of two neighbours: all 65,536 pairs
    of levels are resized at every position of each axis, which leaves nothing out. One image of
    noise then shows whether both take the axes in the same order. Takes up to half a second.
    """
    if new_height < height or new_width < width:
        return False
    trials = [(_noise(height, width), new_height, new_width)]
    if new_width != width:
        pairs = _all_pairs(width)
        trials.append((pairs, len(pairs), new_width))
    if new_height != height:
        pairs = np.ascontiguousarray(_all_pairs(height).swapaxes(0, 1))
        trials.append((pairs, new_height, pairs.shape[1]))
    return all(_torch_equals_pillow(*trial) for trial in trials)


def _torch_equals_pillow(image: np.ndarray, height: int, width: int) -> bool:
    import torch

    got = resize_by_torch(torch.from_numpy(image)[None], height, width)[0].numpy()
    return np.array_equal(got, _by_pillow(image, height, width, "bilinear"))


def _all_pairs(n: int) -> np.ndarray:
    """Return an image (21846, n, 3) in whose rows all pairs of levels alternate: a, b, a, ..."""
    rows = -(-(1 << 16) // 3)
    number = (np.arange(rows * 3) % (1 << 16)).reshape(rows, 1, 3)
    image = np.empty((rows, n, 3), dtype=np.uint8)
    image[:, 0::2] = number >> 8
    image[:, 1::2] = number & 255
    return image


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _by_pillow(image: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    from PIL import Image

    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return np.asarray(Image.fromarray(image).resize((width, height), filters[interpolation]))
