"""A recipe, from images to report: prepare, plan, extract, fit, record.

``run(recipe)`` does it all; the command line calls the steps to print between them.
"""

from featx.pipeline.fitting import CutFit, candidates, fit_cuts, jobs_that_fit
from featx.pipeline.prepare import Plan, Prepared, make_plan, prepare, prepare_fit
from featx.pipeline.running import extract_all, run, run_prepared

__all__ = [
    "CutFit",
    "Plan",
    "Prepared",
    "candidates",
    "extract_all",
    "fit_cuts",
    "jobs_that_fit",
    "make_plan",
    "prepare",
    "prepare_fit",
    "run",
    "run_prepared",
]
