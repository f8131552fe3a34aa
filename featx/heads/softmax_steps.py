"""Newton steps of logistic regression; what they solve is in `featx.heads.softmax`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray
from featx.heads.curvature import Curvature
from featx.heads.designs import Design

# Newton's equations are solved to this part at most of their residual, far from the solution, and
# to this part at least.
_ROUGH, _FINE = 0.3, 0.01
# Rows that make up this part of the curvature are left out of the Hessian, relative to that. With
# more of them steps overshoot where they alone curve: half a step and less is then taken of each.
_DROP = 0.001
# As many steps at one C that were shorter than this part of Newton's, and every row is kept.
_SHORT, _SHORT_STEPS = 0.7, 3
# The slope at the end of a step along the line, relative to that at its beginning.
_LINE_SLOPE = 0.1
_LINE_STEPS = 30
_INTERCEPT_STEPS = 50
# A step that lowers the objective less than this part of it is rounding.
_ROUNDING = 1e-15


@dataclass(frozen=True)
class SoftmaxPoint:
    """The solution at one value of C.

    Attributes
    ----------
    C : float
        Weight of the loss.
    weights : ndarray of shape (n_outputs, n_features), float64
        Per class; of two classes, and per problem of one class against the rest, one row.
    intercepts : ndarray of shape (n_outputs,), float64
        0 without an intercept.
    objective : ndarray of shape (n_problems,), float64
        P; one problem, or one per class against the rest.
    gap : ndarray of shape (n_problems,), float64
        (P - D) / P: the optimum is at most this part of P lower.
    gradient : ndarray of shape (n_problems,), float64
        Largest entry of the gradient of ``P / (C sum(c))``: what scikit-learn's ``tol`` bounds.
    n_iter : ndarray of shape (n_problems,), int64
        Newton steps, since the path began.
    """

    C: float
    weights: FloatArray
    intercepts: FloatArray
    objective: FloatArray
    gap: FloatArray
    gradient: FloatArray
    n_iter: npt.NDArray[np.int64]


class SoftmaxNewton:
    """Problems solved in step with each other, from one C to the next.

    Arrays are (n_problems, n_classes, ...): one problem of many classes, or many of one.
    """

    def __init__(
        self,
        design: Design,
        curvature: Curvature,
        truth: FloatArray,
        weights: FloatArray,
        intercept: bool,
    ) -> None:
        self._design, self._curvature, self._intercept = design, curvature, intercept
        self._truth, self._weights = truth, weights
        self._w = np.zeros((*truth.shape[:2], design.n_columns))
        self._z = np.zeros(truth.shape)
        self._n_iter = np.zeros(len(truth), dtype=np.int64)
        self._drop = _DROP
        # Logarithm of C and weights of the last solutions, two at most.
        self._path: list[tuple[float, FloatArray]] = []

    def begin(self, weights: FloatArray, intercepts: FloatArray) -> None:
        """Start from given weights."""
        columns = [weights, intercepts[:, None]] if self._intercept else [weights]
        self._w = np.concatenate(columns, axis=1).reshape(self._w.shape)
        self._z = self._scores(self._w)

    def extrapolate(self, C: float) -> None:
        """Start from where the last two solutions lead, in problems whose objective is lower there.

        Solutions change smoothly with the logarithm of C.
        """
        if len(self._path) < 2:
            return
        (first, w0), (second, w1) = self._path
        w = w1 + (np.log(C) - second) / (second - first) * (w1 - w0)
        z, every = self._scores(w), np.arange(len(w))
        here = 0.5 * self._squared(w1) + C * self._probabilities(every, self._z)[0]
        there = 0.5 * self._squared(w) + C * self._probabilities(every, z)[0]
        lower = there < here
        self._w[lower], self._z[lower] = w[lower], z[lower]

    def _scores(self, w: FloatArray) -> FloatArray:
        flat = self._design.scores(w.reshape(-1, w.shape[-1]))
        return flat.reshape(*w.shape[:2], -1)

    def solve(self, C: float, tol: float, max_iter: int) -> SoftmaxPoint:
        """Take Newton steps until every problem's gap is at most `tol`."""
        n = len(self._w)
        objective, gap, largest = np.full(n, np.inf), np.ones(n), np.zeros(n)
        costs = C * self._weights
        p = np.empty_like(self._z)
        live, steps, short = np.arange(n), 0, 0
        while len(live):
            loss, p[live] = self._balance(live)
            gradient = self._gradient(live, p[live], C)
            value = 0.5 * self._squared(self._w[live]) + C * loss
            gap[live] = 0.5 * self._squared(gradient) / value
            largest[live] = np.abs(gradient).max(axis=(1, 2)) / costs.sum()
            stuck = value > objective[live] * (1.0 - _ROUNDING)
            objective[live] = value
            going = (gap[live] > tol) & ~stuck
            if steps == max_iter or not going.any():
                break
            live, gradient = live[going], gradient[going]
            accuracy = float(np.clip(gap[live].max() ** 0.25, _FINE, _ROUGH))
            self._curvature.update(p[live], costs, self._drop * accuracy)
            step = self._curvature.solve(gradient, accuracy)
            part = self._move(live, C, step, np.einsum("qkj,qkj->q", gradient, step))
            short += part < _SHORT
            if short == _SHORT_STEPS:
                self._drop = 0.0
            self._n_iter[live] += 1
            steps += 1
        if self._intercept and self._w.shape[1] > 1:
            # Intercepts that all rise alike change nothing: theirs is rounding.
            self._w[:, :, -1] -= self._w[:, :, -1].mean(axis=1, keepdims=True)
        self._path = [*self._path[-1:], (float(np.log(C)), self._w.copy())]
        flat = self._w.reshape(-1, self._w.shape[-1]).copy()
        zeros = np.zeros(len(flat))
        return SoftmaxPoint(
            C,
            flat[:, :-1] if self._intercept else flat,
            flat[:, -1] if self._intercept else zeros,
            objective,
            gap,
            largest,
            self._n_iter.copy(),
        )

    def _squared(self, w: FloatArray) -> FloatArray:
        """Return the squared length of each problem's weights, without the intercepts."""
        w = w[:, :, :-1] if self._intercept else w
        return np.einsum("qkj,qkj->q", w, w)

    def _gradient(self, live: npt.NDArray[np.intp], p: FloatArray, C: float) -> FloatArray:
        residual = C * self._weights * (p - self._truth[live])
        flat = self._design.gradients(residual.reshape(-1, residual.shape[-1]))
        gradient = flat.reshape(*p.shape[:2], -1)
        columns = slice(-1) if self._intercept else slice(None)
        gradient[:, :, columns] += self._w[live][:, :, columns]
        return gradient

    def _probabilities(
        self, live: npt.NDArray[np.intp], z: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the loss of each live problem and the probabilities, at scores `z`."""
        alone = z.shape[1] == 1
        top = z.max(axis=1, keepdims=True)
        if alone:
            # The other class has the score 0.
            top = np.maximum(top, 0.0)
        p = np.exp(z - top)
        total = p.sum(axis=1, keepdims=True)
        if alone:
            total += np.exp(-top)
        p /= total
        loss = np.log(total[:, 0]) + top[:, 0]
        loss -= np.einsum("qki,qki->qi", self._truth[live], z)
        return loss @ self._weights, p

    def _balance(self, live: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Make the intercepts optimal; return losses and probabilities."""
        z = self._z[live]
        loss, p = self._probabilities(live, z)
        if not self._intercept:
            return loss, p
        shift = np.zeros(p.shape[:2])
        enough, nearly = 1e-13 * self._weights.sum(), False
        for _ in range(_INTERCEPT_STEPS):
            slope = (p - self._truth[live]) @ self._weights
            if np.abs(slope).max() <= enough:
                break
            mass = p * self._weights
            hessian = -mass @ p.transpose(0, 2, 1)
            k = np.arange(p.shape[1])
            total = mass.sum(axis=2)
            hessian[:, k, k] += total
            if len(k) > 1:
                # Scores that all rise alike change nothing: any curvature does for them.
                hessian += (total.mean(axis=1) / len(k))[:, None, None]
            hessian[:, k, k] += 1e-12 * total.max(axis=1, keepdims=True) + 1e-300
            change = -np.linalg.solve(hessian, slope[:, :, None])[:, :, 0]
            allowed = loss * (1.0 + 1e-13)
            for _ in range(_LINE_STEPS):
                new_loss, new_p = self._probabilities(live, z + (shift + change)[:, :, None])
                worse = new_loss > allowed
                if not worse.any():
                    break
                change[worse] *= 0.5
            settled = bool((new_loss > loss * (1.0 - 1e-13)).all())
            shift, loss, p = shift + change, new_loss, new_p
            if settled and nearly:
                break
            nearly = settled
        self._w[live, :, -1] += shift
        self._z[live] += shift[:, :, None]
        return loss, p

    def _move(
        self, live: npt.NDArray[np.intp], C: float, step: FloatArray, descent: FloatArray
    ) -> float:
        """Step near to the lowest point along each direction; return the least part that was taken.

        P's derivative along a line grows: Newton's method in one variable, kept inside the bracket
        that the signs of the derivative give.
        """
        z, slope, truth = self._z[live], self._scores(step), self._truth[live]
        w, v = self._w[live], step
        if self._intercept:
            w, v = w[:, :, :-1], v[:, :, :-1]
        first, second = np.einsum("qkj,qkj->q", w, v), np.einsum("qkj,qkj->q", v, v)
        t, low, high = np.ones(len(live)), np.zeros(len(live)), np.full(len(live), np.inf)
        for _ in range(_LINE_STEPS):
            _, p = self._probabilities(live, z + t[:, None, None] * slope)
            bent = p * slope
            mean = bent.sum(axis=1)
            derivative = first + t * second
            derivative += C * np.einsum("qki,qki,i->q", p - truth, slope, self._weights)
            curve = np.einsum("qki,qki,i->q", bent, slope, self._weights)
            curve -= (mean**2) @ self._weights
            done = np.abs(derivative) <= _LINE_SLOPE * np.abs(descent)
            if done.all():
                break
            low, high = np.where(derivative <= 0, t, low), np.where(derivative > 0, t, high)
            better = t - derivative / (second + C * curve)
            middle = np.where(high < np.inf, 0.5 * (low + high), 2.0 * t)
            inside = (better > low) & (better < high) & (better < 10.0 * t)
            t = np.where(done, t, np.where(inside, better, middle))
        self._w[live] += t[:, None, None] * step
        self._z[live] += t[:, None, None] * slope
        return float(t.min())
