"""Geometric augmentation of a whole batch: one set of parameters per image, a few calls in all.

Every function takes the parameters as tensors with one row per image; `featx.training.augment`
draws them. Products are written out instead of being matrix products, so that neither autocast nor
TF32 can round the coordinates. Nothing here waits for an accelerator.

Maps of coordinates are 3 x 3 matrices on homogeneous coordinates, in units in which the image
reaches from -1 to 1 on both axes (x to the right, y down), as torch's ``grid_sample`` has them. A
map gives, for a place in the new image, the place in the old one that is shown there.
"""

from __future__ import annotations

import functools

import torch

# The corners in the order of torchvision: top left, top right, bottom right, bottom left.
_CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))

# The least depth that is divided by. Places at or behind the horizon of a perspective show nothing;
# without a floor their coordinates are infinite, and a bilinear weight of infinity is NaN.
_LEAST_DEPTH = 1e-3


def flip(x: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Return the batch with the chosen images mirrored left to right.

    Parameters
    ----------
    x : Tensor of shape (n, 3, height, width)
        Any type.
    mirrored : Tensor of shape (n,), bool
        The images to mirror.

    Returns
    -------
    Tensor of shape (n, 3, height, width)
        A new one.
    """
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x)


def crop(x: torch.Tensor, padding: int, top: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
    """Return, of each image within a black frame, a piece of the image's own size.

    Parameters
    ----------
    x : Tensor of shape (n, 3, height, width)
        Any type.
    padding : int
        Width of the frame, in pixels.
    top, left : Tensor of shape (n,), int64
        Corner of the piece in the framed image, 0 to ``2 * padding``.

    Returns
    -------
    Tensor of shape (n, 3, height, width)
        Channels-last strided.
    """
    height, width = x.shape[2:]
    # Channels last, so that a row of a piece is one run of memory.
    framed = torch.nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, *[padding] * 4))
    # A view of every possible piece: (n, tops, lefts, 3, height, width).
    pieces = framed.unfold(1, height, 1).unfold(2, width, 1)
    return pieces[torch.arange(len(x), device=x.device), top, left]


def affine_map(
    angle: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    shear: torch.Tensor,
    size: tuple[int, int],
) -> torch.Tensor:
    """Return the maps of rotations, shears, scalings and shifts about the centre of the image.

    The image is sheared, scaled, rotated and shifted, in this order, as by torchvision's
    ``functional.affine`` with a shear along x.

    Parameters
    ----------
    angle : Tensor of shape (n,), float32
        Radians, clockwise.
    shift : Tensor of shape (n, 2), float32
        Along x and y, in widths and heights of the image.
    scale : Tensor of shape (n,), float32
        Above 1 enlarges.
    shear : Tensor of shape (n,), float32
        Radians by which vertical lines lean.
    size : tuple of (height, width)
        Of the images, in pixels; only its proportion matters.

    Returns
    -------
    Tensor of shape (n, 3, 3), float32
    """
    # New place p = shift + scale * R(angle) S(shear) * old place, S = [[1, -tan], [0, 1]]; so the
    # old place is S^-1 R^-1 (p - shift) / scale.
    cos, sin, tan = angle.cos() / scale, angle.sin() / scale, shear.tan()
    aspect = size[1] / size[0]
    xx, xy = cos - tan * sin, (sin + tan * cos) / aspect
    yx, yy = -sin * aspect, cos
    shift_x, shift_y = 2 * shift[:, 0], 2 * shift[:, 1]
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = (
        (xx, xy, -(xx * shift_x + xy * shift_y)),
        (yx, yy, -(yx * shift_x + yy * shift_y)),
        (zero, zero, one),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def perspective_map(inward: torch.Tensor) -> torch.Tensor:
    """Return the maps that put the corners of the image at new places inside of it.

    Parameters
    ----------
    inward : Tensor of shape (n, 4, 2), float32
        How far the corners (top left, top right, bottom right, bottom left) move towards the
        centre along x and y, in halves of the side. Below 2/3 the four always make a convex
        quadrilateral; no perspective shows a rectangle as any other.

    Returns
    -------
    Tensor of shape (n, 3, 3), float32
    """
    old = _corners(inward.device)
    new = old * (1 - inward.double())
    x, y = new.unbind(-1)
    u, v = old.expand_as(new).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    # Eight equations for the eight coefficients, two a corner: u = (ax + by + c) / (gx + hy + 1)
    # and v = (dx + ey + f) / (gx + hy + 1), multiplied out (Heckbert 1989, section 2.2.3).
    for_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    for_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    # solve_ex, unlike solve, does not make the host wait for an accelerator's error code.
    solution, _ = torch.linalg.solve_ex(
        torch.cat([for_u, for_v], 1), torch.cat([u, v], 1).unsqueeze(-1)
    )
    eight = solution.squeeze(-1)
    return torch.cat([eight, torch.ones_like(eight[:, :1])], 1).view(-1, 3, 3).float()


@functools.lru_cache(maxsize=8)
def _corners(device: torch.device) -> torch.Tensor:
    """Return the corners of an image, (4, 2); kept, as a copy would make the host wait."""
    return torch.tensor(_CORNERS, dtype=torch.float64).to(device)


def chain(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the map of two changes of the image, one behind the other.

    Parameters
    ----------
    first, second : Tensor of shape (n, 3, 3), float32
        The maps of the changes, in the order in which they are made.

    Returns
    -------
    Tensor of shape (n, 3, 3), float32
        `first` after `second`: maps lead from the new image back to the old one.
    """
    return (first.unsqueeze(-1) * second.unsqueeze(1)).sum(2)


def warp(x: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return the images seen through their maps: bilinear, black outside.

    Parameters
    ----------
    x : Tensor of shape (n, 3, height, width), uint8
        The old images.
    maps : Tensor of shape (n, 3, 3), float32
        One for each image.

    Returns
    -------
    Tensor of shape (n, 3, height, width), uint8
    """
    height, width = x.shape[2:]
    # The places of the pixels' centres; the outermost pixels end at -1 and 1.
    columns = (2 * torch.arange(width, device=x.device) + 1) / width - 1
    rows = ((2 * torch.arange(height, device=x.device) + 1) / height - 1).unsqueeze(1)
    a = maps[:, :, :, None, None]
    # Planes of x, y and depth: (n, 3, height, width).
    places = a[:, :, 0] * columns + (a[:, :, 1] * rows + a[:, :, 2])
    depth = places[:, 2:].clamp_min(_LEAST_DEPTH)
    grid = (places[:, :2] / depth).permute(0, 2, 3, 1)
    # Planar for grid_sample's quick path; bytes are put in order faster than floats.
    old = x.contiguous().float()
    with torch.autocast(x.device.type, enabled=False):
        new = torch.nn.functional.grid_sample(
            old, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
    return new.round_().to(torch.uint8)
