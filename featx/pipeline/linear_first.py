"""LP-FT's first half: the head as a logistic regression on the frozen network's features.

A. Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution",
ICLR 2022: a head that fits the features first keeps fine-tuning from distorting them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.errors import BudgetExceeded, UsageError
from featx.extraction import memory_budget_bytes
from featx.heads import C_GRIDS, HeadCounter, fit_path, next_C, pick_C
from featx.pipeline.train_inputs import (
    feature_bytes,
    feature_inputs,
    images_to_extract,
    part_in_front,
)
from featx.progress import SILENT, Progress
from featx.recipes import DEFAULT_C
from featx.text import human_bytes
from featx.training import make_learner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from featx.heads import Choice, Fit
    from featx.pipeline.train_inputs import CachedPart
    from featx.pipeline.train_prepare import PreparedTraining
    from featx.training import Inputs


@dataclass(frozen=True)
class LinearFirst:
    """What the first half cost, in seconds by name, and what a record says of its choice of C."""

    timing: dict[str, float]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, as a checkpoint keeps it."""
        return {"timing": self.timing, "notes": self.notes}


def linear_first(prepared: PreparedTraining, progress: Progress = SILENT) -> LinearFirst:
    """Fit the head on the frozen network's features; afterwards everything can be trained.

    Raises
    ------
    UsageError
        For a network that cannot be cut in front of its head, or whose head is more than a layer.
    BudgetExceeded
        If the features do not fit in memory.
    """
    start = time.perf_counter()
    frozen, part = frozen_part(prepared)
    budget = memory_budget_bytes(prepared.recipe.memory_budget)
    if feature_bytes(frozen, part) > budget:
        needed = human_bytes(feature_bytes(frozen, part))
        raise BudgetExceeded(
            f"Mode lp-ft fits the last layer on the features in front of it, which take {needed}; "
            f"{human_bytes(budget)} may be used (--memory-budget). Use fewer images (--limit), or "
            "--mode finetune."
        )
    # Test images take no part in it.
    splits = ("train", "val")
    n_extracted = images_to_extract(frozen, part, splits=splits)
    features = feature_inputs(frozen, part, progress, splits=splits)
    extracted = time.perf_counter()
    fit, choice = fit_head_first(frozen, features, progress)
    timing = {"extract_s": extracted - start, "head_s": time.perf_counter() - extracted}
    if n_extracted:
        timing["extract_images_per_s"] = n_extracted / timing["extract_s"]
    make_learner(prepared.trainable, "lp-ft")
    return LinearFirst(timing, _notes(fit, choice))


def frozen_part(prepared: PreparedTraining) -> tuple[PreparedTraining, CachedPart]:
    """Return a training of the network's head alone, and the part in front of it.

    The network itself is frozen up to there: `make_learner` makes it trainable again.

    Raises
    ------
    UsageError
        For a network that cannot be cut in front of its head.
    """
    frozen = replace(
        prepared,
        mode="frozen",
        learner=make_learner(prepared.trainable, "frozen"),
        settings=replace(prepared.settings, augment=()),
    )
    part = part_in_front(frozen)
    if part is None:
        raise UsageError(
            f"Mode lp-ft fits the last layer of a network on its features first, and "
            f"{prepared.trainable.network.short_name} cannot be cut in front of it. Use --mode "
            "finetune."
        )
    return frozen, part


def _notes(fit: Fit, choice: Choice | None) -> list[str]:
    """Return what a record says of the head."""
    chosen = "chosen on validation" if choice else "there is no validation split to choose it on"
    notes = [f"The head was fitted first, as a logistic regression (C = {fit.C:g}, {chosen})."]
    if choice is not None and choice.doubt:
        notes.append(f"Head: {choice.doubt}")
    if not fit.converged:
        notes.append(
            f"Head: Newton's method stopped after {fit.n_iter} steps with a relative duality gap "
            f"of {fit.duality_gap:.1e}."
        )
    return notes


def fit_head_first(
    prepared: PreparedTraining,
    features: Mapping[str, Inputs],
    progress: Progress = SILENT,
) -> tuple[Fit, Choice | None]:
    """Fit the network's last layer as a logistic regression and put it into the network.

    C is chosen on validation where there is a validation split.

    Parameters
    ----------
    features : mapping of str to Inputs
        The features the tail takes.

    Returns
    -------
    fit : Fit
        On standardized features.
    choice : Choice or None
        How C was chosen, if it was.
    """
    layer = _last_layer(prepared)
    X, y = _rows(features["train"])
    mean, scale = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0
    Z = ((X - mean) / scale).astype(np.float32)
    fitting = partial(
        fit_path,
        "logistic",
        Z,
        y,
        device=str(prepared.device),
        memory_bytes=prepared.recipe.memory_budget,
    )
    choice: Choice | None = None
    if "val" not in features:
        (fit,) = fitting((DEFAULT_C["logistic"],))
    else:
        V, v = _rows(features["val"])
        V = ((V - mean) / scale).astype(np.float32)
        fit, choice = _chosen(fitting, V, v, progress)
    coef = fit.coef / scale
    _put(layer, coef, fit.intercept - coef @ mean, fit.classes)
    return fit, choice


def _chosen(
    fitting: Callable[..., list[Fit]], V: np.ndarray, v: np.ndarray, progress: Progress
) -> tuple[Fit, Choice]:
    """Fit at each C of ``auto``; return the one that is right most often on validation (V, v)."""
    fits: dict[float, Fit] = {}
    wanted: tuple[float, ...] = C_GRIDS["logistic"]
    while wanted:
        with progress.task("fit head", len(wanted), "heads") as advance:
            heads = HeadCounter(advance)
            done = fitting(wanted, on_done=heads)
        fits |= {fit.C: fit for fit in done}
        choice = pick_C({C: float(np.mean(_predict(fit, V) == v)) for C, fit in fits.items()})
        following = next_C("logistic", choice)
        wanted = () if following is None else (following,)
    return fits[choice.C], choice


def _rows(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    X = inputs.batch(slice(None)).flatten(1).float().cpu().numpy()
    return X, inputs.targets.cpu().numpy()


def _predict(fit: Fit, X: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = fit.classes[(X @ fit.coef.T + fit.intercept).argmax(axis=1)]
    return chosen


def _last_layer(prepared: PreparedTraining) -> nn.Linear:
    """Return the layer that a logistic regression can stand for."""
    from torch import nn

    trainable = prepared.trainable
    layers = [trainable.model.get_submodule(name) for name in trainable.head]
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear):
        raise UsageError(
            f"Mode lp-ft fits the last layer of a network first, and the new part of "
            f"{trainable.network.short_name} ({', '.join(trainable.head)}) is more than one "
            "linear layer. Use --mode finetune."
        )
    return layers[0]


def _put(layer: nn.Linear, coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray) -> None:
    """Copy a fitted head into a layer; a class without training images keeps a low score."""
    import torch

    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[torch.from_numpy(classes)] = torch.from_numpy(coef).to(layer.weight)
        if layer.bias is not None:
            layer.bias.fill_(float(intercept.min()))
            layer.bias[torch.from_numpy(classes)] = torch.from_numpy(intercept).to(layer.bias)
