"""Optimizers by name: torch's own, fused into one kernel where torch has it for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from featx.errors import UnknownName, UsageError

if TYPE_CHECKING:
    import torch

OPTIMIZERS = ("adam", "adamw", "sgd")

# Devices with fused kernels of all three optimizers in torch 2.4, the oldest that featx takes.
_FUSED = ("cpu", "cuda")


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter],
    *,
    name: str,
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    device: torch.device | str,
) -> torch.optim.Optimizer:
    """Return an optimizer of `parameters`.

    Weight decay is applied to every parameter alike, biases and norms too, as Keras' and torch's
    optimizers do by default: for ``adam`` and ``sgd`` it is an L2 penalty added to the gradient,
    for ``adamw`` it shrinks the weights beside the step (Loshchilov and Hutter 2019).

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
        Those to train, on `device`.
    name : {"adam", "adamw", "sgd"}
        Adam's coefficients are torch's and the paper's: betas 0.9 and 0.999, epsilon 1e-8.
    lr : float
        Learning rate, above 0.
    momentum : float
        Of ``sgd``, at least 0 and below 1; the others have their own and leave it out.
    nesterov : bool
        Nesterov's momentum; ``sgd`` only.
    weight_decay : float
        At least 0.
    device : torch.device or str
        Where the parameters are.

    Returns
    -------
    torch.optim.Optimizer

    Raises
    ------
    UnknownName
        For another name.
    UsageError
        When there is nothing to train, a value is out of its range, or `nesterov` goes without
        momentum.
    """
    import torch

    _check(name, lr, momentum, nesterov, weight_decay)
    trained = list(parameters)
    if not trained:
        raise UsageError(
            "No parameter is left to train. Leave at least the head unfrozen, or freeze less."
        )
    settings: dict[str, Any] = {
        "lr": lr,
        "weight_decay": weight_decay,
        "fused": torch.device(device).type in _FUSED,
    }
    if name == "sgd":
        return torch.optim.SGD(trained, momentum=momentum, nesterov=nesterov, **settings)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(trained, **settings)


def _check(name: str, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
    """Raise for settings that no optimizer of featx takes."""
    if name not in OPTIMIZERS:
        raise UnknownName("Optimizer", name, OPTIMIZERS)
    if not (math.isfinite(lr) and lr > 0):
        raise UsageError(f"Learning rate {lr} is not possible: give a number above 0, like 1e-3.")
    if not 0 <= momentum < 1:
        raise UsageError(f"Momentum {momentum} is not possible: give 0 or more, and less than 1.")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise UsageError(
            f"Weight decay {weight_decay} is not possible: give 0 (none) or more, like 5e-4."
        )
    if nesterov and name != "sgd":
        raise UsageError(
            f"Nesterov's momentum is sgd's; {name} has none. Leave it out or use 'sgd'."
        )
    if nesterov and momentum == 0:
        raise UsageError("Nesterov needs momentum, and it is 0. Give one above 0, like 0.9.")
