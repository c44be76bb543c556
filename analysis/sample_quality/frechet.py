"""Frechet distance between features of two sets of images (Heusel et al. 2017, Eq. 6).

Of the Gaussians that have the sets' means and (unbiased) covariances, the squared 2-Wasserstein
distance (Dowson and Landau 1982):

    FD = |m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^(1/2).

With X_i = Q_i R_i the centred features of set i, S_i = R_i^T R_i / (n_i - 1), the last trace is
the sum of the singular values of R_1 R_2^T / sqrt((n_1 - 1)(n_2 - 1)). No matrix is squared and no
root of a singular one is taken, so that it holds for n below the number F of features, too.

The estimate is too large, about by a constant over n, and by most where n is not far above F: FD is
compared at one n, and beside its floor (:mod:`gdm_repr.analysis.intervals.jackknife`).
``corrected`` there is the value as n grows, in the manner of FID_infinity (Chong and Forsyth 2020),
which fits the line in 1/n to random subsets; here the slope comes from the jackknife.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import qr, svdvals

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import (
    DISTANCE,
    Measure,
    Rows,
    Statistic,
    features_array,
)
from gdm_repr.boundary.isolation import isolated

ENOUGH = 2  # images a feature, from which on the slope in 1/n was found to be right


@isolated
def frechet_distance(real: ArrayLike, other: ArrayLike) -> float:
    """Return the Frechet distance between two sets of features.

    Args:
        real: (n, F).
        other: (m, F).

    Returns:
        FD in squared units of the features, float64, at least 0.

    Raises:
        ValueError: for fewer than 2 images in a set, different F, or values that are not finite.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((50, 3))
        >>> round(frechet_distance(x, x + [2, 0, 0]), 9)
        4.0
    """
    a, b = features_array(real, "real"), features_array(other, "other")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"other: {b.shape[1]} features, but the real images have {a.shape[1]}; use one "
            "extractor for both"
        )
    return _distance(a, b)


def bind(real: Floats, other: Floats) -> Statistic:
    """Return the statistic: the distance between what is kept of both sets."""

    def statistic(kept: Rows) -> list[float]:
        return [_distance(real[kept], other[kept])]

    return statistic


FRECHET = Measure(("frechet",), bind, (DISTANCE,), lambda n, features: n >= ENOUGH * features)


def _distance(a: Floats, b: Floats) -> float:
    mean_a, mean_b = a.mean(0), b.mean(0)
    x, y = (a - mean_a) / np.sqrt(len(a) - 1), (b - mean_b) / np.sqrt(len(b) - 1)
    total = np.square(mean_a - mean_b).sum() + np.square(x).sum() + np.square(y).sum()
    trace = svdvals(_factor(x) @ _factor(y).T, check_finite=False).sum()
    return max(0.0, float(total - 2 * trace))


def _factor(x: Floats) -> Floats:
    """Return R with R^T R = x^T x and no more rows than needed."""
    if x.shape[0] <= x.shape[1]:
        return x
    factor: Floats = qr(x, mode="r", check_finite=False)[0][: x.shape[1]]
    return factor
