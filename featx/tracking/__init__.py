"""Tracking of runs in MLflow or TensorBoard: parameters, metrics per epoch, files.

Nothing of either is imported before `make_tracker` is asked for it.
"""

from __future__ import annotations

from featx.tracking.base import KINDS, TrackedRun, Tracker, make_tracker

__all__ = ["KINDS", "TrackedRun", "Tracker", "make_tracker"]
