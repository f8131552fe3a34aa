"""The k nearest training samples vote: products of blocks, and the best of each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from featx.errors import UsageError
from featx.heads.blocks import FloatArray, Rows
from featx.heads.inputs import checked_input, positive
from featx.heads.simple import Metric, checked_metric, fitted_rows, unit_rows
from featx.machine import pick_device

if TYPE_CHECKING:
    import torch

Voting = Literal["uniform", "distance", "softmax"]
VOTINGS = ("uniform", "distance", "softmax")

# A sort key is a closeness in [-1, 1] in steps of 2^-40, and below it the place in the block,
# so that no two keys of a row are equal. 42 and 20 bits fit an int64.
_STEPS = 2**40
_PLACES = 2**20


class KNearest(ClassifierMixin, BaseEstimator):
    r"""The k nearest training samples vote.

    Closeness comes from products of blocks of rows in float64, so that memory does not grow with
    the square of the samples. It is compared in steps of 2^-40 of its range: what differs by
    rounding alone is equal, and of equally near samples the first ones are taken.

    Parameters
    ----------
    n_neighbors : int
        Samples that vote, at most as many as were fitted. 20 is the best value of DINO's
        evaluation.
    metric : {"cosine", "euclidean"}
        What near means; a cosine's distance is 1 less the cosine.
    weights : {"uniform", "distance", "softmax"}
        Weight of a vote: 1; 1 / distance, where samples at distance 0 outvote all others, as in
        scikit-learn; or, with cosine, :math:`\exp(\cos / \tau)` (Wu et al., "Unsupervised feature
        learning via non-parametric instance discrimination", CVPR 2018, section 3.4; Caron et
        al., "Emerging properties in self-supervised vision transformers", ICCV 2021).
    temperature : float
        :math:`\tau` of the softmax, positive; 0.07 in both sources. Not used otherwise.
    device : str
        ``"auto"`` (a GPU that torch can use, otherwise the processor), ``"cpu"``, ``"cuda"``,
        ``"cuda:N"``.
    block_rows : int
        Rows of both sides of a product, from 1 to 1,048,576: a block takes about
        ``24 * block_rows**2`` bytes.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, ascending.
    n_samples_fit_ : int
        Training samples.

    Notes
    -----
    The training features are kept as they were given (an array is not copied, an h5py dataset is
    read again for every `block_rows` samples to predict).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from featx.heads import KNearest
    >>> X, y = load_digits(return_X_y=True)
    >>> round(KNearest(n_neighbors=5).fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]), 2)
    0.96
    """

    def __init__(
        self,
        n_neighbors: int = 20,
        *,
        metric: Metric = "cosine",
        weights: Voting = "uniform",
        temperature: float = 0.07,
        device: str = "auto",
        block_rows: int = 2048,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.weights = weights
        self.temperature = temperature
        self.device = device
        self.block_rows = block_rows

    def fit(self, X: Any, y: Any) -> KNearest:
        """Keep the training samples.

        Parameters
        ----------
        X : array-like, torch tensor or h5py dataset of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Labels of any type.

        Returns
        -------
        KNearest
            This object.

        Raises
        ------
        UsageError
            If there are fewer samples than neighbours, or a setting is not valid.
        """
        data = checked_input(self, X, y, None)
        self._check_settings(len(data.labels))
        self.classes_, self.n_features_in_ = data.classes, int(data.X.shape[1])
        self.n_samples_fit_ = len(data.labels)
        self._X, self._labels = data.X, data.labels
        # The longest row bounds every distance.
        self._longest = 0.0
        for _, block in _blocks(data.X, self.block_rows):
            self._longest = max(self._longest, float(np.linalg.norm(block, axis=1).max()))
        return self

    def kneighbors(self, X: Any) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Find the nearest training samples.

        Parameters
        ----------
        X : array-like, torch tensor or h5py dataset of shape (n_queries, n_features)
            Features.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), float64
            Ascending.
        index : ndarray of shape (n_queries, n_neighbors), int64
            Rows of the training samples, ascending where distances are equal.

        Raises
        ------
        NotFittedError, UsageError, ValueError
            Before `fit`, for settings that are not valid, or features that cannot be used.
        """
        X = fitted_rows(self, X)
        self._check_settings(self.n_samples_fit_)
        near = np.empty((int(X.shape[0]), self.n_neighbors))
        index = np.empty(near.shape, dtype=np.int64)
        kind = None if self.device == "cpu" else pick_device(self.device)
        # Other accelerators have no float64.
        on_device = kind if kind is not None and kind.type == "cuda" else None
        for rows, queries in _blocks(X, self.block_rows):
            near[rows], index[rows] = self._search(queries, on_device)
        return near, index

    def predict_proba(self, X: Any) -> FloatArray:
        """Return each class's share of the votes, shape (n_samples, n_classes)."""
        distances, index = self.kneighbors(X)
        votes = np.zeros((len(index), len(self.classes_)))
        weights = self._vote_weights(distances)
        np.add.at(votes, (np.arange(len(index))[:, None], self._labels[index]), weights)
        return votes / votes.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class with most votes for each sample, the first one of equal ones."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _check_settings(self, n_samples: int) -> None:
        checked_metric(self.metric)
        if self.weights not in VOTINGS:
            raise UsageError(
                f"weights is {self.weights!r}: valid are 'uniform', 'distance' and 'softmax'."
            )
        if self.weights == "softmax" and self.metric != "cosine":
            raise UsageError("weights 'softmax' are of cosines: set metric to 'cosine'.")
        positive("temperature", self.temperature)
        _whole("block_rows", self.block_rows, _PLACES, "")
        _whole("n_neighbors", self.n_neighbors, n_samples, ", the training samples")

    def _vote_weights(self, distances: FloatArray) -> FloatArray:
        if self.weights == "uniform":
            return np.ones(distances.shape)
        if self.weights == "softmax":
            # Relative to the nearest: shares stay the same, and nothing overflows.
            return np.asarray(np.exp((distances[:, :1] - distances) / self.temperature))
        same = distances == 0
        inverse = 1.0 / np.where(same, 1.0, distances)
        return np.where(same[:, :1], same, inverse)

    def _search(
        self, queries: FloatArray, device: torch.device | None
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Return distances and rows of the nearest samples of a block of queries."""
        cosine, k = self.metric == "cosine", self.n_neighbors
        if cosine:
            queries = unit_rows(queries)
        squares = np.einsum("ij,ij->i", queries, queries)
        # No squared distance is larger; of a query alone, so that no other one changes a result.
        span = (np.sqrt(squares) + self._longest) ** 2
        span = np.ones(len(queries)) if cosine else np.where(span > 0, span, 1.0)
        # Best so far: closeness in steps, as it is, row.
        steps = np.empty((len(queries), 0), dtype=np.int64)
        near = np.empty((len(queries), 0))
        index = np.empty((len(queries), 0), dtype=np.int64)
        put = _putter(device)
        on_device = [put(array) for array in (queries, squares[:, None], span[:, None])]
        for rows, block in _blocks(self._X, self.block_rows):
            samples = unit_rows(block) if cosine else block
            found = on_device[0] @ put(samples).T
            if not cosine:
                lengths = put(np.einsum("ij,ij->i", samples, samples))
                found *= 2.0
                found -= lengths
                found -= on_device[1]
                found /= on_device[2]
            keys, values = _best(found, min(k, len(block)))
            places = _PLACES - 1 - keys % _PLACES
            steps = np.hstack([steps, keys // _PLACES])
            near = np.hstack([near, values])
            index = np.hstack([index, rows.start + places])
            # Earlier rows stand first, and a stable sort leaves them there.
            order = np.argsort(-steps, axis=1, kind="stable")[:, :k]
            steps = np.take_along_axis(steps, order, axis=1)
            near = np.take_along_axis(near, order, axis=1)
            index = np.take_along_axis(index, order, axis=1)
        top = _STEPS if cosine else 0
        distances = np.maximum(1.0 - near, 0.0) if cosine else np.sqrt(np.maximum(-near, 0.0))
        distances *= 1.0 if cosine else np.sqrt(span)[:, None]
        # Nearer than the steps resolve is the same place: rounding leaves more than 0 there.
        distances[steps >= top] = 0.0
        return np.maximum.accumulate(distances, axis=1), index


def _blocks(X: Rows, n: int) -> Iterator[tuple[slice, FloatArray]]:
    """Yield (rows, those rows of `X` as float64), `n` at a time."""
    for start in range(0, int(X.shape[0]), n):
        rows = slice(start, min(start + n, int(X.shape[0])))
        yield rows, np.asarray(X[rows], dtype=np.float64)


def _putter(device: torch.device | None) -> Any:
    """Return what brings an array to the device; without one it stays where it is."""
    if device is None:
        return lambda array: array
    import torch

    return lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _best(found: Any, k: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the sort keys of the `k` largest values of each row, descending, and the values."""
    if isinstance(found, np.ndarray):
        steps = found * _STEPS
        keys = np.rint(steps, out=steps).astype(np.int64)
        keys *= _PLACES
        keys += _PLACES - 1 - np.arange(found.shape[1])
        keys.partition(found.shape[1] - k, axis=1)
        keys = -np.sort(-keys[:, found.shape[1] - k :], axis=1)
        return keys, np.take_along_axis(found, _PLACES - 1 - keys % _PLACES, axis=1)
    import torch

    every = (found * _STEPS).round().long() * _PLACES
    every += _PLACES - 1 - torch.arange(found.shape[1], device=found.device)
    top = every.topk(k, dim=1).values
    values = found.gather(1, _PLACES - 1 - top % _PLACES)
    return top.cpu().numpy(), values.cpu().numpy()


def _whole(name: str, value: Any, most: int, of: str) -> None:
    """Refuse a setting that is not a whole number from 1 to `most`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 1 <= value <= most:
        raise UsageError(f"{name} is {value!r}: valid are whole numbers from 1 to {most:,}{of}.")
