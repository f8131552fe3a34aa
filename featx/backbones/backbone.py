"""A pretrained network, ready to be cut."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from featx.backbones.compiled import LastCompiled
from featx.backbones.convolutions import onednn_fuses_bit_for_bit, set_fusions
from featx.backbones.cuts import CutNames
from featx.backbones.deferred import Fusion
from featx.backbones.folding import Folds, find_folds
from featx.backbones.numerics import Numerics
from featx.backbones.pooling import NO_CLASS_TOKEN, Pooling, parse_pooling, poolings_of
from featx.backbones.probe import (
    BATCH,
    CutPoint,
    Seen,
    Trace,
    kind_and_shape,
    parameters_up_to,
    parents,
    trace,
)
from featx.backbones.registry import Network
from featx.backbones.trunk import Trunk, find_trunk_fusions, make_trunk
from featx.backbones.weight_files import inside
from featx.backbones.weights import WeightsInfo
from featx.errors import ShapeError, UsageError, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featx.data import Preprocess


class Backbone:
    """A network in eval mode with its weights; made by `load_backbone`.

    Attributes
    ----------
    name, short_name : str
        ``"torchvision/resnet50"``, ``"resnet50"``.
    library : str
        ``"torchvision"``, ``"timm"`` or ``"featx"``.
    model : nn.Module
        In eval mode, no parameter requires a gradient; on the CPU until `to` is called.
    weights : WeightsInfo
        Where they came from, and their digest.
    preprocess : Preprocess
        What the weights want images to go through.
    image_size : tuple of int
        Height and width in pixels that the network takes in any case: its weights' own, or what its
        dense layers were built for.
    absent : tuple of str
        Classifier modules whose weights did not come; cuts at or behind them are refused.
    notes : tuple of str
        What a user should know of the weights, one sentence each.
    last_compiled : LastCompiled
        Kept for `Capture`.
    """

    def __init__(
        self,
        network: Network,
        model: nn.Module,
        weights: WeightsInfo,
        preprocess: Preprocess,
        *,
        image_size: tuple[int, int] | None = None,
        absent: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name = network.name
        self.short_name = network.short_name
        self.library = network.library
        self.model = model.eval().requires_grad_(False)
        self.weights = weights
        self.preprocess = preprocess
        self.image_size = image_size or (preprocess.image_size or 224,) * 2
        self.absent = absent
        self.notes = notes
        self._names = CutNames(model, network.model, self.short_name)
        self._traces: dict[tuple[int, int], Trace] = {}
        self._folds: Folds | None = None
        # By whether BatchNorms are folded, and the images' size.
        self._fusions: dict[tuple[bool, tuple[int, int]], dict[str, Fusion]] = {}
        self.last_compiled = LastCompiled()

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, weights={self.weights.tag!r})"

    def to(self, device: torch.device | str) -> Backbone:
        """Move the network to a device; returns itself."""
        self.model.to(device)
        return self

    def resolve(self, cut: str) -> str:
        """Return the library's own name of the module a cut stands for.

        Parameters
        ----------
        cut : str
            Keras' name (``conv4_block6_out``), a stage (``stage3``) or the module's own name.

        Raises
        ------
        UnknownName
            Names the closest cuts.
        """
        return self._names.resolve(cut)

    def aliases_of(self, module: str) -> tuple[str, ...]:
        """Return a module's other names: Keras' and the stage's that it ends."""
        return self._names.aliases_of(module)

    def cut_points(
        self, image_size: int | tuple[int, int], pool: str = "avg", all_modules: bool = False
    ) -> list[CutPoint]:
        """Return the places to cut, in order of execution.

        Parameters
        ----------
        image_size : int or tuple of int
            Side of a square, or height and width, in pixels.
        pool : str
            For `CutPoint.n_pooled`; cuts that it cannot take are left out.
        all_modules : bool
            Every module that can be cut, instead of named ones, top ones and blocks.

        Raises
        ------
        ShapeError
            When the network cannot take images of that size.
        """
        found = self._trace(image_size)
        pooling = parse_pooling(pool)
        points = []
        for module in found.seen:
            if not module or not (all_modules or self._is_listed(module)):
                continue
            try:
                points.append(self._cut_point(module, module, found, pooling))
            except (UsageError, WeightsError):
                continue
        return points

    def describe_cuts(
        self,
        cuts: Sequence[str],
        image_size: int | tuple[int, int],
        pool: str | Mapping[str, str] = "avg",
    ) -> list[CutPoint]:
        """Return the cut points called `cuts`, in that order.

        Parameters
        ----------
        cuts : sequence of str
            Any of their names.
        image_size : int or tuple of int
            Side of a square, or height and width, in pixels.
        pool : str or mapping of cut to str
            For `CutPoint.n_pooled`.

        Raises
        ------
        UnknownName
            For a name that is not there.
        UsageError
            For a module that runs more than once, or never, or puts out no tensor.
        WeightsError
            For a cut at or behind a classifier whose weights did not come.
        ShapeError
            When the network cannot take that image size, or the pooling that cut.
        """
        # A wrong name is said before a wrong size.
        modules = [self.resolve(cut) for cut in cuts]
        poolings = poolings_of(cuts, pool)
        found = self._trace(image_size)
        return [
            self._cut_point(module, cut, found, poolings[cut])
            for module, cut in zip(modules, cuts, strict=True)
        ]

    def check_cut(self, cut: str) -> str:
        """Return the module of a cut, if the network can be cut there at all.

        Looks at one pass at the network's own image size, and so before any image is read.

        Raises
        ------
        UnknownName, UsageError, WeightsError
            As `describe_cuts`.
        """
        module = self.resolve(cut)
        found = self._trace(self.image_size)
        self._output(module, cut, found)
        return module

    def trunk(self, modules: Collection[str], numerics: Numerics) -> Trunk:
        """Return what computes the outputs of `modules` with these numerics.

        It is a working copy, which shares every tensor that stays the same: hooks of a pass that is
        not at its end never meet those of another.

        Parameters
        ----------
        modules : collection of str
            The library's own names.
        numerics : Numerics
            How to compute.
        """
        found = self._trace(self.image_size)
        deepest = max(modules, key=lambda module: found.seen[module].order)
        return make_trunk(
            self.model,
            numerics,
            () if numerics.plain else parameters_up_to(found, deepest),
            folds=self._folds_for(numerics),
            may_fuse=self._may_fuse(numerics),
            modules=modules,
        )

    def fuse(self, trunk: Trunk, numerics: Numerics, image_size: tuple[int, int]) -> None:
        """Have a trunk's convolutions do what comes next, for images of one size.

        Another size may take another way through a network.

        Parameters
        ----------
        trunk : Trunk
            Of these numerics.
        numerics : Numerics
            How it computes.
        image_size : tuple of int
            Height and width.
        """
        if not trunk.may_fuse:
            return
        key = (numerics.fold, image_size)
        if key not in self._fusions:
            folds = self._folds_for(numerics)
            self._fusions[key] = find_trunk_fusions(self.model, folds, image_size)
        set_fusions(trunk.model, self._fusions[key])

    def _folds_for(self, numerics: Numerics) -> Folds:
        """Return which BatchNorms these numerics fold, from memory where it was asked before."""
        if not numerics.fold:
            return Folds()
        if self._folds is None:
            self._folds = find_folds(self.model, self.image_size)
        return self._folds

    def _may_fuse(self, numerics: Numerics) -> bool:
        """Return whether convolutions may do what comes next where this network is now."""
        on_cpu = next(self.model.parameters()).device.type == "cpu"
        return on_cpu and numerics.may_fuse and onednn_fuses_bit_for_bit(numerics.precision)

    def channels_last(self) -> bool:
        """Return whether maps whose shape does not tell are (N, H, W, C), as in Swin networks."""
        fmt = str(getattr(self.model, "output_fmt", ""))
        return fmt.endswith("NHWC") or type(self.model).__name__ == "SwinTransformer"

    def prefix_tokens(self, module: str) -> tuple[int, bool]:
        """Return how many tokens stand before the patches' at a module, and whether one is a class.

        The patch embedding runs before the class token is put in.
        """
        if inside(module, ["patch_embed"]):
            return 0, False
        if self.library == "torchvision":
            has_class = hasattr(self.model, "class_token")
            return int(has_class), has_class
        n_prefix = int(getattr(self.model, "num_prefix_tokens", 0) or 0)
        has_class = n_prefix > 0 and getattr(self.model, "cls_token", None) is not None
        return n_prefix, has_class

    def _trace(self, image_size: int | tuple[int, int]) -> Trace:
        """Return what one pass at a size shows, from memory where it was asked before."""
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        if min(size) < 1:
            raise ShapeError(f"Image size {size[0]} x {size[1]} px is not possible.")
        if size not in self._traces:
            self._traces[size] = trace(
                self.model, size, native_size=self.image_size, name=self.short_name
            )
        return self._traces[size]

    def _is_listed(self, module: str) -> bool:
        """Return whether a module is worth a line: named, on top, or a block with layers."""
        if self.aliases_of(module):
            return True
        inside_named = any(module.startswith(named + ".") for named in self._names.keras.values())
        if inside_named:
            return False
        if "." not in module:
            return True
        children = self.model.get_submodule(module).children()
        return any(next(child.parameters(), None) is not None for child in children)

    def _output(self, module: str, cut: str, found: Trace) -> Seen:
        """Return what a module showed, or raise if it cannot be a cut."""
        seen = found.seen.get(module)
        if seen is None:
            raise UsageError(
                f"Cut '{cut}' never runs in {self.short_name} when it only looks at images. "
                f"List the ones that do: featx layers {self.short_name} --all"
            )
        for gone in self.absent:
            orders = [other.order for name, other in found.seen.items() if inside(name, [gone])]
            if orders and min(orders) <= seen.order:
                raise WeightsError(
                    f"Cut '{cut}' of {self.short_name} needs the weights of '{gone}', which "
                    f"{self.weights.tag} does not bring. Every cut before '{gone}' works."
                )
        if found.runs[module] > 1:
            block = next((name for name in parents(module) if found.runs[name] == 1), "")
            raise UsageError(
                f"Cut '{cut}' runs {found.runs[module]} times in one pass of {self.short_name}, so "
                f"it is no single place. Cut at the block around it: '{block}'."
            )
        if seen.output is None:
            raise UsageError(
                f"Cut '{cut}' of {self.short_name} puts out a {seen.output_type}, not one tensor. "
                f"List the ones that do: featx layers {self.short_name} --all"
            )
        kind, _, _ = self._kind(seen.output, found)
        if seen.output[0] != BATCH or not kind:
            raise UsageError(
                f"Cut '{cut}' of {self.short_name} puts out {seen.output} for {BATCH} images: no "
                "map, tokens or vector per image. Cut at the block around it."
            )
        return seen

    def _kind(self, output: tuple[int, ...], found: Trace) -> tuple[str, tuple[int, ...], bool]:
        return kind_and_shape(output, found.image_size, channels_last=self.channels_last())

    def _cut_point(self, module: str, cut: str, found: Trace, pooling: Pooling) -> CutPoint:
        """Put together what is known of a cut."""
        seen = self._output(module, cut, found)
        assert seen.output is not None
        kind, shape, _ = self._kind(seen.output, found)
        if kind == "tokens" and pooling.name == "cls" and not self.prefix_tokens(module)[1]:
            raise ShapeError(f"Cut '{cut}' of {self.short_name}: {NO_CLASS_TOKEN}")
        return CutPoint(
            module=module,
            aliases=self.aliases_of(module),
            stage=self._stage(seen, found),
            kind=kind,
            shape=shape,
            n_flat=parse_pooling("flatten").n_features(kind, shape),
            pool=pooling.name,
            n_pooled=pooling.n_features(kind, shape),
            multiply_adds=seen.multiply_adds,
            n_parameters=seen.n_parameters,
            order=seen.order,
            threads_matter=seen.threads_matter,
        )

    def _stage(self, seen: Seen, found: Trace) -> str | None:
        """Return the first stage that has not ended before this module."""
        for stage, end in self._names.stages.items():
            if end in found.seen and found.seen[end].order >= seen.order:
                return stage
        return None
