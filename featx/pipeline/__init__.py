"""A recipe, from images to report: prepare, plan, extract or train, record.

``run(recipe)`` does it all; the command line calls the steps to print between them.
"""

from featx.pipeline.comparing import ComparedRun, compared_runs, run_comparison
from featx.pipeline.fitting import CutFit, candidates, fit_cuts, jobs_that_fit
from featx.pipeline.prepare import Plan, Prepared, make_plan, plan_sets, prepare, prepare_fit
from featx.pipeline.rates import run_rate_range
from featx.pipeline.running import extract_all, run, run_prepared
from featx.pipeline.studies import finished_record, finished_runs, run_study
from featx.pipeline.tracked import tracked_run
from featx.pipeline.train_prepare import PreparedTraining, prepare_training
from featx.pipeline.train_run import raise_if_diverged, run_tracked_training, run_training

__all__ = [
    "ComparedRun",
    "CutFit",
    "Plan",
    "Prepared",
    "PreparedTraining",
    "candidates",
    "compared_runs",
    "extract_all",
    "finished_record",
    "finished_runs",
    "fit_cuts",
    "jobs_that_fit",
    "make_plan",
    "plan_sets",
    "prepare",
    "prepare_fit",
    "prepare_training",
    "raise_if_diverged",
    "run",
    "run_comparison",
    "run_prepared",
    "run_rate_range",
    "run_study",
    "run_tracked_training",
    "run_training",
    "tracked_run",
]
