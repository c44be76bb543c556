"""Fidelity and diversity by nearest neighbours: precision, recall, density, coverage.

B(x) is the ball around x whose radius is the distance to the k-th nearest other image of x's own
set. Of n real images x and n others y:

    precision  share of y in any B(x): how many look real        (Kynkaanniemi et al. 2019, k = 3)
    recall     share of x in any B(y): how much of the data is reached
    density    mean over y of the number of B(x) they are in, over k      (Naeem et al. 2020, k = 5)
    coverage   share of x with a y in B(x)

Real images against real ones do not score 1, but for density: each is read beside its floor.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.spatial.distance import cdist

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import (
    DISTANCE,
    SHARE,
    Measure,
    Rows,
    Statistic,
)
from gdm_repr.boundary.isolation import isolated

NAMES = ("precision", "recall", "density", "coverage")
PRECISION_K, DENSITY_K = 3, 5  # of the two papers


def bind(precision_k: int, density_k: int, real: Floats, other: Floats) -> Statistic:
    """Return the statistic: the four scores of what is kept of both sets.

    Raises:
        ValueError: in the statistic, if k is below 1 or no fewer than the images kept.
    """
    real_real, other_other, both = cdist(real, real), cdist(other, other), cdist(real, other)

    def statistic(kept: Rows) -> list[float]:
        _check(precision_k, len(kept))
        _check(density_k, len(kept))
        square = np.ix_(kept, kept)
        far = both[square]
        wide, narrow = _radii(real_real[square], density_k, precision_k)
        (own,) = _radii(other_other[square], precision_k)
        inside = far <= wide[:, None]
        return [
            float((far <= narrow[:, None]).any(0).mean()),
            float((far <= own[None]).any(1).mean()),
            float(inside.sum(0).mean() / density_k),
            float(inside.any(1).mean()),
        ]

    return statistic


@isolated
def neighbours(precision_k: int = PRECISION_K, density_k: int = DENSITY_K) -> Measure:
    """Return the measure for numbers of neighbours: of precision and recall, and of the others."""
    return Measure(NAMES, partial(bind, precision_k, density_k), (SHARE, SHARE, DISTANCE, SHARE))


def _radii(distances: Floats, *ks: int) -> list[Floats]:
    """Return each row's k-th smallest distance to another row; itself is the first of all."""
    ordered = np.partition(distances, sorted(ks), axis=1)
    return [ordered[:, k] for k in ks]


def _check(k: int, n: int) -> None:
    if not 1 <= k < n:
        raise ValueError(
            f"neighbours k={k}: must be at least 1 and fewer than the {n} images compared; use "
            "fewer neighbours or more images"
        )
