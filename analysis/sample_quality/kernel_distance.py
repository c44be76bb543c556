"""Kernel distance between features of two sets: KID (Binkowski et al. 2018).

The squared maximum mean discrepancy with the kernel k(x, y) = (x.y / F + 1)^3, estimated without
bias from n and n features of F numbers (their Eq. 4):

    MMD^2 = 1/(n(n-1)) sum_{i != j} [k(x_i, x_j) + k(y_i, y_j)] - 2/n^2 sum_{i, j} k(x_i, y_j).

0 on average for sets of one kind, so that it may be negative. Published numbers are means over
random subsets of 1000; the mean over all n is the same on average, and steadier.
"""

from __future__ import annotations

import numpy as np

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import (
    SIGNED,
    Measure,
    Rows,
    Statistic,
)
from gdm_repr.boundary.isolation import isolated


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


def bind(real: Floats, other: Floats) -> Statistic:
    """Return the statistic: MMD^2 of what is kept of both sets."""
    pairs = ((real, real), (other, other), (real, other))
    kernels = [polynomial_kernel(*pair) for pair in pairs]

    def statistic(kept: Rows) -> list[float]:
        return [mmd2(*(kernel[np.ix_(kept, kept)] for kernel in kernels))]

    return statistic


KID = Measure(("kid",), bind, (SIGNED,))
