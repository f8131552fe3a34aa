"""Several cuts in one forward pass, and nothing behind the deepest one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from featx.backbones.compiled import CompiledPass, state_of
from featx.backbones.convolutions import clipping_by_torch
from featx.backbones.deferred import is_tame
from featx.backbones.numerics import PLAIN, Numerics, autocast
from featx.backbones.pooling import Pooling, poolings_of
from featx.backbones.probe import kind_and_shape
from featx.errors import ShapeError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featx.backbones.backbone import Backbone
    from featx.backbones.trunk import Trunk

Keep = Callable[["torch.Tensor"], None]


class _DeepestCutReached(Exception):
    """Raised in the hook of the last wanted cut, to end the forward pass there."""


class Capture:
    """Hooks on the wanted modules while the ``with`` block lasts.

    Every output is pooled (or copied) inside of its hook, because the next module may write in
    place. When the last wanted cut has its value, the pass ends.

    Parameters
    ----------
    backbone : Backbone
        The network, of which a working copy runs. Move it to its device before the block begins.
    cuts : sequence of str, or mapping of str to str
        Any of their names. What comes out at one of them does not depend on which others there
        are, but for the last digits of compiled networks. A mapping gives what comes out a name of
        its own (name to cut), and so several poolings to one cut.
    pool : str or mapping of name to str
        See `featx.backbones.pooling.parse_pooling`.
    numerics : Numerics
        How to compute. A precision below fp32 is that of `torch.autocast`.
    batch_size : int
        Images a batch, which compiled networks need: smaller batches are filled up.

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
        self,
        backbone: Backbone,
        cuts: Sequence[str] | Mapping[str, str],
        pool: str | Mapping[str, str] = "avg",
        numerics: Numerics = PLAIN,
        *,
        batch_size: int = 1,
    ) -> None:
        if not cuts:
            raise UsageError("No cut is given. Name at least one.")
        self._backbone = backbone
        named = cuts if isinstance(cuts, Mapping) else {cut: cut for cut in cuts}
        self._poolings = poolings_of(list(named), pool)
        self._numerics = numerics
        self._batch_size = batch_size
        names_at: dict[str, list[str]] = {}
        for name, cut in named.items():
            names_at.setdefault(backbone.check_cut(cut), []).append(name)
        self._names_at = {module: tuple(names) for module, names in names_at.items()}
        self._hooks: _Hooks | None = None
        self._run: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None

    def __enter__(self) -> Capture:
        if self._numerics.compile:
            self._run = self._run_compiled
            return self
        trunk = self._backbone.trunk(self._names_at, self._numerics)
        hooks = self._hooks = _Hooks(self._backbone, self._names_at, self._poolings)
        hooks.attach(trunk)

        fused_for = None

        def run(x: torch.Tensor) -> dict[str, torch.Tensor]:
            nonlocal fused_for
            hooks.expect(x)
            size = (x.shape[-2], x.shape[-1])
            if size != fused_for:
                self._backbone.fuse(trunk, self._numerics, size)
                fused_for = size
            # Images are; other callers may give NaN.
            is_ordinary = not trunk.may_fuse or is_tame(x)
            clipping = contextlib.nullcontext() if is_ordinary else clipping_by_torch(trunk.model)
            with clipping, contextlib.suppress(_DeepestCutReached):
                trunk.model(x)
            return hooks.values

        self._run = run
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run = None
        if self._hooks is not None:
            self._hooks.remove()
            self._hooks = None

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run a batch up to the deepest cut.

        Parameters
        ----------
        x : Tensor of shape (N, 3, H, W), float
            Preprocessed images, on the network's device.

        Returns
        -------
        dict of str to Tensor of shape (N, n_features), float32
            By cut (or its name), as it was asked for and in that order.

        Raises
        ------
        RuntimeError
            Outside of the ``with`` block.
        ShapeError
            When a cut does not give one row per image, or cannot be pooled that way.
        """
        import torch

        if self._run is None:
            raise RuntimeError("Use Capture in a 'with' block: its hooks live as long as that.")
        n_images = len(x)
        if self._numerics.compile and 0 < n_images < self._batch_size:
            x = torch.cat([x, x[-1:].expand(self._batch_size - n_images, *x.shape[1:])])
        if not self._numerics.plain:
            x = x.contiguous(
                memory_format=torch.channels_last
                if self._numerics.channels_last
                else torch.contiguous_format
            )
        with torch.inference_mode(), autocast(self._numerics.precision, x.device.type):
            values = self._run(x)
        return {name: values[name][:n_images] for name in self._poolings}

    def _run_compiled(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run a batch through the compiled pass of these cuts; compile it where it is new."""
        import torch

        key = (
            tuple(self._names_at.items()),
            tuple(self._poolings.items()),
            # The compiler makes loops for the number of threads it finds.
            (self._numerics, tuple(x.shape), torch.get_num_threads()),
            state_of(self._backbone.model),
        )

        def make() -> CompiledPass:
            # Its hooks stay, on a working copy that nobody else has.
            trunk = self._backbone.trunk(self._names_at, self._numerics)
            hooks = _Hooks(self._backbone, self._names_at, self._poolings, stop=False)
            hooks.attach(trunk)
            hooks.expect(x)
            # In an order that does not depend on how the cuts were asked for.
            names = [name for module in sorted(self._names_at) for name in self._names_at[module]]
            return CompiledPass(trunk.model, hooks.values, names)

        return self._backbone.last_compiled.get(key, make)(x)


