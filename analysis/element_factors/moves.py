"""Shares of directions in factors, by traversal: a latent is moved, and the factors are read.

The coordinate along a direction is set to places v_1 .. v_V on encoded images, which keep all else,
and a :class:`~gdm_repr.analysis.factors.reader.Reader` reads r_a(v) off image a. With places and
weights w_i of Gauss-Hermite quadrature (three: 0 and +-1.73) and h_k the Hermite polynomials of
variance 1, a latent that is N(0, 1) and independent of the others gives

    c_ak = sum_i w_i r_a(v_i) h_k(v_i),   k = 1 .. V - 1     (k = 1: a straight line's slope)
    S    = sum_k (E_a c_ak)^2 / Var(f)        what the latent makes alone, the same in all images
    T    = sum_k E_a c_ak^2 / Var(f)          the same and what differs from image to image,

Sobol's first-order and total indices up to degree V - 1. (E c)^2 is the mean of c_a c_b over pairs
of different images, which has no bias. Its null: the signs of each image's changes are drawn anew.
T has no null, for reading errors count in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import Tensor

from gdm_repr.analysis.element_factors.shares import Shares
from gdm_repr.analysis.factors.reader import Reading
from gdm_repr.analysis.intervals.bootstrap import image_counts
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.traversal.directions import Path
from gdm_repr.boundary.isolation import isolated

_FLIPS = 9999
_FLIPS_AT_ONCE = 2000


def places(count: int) -> tuple[Floats, Floats]:
    """Return places and weights (V,) of Gauss-Hermite quadrature; weights sum to 1.

    >>> v, w = places(3)
    >>> v.round(3).tolist(), w.round(3).tolist()
    ([-1.732, 0.0, 1.732], [0.167, 0.667, 0.167])
    """
    v, w = np.polynomial.hermite_e.hermegauss(count)
    return v, w / w.sum()


@isolated
def read_paths(
    paths: Iterable[Path], inverse: Callable[[Tensor], Tensor], read: Callable[[Tensor], Reading]
) -> tuple[Floats, float]:
    """Return readings (n, V, T) along paths, and the share of images that are strange.

    Args:
        paths: data in the basis's coordinates, from :mod:`gdm_repr.analysis.traversal.directions`.
        inverse: turns these to images.
        read: of images (B, C, H, W).
    """
    found, strange = [], []
    for data, _ in paths:
        reading = read(inverse(data.flatten(0, 1)).cpu())
        found.append(reading.values.reshape(*data.shape[:2], -1))
        strange.append(reading.strange)
    return np.concatenate(found), float(np.concatenate(strange).mean())


@isolated
def changes(readings: Floats) -> Floats:
    """Return c (n, V - 1, T) of readings (n, V, T) at the :func:`places`."""
    V = readings.shape[1]
    v, w = places(V)
    h = np.polynomial.hermite_e.hermevander(v, V - 1)[:, 1:]
    h /= np.sqrt([math.factorial(k) for k in range(1, V)])
    found: Floats = np.einsum("nvt,vk->nkt", readings, w[:, None] * h)
    return found


@isolated
def move_shares(
    readings: Sequence[Floats],
    names: Sequence[str],
    factors: Sequence[str],
    variances: Sequence[Floats],
    *,
    strange: Sequence[float],
    resamples: int,
    seed: int,
) -> Shares:
    """Measure how much of each factor each direction makes.

    Args:
        readings: of each of E directions, (n, V, T): all factors' targets side by side.
        names: of the directions.
        factors: names.
        variances: of each factor's targets.
        strange: of each direction, the share of its images that the reader does not know.
        resamples: draws of images that intervals are from.
        seed: of the draws.
    """
    n = len(readings[0])
    widths = [len(variance) for variance in variances]
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.int64)
    whole = np.array([variance.sum() for variance in variances])
    rng = np.random.default_rng([seed, 6])
    signs = rng.choice([-1.0, 1.0], size=(_FLIPS, n))
    weights = image_counts(n, range(resamples), seed, 7)
    one = np.ones((1, n))
    E, F = len(readings), len(factors)

    def by_factor(squares: Floats) -> Floats:
        """Sum (.., V - 1, T) over degrees, and over each factor's targets."""
        summed: Floats = np.add.reduceat(squares.sum(1), starts, axis=-1)
        return summed

    value, p, total = np.empty((E, F)), np.empty((E, F)), np.empty((E, F))
    draws = np.empty((resamples, E, F))
    for e, read in enumerate(readings):
        c = changes(read)
        value[e] = _pairs(one, c, by_factor)[0] / whole
        draws[:, e] = _pairs(weights, c, by_factor) / whole
        total[e] = by_factor((c**2).mean(0)[None])[0] / whole
        seen = by_factor(np.square(c.sum(0))[None])[0]
        as_far = np.zeros(F)
        for part in np.array_split(signs, -(-_FLIPS // _FLIPS_AT_ONCE)):
            flipped = by_factor(np.square(np.einsum("pn,nkt->pkt", part, c, optimize=True)))
            as_far += (flipped >= seen * (1 - 1e-9)).sum(0)
        p[e] = (1 + as_far) / (1 + _FLIPS)
    return Shares(
        tuple(names), tuple(factors), value, draws, p, n, total, np.array(strange), _FLIPS
    )


def _pairs(weight: Floats, c: Floats, by_factor: Callable[[Floats], Floats]) -> Floats:
    """Return means of c_a c_b over pairs of different images, by weights (R, n), (R, F)."""
    flat = c.reshape(len(c), -1)
    both = (weight @ flat) ** 2 - weight**2 @ flat**2
    pairs = weight.sum(1) ** 2 - (weight**2).sum(1)
    mean = both / np.maximum(pairs, 1)[:, None]
    return by_factor(mean.reshape(-1, *c.shape[1:]))
