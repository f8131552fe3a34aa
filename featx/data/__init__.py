"""Images with labels: where they come from, how they are split, and how they become network input.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.data.dataset import Dataset, Split
    from featx.data.files import FileImages
    from featx.data.images import ArrayImages, Images
    from featx.data.preprocess import CAFFE, TORCH, Preprocess, resolve_crop
    from featx.data.sources import SOURCES, load_dataset

_HOME = {
    "Dataset": "featx.data.dataset",
    "Split": "featx.data.dataset",
    "FileImages": "featx.data.files",
    "ArrayImages": "featx.data.images",
    "Images": "featx.data.images",
    "CAFFE": "featx.data.preprocess",
    "TORCH": "featx.data.preprocess",
    "Preprocess": "featx.data.preprocess",
    "resolve_crop": "featx.data.preprocess",
    "SOURCES": "featx.data.sources",
    "load_dataset": "featx.data.sources",
}

__all__ = [
    "CAFFE",
    "SOURCES",
    "TORCH",
    "ArrayImages",
    "Dataset",
    "FileImages",
    "Images",
    "Preprocess",
    "Split",
    "load_dataset",
    "resolve_crop",
]


__getattr__ = lazy_names(__name__, _HOME)
