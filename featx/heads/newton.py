"""Squared-hinge SVMs along a path of C: from small values, where one step does, to the wanted ones.

The steps themselves are those of `featx.heads.newton_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from featx.heads.designs import Design
from featx.heads.newton_steps import Group, PathPoint, Problems
from featx.heads.shared_gram import SharedGram

__all__ = ["PathPoint", "Problems", "solve_path"]

# The path in C: where it begins (in units of 1 / mean squared length of the rows; the first step is
# one factorization for all classes), how far a step goes, and the relative gap at which a stage has
# done its work. Measured on ResNet-18 and ResNet-50 features (10,000 x 512, 5,000 x 2,048) and on
# nearly separable noise, of begins 0.5 to 50, factors 5 to 100 and gaps 0.3 to 0.7 these took about
# the least time on each; without stages some problems took hundreds of steps.
_FIRST_C = 10.0
_C_FACTOR = 10.0
_LOOSE_GAP = 0.4
# Some twenty numbers for each row and column of a problem: weights, scores, signs, hinges, beta,
# directions, residuals, probabilities.
STATE_BYTES = 160


def solve_path(
    design: Design,
    problems: Problems,
    Cs: Sequence[float],
    *,
    tol: float = 1e-6,
    max_iter: int = 1000,
    starts: Sequence[npt.NDArray[np.bool_]] | None = None,
    shared: SharedGram | None = None,
    gram_bytes: int = 2**31,
    on_done: Callable[[float, float], None] = lambda C, share: None,
) -> list[PathPoint]:
    """Solve every problem at every C, from the smallest up.

    Parameters
    ----------
    design : Design
        The rows.
    problems : Problems
        The classes.
    Cs : sequence of float
        Weights of the loss, ascending.
    tol : float
        Relative duality gap to reach.
    max_iter : int
        Newton steps for each problem and C at most.
    starts : sequence of ndarray of shape (n_problems, n_rows), bool, or None
        Rows that are nearly those inside the margin at each C; None to come from a small C step by
        step.
    shared : SharedGram or None
        Of earlier problems over the same rows; None to compute one, with the problems' weights.
    gram_bytes : int
        Matrices of problems that are solved at the same time may take this much.
    on_done : callable
        Called with C and the share of the problems that have just been solved at it.

    Returns
    -------
    list of PathPoint
        One for each C.
    """
    n = len(problems.positives)
    # A class holds its Gram matrix, and while a step is computed its factor and a copy; and what a
    # step needs of rows and columns.
    smaller = min(design.n_rows, design.n_columns)
    needed = 24 * smaller**2 + STATE_BYTES * (design.n_rows + design.n_columns)
    together = max(1, int(gram_bytes // needed))
    groups = [range(start, min(start + together, n)) for start in range(0, n, together)]
    stages = [(C, True) for C in Cs] if starts else _stages(design, Cs)
    if shared is None:
        shared = SharedGram(design, problems.row_weights)
    found: list[list[PathPoint]] = []
    for group in groups:
        state = Group(design, problems, group, shared)
        points = []
        for stage, (C, wanted) in enumerate(stages):
            if starts:
                state.begin(starts[stage][list(group)], C, tol)
            loose = tol if wanted else max(tol, _LOOSE_GAP)
            point = state.solve(C, loose, max_iter, rough=not wanted)
            if wanted:
                points.append(point)
                on_done(C, len(group) / n)
        found.append(points)
    return [_joined(parts) for parts in zip(*found, strict=True)]


def _joined(parts: Sequence[PathPoint]) -> PathPoint:
    """Return the points of several groups at the same C as one."""
    return PathPoint(
        parts[0].C,
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.gap for part in parts]),
        np.concatenate([part.n_iter for part in parts]),
        np.concatenate([part.active for part in parts]),
    )


def _stages(design: Design, Cs: Sequence[float]) -> list[tuple[float, bool]]:
    """Return every C to pass through and whether its solution is wanted.

    The first is so small that most rows lie inside the margin.
    """
    C = min(Cs[0], _FIRST_C / max(design.mean_square, np.finfo(np.float64).tiny))
    stages = []
    for wanted in Cs:
        while wanted > C:
            stages.append((C, False))
            C *= _C_FACTOR
        stages.append((wanted, True))
        C = wanted * _C_FACTOR
    return stages