class _Hooks:
    """Hooks that keep what modules of a trunk put out, pooled.

    Attributes
    ----------
    values : dict of str to Tensor
        By the name of a cut, of the last batch.
    """

    def __init__(
        self,
        backbone: Backbone,
        names_at: Mapping[str, Sequence[str]],
        poolings: Mapping[str, Pooling],
        *,
        stop: bool = True,
    ) -> None:
        self.values: dict[str, torch.Tensor] = {}
        self._backbone = backbone
        self._names_at = names_at
        self._poolings = poolings
        self._stop = stop
        self._handles: list[Any] = []
        self._n_images = 0
        self._image_size = (0, 0)

    def attach(self, trunk: Trunk) -> None:
        """Register the hooks."""
        for module, names in self._names_at.items():
            keep = self._keep(module, names)
            # A convolution whose BatchNorm is folded in puts out what stands behind both.
            conv = trunk.same.get(module)
            if conv is None:
                target = trunk.model.get_submodule(module)
                self._handles.append(target.register_forward_hook(_on_output(keep)))
            else:
                target = trunk.model.get_submodule(conv)
                before = _on_input(keep, trunk.unfolded[conv])
                self._handles.append(target.register_forward_pre_hook(before))

    def remove(self) -> None:
        """Remove the hooks and forget the values."""
        while self._handles:
            self._handles.pop().remove()
        self.values = {}

    def expect(self, x: torch.Tensor) -> None:
        """Forget the last batch; one of the shape of `x` comes next."""
        self.values = {}
        self._n_images = len(x)
        self._image_size = (x.shape[-2], x.shape[-1])

    def _keep(self, module: str, names: Sequence[str]) -> Keep:
        """Return what keeps a module's output, pooled for each of its names."""
        prefix_tokens, class_token = self._backbone.prefix_tokens(module)
        channels_last = self._backbone.channels_last()

        def keep(output: torch.Tensor) -> None:
            kind, _, nhwc = kind_and_shape(
                tuple(output.shape), self._image_size, channels_last=channels_last
            )
            if output.shape[0] != self._n_images or not kind:
                raise ShapeError(
                    f"Cut '{names[0]}' of {self._backbone.short_name} puts out "
                    f"{tuple(output.shape)} for {self._n_images} images of "
                    f"{self._image_size[0]} x {self._image_size[1]} px: not one row per image. "
                    "Cut at the block around it."
                )
            values = output.permute(0, 3, 1, 2) if nhwc else output
            for name in names:
                self.values[name] = self._poolings[name].apply(
                    values, kind, prefix_tokens=prefix_tokens, class_token=class_token
                )
            if self._stop and len(self.values) == len(self._poolings):
                raise _DeepestCutReached

        return keep


def _on_output(keep: Keep) -> Any:
    """Return the hook of a module that keeps what it puts out."""

    def hook(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
        keep(output)

    return hook


def _on_input(keep: Keep, unfolded: nn.Module) -> Any:
    """Return the hook of a folded convolution that keeps what it would put out by itself."""

    def hook(layer: nn.Module, args: Any) -> None:
        keep(unfolded(*args))

    return hook
