"""The design matrix on an accelerator: products and factorizations there, the rest as ever.

What goes back and forth are scores, gradients and directions: small beside the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray, Rows
from featx.heads.designs import DOUBLE, SINGLE, Design
from featx.heads.threads import Workers

if TYPE_CHECKING:
    import torch

# Rows that are gathered at a time for a Gram matrix.
_DEVICE_ROWS = 16384


class TorchDesign(Design):
    """Features on a torch device, in float64, and in float32 as well if that may be used.

    Parameters
    ----------
    X : Rows of shape (n_rows, n_features), any float type
        The features; they must fit the device.
    intercept : float or None
        As for `Design`.
    workers : Workers
        Not used for work on the device, where one stream does everything.
    device : torch.device
        Where to compute.
    single : bool
        Whether factorizations may be in float32.
    """

    def __init__(
        self,
        X: Rows,
        intercept: float | None,
        workers: Workers,
        *,
        device: torch.device,
        single: bool = False,
    ) -> None:
        import torch

        super().__init__(X, intercept, workers, resident=False, single=single)
        self._torch, self._device = torch, device
        # On a device memory is dear and its bandwidth cheap: both precisions, with the intercept.
        self._on_device: dict[Any, torch.Tensor] = {
            DOUBLE: torch.empty(self.n_rows, self.n_columns, dtype=torch.float64, device=device)
        }
        held = self._on_device[DOUBLE]
        for rows, block in self.blocks():
            held[rows] = torch.from_numpy(block).to(device)
        if single:
            self._on_device[SINGLE] = held.float()

        # Loaded lazily by torch, and not by several threads at once.
        eye = torch.eye(2, device=device)
        torch.cholesky_solve(eye, torch.linalg.cholesky_ex(eye)[0])

    @property
    def quick(self) -> bool:
        """Whether products read the rows at the speed of memory: yes, the device's."""
        return True

    def _rows_on_device(self, dtype: Any) -> torch.Tensor:
        return self._on_device.get(dtype, self._on_device[DOUBLE])

    def _put(self, array: npt.NDArray[Any], dtype: Any = None) -> torch.Tensor:
        wanted = array.dtype if dtype is None else dtype
        return self._torch.from_numpy(np.ascontiguousarray(array, dtype=wanted)).to(self._device)

    def _double(self, tensor: torch.Tensor) -> FloatArray:
        return np.asarray(tensor.double().cpu().numpy())

    def rows(self, index: npt.NDArray[np.intp]) -> FloatArray:
        """Return chosen rows, in memory."""
        return self._double(self._on_device[DOUBLE][self._put(index)])

    def scores(self, W: FloatArray, dtype: Any = DOUBLE) -> FloatArray:
        """Return ``W @ X.T``."""
        held = self._rows_on_device(dtype)
        return self._double(self._put(W).to(held.dtype) @ held.T)

    def gradients(self, R: FloatArray, dtype: Any = DOUBLE) -> FloatArray:
        """Return ``R @ X``."""
        held = self._rows_on_device(dtype)
        return self._double(self._put(R).to(held.dtype) @ held)

    def curvatures(self, V: FloatArray, masks: npt.NDArray[Any]) -> FloatArray:
        """Return ``(masks * (V @ X.T)) @ X``."""
        held = self._rows_on_device(masks.dtype)
        scores = self._put(V, masks.dtype).to(held.dtype) @ held.T
        return self._double((scores * self._put(masks).to(held.dtype)) @ held)

    def zero_gram(self, dtype: Any) -> Any:
        """Return a matrix for `add_grams`, with the method ``copy`` of an array."""
        kind = self._torch.float32 if dtype == SINGLE else self._torch.float64
        zero = self._torch.zeros(self.n_columns, self.n_columns, dtype=kind, device=self._device)
        return _DeviceMatrix(zero, np.dtype(dtype))

    def add_grams(self, grams: Sequence[Any], changes: Sequence[npt.NDArray[Any]]) -> None:
        """Add ``sum_i change[i] x_i x_i'`` to each matrix, in place."""
        for gram, change in zip(grams, changes, strict=True):
            dtype = SINGLE if gram.tensor.dtype == self._torch.float32 else DOUBLE
            for sign in (1.0, -1.0):
                index = np.flatnonzero(sign * change > 0)
                for start in range(0, len(index), _DEVICE_ROWS):
                    chosen = index[start : start + _DEVICE_ROWS]
                    rows = self._rows_on_device(dtype)[self._put(chosen)].to(gram.tensor.dtype)
                    scale = self._put(np.sqrt(np.abs(change[chosen])), dtype)
                    rows = rows * scale[:, None]
                    gram.tensor.addmm_(rows.T, rows, alpha=sign)

    def kernel(self, index: npt.NDArray[np.intp], dtype: Any) -> Any:
        """Return the products between chosen rows."""
        rows = self._rows_on_device(dtype)[self._put(index)]
        return _DeviceMatrix(rows @ rows.T, dtype)

    def keep_kernel(self, dtype: Any) -> bool:
        """Keep no kernel: products between rows cost little here."""
        return False

    def whole_kernel(self, dtype: Any) -> Any:
        """Return the products between all rows, in memory."""
        held = self._on_device[DOUBLE]
        return np.asarray((held @ held.T).cpu().numpy(), dtype=dtype)

    def factor(self, matrix: Any, diagonal: FloatArray | float) -> Any:
        """Return the Cholesky factor of `matrix` plus `diagonal`, if there is one."""
        tensor = matrix.tensor
        values = np.full(len(tensor), diagonal, dtype=np.float64)
        tensor.diagonal().add_(self._put(values).to(tensor.dtype))
        factor, info = self._torch.linalg.cholesky_ex(tensor)
        return None if int(info) else _DeviceMatrix(factor, matrix.dtype)

    def solve(self, factor: Any, right: FloatArray) -> Any:
        """Return the solution of the factorized system."""
        tensor = self._put(right).to(factor.tensor.dtype)[:, None]
        return self._double(self._torch.cholesky_solve(tensor, factor.tensor)[:, 0])


class _DeviceMatrix:
    """A matrix on the device, with what the solvers use of an array."""

    def __init__(self, tensor: torch.Tensor, dtype: Any) -> None:
        self.tensor, self.dtype = tensor, dtype

    def copy(self) -> _DeviceMatrix:
        """Return a copy of the matrix."""
        return _DeviceMatrix(self.tensor.clone(), self.dtype)
