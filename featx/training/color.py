"""Colour jitter of a whole batch: one set of factors per image, one pass over the pixels.

Brightness, contrast, saturation and hue are all linear in the pixel, so that together they are one
3 x 3 matrix and one offset per image (Haeberli 1993, "Matrix operations for image processing").
Each alone equals torchvision's function of the same name, except hue, which torchvision turns in
HSV and this in YIQ. Together they differ from torchvision's chain where a value would leave 0..255
on the way: it is clipped once, at the end.
"""

from __future__ import annotations

import functools
import math

import torch

# Luma of ITU-R BT.601, the Y of YIQ.
_LUMA = (0.299, 0.587, 0.114)

# Weights of B - Y and R - Y in NTSC's chrominance (ITU-R BT.470). I and Q are the two turned by 33
# degrees, so that a turn in this plane is the same turn in that of YIQ.
_U, _V = 0.492, 0.877


def jitter(
    x: torch.Tensor,
    brightness: torch.Tensor,
    contrast: torch.Tensor,
    saturation: torch.Tensor,
    hue: torch.Tensor,
) -> torch.Tensor:
    """Return the images with their colours changed, in the order of the parameters.

    Parameters
    ----------
    x : Tensor of shape (n, 3, height, width), uint8
        RGB.
    brightness, contrast, saturation : Tensor of shape (n,), float32
        Factors, at least 0; 1 changes nothing. Contrast blends with the mean luma of the image,
        saturation with the luma of the pixel.
    hue : Tensor of shape (n,), float32
        Turns of the chrominance about the grey axis: 0 changes nothing, nor does 1.

    Returns
    -------
    Tensor of shape (n, 3, height, width), uint8
    """
    # Bytes are put in planes faster than floats.
    old = x.contiguous().float()
    luma, chroma, quarter = _parts(x.device)
    # Any row of the luma matrix: the weights of the channels.
    grey = (old.mean((2, 3)) * luma[0]).sum(1)
    angle = 2 * math.pi * hue
    along = (saturation * angle.cos())[:, None, None]
    across = (saturation * angle.sin())[:, None, None]
    matrix = luma + along * chroma + across * quarter
    # Contrast adds the same grey to all channels. Neither saturation nor hue changes a grey.
    offset = (1 - contrast) * brightness * grey
    matrix = matrix * (contrast * brightness)[:, None, None]
    # Written out rather than a matrix product, which autocast or TF32 would round.
    new = offset[:, None, None, None].expand_as(old).contiguous()
    for channel in range(3):
        new.addcmul_(matrix[:, :, channel, None, None], old[:, channel : channel + 1])
    return new.round_().clamp_(0, 255).to(torch.uint8)


@functools.lru_cache(maxsize=8)
def _parts(device: torch.device) -> torch.Tensor:
    """Return three matrices of RGB, (3, 3, 3): luma, chrominance, chrominance a quarter turn on.

    The first two sum to the identity. Kept by device: a copy from the host would make it wait for
    everything that an accelerator has still to do.
    """
    luma = torch.tensor(_LUMA, dtype=torch.float64)
    red, _, blue = torch.eye(3, dtype=torch.float64)
    to_yuv = torch.stack([luma, _U * (blue - luma), _V * (red - luma)])
    to_rgb = torch.linalg.inv(to_yuv)
    # From U towards V: red turns to yellow, as it does in HSV.
    quarter = torch.tensor([[0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    grey = luma.expand(3, 3)
    parts = (grey, torch.eye(3, dtype=torch.float64) - grey, to_rgb @ quarter @ to_yuv)
    return torch.stack(parts).to(device, torch.float32)
