"""What of a network is trained, and what is really frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from featx.backbones.trainable import Trainable


@dataclass(frozen=True)
class Learner:
    """A network that is trained, or the part of one that stands behind cached features.

    Attributes
    ----------
    module : nn.Module
        What runs on the inputs and gives outputs of shape (n, n_classes).
    parameters : dict of str to Parameter
        Those that are trained, by their name in the whole network.
    frozen : tuple of nn.Module
        Modules that stay in eval mode: their BatchNorm uses and keeps the statistics it came with.
    frozen_up_to : str or None
        The last module of the frozen part; None where everything is trained.
    """

    module: nn.Module
    parameters: dict[str, nn.Parameter]
    frozen: tuple[nn.Module, ...]
    frozen_up_to: str | None

    def train_mode(self) -> None:
        """Switch to training, but for what is frozen."""
        self.module.train()
        for module in self.frozen:
            module.training = False

    @property
    def n_trained(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters.values())


def make_learner(trainable: Trainable, mode: str, from_cut: str | None = None) -> Learner:
    """Freeze what a mode freezes.

    Parameters
    ----------
    trainable : Trainable
        From `load_trainable`; `requires_grad` of its parameters is set here.
    mode : {"scratch", "frozen", "finetune", "lp-ft"}
        ``frozen`` trains the head alone, the others everything.
    from_cut : str, optional
        Train what runs behind this cut, whatever the mode.

    Raises
    ------
    UnknownName
        For a cut that the network does not have.
    UsageError
        When a cut leaves nothing to train.
    """
    model = trainable.model
    parameters = dict(model.named_parameters())
    trained: set[str]
    frozen: tuple[str, ...]
    last: str | None
    if from_cut is not None:
        trained, frozen, last = _behind(trainable, from_cut)
    elif mode == "frozen":
        trained, frozen, last = _head_alone(trainable)
    else:
        trained, frozen, last = set(parameters), (), None
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    chosen = {name: p for name, p in parameters.items() if name in trained}
    return Learner(model, chosen, tuple(model.get_submodule(name) for name in frozen), last)


def _head_alone(trainable: Trainable) -> tuple[set[str], tuple[str, ...], str | None]:
    from featx.backbones.weight_files import inside

    model = trainable.model
    trained = {name for name, _ in model.named_parameters() if inside(name, trainable.head)}
    around = {
        ".".join(head.split(".")[:n])
        for head in trainable.head
        for n in range(len(head.split(".")))
    }
    frozen = tuple(
        name
        for name, _ in model.named_modules()
        if name not in around and not inside(name, trainable.head)
    )
    found = trainable.trace
    first = min(found.first_use[name] for name in trained if name in found.first_use)
    before = [name for name, seen in found.seen.items() if seen.order < first and name]
    return trained, frozen, before[-1] if before else None


def _behind(trainable: Trainable, cut: str) -> tuple[set[str], tuple[str, ...], str]:
    from featx.backbones.probe import modules_up_to, parameters_up_to
    from featx.backbones.weight_files import inside

    network, model = trainable.network, trainable.model
    module = trainable.resolve(cut)
    found = trainable.trace
    if module not in found.seen:
        raise UsageError(
            f"Cut '{cut}' never runs in {network.short_name} when it only looks at images. "
            f"List the ones that do: featx layers {network.short_name} --all"
        )
    if found.runs[module] > 1:
        raise UsageError(
            f"Cut '{cut}' runs {found.runs[module]} times in one pass of {network.short_name}, so "
            "it is no single place. Freeze up to the block around it."
        )
    fixed = parameters_up_to(found, module)
    trained = {name for name, _ in model.named_parameters() if name not in fixed}
    # Random weights throughout were asked for; a new head must not stay as it is.
    new = () if trainable.weights.random else trainable.new
    untrained = [name for name in new if any(inside(p, [name]) for p in fixed)]
    if not trained or untrained:
        reason = (
            f"'{untrained[0]}' came without weights and would stay random"
            if untrained
            else "nothing stands behind it that could be trained"
        )
        raise UsageError(
            f"Everything up to cut '{cut}' of {network.short_name} is to be frozen, and {reason}. "
            f"Choose an earlier one: featx layers {network.short_name}"
        )
    return trained, modules_up_to(found, module), module
