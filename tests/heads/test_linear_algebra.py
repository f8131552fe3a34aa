"""Calls of BLAS and LAPACK against NumPy, threads that are given back, designs of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from featx.heads.conjugate import conjugate_gradients
from featx.heads.designs import Design
from featx.heads.lapack import add_outer, cholesky, inner_products, mirror, solve
from featx.heads.threads import Workers


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_symmetric_products_fill_one_triangle(dtype) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30, 20)).astype(dtype)
    gram = np.zeros((20, 20), dtype)
    add_outer(gram, rows)
    add_outer(gram, rows[:10], -1.0)
    want = rows[10:].astype(float).T @ rows[10:]
    np.testing.assert_allclose(np.triu(gram), np.triu(want), atol=1e-4)
    assert not np.tril(gram, -1).any()
    kernel = inner_products(rows)
    mirror(kernel, block=7)
    np.testing.assert_allclose(kernel, rows.astype(float) @ rows.T, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_systems_are_solved_from_one_triangle(dtype) -> None:
    rng = np.random.default_rng(1)
    A = rng.standard_normal((40, 25))
    matrix = A.T @ A + np.eye(25)
    right = rng.standard_normal(25)
    # The other triangle holds what must not be read.
    factor = (np.triu(matrix) + np.tril(np.full((25, 25), 99.0), -1)).astype(dtype)
    assert cholesky(factor)
    np.testing.assert_allclose(solve(factor, right), np.linalg.solve(matrix, right), atol=1e-5)


def test_a_matrix_that_is_not_definite_is_said() -> None:
    assert not cholesky(-np.eye(4))


def test_threads_are_one_inside_and_what_they_were_outside() -> None:
    with threadpool_limits(2):
        before = blas_threads()
        with Workers() as workers:
            assert set(blas_threads()) == {1}
            with workers.together():
                assert set(blas_threads()) == {workers.n}
            assert workers.map(lambda v: v + 1, [1, 2, 3]) == [2, 3, 4]
        assert blas_threads() == before
        with pytest.raises(KeyboardInterrupt), Workers():
            raise KeyboardInterrupt
        assert blas_threads() == before


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("shape", [(5000, 6), (9, 30)])
def test_products_of_a_design_are_those_of_its_matrix(shape, resident, single) -> None:
    rng = np.random.default_rng(2)
    X = rng.standard_normal(shape).astype(np.float32)
    whole = np.column_stack([X.astype(float), np.full(len(X), 2.0)])
    with Workers() as workers:
        design = Design(X, 2.0, workers, resident=resident, single=single, kernel_bytes=2**20)
        W, R = rng.standard_normal((3, whole.shape[1])), rng.standard_normal((3, len(X)))
        np.testing.assert_allclose(design.scores(W), W @ whole.T, atol=1e-9)
        np.testing.assert_allclose(design.gradients(R), R @ whole, atol=1e-9)
        index = np.arange(1, len(X), 3)
        np.testing.assert_array_equal(design.rows(index), whole[index])
        np.testing.assert_allclose(design.column_squares, (whole**2).mean(axis=0))
        assert design.mean_square == pytest.approx((whole**2).sum(axis=1).mean())
        for dtype, atol in ((np.float64, 1e-9), (np.float32, 1e-2)):
            change = np.where(np.arange(len(X)) % 3 == 1, rng.standard_normal(len(X)), 0.0)
            gram = design.zero_gram(np.dtype(dtype))
            design.add_grams([gram], [change])
            want = (whole * change[:, None]).T @ whole
            np.testing.assert_allclose(np.triu(gram), np.triu(want), atol=atol)
            want = np.triu(whole[index] @ whole[index].T)
            few = design.kernel(index, np.dtype(dtype))
            np.testing.assert_allclose(np.triu(few), want, atol=atol)


def test_the_kernel_of_all_rows_is_kept_where_it_may_take_the_memory() -> None:
    X = np.random.default_rng(3).standard_normal((200, 50))
    with Workers() as workers:
        design = Design(X, 2.0, workers, kernel_bytes=8 * 200**2)
        assert design.keep_kernel(np.dtype(np.float64))
        index = np.flatnonzero(np.arange(200) % 3)
        kept = design.kernel(index, np.dtype(np.float64))
        np.testing.assert_allclose(np.triu(kept), np.triu(X[index] @ X[index].T + 4.0))
        poor = Design(X, 2.0, workers, kernel_bytes=8 * 200**2 - 1)
        assert not poor.keep_kernel(np.dtype(np.float64))
        assert not poor.has_kernel(np.dtype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_in_memory_are_not_copied(dtype) -> None:
    X = np.ones((30, 4), dtype)
    with Workers() as workers:
        assert Design(X, 1.0, workers)._held is X
        # Converted where they are of another kind, without loss.
        halves = Design(X.astype(np.float16), 1.0, workers)._held
        counts = Design(np.full((30, 4), 2**30 + 1), 1.0, workers)._held
    assert halves.dtype == np.float32
    assert counts.dtype == np.float64
    assert (counts == 2**30 + 1).all()


@pytest.mark.parametrize("single", [True, False])
def test_curvatures_are_two_products(single) -> None:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((500, 7)).astype(np.float32)
    whole = np.column_stack([X, np.full(len(X), 2.0)]).astype(np.float64)
    V, masks = rng.standard_normal((3, 8)), rng.random((3, 500))
    with Workers() as workers:
        design = Design(X, 2.0, workers, block_values=700)
        found = design.curvatures(V, masks.astype(np.float32 if single else np.float64))
    want = (masks * (V @ whole.T)) @ whole
    np.testing.assert_allclose(found, want, rtol=1e-4 if single else 1e-12)


def test_conjugate_gradients_stop_each_system_where_it_may() -> None:
    rng = np.random.default_rng(5)
    matrices = [A @ A.T + np.eye(12) for A in rng.standard_normal((3, 12, 12))]
    right = rng.standard_normal((3, 12))

    def product(way, systems):
        return np.array([matrices[k] @ v for k, v in zip(systems, way, strict=True)])

    found, used = conjugate_gradients(
        product, lambda r, systems: r, right, np.array([1e-10, 0.5, 0.0]), np.array([99, 99, 0])
    )
    np.testing.assert_allclose(found[0], np.linalg.solve(matrices[0], right[0]), rtol=1e-6)
    assert 0 < np.linalg.norm(right[1] - matrices[1] @ found[1]) <= 0.5 * np.linalg.norm(right[1])
    assert used[1] < used[0] <= 14
    # No product at all: what the preconditioner says.
    np.testing.assert_array_equal(found[2], right[2])
    assert used[2] == 0
