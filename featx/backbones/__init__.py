"""Networks: their names, weights, places to cut, what comes out there, and files of trained ones.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.backbones.backbone import Backbone
    from featx.backbones.capture import Capture
    from featx.backbones.layer_table import LayerRow, layer_rows
    from featx.backbones.load import load_backbone
    from featx.backbones.packages import installed_weight_packages
    from featx.backbones.pooling import Pooling, parse_pooling
    from featx.backbones.probe import CutPoint
    from featx.backbones.registry import list_networks
    from featx.backbones.saved import SavedModel, model_bytes, read_saved
    from featx.backbones.tags import weights_dir
    from featx.backbones.trainable import Trainable, load_trainable
    from featx.backbones.weights import WeightsInfo

_HOME = {
    "Backbone": "featx.backbones.backbone",
    "Capture": "featx.backbones.capture",
    "CutPoint": "featx.backbones.probe",
    "LayerRow": "featx.backbones.layer_table",
    "Pooling": "featx.backbones.pooling",
    "SavedModel": "featx.backbones.saved",
    "Trainable": "featx.backbones.trainable",
    "WeightsInfo": "featx.backbones.weights",
    "installed_weight_packages": "featx.backbones.packages",
    "layer_rows": "featx.backbones.layer_table",
    "list_networks": "featx.backbones.registry",
    "load_backbone": "featx.backbones.load",
    "load_trainable": "featx.backbones.trainable",
    "model_bytes": "featx.backbones.saved",
    "parse_pooling": "featx.backbones.pooling",
    "read_saved": "featx.backbones.saved",
    "weights_dir": "featx.backbones.tags",
}

__all__ = [
    "Backbone",
    "Capture",
    "CutPoint",
    "LayerRow",
    "Pooling",
    "SavedModel",
    "Trainable",
    "WeightsInfo",
    "installed_weight_packages",
    "layer_rows",
    "list_networks",
    "load_backbone",
    "load_trainable",
    "model_bytes",
    "parse_pooling",
    "read_saved",
    "weights_dir",
]


__getattr__ = lazy_names(__name__, _HOME)
