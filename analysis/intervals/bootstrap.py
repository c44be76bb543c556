"""Means and their intervals, by resampling images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gdm_repr.analysis.intervals.estimate import NOTHING, Estimate, Floats
from gdm_repr.boundary.isolation import isolated

RESAMPLES = 2000
_AT_ONCE = 50  # resamples drawn together: memory is 400 bytes an image
_OF_R_SQUARED = 200


@isolated
def resampled_means(values: Floats, seed: int) -> Floats:
    """Return means of resampled images, (resamples, K), from values (n, K)."""
    n = len(values)
    rng = np.random.default_rng(seed)
    even = np.full(n, 1 / n)
    parts = [rng.multinomial(n, even, _AT_ONCE) @ values / n for _ in range(0, RESAMPLES, _AT_ONCE)]
    return np.concatenate(parts)


def root_mean_square(squares: Floats, size: Floats, seed: int) -> tuple[Floats, Floats, Floats]:
    """Return sqrt(mean squares / mean size) over examples with its percentile bootstrap interval.

    Args:
        squares: (n, ..).
        size: (n,) or of the shape of squares; examples of both are resampled together.
        seed: of the bootstrap.

    Returns:
        Value, low and high, each of the shape of one example.
    """
    n, shape = len(squares), squares.shape[1:]
    flat, size = squares.reshape(n, -1), size.reshape(n, -1)
    weight = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    low, high = np.quantile(np.sqrt((weight @ flat) / (weight @ size)), [0.025, 0.975], axis=0)
    value = np.sqrt(flat.mean(0) / size.mean(0))
    return value.reshape(shape), low.reshape(shape), high.reshape(shape)


def image_counts(n: int, draws: Iterable[int], *seed: int) -> Floats:
    """Return how often each of n images is in each draw with replacement, (draws, n).

    A draw is known by its number and the seed, so that other images' scores meet the same ones.
    """
    rngs = (np.random.default_rng([*seed, draw]) for draw in draws)
    counts = [np.bincount(rng.integers(n, size=n), minlength=n) for rng in rngs]
    return np.array(counts, np.float64).reshape(-1, n)


@isolated
def r_squared(read: Floats, targets: Floats, *, seed: int) -> Estimate:
    """Return R^2 of readings (n, t) of targets (n, t), with the interval of the images.

    NaN where there are fewer than 2 images.
    """
    if len(targets) < 2:
        return NOTHING
    error = ((read - targets) ** 2).sum(1)
    centred = targets - targets.mean(0)
    squares, n = (centred**2).sum(1), len(targets)

    def score(weight: Floats) -> float:
        spread = weight @ squares - ((weight @ centred) ** 2).sum() / n
        return float(1 - weight @ error / max(spread, np.finfo(float).tiny))

    rng = np.random.default_rng([seed, 5])
    drawn = [
        score(np.bincount(rng.integers(n, size=n), minlength=n).astype(float))
        for _ in range(_OF_R_SQUARED)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(score(np.ones(n)), float(low), float(high))
