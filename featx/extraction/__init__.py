"""Images through a cut network: into memory (`extract`), or into the cache (`extract_to_store`).

One forward pass serves every cut, and nothing behind the deepest one is computed.
"""

from featx.extraction.caching import extract_to_store
from featx.extraction.memory import extract
from featx.extraction.planning import (
    PlannedSet,
    check_budget,
    feature_key,
    memory_budget_bytes,
    plan_split,
)
from featx.extraction.profiling import CutCost, NetworkProfile, StageCost, profile_network
from featx.extraction.sampling import SampledRate, sample_rate
from featx.extraction.settings import Settings, cut_points, make_settings
from featx.extraction.tuning import Trial, Tuning, tune

__all__ = [
    "CutCost",
    "NetworkProfile",
    "PlannedSet",
    "SampledRate",
    "Settings",
    "StageCost",
    "Trial",
    "Tuning",
    "check_budget",
    "cut_points",
    "extract",
    "extract_to_store",
    "feature_key",
    "make_settings",
    "memory_budget_bytes",
    "plan_split",
    "profile_network",
    "sample_rate",
    "tune",
]
