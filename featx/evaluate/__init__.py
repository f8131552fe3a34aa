"""Metrics of predictions, and the records that reports are made of.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

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
    "AverageMetrics": "featx.evaluate.metrics",
    "ClassMetrics": "featx.evaluate.metrics",
    "SplitMetrics": "featx.evaluate.metrics",
    "evaluate_predictions": "featx.evaluate.metrics",
    "format_report": "featx.evaluate.metrics",
    "wilson_interval": "featx.evaluate.metrics",
    "RECORD_NAME": "featx.evaluate.reading",
    "ranking": "featx.evaluate.reading",
    "ranking_split": "featx.evaluate.reading",
    "read_record": "featx.evaluate.reading",
    "SCHEMA_VERSION": "featx.evaluate.records",
    "BackboneRecord": "featx.evaluate.records",
    "CandidateRecord": "featx.evaluate.records",
    "ChoiceRecord": "featx.evaluate.records",
    "CutRecord": "featx.evaluate.records",
    "DatasetRecord": "featx.evaluate.records",
    "EnvironmentRecord": "featx.evaluate.records",
    "ResultRecord": "featx.evaluate.records",
    "RunRecord": "featx.evaluate.records",
    "SplitRecord": "featx.evaluate.records",
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


__getattr__ = lazy_names(__name__, _HOME)
