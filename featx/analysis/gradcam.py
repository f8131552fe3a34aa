"""Grad-CAM: what a whole network's score of one of its own classes hangs on, at a cut.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, as the library ``grad-cam`` computes it. Unlike the evidence of a linear
head it is an approximation: its parts do not add up to the score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.analysis.activations import cut_grid
from featx.backbones.probe import kind_and_shape
from featx.errors import UsageError, WeightsError
from featx.extraction import cut_points
from featx.machine import plain_fp32
from featx.torchvision_compat import import_torchvision

if TYPE_CHECKING:
    import torch

    from featx.backbones import Backbone
    from featx.data import Images
    from featx.extraction import Settings


def grad_cam_maps(
    backbone: Backbone, cut: str, images: Images, settings: Settings, label: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Grad-CAM of images at a cut.

    Parameters
    ----------
    cut : str
        Any of its names.
    settings : Settings
        Geometry, normalization and device; float32 is what it is computed in.
    label : int, optional
        Number of a class of the network itself; for each image the predicted one otherwise.

    Returns
    -------
    maps : ndarray of shape (n, H, W), float32
        Of the network's input size, each scaled to 0 to 1.
    labels : ndarray of shape (n,), int64
        The classes.

    Raises
    ------
    UsageError
        Without the library, for a class that is not there, or a cut that the network lacks.
    ShapeError
        For a cut without places.
    WeightsError
        For a network whose classifier has no weights.
    """
    import torch

    grad_cam, target = _library()
    if backbone.absent:
        raise WeightsError(
            f"Grad-CAM needs the classifier of {backbone.short_name}, and {backbone.weights.tag} "
            f"does not bring '{backbone.absent[0]}'. Take weights with a classifier."
        )
    arranged = _arranged(backbone, cut, settings)
    module = backbone.model.get_submodule(backbone.resolve(cut))
    backbone.to(settings.device)
    geometry = settings.preprocess.geometry if images.size is None else None
    maps, labels = [], []
    with (
        plain_fp32(),
        grad_cam(backbone.model, [module], reshape_transform=arranged) as cam,
    ):
        for batch in images.batches(1, geometry=geometry):
            x = settings.preprocess.to_input(
                torch.from_numpy(batch), settings.device, already_sized=geometry is not None
            )
            with torch.no_grad():
                scores = backbone.model(x)
            n_classes = scores.shape[1]
            if label is not None and not 0 <= label < n_classes:
                raise UsageError(
                    f"Class {label} is not one of the {n_classes} of {backbone.short_name}: give "
                    f"0 to {n_classes - 1}."
                )
            chosen = int(scores.argmax()) if label is None else label
            labels.append(chosen)
            # The weights are frozen: without this, nothing would have a gradient.
            x.requires_grad_()
            maps.append(cam(input_tensor=x, targets=[target(chosen)])[0])
    return np.stack(maps).astype(np.float32), np.array(labels, dtype=np.int64)


def check_installed() -> None:
    """Raise `UsageError` where the library is missing: says how to get it."""
    _library()


def _library() -> tuple[Any, Any]:
    """Return the library's method and its target, or say how to get it."""
    # The library imports torchvision by itself.
    import_torchvision()
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise UsageError(
            f"Grad-CAM comes from a library that cannot be imported ({error}). "
            "Install it: pip install 'featx[gradcam]'"
        ) from error
    return GradCAM, ClassifierOutputTarget


def _arranged(
    backbone: Backbone, cut: str, settings: Settings
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what brings a cut's output, or its gradient, to (N, C, rows, columns), copied.

    The library keeps what it gets until the pass is over, and the next module may write in place.
    """
    point = cut_points(backbone, [cut], settings)[cut]
    rows, columns = cut_grid(backbone, cut, point, settings.input_size)
    prefix, _ = backbone.prefix_tokens(point.module)
    channels_last = backbone.channels_last()

    def arrange(x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 3:
            return x[:, prefix:].transpose(1, 2).reshape(len(x), -1, rows, columns).clone()
        _, _, nhwc = kind_and_shape(
            tuple(x.shape), settings.input_size, channels_last=channels_last
        )
        return (x.permute(0, 3, 1, 2) if nhwc else x).clone()

    return arrange
