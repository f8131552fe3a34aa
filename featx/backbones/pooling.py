"""Turn what a module puts out into one vector per image.

What comes in is one of three kinds:

========== ============== =====================================================
kind       shape          what it is
========== ============== =====================================================
``map``    (N, C, H, W)   channels over a grid of positions
``tokens`` (N, T, D)      T tokens of D values, the class token (if any) first
``vector`` (N, D)         a vector already: every pooling leaves it as it is
========== ============== =====================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.errors import ShapeError, UnknownName, UsageError, quoted

if TYPE_CHECKING:
    import torch

NAMES = ("flatten", "avg", "max", "avgmax", "gem", "grid:N", "cls", "mean")

# Generalized mean of Radenovic, Tolias, Chum (2018), "Fine-tuning CNN image retrieval with no
# human annotation", with the exponent and the floor of the authors' code.
GEM_P = 3.0
GEM_EPS = 1e-6

NO_CLASS_TOKEN = (
    "pooling 'cls' needs a class token, and there is none at this cut. Use 'mean' or 'flatten'."
)


@dataclass(frozen=True)
class Pooling:
    """One way to pool; see `parse_pooling` for the names.

    Attributes
    ----------
    name : str
        ``"avg"``, ``"grid:3"``, ...
    grid : int
        N of ``grid:N``, else 0.
    """

    name: str
    grid: int = 0

    def n_features(self, kind: str, shape: tuple[int, ...]) -> int:
        """Return the number of values per image.

        Parameters
        ----------
        kind : str
            ``"map"``, ``"tokens"`` or ``"vector"``.
        shape : tuple of int
            Without the batch: (C, H, W), (T, D) or (D,).

        Raises
        ------
        ShapeError
            When this pooling cannot take that kind.
        """
        if kind == "vector" or self.name == "flatten":
            return math.prod(shape)
        self._refuse(kind)
        channels = shape[0] if kind == "map" else shape[-1]
        if self.grid:
            return channels * self.grid**2
        return channels * (2 if self.name == "avgmax" else 1)

    def apply(
        self, x: torch.Tensor, kind: str, *, prefix_tokens: int = 0, class_token: bool = False
    ) -> torch.Tensor:
        """Pool a batch.

        Parameters
        ----------
        x : Tensor of shape (N, C, H, W), (N, T, D) or (N, D)
            Any floating type; pooled in float32 whatever autocast says.
        kind : str
            ``"map"``, ``"tokens"`` or ``"vector"``.
        prefix_tokens : int
            Tokens before the patches' own: the class token and registers.
        class_token : bool
            Whether the first token is a class token.

        Returns
        -------
        Tensor of shape (N, n_features), float32
            Shares no memory with `x`.

        Raises
        ------
        ShapeError
            When this pooling cannot take that kind, or there is no class token.
        """
        import torch

        x = x.float()
        if kind == "vector" or self.name == "flatten":
            # The next module may write in place: never hand out a view.
            return x.clone(memory_format=torch.contiguous_format).flatten(1)
        self._refuse(kind)
        if self.name == "cls":
            if not class_token:
                raise ShapeError(NO_CLASS_TOKEN)
            return x[:, 0].clone()
        if self.grid:
            return torch.nn.functional.adaptive_avg_pool2d(x, self.grid).flatten(1).clone()
        # (N, C, positions), whatever the kind.
        flat = x.flatten(2) if kind == "map" else x[:, prefix_tokens:].transpose(1, 2)
        if self.name == "max":
            return flat.amax(2)
        if self.name == "avgmax":
            return torch.cat([flat.mean(2), flat.amax(2)], 1)
        if self.name == "gem":
            return flat.clamp(min=GEM_EPS).pow(GEM_P).mean(2).pow(1.0 / GEM_P)
        return flat.mean(2)

    def _refuse(self, kind: str) -> None:
        """Raise for a pooling that makes no sense for `kind`."""
        if kind == "map" and self.name == "cls":
            raise ShapeError(
                "Pooling 'cls' takes the class token of a transformer; this cut is a map. "
                "Use 'avg', 'max', 'avgmax', 'gem', 'grid:N' or 'flatten'."
            )
        if kind == "tokens" and self.grid:
            raise ShapeError(
                f"Pooling '{self.name}' needs a map of positions; this cut is a row of tokens. "
                "Use 'cls', 'mean', 'max', 'avgmax', 'gem' or 'flatten'."
            )


def parse_pooling(text: str) -> Pooling:
    """Return the pooling called `text`.

    Parameters
    ----------
    text : str
        ``flatten`` (maps in C, H, W order), ``avg``, ``max``, ``avgmax`` (the average, then the
        maximum), ``gem`` (generalized mean, p = 3), ``grid:N`` (average over N x N cells, then
        flattened), ``cls`` (the class token), ``mean`` (the same as ``avg``). Tokens are pooled
        over the patches only: the class token and registers are left out.

    Raises
    ------
    UnknownName
        When there is no such pooling.
    UsageError
        When the N of ``grid:N`` is not a number of at least 1.
    """
    name, colon, number = text.partition(":")
    if name == "grid":
        if not (colon and number.isascii() and number.isdecimal() and int(number) >= 1):
            raise UsageError(
                f"Pooling '{text}' needs a number of cells per side, 1 or more: 'grid:2'."
            )
        return Pooling(f"grid:{int(number)}", grid=int(number))
    if text not in NAMES:
        raise UnknownName("Pooling", text, NAMES, hint=f"All of them: {', '.join(NAMES)}.")
    return Pooling(text)


def poolings_of(cuts: Sequence[str], pool: str | Mapping[str, str]) -> dict[str, Pooling]:
    """Return the pooling of each cut, from one for all or one for each.

    Raises
    ------
    UsageError
        When a mapping leaves a cut out.
    """
    if isinstance(pool, str):
        return dict.fromkeys(cuts, parse_pooling(pool))
    if left_out := [cut for cut in cuts if cut not in pool]:
        raise UsageError(f"No pooling is given for {quoted(left_out)}. Name one for every cut.")
    return {cut: parse_pooling(pool[cut]) for cut in cuts}
