"""Kernel distance between features of two sets: KID (Binkowski et al. 2018).

The squared maximum mean discrepancy with the kernel k(x, y) = (x.y / F + 1)^3, estimated without
bias from n and n features of F numbers (their Eq. 4):

    MMD^2 = 1/(n(n-1)) sum_{i != j} [k(x_i, x_j) + k(y_i, y_j)] - 2/n^2 sum_{i, j} k(x_i, y_j).

0 on average for sets of one kind, so that it may be negative. Published numbers are means over
random subsets of 1000 (:func:`kid_of_subsets`); the mean over all n is the same on average, and
steadier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import (
    GROUPS,
    SIGNED,
    Measure,
    Rows,
    Score,
    Statistic,
    compare,
    features_array,
)
from gdm_repr.boundary.isolation import isolated

SUBSETS, SUBSET_SIZE, SUBSET_SEED = 100, 1000, 2020  # torch-fidelity's


@dataclass(frozen=True)
class KidSubsets:
    """KID over random subsets.

    Attributes:
        mean: over subsets.
        std: over subsets; they overlap, so it is no standard error.
        subsets: how many.
        size: images in each, of each set.
    """

    mean: float
    std: float
    subsets: int
    size: int


def polynomial_kernel(x: Floats, y: Floats) -> Floats:
    """Return (x.y / F + 1)^3 of rows x (n, F) and y (m, F), shape (n, m)."""
    kernel: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


@isolated
def mmd2(xx: Floats, yy: Floats, xy: Floats) -> float:
    """Return the unbiased MMD^2 of kernel matrices (n, n)."""
    n = len(xx)
    within = xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)
    return float(within / (n * (n - 1)) - 2 * xy.mean())


@isolated
def kid_of_subsets(
    real: ArrayLike,
    fake: ArrayLike,
    *,
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
    seed: int = SUBSET_SEED,
) -> KidSubsets:
    """Return KID as papers report it.

    The subsets are those that torch-fidelity draws, with the images to score as its first input.

    Args:
        real: features (n, F).
        fake: features (m, F).
        subsets: how many subsets.
        size: images in each.
        seed: of the subsets.

    Raises:
        ValueError: for sets smaller than a subset, or a subset of fewer than 2.
    """
    a, b = features_array(real, "real"), features_array(fake, "fake")
    if not 2 <= size <= min(len(a), len(b)) or subsets < 1:
        raise ValueError(
            f"size={size}, subsets={subsets}: sets of {len(a)} and {len(b)} images need subsets of "
            f"2 to {min(len(a), len(b))}, one or more"
        )
    generator = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        y = b[generator.choice(len(b), size, replace=False)]
        x = a[generator.choice(len(a), size, replace=False)]
        values.append(mmd2(*(polynomial_kernel(*pair) for pair in ((x, x), (y, y), (x, y)))))
    return KidSubsets(float(np.mean(values)), float(np.std(values)), subsets, size)


def bind(real: Floats, other: Floats) -> Statistic:
    """Return the statistic: MMD^2 of what is kept of both sets."""
    pairs = ((real, real), (other, other), (real, other))
    kernels = [polynomial_kernel(*pair) for pair in pairs]

    def statistic(kept: Rows) -> list[float]:
        return [mmd2(*(kernel[np.ix_(kept, kept)] for kernel in kernels))]

    return statistic


KID = Measure(("kid",), bind, (SIGNED,))


@isolated
def kid(
    real: ArrayLike,
    fake: ArrayLike,
    other: ArrayLike | None = None,
    *,
    groups: int = GROUPS,
    seed: int = 0,
) -> Score:
    """Return the KID of n images against n real ones, with interval and floor.

    Arguments and errors as :func:`gdm_repr.analysis.sample_quality.frechet.frechet`'s.
    """
    return compare(KID, real, {"fake": fake}, other, groups=groups, seed=seed)["fake"]["kid"]
