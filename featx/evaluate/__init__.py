"""Metrics of predictions, and the records that reports are made of.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featx.evaluate.metrics import (
        AverageMetrics,
        ClassMetrics,
        SplitMetrics,
        evaluate_predictions,
        format_report,
        wilson_interval,
    )
    from featx.evaluate.reading import RECORD_NAME, ranking, ranking_split, read_record
    from featx.evaluate.records import (
        SCHEMA_VERSION,
        BackboneRecord,
        CandidateRecord,
        ChoiceRecord,
        CutRecord,
        DatasetRecord,
        EnvironmentRecord,
        ResultRecord,
        RunRecord,
        SplitRecord,
    )

_HOME = {
    "AverageMetrics": "metrics",
    "ClassMetrics": "metrics",
    "SplitMetrics": "metrics",
    "evaluate_predictions": "metrics",
    "format_report": "metrics",
    "wilson_interval": "metrics",
    "RECORD_NAME": "reading",
    "ranking": "reading",
    "ranking_split": "reading",
    "read_record": "reading",
    "SCHEMA_VERSION": "records",
    "BackboneRecord": "records",
    "CandidateRecord": "records",
    "ChoiceRecord": "records",
    "CutRecord": "records",
    "DatasetRecord": "records",
    "EnvironmentRecord": "records",
    "ResultRecord": "records",
    "RunRecord": "records",
    "SplitRecord": "records",
}

__all__ = [
    "RECORD_NAME",
    "SCHEMA_VERSION",
    "AverageMetrics",
    "BackboneRecord",
    "CandidateRecord",
    "ChoiceRecord",
    "ClassMetrics",
    "CutRecord",
    "DatasetRecord",
    "EnvironmentRecord",
    "ResultRecord",
    "RunRecord",
    "SplitMetrics",
    "SplitRecord",
    "evaluate_predictions",
    "format_report",
    "ranking",
    "ranking_split",
    "read_record",
    "wilson_interval",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'featx.evaluate' has no attribute '{name}'")
    return getattr(import_module(f"featx.evaluate.{_HOME[name]}"), name)
