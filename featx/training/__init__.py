"""Training of networks: from scratch, a head on a frozen network, or everything.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.training.augment import AUGMENTATIONS
    from featx.training.checkpoint import load_checkpoint, save_checkpoint
    from featx.training.evaluation import predicted_labels, scores_of
    from featx.training.inputs import (
        FeatureInputs,
        ImageInputs,
        Inputs,
        check_room,
        encode,
        pixel_statistics,
        resident_images,
    )
    from featx.training.learner import Learner, make_learner
    from featx.training.loop import Outcome, train
    from featx.training.range_test import RateRange, rate_range
    from featx.training.settings import TrainSettings
    from featx.training.tail import tail_behind

_HOME = {
    "AUGMENTATIONS": "featx.training.augment",
    "FeatureInputs": "featx.training.inputs",
    "ImageInputs": "featx.training.inputs",
    "Inputs": "featx.training.inputs",
    "Learner": "featx.training.learner",
    "Outcome": "featx.training.loop",
    "RateRange": "featx.training.range_test",
    "TrainSettings": "featx.training.settings",
    "check_room": "featx.training.inputs",
    "encode": "featx.training.inputs",
    "load_checkpoint": "featx.training.checkpoint",
    "make_learner": "featx.training.learner",
    "pixel_statistics": "featx.training.inputs",
    "predicted_labels": "featx.training.evaluation",
    "rate_range": "featx.training.range_test",
    "resident_images": "featx.training.inputs",
    "save_checkpoint": "featx.training.checkpoint",
    "scores_of": "featx.training.evaluation",
    "tail_behind": "featx.training.tail",
    "train": "featx.training.loop",
}

__all__ = [
    "AUGMENTATIONS",
    "FeatureInputs",
    "ImageInputs",
    "Inputs",
    "Learner",
    "Outcome",
    "RateRange",
    "TrainSettings",
    "check_room",
    "encode",
    "load_checkpoint",
    "make_learner",
    "pixel_statistics",
    "predicted_labels",
    "rate_range",
    "resident_images",
    "save_checkpoint",
    "scores_of",
    "tail_behind",
    "train",
]


__getattr__ = lazy_names(__name__, _HOME)
