"""Several cuts in one forward pass, and nothing behind the deepest one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from featx.backbones.pooling import poolings_of
from featx.backbones.probe import kind_and_shape
from featx.errors import ShapeError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featx.backbones.backbone import Backbone


class _DeepestCutReached(Exception):
    """Raised in the hook of the last wanted cut, to end the forward pass there."""


class Capture:
    """Hooks on the wanted modules while the ``with`` block lasts.

    Every output is pooled (or copied) inside of its hook, because the next module may write in
    place. When the last wanted cut has its value, the pass ends.

    Parameters
    ----------
    backbone : Backbone
        The network.
    cuts : sequence of str
        Any of their names.
    pool : str or mapping of cut to str
        See `featx.backbones.pooling.parse_pooling`.

    Raises
    ------
    UnknownName, UsageError, WeightsError
        When the network cannot be cut there.

    Examples
    --------
    >>> with Capture(backbone, ["stage2", "stage4"], pool="avg") as capture:
    ...     features = capture(x)
    """

    def __init__(
        self, backbone: Backbone, cuts: Sequence[str], pool: str | Mapping[str, str] = "avg"
    ) -> None:
        if not cuts:
            raise UsageError("No cut is given. Name at least one.")
        self._backbone = backbone
        self._poolings = poolings_of(cuts, pool)
        self._cuts_at: dict[str, list[str]] = {}
        for cut in self._poolings:
            self._cuts_at.setdefault(backbone.check_cut(cut), []).append(cut)
        self._handles: list[Any] = []
        self._image_size = (0, 0)
        self._n_images = 0
        self._values: dict[str, torch.Tensor] = {}

    def __enter__(self) -> Capture:
        for module, cuts in self._cuts_at.items():
            target = self._backbone.model.get_submodule(module)
            self._handles.append(target.register_forward_hook(self._hook(module, cuts)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._handles:
            self._handles.pop().remove()

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run a batch up to the deepest cut.

        Parameters
        ----------
        x : Tensor of shape (N, 3, H, W), float
            Preprocessed images, on the network's device.

        Returns
        -------
        dict of str to Tensor of shape (N, n_features), float32
            By cut, as it was asked for and in that order.

        Raises
        ------
        RuntimeError
            Outside of the ``with`` block.
        ShapeError
            When a cut does not give one row per image, or cannot be pooled that way.
        """
        import torch

        if not self._handles:
            raise RuntimeError("Use Capture in a 'with' block: its hooks live as long as that.")
        self._values = {}
        self._n_images = len(x)
        self._image_size = (x.shape[-2], x.shape[-1])
        with torch.inference_mode(), contextlib.suppress(_DeepestCutReached):
            self._backbone.model(x)
        values, self._values = self._values, {}
        return {cut: values[cut] for cut in self._poolings}

    def _hook(self, module: str, cuts: Sequence[str]) -> Any:
        """Return the hook that keeps a module's output, pooled for each of its cuts."""
        prefix_tokens, class_token = self._backbone.prefix_tokens(module)
        channels_last = self._backbone.channels_last()

        def hook(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
            kind, _, nhwc = kind_and_shape(
                tuple(output.shape), self._image_size, channels_last=channels_last
            )
            if output.shape[0] != self._n_images or not kind:
                raise ShapeError(
                    f"Cut '{cuts[0]}' of {self._backbone.short_name} puts out "
                    f"{tuple(output.shape)} for {self._n_images} images of "
                    f"{self._image_size[0]} x {self._image_size[1]} px: not one row per image. "
                    "Cut at the block around it."
                )
            values = output.permute(0, 3, 1, 2) if nhwc else output
            for cut in cuts:
                self._values[cut] = self._poolings[cut].apply(
                    values, kind, prefix_tokens=prefix_tokens, class_token=class_token
                )
            if len(self._values) == len(self._poolings):
                raise _DeepestCutReached

        return hook
