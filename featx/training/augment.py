"""Augmentation in whole batches, where the images are, with parameters of its own for each image.

torchvision.transforms.v2 takes batches too, but draws one set of parameters for all of a batch;
applied image by image it costs many times more. So the common ones are here, as a few operations
on the whole batch each. RandAugment is torchvision's own, on small groups of images.

Everything random comes from torch's global generator of the device that the images are on, except
RandAugment's choices, which torchvision draws from the CPU's. ``torch.manual_seed`` seeds both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.errors import UnknownName, UsageError

if TYPE_CHECKING:
    import torch

AUGMENTATIONS = ("flip", "crop", "jitter", "affine", "perspective", "randaugment", "mixup")

# Affine: rotation by up to the strength, the rest is in proportion or fixed. AutoAugment's ranges
# (Cubuk et al. 2019) are rotation by 30 degrees and shear by 0.3, which is half of it; shift and
# scale by a tenth are this project's choice.
_SHEAR_PER_ANGLE = 0.5
# A shear of a right angle would be infinite.
_MOST_SHEAR = math.radians(30)
_SHIFT = 0.1
_SCALE = 0.1

# Hue jitter in turns, as a part of that of the others: MoCo v2's (0.4, 0.4, 0.4, 0.1), and
# SimCLR's (0.8, 0.8, 0.8, 0.2).
_HUE_PER_JITTER = 0.25

# RandAugment: two operations an image (Cubuk et al. 2020, and torchvision's default), the same two
# for this many images. Smaller groups cost more calls.
_GROUP = 8


@dataclass(frozen=True)
class _Strength:
    """What the number behind a name is: its default, its bounds, and what it means."""

    default: float
    high: float
    meaning: str
    whole: bool = False


_STRENGTHS = {
    # torchvision's ColorJitter as it is commonly set (MoCo v2).
    "jitter": _Strength(0.4, 1.0, "the part of brightness, contrast and saturation that varies"),
    "affine": _Strength(15.0, 180.0, "the largest rotation in degrees"),
    # Below 2/3, where four corners could make a concave quadrilateral.
    "perspective": _Strength(0.3, 0.65, "how far corners move in, in halves of the side"),
    # torchvision's default; it has 31 magnitudes.
    "randaugment": _Strength(9, 30, "the magnitude", whole=True),
    # Zhang et al. (2018) use 0.1 to 0.4 on ImageNet.
    "mixup": _Strength(0.2, 100.0, "alpha, the form of the Beta distribution"),
}


@dataclass(frozen=True)
class Augment:
    """What is done at random to the images of a training, made by `make_augment`.

    Attributes
    ----------
    strengths : mapping of str to float
        By name, in the order in which they are applied; 0.5 (the probability) for ``flip``.
    """

    strengths: Mapping[str, float]

    @property
    def is_identity(self) -> bool:
        """Whether nothing is done at all."""
        return not self.strengths

    def images(self, x: torch.Tensor) -> torch.Tensor:
        """Return the images of a batch, each changed in its own way.

        Parameters
        ----------
        x : Tensor of shape (n, 3, height, width), uint8
            RGB, on any device; best channels-last strided. It is not written to.

        Returns
        -------
        Tensor of shape (n, 3, height, width), uint8
            On the same device, channels-last strided; `x` itself where nothing is done.
        """
        import torch

        from featx.training import geometry

        n, device = len(x), x.device
        if "flip" in self.strengths:
            x = geometry.flip(x, torch.rand(n, device=device) < self.strengths["flip"])
        if "crop" in self.strengths:
            padding = int(self.strengths["crop"])
            top, left = torch.randint(0, 2 * padding + 1, (2, n), device=device)
            x = geometry.crop(x, padding, top, left)
        if "jitter" in self.strengths:
            x = self._jittered(x)
        if (maps := self._maps(x)) is not None:
            x = geometry.warp(x, maps)
        if "randaugment" in self.strengths:
            x = self._randaugmented(x)
        return x.contiguous(memory_format=torch.channels_last) if self.strengths else x

    def mix(
        self, x: torch.Tensor, y: torch.Tensor, n_classes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch mixed with itself (mixup, Zhang et al. 2018), or as it is without mixup.

        Each image is mixed with another of the batch, in a proportion of its own.

        Parameters
        ----------
        x : Tensor of shape (n, ...), floating
            Normalized images.
        y : Tensor of shape (n,), int64
            Labels, 0 to ``n_classes - 1``.
        n_classes : int
            Number of classes.

        Returns
        -------
        x : Tensor of shape (n, ...), floating
            The mixed images.
        y : Tensor
            Of shape (n, n_classes), the type of `x`: each row sums to 1. Without mixup the
            labels as they came.
        """
        if "mixup" not in self.strengths:
            return x, y
        import torch

        # timm.data.Mixup would do this, but it draws from numpy's global generator, which neither
        # the training's seed nor its checkpoints cover, and on the host.
        alpha = torch.full((len(x),), self.strengths["mixup"], device=x.device)
        share = torch.distributions.Beta(alpha, alpha, validate_args=False).sample()
        partner = torch.randperm(len(x), device=x.device)
        return _mixed(x, y, n_classes, share, partner)

    def _jittered(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        from featx.training.color import jitter

        strength = self.strengths["jitter"]
        between = 2 * torch.rand((4, len(x)), device=x.device) - 1
        brightness, contrast, saturation = 1 + strength * between[:3]
        return jitter(x, brightness, contrast, saturation, strength * _HUE_PER_JITTER * between[3])

    def _maps(self, x: torch.Tensor) -> torch.Tensor | None:
        """Return one map an image for affine, then perspective, in a single resampling."""
        import torch

        from featx.training import geometry

        n, device = len(x), x.device
        maps = None
        if "affine" in self.strengths:
            most = math.radians(self.strengths["affine"])
            between = 2 * torch.rand((5, n), device=device) - 1
            maps = geometry.affine_map(
                angle=most * between[0],
                shift=_SHIFT * between[1:3].T,
                scale=1 + _SCALE * between[3],
                shear=min(_SHEAR_PER_ANGLE * most, _MOST_SHEAR) * between[4],
                size=(x.shape[2], x.shape[3]),
            )
        if "perspective" in self.strengths:
            inward = self.strengths["perspective"] * torch.rand((n, 4, 2), device=device)
            seen = geometry.perspective_map(inward)
            maps = seen if maps is None else geometry.chain(maps, seen)
        return maps

    def _randaugmented(self, x: torch.Tensor) -> torch.Tensor:
        """Apply RandAugment to groups; the batch is shuffled, so neighbours are strangers."""
        import torch

        from featx.torchvision_compat import import_torchvision

        import_torchvision()
        from torchvision.transforms import v2

        # One call draws one set of operations for all that it is given.
        policy = v2.RandAugment(magnitude=int(self.strengths["randaugment"]))
        return torch.cat([policy(group) for group in x.split(_GROUP)])


def make_augment(names: Sequence[str], image_size: tuple[int, int]) -> Augment:
    """Return the augmentation of these names.

    They are applied in the order of this list, whatever the order of `names`.

    ================== ========= =================================================================
    name               default   what it does to each image
    ================== ========= =================================================================
    ``flip``                     mirrored left to right, or not
    ``crop:P``         side / 8  P black pixels are put around it, a piece of its own size is cut
                                 out (He et al. 2016: 4 for CIFAR's 32)
    ``jitter:S``       0.4       brightness, contrast and saturation times 1 - S to 1 + S, hue
                                 turned by up to S / 4 of a turn
    ``affine:D``       15        rotated by up to D degrees, sheared by half of it (30 degrees at
                                 most), shifted by up to a tenth of the side, scaled by 0.9 to 1.1
    ``perspective:S``  0.3       each corner moves in by up to S of half the side
    ``randaugment:M``  9         two operations of magnitude M, 1 to 30 (Cubuk et al. 2020);
                                 the same for eight neighbours in the batch
    ``mixup:A``        0.2       mixed with another, labels too, in Beta(A, A) (Zhang et al. 2018)
    ================== ========= =================================================================

    Parameters
    ----------
    names : sequence of str
        Each at most once, with its strength behind a colon or without.
    image_size : tuple of (height, width)
        Of the images that will be augmented.

    Returns
    -------
    Augment

    Raises
    ------
    UnknownName
        For a name that is not in the list.
    UsageError
        For a strength that is out of range, and for a name given twice.
    """
    found: dict[str, float] = {}
    for text in names:
        name, colon, number = text.partition(":")
        if name not in AUGMENTATIONS:
            raise UnknownName("Augmentation", name, AUGMENTATIONS)
        if name in found:
            raise UsageError(f"Augmentation '{name}' is given twice: name it once.")
        found[name] = _strength(name, number if colon else None, image_size)
    return Augment({name: found[name] for name in AUGMENTATIONS if name in found})


def _strength(name: str, number: str | None, image_size: tuple[int, int]) -> float:
    """Return the strength that was written, or the default one."""
    if name == "flip":
        if number is not None:
            raise UsageError(f"Augmentation 'flip' has no strength, and '{number}' was given.")
        return 0.5
    if name == "crop":
        # Half the side: at least a quarter of the image stays in the piece.
        side = min(image_size)
        kind = _Strength(max(1, side // 8), side // 2, "the pixels of padding", whole=True)
    else:
        kind = _STRENGTHS[name]
    if number is None:
        return kind.default
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value <= kind.high or (kind.whole and not value.is_integer()):
        bounds = f"1 to {kind.high:g}" if kind.whole else f"above 0 and at most {kind.high:g}"
        raise UsageError(
            f"Augmentation '{name}:{number}' is not possible: the number is {kind.meaning}, "
            f"{bounds}. '{name}' alone is '{name}:{kind.default:g}'."
        )
    return value


def _mixed(
    x: torch.Tensor, y: torch.Tensor, n_classes: int, share: torch.Tensor, partner: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each row of a batch with row `partner` of it; `share`, 0 to 1, is its own part."""
    import torch

    own = share.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
    targets = torch.nn.functional.one_hot(y, n_classes).to(x.dtype)
    part = own.view(-1, 1)
    return torch.lerp(x[partner], x, own), torch.lerp(targets[partner], targets, part)
