"""Orders of generation: how they differ, a good one by few samples, and what predicts a good one.

*Score*: the Frechet distance of m samples drawn in the order to real images. All orders are drawn
from the same latents, so that they are compared on one noise.

*Search* by successive halving (Jamieson and Talwalkar 2016): all candidates are drawn with few
samples, the better half goes on with twice as many, until those left have all n.

*Predictors*, without a sample: with S the covariance of real images and S_{g|e} that of group g
given the groups e generated before it,

    entropy = sum_j H(g_1, .., g_j) = sum_j (k - j + 1) (1/2) logdet(2 pi e S_{g_j|e_j}),
    residual = sum_j tr S_{g_j|e_j}.

The conditional entropies alone sum up to the entropy of the whole in any order; weighted as above,
they are the area under the entropy generated so far: small where uncertain groups come late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from gdm_repr.analysis.estimate import Estimate
from gdm_repr.analysis.frechet import frechet_distance
from gdm_repr.grouping import Grouping

Order = tuple[int, ...]
Floats = NDArray[np.float64]
Draw = Callable[[Order, int, int], Floats]
"""From an order, and the numbers of the first sample and the one after the last, to features."""
RIDGE = 1e-6  # of the mean variance, added to every variance: pixels that never change have none


def random_orders(k: int, n: int, seed: int) -> list[Order]:
    """Return n different orders of k groups; all of them where there are no more.

    >>> random_orders(2, 5, seed=0)
    [(0, 1), (1, 0)]
    """
    rng, total = np.random.default_rng(seed), min(n, factorial(k))
    orders: dict[Order, None] = {}
    while len(orders) < total:
        orders[tuple(int(j) for j in rng.permutation(k))] = None
    return list(orders) if total == n else sorted(orders)


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        order: the best.
        value: its score in the last round.
        samples: drawn in all.
        rounds: candidates and samples of each so far, of every round.
    """

    order: Order
    value: float
    samples: int
    rounds: tuple[tuple[int, int], ...]


def halving_rounds(candidates: int, first: int, last: int) -> tuple[tuple[int, int], ...]:
    """Return the candidates of every round of a search, and the samples that each has by its end.

    >>> halving_rounds(8, first=32, last=256)
    ((8, 32), (4, 64), (2, 128), (1, 256))
    """
    rounds = [(candidates, first)]
    while rounds[-1][1] < last:
        n, m = rounds[-1]
        rounds.append((max(1, n // 2), min(2 * m, last)))
    return tuple(rounds)


def halving_samples(rounds: Sequence[tuple[int, int]]) -> int:
    """Return how many samples a search draws in all."""
    before = [0, *(m for _, m in rounds)]
    return sum(n * (m - have) for (n, m), have in zip(rounds, before, strict=False))


def successive_halving(
    candidates: Sequence[Order], draw: Draw, real: Floats, *, first: int, last: int
) -> Search:
    """Find a good order among candidates.

    Args:
        candidates: orders, all different.
        draw: samples' features.
        real: features of real images, (n, F).
        first: samples of every candidate in the first round.
        last: samples of those left at the end.

    Raises:
        ValueError: for no candidates, or first above last.
    """
    if not candidates or not 2 <= first <= last:
        raise ValueError(
            f"candidates={len(candidates)}, first={first}, last={last}: at least one candidate and "
            "2 <= first <= last are needed"
        )
    parts: dict[Order, list[Floats]] = {order: [] for order in candidates}
    alive, have, values = list(parts), 0, dict[Order, float]()
    rounds = halving_rounds(len(alive), first, last)
    for n, m in rounds:
        alive = alive[:n]
        for order in alive:
            parts[order].append(draw(order, have, m))
            values[order] = frechet_distance(real, np.concatenate(parts[order]))
        alive.sort(key=values.__getitem__)
        have = m
    return Search(alive[0], values[alive[0]], halving_samples(rounds), rounds)


@dataclass(frozen=True)
class Predictors:
    """Scores of an order by the covariance alone; less is predicted to be better.

    Attributes:
        entropy: area under the entropy generated so far, nats.
        residual: conditional variance of every group given those before it, summed.
    """

    entropy: float
    residual: float


def covariance(x: Floats) -> Floats:
    """Return the covariance of images (n, C*d), with a ridge.

    Raises:
        ValueError: for fewer than 2 images.
    """
    if len(x) < 2:
        raise ValueError(f"n={len(x)} images: at least 2 are needed for a covariance")
    S: Floats = np.cov(x, rowvar=False)
    S += RIDGE * np.trace(S) / len(S) * np.eye(len(S))
    return S


def predict(S: Floats, grouping: Grouping, order: Order) -> Predictors:
    """Return the predictors of an order.

    Args:
        S: covariance of images in the basis's coordinates, channel by channel, (C*d, C*d).
        grouping: the groups.
        order: the first one generated first.
    """
    d = grouping.d
    channels = len(S) // d
    index = np.broadcast_to(grouping.index, (channels, d)).ravel()
    before = np.zeros(0, np.int64)
    entropy = residual = 0.0
    for place, group in enumerate(order):
        own = np.flatnonzero(index == group)
        S_given = S[np.ix_(own, own)]
        if len(before):
            cross = S[np.ix_(before, own)]
            S_given = S_given - cross.T @ np.linalg.solve(S[np.ix_(before, before)], cross)
        logdet = np.linalg.slogdet(2 * np.pi * np.e * S_given)[1]
        entropy += (len(order) - place) * 0.5 * float(logdet)
        residual += float(np.trace(S_given))
        before = np.concatenate([before, own])
    return Predictors(entropy, residual)


def rank_correlation(
    a: Sequence[float], b: Sequence[float], *, draws: int = 2000, seed: int = 0
) -> Estimate:
    """Return Spearman's rank correlation, with a 95 % bootstrap interval over the pairs.

    >>> rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]).value
    1.0
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        rows = rng.integers(0, len(x), len(x))
        if len(set(x[rows])) > 1 and len(set(y[rows])) > 1:
            drawn.append(float(spearmanr(x[rows], y[rows]).statistic))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(round(float(spearmanr(x, y).statistic), 12), float(low), float(high))
