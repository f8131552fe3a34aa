"""Print a record of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featx.evaluate import ComparisonRecord, RunRecord, StudyRecord, TrainingRecord


def print_any_record(record: RunRecord | TrainingRecord | StudyRecord | ComparisonRecord) -> None:
    """Print what the run itself printed when it was done."""
    from featx.evaluate import ComparisonRecord, StudyRecord, TrainingRecord

    if isinstance(record, TrainingRecord):
        from featx.cli.training import print_training

        print_training(record)
    elif isinstance(record, StudyRecord):
        from featx.cli.studies import print_study

        print_study(record)
    elif isinstance(record, ComparisonRecord):
        from featx.cli.comparing import print_comparison

        print_comparison(record)
    else:
        from featx.cli.running import print_record

        print_record(record)
