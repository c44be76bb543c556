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
from numpy.typing import ArrayLike

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import (
    DISTANCE,
    GROUPS,
    Measure,
    Rows,
    Score,
    Statistic,
    compare,
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


@isolated
def sliced_wasserstein(
    real: ArrayLike,
    fake: ArrayLike,
    other: ArrayLike | None = None,
    *,
    count: int = DIRECTIONS,
    groups: int = GROUPS,
    seed: int = 0,
) -> Score:
    """Return the sliced Wasserstein distance of n images to n real ones, with interval and floor.

    Args:
        real: values of real images, (n, F): pixels, or coefficients of one band.
        fake: of the images to score, (n, F).
        other: of n more real images, for the floor.
        count: directions.
        groups: of the jackknife.
        seed: of directions and groups.

    Raises:
        ValueError: for sets of different shapes, values not finite, or fewer than 4 images.
    """
    found = compare(sliced(count, seed), real, {"fake": fake}, other, groups=groups, seed=seed)
    return found["fake"]["sliced_wasserstein"]
