"""The small convolutional networks of the source documents, built from a plan of their layers.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.networks.building import build_zoo, check_n_classes
    from featx.networks.plans import N_CLASSES, SIZE, about_zoo, zoo_names

_HOME = {
    "N_CLASSES": "featx.networks.plans",
    "SIZE": "featx.networks.plans",
    "about_zoo": "featx.networks.plans",
    "build_zoo": "featx.networks.building",
    "check_n_classes": "featx.networks.building",
    "zoo_names": "featx.networks.plans",
}

__all__ = ["N_CLASSES", "SIZE", "about_zoo", "build_zoo", "check_n_classes", "zoo_names"]


__getattr__ = lazy_names(__name__, _HOME)
