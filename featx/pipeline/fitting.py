"""Linear heads on cached features: fitted in parallel, chosen on validation, tested once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.cache import FeatureStore
from featx.errors import BudgetExceeded
from featx.heads import (
    C_GRIDS,
    NAMED_GRIDS,
    HeadCounter,
    LinearHead,
    cross_validate,
    fit_path,
    next_C,
    pick_C,
)
from featx.heads.blocks import row_blocks
from featx.heads.solving import least_bytes
from featx.machine import first_device, n_cpus
from featx.pipeline.feature_rows import FeatureRows
from featx.progress import SILENT, Progress
from featx.recipes import DEFAULT_C, Recipe
from featx.scaling import scalers_for
from featx.text import human_bytes

if TYPE_CHECKING:
    from featx.cache import FeatureKey, FeatureSet
    from featx.heads import Choice, Fit
    from featx.scaling import Scaler

# Bytes a value of the training features takes while scikit-learn fits a head: as cached (4), scaled
# (4), as float64 (8) and, for the SVM, as liblinear's 16-byte nodes.
FIT_BYTES = {"liblinear": 32, "lbfgs": 24}


@dataclass(frozen=True)
class CutFit:
    """The head of one cut, and how it came to be.

    Attributes
    ----------
    head : LinearHead
        With the training set's scaler.
    fit : Fit
        Of the head that is tested.
    choice : Choice or None
        The log, where C was chosen.
    refit_on : str
        ``"train"`` or ``"train+val"``.
    predictions : dict of str to ndarray of shape (n,), int64
        Predicted labels per split: validation (by the head fitted on train alone) and test.
    scores : dict of str to ndarray of shape (n, n_classes), float64
        The heads' outputs per split, a column per class of the head.
    all_fits_s : float
        Seconds of everything that led to the head: reading, every value of C, its score, the refit.
    """

    head: LinearHead
    fit: Fit
    choice: Choice | None
    refit_on: str
    predictions: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]
    all_fits_s: float


@dataclass(frozen=True)
class _Done:
    """The fits of a job with their scores, and the seconds of all of it."""

    fits: list[tuple[Fit, float]]
    seconds: float


@dataclass(frozen=True)
class _Job:
    """The fits of one cut; in a worker process, it reads the features from the cache by itself."""

    store: Path
    keys: Mapping[str, FeatureKey]
    recipe: Recipe
    Cs: tuple[float, ...]
    on_val: bool
    refit: bool
    memory_bytes: int | None = None


def candidates(recipe: Recipe) -> tuple[float, ...]:
    """Return the values of C that a recipe compares."""
    if isinstance(recipe.C, str):
        return C_GRIDS[recipe.head] if recipe.C == "auto" else NAMED_GRIDS[recipe.C]
    if isinstance(recipe.C, tuple):
        return tuple(sorted(set(recipe.C)))
    return (DEFAULT_C[recipe.head] if recipe.C is None else float(recipe.C),)


def fit_cuts(
    features: Mapping[str, Mapping[str, FeatureSet]],
    recipe: Recipe,
    store: FeatureStore,
    class_names: Mapping[int, str],
    *,
    n_jobs: int = 1,
    memory_bytes: int | None = None,
    progress: Progress = SILENT,
) -> dict[str, CutFit]:
    """Fit the head of every cut and predict validation and test.

    Parameters
    ----------
    features : mapping of str to mapping of str to FeatureSet
        By cut, then by split.
    recipe : Recipe
        Head, C, scaling, seeds.
    store : FeatureStore
        Where the worker processes find the features.
    class_names : mapping of int to str
        By label.
    n_jobs : int
        Heads fitted at the same time, from `jobs_that_fit`.
    memory_bytes : int, optional
        What featx' solvers may take.
    """
    values = candidates(recipe)
    chooses = len(values) > 1
    # A worker of an earlier call may stand in another folder.
    root = store.root.resolve()
    # featx' solvers go from one C to the next; scikit-learn's begin anew at each.
    paths = [values] if recipe.solver == "featx" else [(C,) for C in values]
    first = {
        cut: _Job(
            root, {s: fs.key for s, fs in sets.items()}, recipe, (), chooses, False, memory_bytes
        )
        for cut, sets in features.items()
    }
    wanted = [(cut, path) for cut in features for path in paths]
    done: dict[str, list[_Done]] = {cut: [] for cut in features}
    fits: dict[str, dict[float, tuple[Fit, float]]] = {cut: {} for cut in features}
    choices: dict[str, Choice | None] = dict.fromkeys(features)
    while wanted:
        jobs = {(cut, path): replace(first[cut], Cs=path) for cut, path in wanted}
        for (cut, _), each in _run_jobs(jobs, n_jobs, f"fit {recipe.head}", progress).items():
            done[cut].append(each)
            fits[cut] |= {fit.C: (fit, score) for fit, score in each.fits}
        if chooses:
            scores = {cut: {C: score for C, (_, score) in of.items()} for cut, of in fits.items()}
            choices = {cut: pick_C(of_cut) for cut, of_cut in scores.items()}
        wanted = [(cut, (C,)) for cut, choice in choices.items() if (C := _beyond(recipe, choice))]
    found = {}
    refits = {}
    for cut, sets in features.items():
        choice = choices[cut]
        C = choice.C if choice else values[0]
        found[cut] = (fits[cut][C][0], choice)
        if recipe.refit and "val" in sets:
            refits[cut, C] = replace(first[cut], Cs=(C,), on_val=False, refit=True)
    seconds = {cut: sum(each.seconds for each in done[cut]) for cut in features}
    refitted = {}
    for (cut, _), again in _run_jobs(refits, n_jobs, "refit", progress).items():
        refitted[cut] = again.fits[0][0]
        seconds[cut] += again.seconds
    return {
        cut: _finish(
            features[cut], recipe, class_names, fit, choice, refitted.get(cut), seconds[cut]
        )
        for cut, (fit, choice) in found.items()
    }


def _beyond(recipe: Recipe, choice: Choice | None) -> float | None:
    """Return the next C of ``auto`` where the largest one was the best, until it has gone far."""
    return next_C(recipe.head, choice) if recipe.C == "auto" and choice is not None else None


def jobs_that_fit(
    sizes: Mapping[str, tuple[int, int]], recipe: Recipe, budget: int, n_classes: int = 2
) -> int:
    """Return how many heads may be fitted at the same time within a memory budget.

    Parameters
    ----------
    sizes : mapping of str to tuple of int
        By cut: rows that are fitted on, values a row.
    recipe : Recipe
        Head, solver, and how many jobs are wanted.
    budget : int
        Bytes.
    n_classes : int
        Classes; a multinomial regression solves for all of them at once.

    Raises
    ------
    BudgetExceeded
        When one head alone would not fit.
    """

    def needed(size: tuple[int, int]) -> int:
        if recipe.solver == "featx":
            together = n_classes if recipe.head == "logistic" else 1
            return least_bytes(size[0], size[1] + 1, together)
        return FIT_BYTES[recipe.solver] * math.prod(size)

    cut, (rows, n_features) = max(sizes.items(), key=lambda item: needed(item[1]))
    largest = needed((rows, n_features))
    if largest > budget:
        raise BudgetExceeded(
            f"Fitting the head of '{cut}' ({rows:,} rows of {n_features:,} values) would take "
            f"about {human_bytes(largest)}; {human_bytes(budget)} may be used (--memory-budget). "
            "Pool the cut (--pool avg) or take fewer images (--limit)."
        )
    own = recipe.solver == "featx"
    # featx' solvers use all cores by themselves.
    wanted = (1 if own else n_cpus()) if recipe.jobs == "auto" else recipe.jobs
    n_tasks = len(sizes) * (1 if own else len(candidates(recipe)))
    return max(1, min(wanted, n_tasks, budget // largest))


def _run_jobs(
    jobs: Mapping[Any, _Job], n_jobs: int, label: str, progress: Progress
) -> dict[Any, _Done]:
    """Run fits, in worker processes when there is more than one at a time."""
    if not jobs:
        return {}
    n_fits = sum(len(job.Cs) for job in jobs.values())
    with progress.task(label, n_fits, "heads") as advance:
        if n_jobs == 1:
            return {name: _fit_job(job, advance) for name, job in jobs.items()}
        from joblib import Parallel, delayed, parallel_config

        done = {}
        # One BLAS thread a process: the fits share the cores between them.
        inner = max(1, n_cpus() // n_jobs)
        with parallel_config(backend="loky", inner_max_num_threads=inner):
            results = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
                delayed(_named)(name, job) for name, job in jobs.items()
            )
            for name, of_job in results:
                done[name] = of_job
                advance(len(of_job.fits))
    return done


def _named(name: Any, job: _Job) -> tuple[Any, _Done]:
    return name, _fit_job(job, lambda n: None)


def _fit_job(job: _Job, advance: Callable[[int], None]) -> _Done:
    """Fit one head at each C; score it on validation when C is to be chosen."""
    start = time.perf_counter()
    recipe, store = job.recipe, FeatureStore(job.store)
    sets = {split: _open(store, key) for split, key in job.keys.items()}
    scalers = _scalers(sets, recipe, refit=job.refit)
    train = sets["train"]
    parts, y = [(train, scalers["train"])], train.y
    if job.refit:
        parts.append((sets["val"], scalers["val"]))
        y = np.concatenate([y, sets["val"].y])
    X = FeatureRows(parts)
    settings: dict[str, Any] = {
        "max_iter": recipe.max_iter,
        "tol": recipe.tol,
        "seed": recipe.seed,
        "device": first_device(recipe.device),
        "memory_bytes": job.memory_bytes,
    }
    fits = fit_path(
        recipe.head, X, y, job.Cs, solver=recipe.solver, on_done=HeadCounter(advance), **settings
    )
    scores = [float("nan")] * len(fits)
    if job.on_val and recipe.cv:
        found = cross_validate(recipe.head, X, y, job.Cs, folds=recipe.cv, **settings)
        scores = [found[fit.C] for fit in fits]
    elif job.on_val:
        scores = _accuracies(fits, FeatureRows([(sets["val"], scalers["val"])]), sets["val"].y)
    return _Done(list(zip(fits, scores, strict=True)), time.perf_counter() - start)


def _accuracies(fits: Sequence[Fit], X: FeatureRows, y: np.ndarray) -> list[float]:
    """Return the accuracy of each fit, with the features read once."""
    right = np.zeros(len(fits))
    for rows, block in row_blocks(X):
        for i, fit in enumerate(fits):
            found = fit.classes[(block @ fit.coef.T + fit.intercept).argmax(axis=1)]
            right[i] += np.count_nonzero(found == y[rows])
    return [float(value) for value in right / len(y)]


def _open(store: FeatureStore, key: FeatureKey) -> FeatureSet:
    found = store.find(key)
    assert found is not None, "extraction has just completed this set"
    return found


def _scalers(
    sets: Mapping[str, FeatureSet], recipe: Recipe, *, refit: bool
) -> dict[str, Scaler | None]:
    """Return each split's scaler; a refit on train + val takes the statistics of both."""
    moments = {split: fs.moments for split, fs in sets.items()}
    if refit and recipe.standardize == "train":
        moments["train"] = moments["train"].merge(moments["val"])
    return scalers_for(recipe.standardize, moments)


