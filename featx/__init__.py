"""featx: cut a pretrained network at named layers, cache its features, train linear heads.

The public names, and nothing else. Each is imported when it is first used, so that
``import featx`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.errors import FeatxError
from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.backbones import Backbone, load_backbone
    from featx.cache import FeatureSet, FeatureStore
    from featx.data import Dataset, Preprocess, load_dataset
    from featx.evaluate import RunRecord, evaluate_predictions
    from featx.extraction import extract, extract_to_store
    from featx.heads import LinearHead, fit_logistic, fit_svm
    from featx.pipeline import run
    from featx.recipes import Recipe, load_recipe
    from featx.report import write_report
    from featx.scaling import Scaler

__version__ = "0.1.0"

_HOME = {
    "Backbone": "featx.backbones",
    "load_backbone": "featx.backbones",
    "FeatureSet": "featx.cache",
    "FeatureStore": "featx.cache",
    "Dataset": "featx.data",
    "Preprocess": "featx.data",
    "load_dataset": "featx.data",
    "RunRecord": "featx.evaluate",
    "evaluate_predictions": "featx.evaluate",
    "extract": "featx.extraction",
    "extract_to_store": "featx.extraction",
    "LinearHead": "featx.heads",
    "fit_logistic": "featx.heads",
    "fit_svm": "featx.heads",
    "Recipe": "featx.recipes",
    "load_recipe": "featx.recipes",
    "write_report": "featx.report",
    "run": "featx.pipeline",
    "Scaler": "featx.scaling",
}

__all__ = [
    "Backbone",
    "Dataset",
    "FeatureSet",
    "FeatureStore",
    "FeatxError",
    "LinearHead",
    "Preprocess",
    "Recipe",
    "RunRecord",
    "Scaler",
    "__version__",
    "evaluate_predictions",
    "extract",
    "extract_to_store",
    "fit_logistic",
    "fit_svm",
    "load_backbone",
    "load_dataset",
    "load_recipe",
    "run",
    "write_report",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
