"""What is trained on: images or cached features, resident on the device, in whole batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import BudgetExceeded
from featx.text import human_bytes

if TYPE_CHECKING:
    import torch

    from featx.data import Preprocess, Split
    from featx.training.augment import Augment

_SIZING_BATCH = 256


class Inputs(ABC):
    """Rows of one split with their targets, on one device.

    Attributes
    ----------
    targets : Tensor of shape (n,), int64
        Positions of the labels among the sorted classes.
    """

    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @abstractmethod
    def batch(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Return rows as a network takes them, float32."""

    @abstractmethod
    def augmented(self, rows: torch.Tensor, augment: Augment) -> torch.Tensor:
        """Return rows as a network takes them, each changed at random by `augment`."""


class ImageInputs(Inputs):
    """Images of one size as bytes; normalized (and augmented) a batch at a time.

    Parameters
    ----------
    images : Tensor of shape (n, height, width, 3), uint8
        On the device.
    targets : Tensor of shape (n,), int64
        On the same device.
    preprocess : Preprocess
        Its normalization is applied to each batch.
    channels_last : bool
        Memory order of what `batch` returns; the values are the same.
    """

    def __init__(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        preprocess: Preprocess,
        channels_last: bool = True,
    ) -> None:
        self.images = images
        self.targets = targets
        self.preprocess = preprocess
        self.channels_last = channels_last

    def batch(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Return rows as (n, 3, height, width) float32."""
        return self._normalized(self.images[rows].permute(0, 3, 1, 2))

    def augmented(self, rows: torch.Tensor, augment: Augment) -> torch.Tensor:
        """Return rows as (n, 3, height, width) float32, augmented before the normalization."""
        return self._normalized(augment.images(self.images[rows].permute(0, 3, 1, 2)))

    def _normalized(self, x: torch.Tensor) -> torch.Tensor:
        # Bytes of (n, h, w, 3) are channels-last already: nothing is moved.
        x = self.preprocess.normalized(x)
        return x if self.channels_last else x.contiguous()


class FeatureInputs(Inputs):
    """Cached features of a cut, in the shape that the rest of the network takes.

    Parameters
    ----------
    features : Tensor of shape (n, ...), float32
        On the device.
    targets : Tensor of shape (n,), int64
    """

    def __init__(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        self.features = features
        self.targets = targets

    def batch(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Return a copy of rows of the features: the next layer may write in place."""
        found = self.features[rows]
        return found.clone() if isinstance(rows, slice) else found

    def augmented(self, rows: torch.Tensor, augment: Augment) -> torch.Tensor:
        """Return rows of the features: images that are not there cannot be augmented."""
        assert augment.is_identity
        return self.batch(rows)


def resident_images(
    split: Split, preprocess: Preprocess, device: torch.device, *, workers: int = 0
) -> torch.Tensor:
    """Return the images of a split resized as the network takes them, on the device.

    Parameters
    ----------
    split : Split
        Images of any kind.
    preprocess : Preprocess
        Its geometry is applied; its normalization is not.
    workers : int
        Threads that decode image files.

    Returns
    -------
    Tensor of shape (n, height, width, 3), uint8
    """
    import torch

    geometry = preprocess.geometry if split.images.size is None else None
    out: torch.Tensor | None = None
    row = 0
    for batch in split.images.batches(_SIZING_BATCH, geometry=geometry, workers=workers):
        # A copy, so that nothing of the source's array is ever written to.
        x = torch.from_numpy(batch)
        sized = x.to(device) if geometry is not None else preprocess.sized(x, device)
        if out is None:
            out = torch.empty((len(split), *sized.shape[1:]), dtype=torch.uint8, device=device)
        out[row : row + len(sized)] = sized
        row += len(sized)
    assert out is not None
    return out


def check_room(n_images: int, size: tuple[int, int], budget: int) -> None:
    """Refuse images that would not fit the memory beside the network.

    Raises
    ------
    BudgetExceeded
        Says how much they take, and how much may be used.
    """
    needed = n_images * size[0] * size[1] * 3
    if needed > budget:
        raise BudgetExceeded(
            f"{n_images:,} images of {size[0]} x {size[1]} px take {human_bytes(needed)}, and they "
            f"are held in memory while a network is trained; {human_bytes(budget)} may be used "
            "(--memory-budget). Use a smaller --image-size or fewer images (--limit)."
        )


def encode(y: np.ndarray, labels: list[int], device: torch.device) -> torch.Tensor:
    """Return labels as their positions in the sorted list of all labels."""
    import torch

    return torch.from_numpy(np.searchsorted(np.asarray(labels), y)).to(device)


Channels = tuple[float, float, float]


def pixel_statistics(images: torch.Tensor) -> tuple[Channels, Channels]:
    """Return mean and deviation of each channel on 0..1.

    Exact but for the last rounding: computed from the counts of the 256 values.

    Parameters
    ----------
    images : Tensor of shape (n, height, width, 3), uint8
    """
    import torch

    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(3):
        counts = torch.zeros(256, dtype=torch.float64)
        for rows in images.split(4096):
            counts += torch.bincount(rows[..., channel].flatten(), minlength=256).cpu()
        share = counts / counts.sum()
        mean = (share * values).sum()
        means.append(float(mean))
        deviations.append(float((share * (values - mean) ** 2).sum().sqrt()))
    red, green, blue = means
    return (red, green, blue), (deviations[0], deviations[1], deviations[2])