def _scaled(features: FeatureSet, scaler: Scaler | None) -> np.ndarray:
    X = features.read()
    return X if scaler is None else scaler.transform(X)


def _plain_head(fit: Fit) -> LinearHead:
    """Return a head for features that are scaled already."""
    names = tuple(str(label) for label in fit.classes)
    return LinearHead(fit.kind, fit.coef, fit.intercept, fit.classes, names, None, {})


def _finish(
    sets: Mapping[str, FeatureSet],
    recipe: Recipe,
    class_names: Mapping[int, str],
    fit: Fit,
    choice: Choice | None,
    refitted: Fit | None,
    seconds: float,
) -> CutFit:
    """Predict validation with the head fitted on train, and test, once, with the final head."""
    scores = {}
    if "val" in sets:
        scaler = _scalers(sets, recipe, refit=False)["val"]
        scores["val"] = _plain_head(fit).decision_function(_scaled(sets["val"], scaler))
    final = fit if refitted is None else refitted
    scalers = _scalers(sets, recipe, refit=refitted is not None)
    if "test" in sets:
        test = _scaled(sets["test"], scalers["test"])
        scores["test"] = _plain_head(final).decision_function(test)
    head = LinearHead(
        kind=final.kind,
        coef=final.coef,
        intercept=final.intercept,
        classes=final.classes,
        class_names=tuple(class_names[int(label)] for label in final.classes),
        scaler=scalers["train"],
        provenance={},
    )
    return CutFit(
        head=head,
        fit=final,
        choice=choice,
        refit_on="train" if refitted is None else "train+val",
        predictions={split: final.classes[s.argmax(axis=1)] for split, s in scores.items()},
        scores=scores,
        all_fits_s=seconds,
    )
