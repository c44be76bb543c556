"""Sliced Wasserstein distance, of pixels and of every band's coefficients.

The 2-Wasserstein distance of projections on L directions, drawn uniformly from the unit sphere by
seed, in root mean square (Rabin et al. 2011, Bonneel et al. 2015):

    SW_2^2 = 1/L sum_l 1/n sum_i (x^l_(i) - y^l_(i))^2,   x^l = <x, direction l>, sorted.

Means and widths count, and the shape of every projection too, which a Frechet distance does not
see; no network is involved. In units of x. The directions are the same for all sets and for the
floor, and their number belongs to the definition: intervals are over images.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import (
    DISTANCE,
    Measure,
    Rows,
    Statistic,
)
from gdm_repr.boundary.isolation import isolated

DIRECTIONS = 256


@isolated
def directions(features: int, count: int, seed: int) -> Floats:
    """Return unit vectors (F, L), uniform on the sphere.

    Raises:
        ValueError: for fewer than one.
    """
    if count < 1:
        raise ValueError(f"directions={count}: must be at least 1")
    w = np.random.default_rng(seed).standard_normal((features, count))
    unit: Floats = w / np.linalg.norm(w, axis=0)
    return unit


def bind(count: int, seed: int, real: Floats, other: Floats) -> Statistic:
    """Return the statistic: SW_2 between what is kept of both sets."""
    w = directions(real.shape[1], count, seed)
    x, y = real @ w, other @ w

    def statistic(kept: Rows) -> list[float]:
        gaps = np.sort(x[kept], axis=0) - np.sort(y[kept], axis=0)
        return [float(np.sqrt(np.square(gaps).mean()))]

    return statistic


@isolated
def sliced(count: int = DIRECTIONS, seed: int = 0) -> Measure:
    """Return the measure for a number of directions."""
    return Measure(("sliced_wasserstein",), partial(bind, count, seed), (DISTANCE,))
