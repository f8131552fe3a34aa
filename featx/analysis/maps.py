"""Features in two dimensions: by principal components, or by t-SNE or UMAP where asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featx.analysis.similarity import centred_blocks, gram
from featx.errors import UnknownName, UsageError

FloatArray = npt.NDArray[np.float64]
Method = Literal["pca", "umap", "tsne"]

METHODS: tuple[Method, ...] = ("pca", "umap", "tsne")

FEWEST_POINTS = 3
"""Fewer points are no map."""

# scikit-learn's advice for t-SNE, and its default perplexity.
_FIRST_REDUCED_TO = 50
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class Map:
    """Where examples lie in two dimensions.

    Attributes
    ----------
    points : ndarray of shape (n, 2), float64
    explained : float or None
        Share of the variance that two principal components hold; None for other methods.
    """

    points: FloatArray
    explained: float | None


def feature_map(X: npt.NDArray[np.floating[Any]], method: Method = "pca", *, seed: int = 0) -> Map:
    """Return features in two dimensions.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), any float type
        Features, 3 rows or more.
    method : {"pca", "umap", "tsne"}
        t-SNE and UMAP start from the first 50 principal components. UMAP needs ``umap-learn``.
    seed : int
        Of t-SNE and UMAP.

    Raises
    ------
    UnknownName
        If there is no such method.
    UsageError
        If there are fewer than 3 rows, or umap-learn is not installed.
    """
    if method not in METHODS:
        raise UnknownName("Map", method, METHODS)
    if len(X) < FEWEST_POINTS:
        raise UsageError(f"A map of {len(X)} images shows nothing: give {FEWEST_POINTS} or more.")
    if method == "pca":
        points, explained = principal_components(X, 2)
        return Map(points, explained)
    reduced, _ = principal_components(X, _FIRST_REDUCED_TO)
    points = _tsne(reduced, seed) if method == "tsne" else _umap(reduced, seed)
    return Map(points.astype(np.float64), None)


def principal_components(
    X: npt.NDArray[np.floating[Any]], n_components: int
) -> tuple[FloatArray, float]:
    """Return the scores of the first principal components, and the share of variance they hold.

    The eigenvectors come from the covariance or from the Gram matrix of the centred rows,
    whichever is smaller. Of every component the score that is largest in size is positive, so that
    the same features always give the same map.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), any float type
        Features, 2 rows or more.
    n_components : int
        Components; those that the features do not have are 0.

    Returns
    -------
    scores : ndarray of shape (n, n_components), float64
    explained : float
        From 0 to 1; 0 where all rows are equal.
    """
    from scipy.linalg import eigh
    from threadpoolctl import threadpool_limits

    n, width = X.shape
    size = min(n, width)
    k = min(n_components, size)
    last = (size - k, size - 1)
    if width < n:
        centred = np.empty((n, width))
        for columns, block in centred_blocks(X):
            centred[:, columns] = block
        products = centred.T @ centred
    else:
        products = gram(X)
    # So small a matrix gains nothing from more threads, and loses much where cores are busy.
    with threadpool_limits(1):
        values, vectors = eigh(products, subset_by_index=last)
    found = centred @ vectors if width < n else vectors * np.sqrt(np.maximum(values, 0.0))
    scores = np.zeros((n, n_components))
    scores[:, :k] = found[:, ::-1]
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(n_components)]
    scores *= np.where(largest < 0, -1.0, 1.0)
    total = float(np.trace(products))
    explained = float(np.maximum(values, 0.0).sum()) / total if total > 0 else 0.0
    return scores, min(1.0, explained)


def _tsne(X: FloatArray, seed: int) -> FloatArray:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(X) - 1) / 3)
    model = TSNE(2, init="pca", perplexity=perplexity, random_state=seed)
    points: FloatArray = model.fit_transform(X)
    return points


def _umap(X: FloatArray, seed: int) -> FloatArray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise UsageError(
            "A UMAP needs the package umap-learn, which is not installed: pip install umap-learn. "
            "Or take method 'pca' or 'tsne'."
        ) from error
    points: FloatArray = UMAP(random_state=seed, n_jobs=1).fit_transform(X)
    return points
