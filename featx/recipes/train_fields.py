"""The fields of a training and of a comparison."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from featx.recipes.fields import ProbeFields
from featx.recipes.values import Count, Positive, read_mapping, split_commas

Share = Annotated[float, Field(ge=0, lt=1)]
Mode = Literal["scratch", "frozen", "finetune", "lp-ft"]
Approach = Literal["probe", "frozen", "lp-ft", "finetune", "scratch"]
APPROACHES: tuple[Approach, ...] = ("probe", "frozen", "lp-ft", "finetune", "scratch")


class LoopFields(ProbeFields):
    """What the training loop needs."""

    epochs: Count = Field(30, description="Epochs at most.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="adam, adamw or sgd.")
    lr: Positive | None = Field(
        None,
        description="Learning rate; the peak where the schedule has one. Default: 0.001; 0.0001 "
        "where pretrained layers are trained.",
    )
    momentum: Share = Field(0.9, description="Of sgd alone.")
    nesterov: bool = Field(False, description="Nesterov's momentum, of sgd alone.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="On all parameters; decoupled with adamw."
    )
    schedule: Literal["constant", "step", "cosine", "exponential", "one-cycle"] = Field(
        "cosine", description="Of the learning rate, per step."
    )
    lr_end: Positive | None = Field(
        None, description="Where cosine and exponential end. Default: 0 for cosine."
    )
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Epochs in which the rate rises to its value."
    )
    step_epochs: Count = Field(10, description="Epochs between the steps of schedule step.")
    step_gamma: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Factor of each step of schedule step."
    )
    label_smoothing: Share = Field(0.0, description="Share of a label given to all classes.")
    augment: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        (),
        description="flip, crop, jitter, affine, perspective, randaugment, mixup; crop:4 sets the "
        "strength.",
    )
    patience: Count | None = Field(
        None, description="Epochs without a better value of monitor before training stops."
    )
    monitor: Literal["val_loss", "val_top1"] = Field(
        "val_loss", description="What patience and keep look at."
    )
    keep: Literal["auto", "best", "last"] = Field(
        "auto", description="Weights to keep: best by monitor, last, auto (best if there is val)."
    )
    test_each_epoch: bool = Field(
        True,
        description="Evaluate the test images behind every epoch, for their curve; at the end "
        "they are evaluated either way.",
    )
    clip_norm: Positive | None = Field(
        None, description="Largest norm of a step's gradient. Default: not clipped."
    )
    ema: Share | None = Field(
        None, description="Decay of a moving average of the weights, which is then kept: 0.999."
    )
    resume: bool = Field(
        False,
        description="Continue from the last checkpoint of this very run. Studies and comparisons "
        "always do.",
    )


class TrainFields(LoopFields):
    """What a single training needs besides."""

    network: str | None = Field(
        None,
        description="A small network (featx networks), one of torchvision or timm, or a model "
        "file of featx.",
    )
    mode: Mode | None = Field(
        None,
        description="scratch, frozen (a new head on a frozen network), finetune (everything), "
        "lp-ft (the head is fitted first). Default: scratch for small networks, else frozen.",
    )
    from_cut: str | None = Field(
        None, description="Freeze everything up to this cut and train what stands behind it."
    )


class CompareFields(TrainFields):
    """What a comparison needs besides."""

    approaches: Annotated[
        tuple[Approach, ...],
        BeforeValidator(split_commas),
        Field(min_length=1),
    ] = Field(APPROACHES, description="probe, frozen, lp-ft, finetune, scratch.")
    scratch: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        (), description="Networks to train from scratch. Default: the backbone."
    )
    per_approach: Annotated[dict[str, dict[str, Any]], BeforeValidator(read_mapping)] = Field(
        {}, description="Settings of single approaches: {finetune: {lr: 0.0001, epochs: 5}}."
    )
