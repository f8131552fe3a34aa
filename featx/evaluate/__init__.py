"""Metrics of predictions, paired statistics, and the records that reports are made of.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.evaluate.exhibits import EXHIBITS_FOLDER, EXHIBITS_NAME, Exhibits
    from featx.evaluate.metrics import (
        AverageMetrics,
        ClassMetrics,
        SplitMetrics,
        evaluate_predictions,
        format_report,
        newcombe_interval,
        wilson_interval,
    )
    from featx.evaluate.paired import (
        holm,
        mcnemar_exact,
        paired_difference,
    )
    from featx.evaluate.predictions import correct_answers
    from featx.evaluate.reading import (
        RECORD_NAME,
        Record,
        ranking,
        ranking_split,
        read_exhibits,
        read_record,
        read_run,
        work_seconds,
    )
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
    from featx.evaluate.repeats import (
        Spread,
        spread,
    )
    from featx.evaluate.training_records import (
        ApproachRecord,
        ComparisonRecord,
        Curve,
        EpochRecord,
        NetworkRecord,
        PairedRecord,
        SpreadRecord,
        State,
        StudyRecord,
        StudyRow,
        TrainingRecord,
    )

_HOME = {
    "EXHIBITS_FOLDER": "featx.evaluate.exhibits",
    "EXHIBITS_NAME": "featx.evaluate.exhibits",
    "Exhibits": "featx.evaluate.exhibits",
    "AverageMetrics": "featx.evaluate.metrics",
    "ClassMetrics": "featx.evaluate.metrics",
    "SplitMetrics": "featx.evaluate.metrics",
    "evaluate_predictions": "featx.evaluate.metrics",
    "format_report": "featx.evaluate.metrics",
    "newcombe_interval": "featx.evaluate.metrics",
    "wilson_interval": "featx.evaluate.metrics",
    "holm": "featx.evaluate.paired",
    "mcnemar_exact": "featx.evaluate.paired",
    "paired_difference": "featx.evaluate.paired",
    "correct_answers": "featx.evaluate.predictions",
    "RECORD_NAME": "featx.evaluate.reading",
    "Record": "featx.evaluate.reading",
    "ranking": "featx.evaluate.reading",
    "ranking_split": "featx.evaluate.reading",
    "read_exhibits": "featx.evaluate.reading",
    "read_record": "featx.evaluate.reading",
    "read_run": "featx.evaluate.reading",
    "work_seconds": "featx.evaluate.reading",
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
    "Spread": "featx.evaluate.repeats",
    "spread": "featx.evaluate.repeats",
    "ApproachRecord": "featx.evaluate.training_records",
    "ComparisonRecord": "featx.evaluate.training_records",
    "Curve": "featx.evaluate.training_records",
    "EpochRecord": "featx.evaluate.training_records",
    "NetworkRecord": "featx.evaluate.training_records",
    "PairedRecord": "featx.evaluate.training_records",
    "SpreadRecord": "featx.evaluate.training_records",
    "State": "featx.evaluate.training_records",
    "StudyRecord": "featx.evaluate.training_records",
    "StudyRow": "featx.evaluate.training_records",
    "TrainingRecord": "featx.evaluate.training_records",
}

__all__ = [
    "EXHIBITS_FOLDER",
    "EXHIBITS_NAME",
    "RECORD_NAME",
    "SCHEMA_VERSION",
    "ApproachRecord",
    "AverageMetrics",
    "BackboneRecord",
    "CandidateRecord",
    "ChoiceRecord",
    "ClassMetrics",
    "ComparisonRecord",
    "Curve",
    "CutRecord",
    "DatasetRecord",
    "EnvironmentRecord",
    "EpochRecord",
    "Exhibits",
    "NetworkRecord",
    "PairedRecord",
    "Record",
    "ResultRecord",
    "RunRecord",
    "SplitMetrics",
    "SplitRecord",
    "Spread",
    "SpreadRecord",
    "State",
    "StudyRecord",
    "StudyRow",
    "TrainingRecord",
    "correct_answers",
    "evaluate_predictions",
    "format_report",
    "holm",
    "mcnemar_exact",
    "newcombe_interval",
    "paired_difference",
    "ranking",
    "ranking_split",
    "read_exhibits",
    "read_record",
    "read_run",
    "spread",
    "wilson_interval",
    "work_seconds",
]


__getattr__ = lazy_names(__name__, _HOME)
