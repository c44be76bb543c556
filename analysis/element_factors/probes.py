"""Shares of single columns in factors, by probe: from numbers and labels of the same images.

A column is cut into bins of equal counts, and a factor is predicted by its mean in the bin, over
the images of the other folds: any curve counts, not only a straight line. What R^2 lacks because
means are of few images is what R^2 of permuted labels lacks, so that without bias

    S = 1 - (1 - R^2) / (1 - R_0^2),    R_0^2 the mean of permuted labels, a little below 0.

Of a straight line it is about .96: a normal number in ten bins loses the rest.

Permuted labels are the null, too. Bins of all columns hold equally many images, so that it is one
distribution for all columns, and their draws are put together: p can be as small as many tests ask.
Intervals are of the images: predictions are resampled, means are not taken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gdm_repr.analysis.element_factors.shares import Shares
from gdm_repr.analysis.factors.labels import Factor, of_same_images
from gdm_repr.analysis.factors.probes import fold_of
from gdm_repr.analysis.intervals.bootstrap import image_counts
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.boundary.isolation import isolated

BINS, _FEWEST = 10, 30  # bins at most, and images a bin at least
FOLDS = 5


@isolated
def probe_shares(
    table: NDArray[Any],
    names: Sequence[str],
    factors: Sequence[Factor],
    *,
    permutations: int,
    resamples: int,
    seed: int,
) -> Shares:
    """Measure how much of each factor each column predicts by itself.

    Args:
        table: n images, E columns, (n, E).
        names: of the columns.
        factors: of these images.
        permutations: draws of the null, each of all columns.
        resamples: draws of images that intervals are from; the same for every table.
        seed: of the draws.
    """
    n, E = table.shape
    F = len(factors)
    value, p = np.empty((E, F)), np.empty((E, F))
    draws = np.empty((resamples, E, F))
    fold = fold_of(n, FOLDS, seed)
    for group in of_same_images(factors):
        own = [factors[f] for f in group]
        rows = own[0].rows
        curves = _Curves(table[rows], fold[rows], own, seed)
        orders = [
            np.random.default_rng([seed, 1, draw]).permutation(len(rows))
            for draw in range(permutations)
        ]
        null = np.concatenate([curves.score(curves.y[order]) for order in orders])
        chance = 1 - null.mean(0)
        null = 1 - (1 - null) / chance
        value[:, group] = 1 - (1 - curves.score(curves.y)) / chance
        guess = curves.guess(curves.y)
        for place, f in enumerate(group):
            below = np.searchsorted(np.sort(null[:, place]), value[:, f], side="left")
            p[:, f] = (1 + len(null) - below) / (1 + len(null))
        for draw, weight in enumerate(image_counts(n, range(resamples), seed, 2)[:, rows]):
            resampled = curves.score(curves.y, guess, weight)
            draws[draw][:, group] = 1 - (1 - resampled) / chance
    most = max((len(factor.rows) for factor in factors), default=0)
    return Shares(
        tuple(names),
        tuple(f.name for f in factors),
        value,
        draws,
        p,
        most,
        permutations=permutations * E,
    )


class _Curves:
    """Means of targets in bins of each column, and what they predict of the other folds."""

    def __init__(
        self, table: NDArray[Any], fold: NDArray[np.int64], factors: Sequence[Factor], seed: int
    ) -> None:
        n, E = table.shape
        B = max(2, min(BINS, n // _FEWEST))
        self.y = np.concatenate([f.targets - f.targets.mean(0) for f in factors], axis=1)
        widths = [f.targets.shape[1] for f in factors]
        self._starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
        self._shape = (E, FOLDS, B)
        # Equal numbers are ranked at random: the order of images may follow their labels.
        mixed = np.random.default_rng([seed, 3]).permutation(n)
        rank = np.empty((n, E), np.int64)
        order = mixed[np.argsort(table[mixed], axis=0, kind="stable")]
        np.put_along_axis(rank, order, np.arange(n)[:, None], axis=0)
        place = (np.arange(E) * FOLDS + fold[:, None]) * B + rank * B // n
        ones = np.ones(n * E)
        across = np.repeat(np.arange(n), E)
        self._sums = sparse.csr_array((ones, (place.ravel(), across)), shape=(E * FOLDS * B, n))

    def guess(self, y: Floats) -> Floats:
        """Return the means of targets y (n, T) in the other folds' bins, (E, K, B, T)."""
        sums, count = self._totals(y, np.ones(len(y)))
        # An image more, at the mean, keeps the guess of an empty bin there.
        found: Floats = (sums.sum(1, keepdims=True) - sums) / (
            count.sum(1, keepdims=True) - count + 1
        )
        return found

    def score(self, y: Floats, guess: Floats | None = None, weight: Floats | None = None) -> Floats:
        """Return R^2 (E, F) of targets y (n, T), images counting by their weight (n,) or once."""
        guess = self.guess(y) if guess is None else guess
        weight = np.ones(len(y)) if weight is None else weight
        sums, count = self._totals(y, weight)
        gained = (2 * guess * sums - guess**2 * count).sum((1, 2))  # (E, T)
        weighted = y * weight[:, None]
        squares = (weighted * y).sum(0)
        spread = squares - weighted.sum(0) ** 2 / max(weight.sum(), 1)
        error = np.add.reduceat(squares - gained, self._starts, axis=1)
        whole = np.maximum(np.add.reduceat(spread, self._starts), np.finfo(float).tiny)
        found: Floats = 1 - error / whole
        return found

    def _totals(self, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Return sums (E, K, B, T) and counts (E, K, B, 1) of each fold's bins."""
        sums = (self._sums @ (y * weight[:, None])).reshape(*self._shape, -1)
        return sums, (self._sums @ weight).reshape(*self._shape, 1)
