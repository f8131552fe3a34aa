"""Pretrained networks: their names, weights, places to cut, and what comes out there.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.backbones.backbone import Backbone
    from featx.backbones.capture import Capture
    from featx.backbones.load import load_backbone
    from featx.backbones.packages import installed_weight_packages
    from featx.backbones.pooling import Pooling, parse_pooling
    from featx.backbones.probe import CutPoint
    from featx.backbones.registry import list_networks
    from featx.backbones.tags import weights_dir
    from featx.backbones.weights import WeightsInfo

_HOME = {
    "Backbone": "featx.backbones.backbone",
    "Capture": "featx.backbones.capture",
    "CutPoint": "featx.backbones.probe",
    "Pooling": "featx.backbones.pooling",
    "WeightsInfo": "featx.backbones.weights",
    "installed_weight_packages": "featx.backbones.packages",
    "list_networks": "featx.backbones.registry",
    "load_backbone": "featx.backbones.load",
    "parse_pooling": "featx.backbones.pooling",
    "weights_dir": "featx.backbones.tags",
}

__all__ = [
    "Backbone",
    "Capture",
    "CutPoint",
    "Pooling",
    "WeightsInfo",
    "installed_weight_packages",
    "list_networks",
    "load_backbone",
    "parse_pooling",
    "weights_dir",
]


__getattr__ = lazy_names(__name__, _HOME)
