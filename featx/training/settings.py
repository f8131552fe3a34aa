"""The settings of the training loop, every default decided."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

# What has an effect beside some values of another setting alone: that setting, and those values.
NEEDS = {
    "momentum": ("optimizer", ("sgd",)),
    "nesterov": ("optimizer", ("sgd",)),
    "lr_end": ("schedule", ("cosine", "exponential")),
    "step_epochs": ("schedule", ("step",)),
    "step_gamma": ("schedule", ("step",)),
}


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained; `featx.recipes` describes each of them.

    Attributes
    ----------
    keep_best : bool
        Whether the weights of the best epoch by `monitor` are kept, instead of the last ones.
    patience : int or None
        Epochs without a better value of `monitor` before training stops.
    """

    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "cosine"
    lr_end: float | None = None
    warmup_epochs: float = 0.0
    step_epochs: int = 10
    step_gamma: float = 0.1
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    patience: int | None = None
    monitor: str = "val_loss"
    keep_best: bool = True
    clip_norm: float | None = None
    precision: str = "fp32"
    ema: float | None = None
    channels_last: bool = True
    compile: bool = False
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values; those without effect are left out."""
        values = dataclasses.asdict(self)
        values["augment"] = list(self.augment)
        idle = [name for name, (by, used) in NEEDS.items() if values[by] not in used]
        if self.patience is None and not self.keep_best:
            idle.append("monitor")
        return {k: v for k, v in values.items() if k not in idle and v is not None}
