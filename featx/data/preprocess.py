"""Preprocessing as a value: geometry (resize, crop) and normalization, and how both are applied.

Geometry is Pillow's on every path, pixel for pixel: files of many sizes get it while they are
decoded, images of one size in whole batches (on the CPU by Pillow, or by torch for sizes at which
it gives Pillow's pixels; on an accelerator by the same integer arithmetic; see
`featx.data.resample`). It equals torchvision's and timm's evaluation transforms of a PIL image
exactly. The normalization is theirs too, float32 operation by operation.
"""

from __future__ import annotations

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from featx.data.normalize import normalize
from featx.errors import ShapeError, UnknownName

if TYPE_CHECKING:
    import torch
    from PIL import Image

CROPS = ("center", "none")
INTERPOLATIONS = ("bilinear", "bicubic")

# Fewer images are left to Pillow: finding out whether torch gives its pixels costs more.
_WORTH_A_TRIAL = 32


@dataclass(frozen=True)
class Preprocess:
    """What is done to an image before a network sees it.

    Parameters
    ----------
    name : str
        Where the values come from: ``"IMAGENET1K_V2"``, ``"torch"``, ``"caffe"``.
    mean, std : tuple of three floats
        Per channel (RGB), applied to ``x * scale``: ``(x * scale - mean) / std``.
    scale : float
        What the values 0..255 are multiplied with before the mean is taken off.
    image_size : int or None
        Pixels a side of the square network input; None keeps the size of the images.
    resize_size : int or None
        Pixels of the shorter side before the centre crop; None is `image_size`.
    crop : {"center", "none"}
        ``center``: resize the shorter side, cut a square from the middle. ``none``: the whole
        image is resized to the square.
    interpolation : {"bilinear", "bicubic"}
        Always antialiased.

    Raises
    ------
    UnknownName
        For a crop or an interpolation that does not exist.
    ShapeError
        For a size below 1, or a `resize_size` smaller than the crop.
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 1 / 255
    image_size: int | None = 224
    resize_size: int | None = None
    crop: Literal["center", "none"] = "center"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise UnknownName("Crop", self.crop, CROPS)
        if self.interpolation not in INTERPOLATIONS:
            raise UnknownName("Interpolation", self.interpolation, INTERPOLATIONS)
        if self.image_size is not None and self.image_size < 1:
            raise ShapeError(
                f"Image size {self.image_size} is not possible: give 1 pixel or more, "
                "or none for the images' own size."
            )
        if self.image_size and self.resize_size and self.resize_size < self.image_size:
            raise ShapeError(
                f"A crop of {self.image_size} pixels does not fit images resized to "
                f"{self.resize_size}: resize to {self.image_size} or more."
            )

    def with_size(
        self,
        image_size: int | None,
        crop: str | None = None,
        interpolation: str | None = None,
    ) -> Preprocess:
        """Return the same preprocessing for another input size.

        `resize_size` keeps its proportion to the input, rounded down (as timm does with its crop
        fraction): 256 for 224 becomes 73 for 64.

        Parameters
        ----------
        image_size : int or None
            Pixels a side; None keeps the size of the images.
        crop, interpolation : str, optional
            Replace those of this preprocessing.
        """
        resize: int | None = None
        if image_size and self.image_size and self.resize_size:
            resize = image_size * self.resize_size // self.image_size
        changes: dict[str, Any] = {"image_size": image_size, "resize_size": resize}
        if crop is not None:
            changes["crop"] = crop
        if interpolation is not None:
            changes["interpolation"] = interpolation
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return everything that changes a number, as JSON-able values, and nothing else.

        Two preprocessings that do the same give the same dict: the name is left out, and what has
        no effect (a crop at native size) is None.
        """
        centered = self.image_size is not None and self.crop == "center"
        return {
            "mean": [float(value) for value in self.mean],
            "std": [float(value) for value in self.std],
            "scale": float(self.scale),
            "image_size": self.image_size,
            "resize_size": (self.resize_size or self.image_size) if centered else None,
            "crop": None if self.image_size is None else self.crop,
            "interpolation": None if self.image_size is None else self.interpolation,
        }

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the network input for images of `size` (height, width)."""
        return size if self.image_size is None else (self.image_size, self.image_size)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) after the resize, before the crop."""
        if self.image_size is None:
            return height, width
        if self.crop == "none":
            return self.image_size, self.image_size
        short = self.resize_size or self.image_size
        # The longer side is rounded down, as torchvision does it.
        if height <= width:
            return short, int(short * width / height)
        return int(short * height / width), short

    def _crop_corner(self, height: int, width: int) -> tuple[int, int]:
        """Return (top, left) of the crop in an image of this size, rounded as torchvision does."""
        out_height, out_width = self.output_size((height, width))
        return round((height - out_height) / 2.0), round((width - out_width) / 2.0)

    def geometry(self, img: Image.Image) -> np.ndarray:
        """Return an RGB image resized and cropped, as torchvision's transforms of it would be.

        Parameters
        ----------
        img : PIL.Image.Image
            Mode RGB.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            Of `output_size`.
        """
        from PIL import Image

        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        height, width = self._resized(img.height, img.width)
        if (height, width) != (img.height, img.width):
            img = img.resize((width, height), filters[self.interpolation])
        out_height, out_width = self.output_size((height, width))
        top, left = self._crop_corner(height, width)
        # Cut before it becomes an array: that copies each pixel twice.
        return np.array(img.crop((left, top, left + out_width, top + out_height)))

    def to_input(
        self,
        batch: torch.Tensor,
        device: torch.device | str,
        already_sized: bool,
        memory_format: torch.memory_format | None = None,
    ) -> torch.Tensor:
        """Return a batch as the network takes it.

        Parameters
        ----------
        batch : Tensor of shape (n, height, width, 3), uint8
            RGB images of one size.
        device : torch.device or str
            Where the network is.
        already_sized : bool
            True where `geometry` was applied to each image before.
        memory_format : torch.memory_format, optional
            Order in memory of what is returned: contiguous unless given, or
            ``torch.channels_last``, which is made a little faster.

        Returns
        -------
        Tensor of shape (n, 3, height, width), float32
            On `device`.
        """
        import torch

        memory_format = memory_format or torch.contiguous_format
        x = (
            batch.to(device, non_blocking=True) if already_sized else self.sized(batch, device)
        ).permute(0, 3, 1, 2)
        if x.device.type == "cpu":
            return normalize(x, self.mean, self.std, 1 / self.scale, memory_format)
        return self.normalized(x.contiguous(memory_format=memory_format))

    def sized(self, batch: torch.Tensor, device: torch.device | str) -> torch.Tensor:
        """Return a batch resized and cropped, not normalized.

        Parameters
        ----------
        batch : Tensor of shape (n, height, width, 3), uint8
            RGB images of one size.

        Returns
        -------
        Tensor of shape (n, out_height, out_width, 3), uint8
            On `device`.
        """
        import torch

        device = torch.device(device)
        if self.image_size is None:
            return batch.to(device, non_blocking=True)
        return self._batch_geometry(batch, device).to(device, non_blocking=True)

    def normalized(self, x: torch.Tensor) -> torch.Tensor:
        """Return images as numbers for a network: ``(x * scale - mean) / std`` per channel.

        Parameters
        ----------
        x : Tensor of shape (n, 3, height, width), uint8 or float32
            Values of 0 to 255.

        Returns
        -------
        Tensor of the same shape and memory order, float32
        """
        import torch

        mean, std, divisor = (
            _constants(values, x.device) for values in (self.mean, self.std, (1 / self.scale,))
        )
        # Divided by 255, not multiplied with 1/255: the last bit is then that of torchvision. By a
        # number that lies on the device: CUDA multiplies with the inverse of one that does not.
        return x.to(torch.float32, copy=True).div_(divisor).sub_(mean).div_(std)

    def _batch_geometry(self, batch: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Resize and crop (n, height, width, 3) uint8 to `output_size`, with Pillow's numbers."""
        from featx.data.resample import pillow_order, resize, resize_by_torch

        height, width = int(batch.shape[1]), int(batch.shape[2])
        new_height, new_width = self._resized(height, width)
        if (new_height, new_width) == (height, width):
            x = batch
        elif device.type == "cpu":
            if not self._torch_will_do(len(batch), height, width):
                return self._pillow_geometry(batch)
            x = resize_by_torch(batch, new_height, new_width)
        else:
            order = pillow_order(height, width, new_height, new_width, self.interpolation)
            if order is None:
                return self._pillow_geometry(batch)
            x = batch.to(device, non_blocking=True)
            x = resize(x, new_height, new_width, self.interpolation, order=order)
        top, left = self._crop_corner(new_height, new_width)
        out_height, out_width = self.output_size((new_height, new_width))
        return x[:, top : top + out_height, left : left + out_width]

    def _torch_will_do(self, n: int, height: int, width: int) -> bool:
        """Return whether torch's resize of `n` images gives Pillow's pixels and is worth it."""
        from featx.data.resample import torch_is_pillow

        if self.interpolation != "bilinear" or n < _WORTH_A_TRIAL:
            return False
        return torch_is_pillow(height, width, *self._resized(height, width))

    def _pillow_geometry(self, batch: torch.Tensor) -> torch.Tensor:
        """Apply `geometry` to each image, in as many threads as torch uses."""
        import torch
        from PIL import Image

        height, width = int(batch.shape[1]), int(batch.shape[2])
        out = np.empty((len(batch), *self.output_size((height, width)), 3), dtype=np.uint8)
        images = batch.cpu().numpy()

        def one(row: int) -> None:
            out[row] = self.geometry(Image.fromarray(images[row]))

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for _ in pool.map(one, range(len(images))):
                pass
        return torch.from_numpy(out)


# Mean and deviation of ImageNet's training pixels on 0..1, as torchvision and timm publish them.
TORCH = Preprocess("torch", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize_size=256)

# Mean of ImageNet's training pixels on 0..255, in RGB order. The original Caffe networks take BGR;
# the converted weights (torchvision's IMAGENET1K_FEATURES, Keras' VGG16 after swapping) take RGB.
CAFFE = Preprocess("caffe", (123.68, 116.779, 103.939), (1.0, 1.0, 1.0), scale=1.0, resize_size=256)


@functools.cache
def _constants(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return one value for all channels, or one a channel of (3, height, width), on a device.

    It is brought there once and never freed, so that no stream must be waited for.
    """
    import torch

    shape = (3, 1, 1) if len(values) == 3 else ()
    return torch.tensor(values, dtype=torch.float32, device=device).view(shape)


def resolve_crop(crop: str, size: tuple[int, int] | None) -> str:
    """Return ``"center"`` or ``"none"`` for what was asked and the common size of the images.

    ``auto``: images of one square size (CIFAR, digits) are resized whole, so that nothing of them
    is lost; all others are resized and cropped as the weights' own evaluation does it.

    Parameters
    ----------
    crop : {"auto", "center", "none"}
        What was asked.
    size : tuple of (height, width), or None
        Common size of all images; None when they differ.

    Raises
    ------
    UnknownName
        For anything else.
    """
    if crop in CROPS:
        return crop
    if crop != "auto":
        raise UnknownName("Crop", crop, ("auto", *CROPS))
    return "none" if size is not None and size[0] == size[1] else "center"
