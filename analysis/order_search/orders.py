"""Orders of generation: how they differ, a good one by few samples, and what predicts a good one.

*Score*: the Frechet distance of m samples drawn in the order to real images. All orders are drawn
from the same latents, so that they are compared on one noise.

*Search*: random orders are drawn with few samples each, and a ridge regression learns their scores
from the places of the groups. Where a group comes counts for much, so that many noisy scores tell
the weights well; what the regression thinks best is then drawn with all samples.

*Predictors*, without a sample: with S the covariance of real images and S_{g|e} that of group g
given the groups e generated before it,

    entropy = sum_j H(g_1, .., g_j) = sum_j (k - j + 1) (1/2) logdet(2 pi e S_{g_j|e_j}),
    residual = sum_j tr S_{g_j|e_j}.

The conditional entropies alone sum up to the entropy of the whole in any order; weighted as above,
they are the area under the entropy generated so far: small where uncertain groups come late.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.analysis.sample_quality.frechet import frechet_distance
from gdm_repr.boundary.isolation import isolated
from gdm_repr.grouping import Grouping

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeCV

Order = tuple[int, ...]
Draw = Callable[[Order, int, int], Floats]
"""From an order, and the numbers of the first sample and the one after the last, to features."""
POOL = 20_000  # random orders among which a search looks for those that it thinks best
RIDGE = 1e-6  # of the mean variance, added to every variance: pixels that never change have none


def random_orders(k: int, n: int, seed: int) -> list[Order]:
    """Return n different orders of k groups; all of them where there are no more.

    >>> random_orders(2, 5, seed=0)
    [(0, 1), (1, 0)]
    """
    rng, total = np.random.default_rng(seed), min(n, math.factorial(k))
    orders: dict[Order, None] = {}
    while len(orders) < total:
        orders[tuple(int(j) for j in rng.permutation(k))] = None
    return list(orders) if total == n else sorted(orders)


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        order: the best.
        samples: drawn in all.
    """

    order: Order
    samples: int


def places(orders: Sequence[Order]) -> Floats:
    """Return at which place each group is generated, (n, k), 0 first.

    >>> places([(2, 0, 1)])
    array([[1., 2., 0.]])
    """
    return np.argsort(np.asarray(orders), axis=1).astype(float)


@isolated
def learned_search(
    tried: Sequence[Order],
    draw: Draw,
    real: Floats,
    *,
    first: int,
    checked: int,
    last: int,
    seed: int = 0,
) -> Search:
    """Find a good order by what few samples of others teach.

    Args:
        tried: random orders, all different, to learn from.
        draw: samples' features.
        real: features of real images, (n, F).
        first: samples of each order that is learned from.
        checked: orders thought best that are then scored.
        last: samples of each of these.
        seed: of the many orders among which the best are looked for.

    Raises:
        ValueError: for fewer than two orders to learn from, or samples.
    """
    if len(tried) < 2 or min(first, last) < 2 or checked < 1:
        raise ValueError(
            f"tried={len(tried)}, first={first}, checked={checked}, last={last}: at least two "
            "orders, two samples of each, and one to check are needed"
        )
    values = [frechet_distance(real, draw(order, 0, first)) for order in tried]
    model = _regression().fit(places(tried), values)
    pool = {*tried, *random_orders(len(tried[0]), POOL, seed)}
    pool.add(tuple(int(group) for group in np.argsort(-model.coef_)))  # the best there is
    ranked = sorted(pool)
    predicted = model.predict(places(ranked))
    best = [ranked[i] for i in np.argsort(predicted, kind="stable")[:checked]]
    scores = {order: frechet_distance(real, draw(order, 0, last)) for order in best}
    found = min(best, key=scores.__getitem__)
    return Search(found, len(tried) * first + len(best) * last)


@isolated
def learned_scores(orders: Sequence[Order], values: Sequence[float]) -> Floats:
    """Return each order's score as the places of groups in nine tenths of the others predict it."""
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(min(10, len(orders)), shuffle=True, random_state=0)
    predicted: Floats = cross_val_predict(_regression(), places(orders), values, cv=folds)
    return predicted


@isolated
def split_half(real: Floats, samples: Floats) -> tuple[float, float]:
    """Return the score of the first halves of real images and samples, and that of the second.

    Whether two halves rank orders alike says whether other images and latents would: the places of
    groups can tell scores apart that hold for these latents alone.
    """
    half = min(len(real), len(samples)) // 2
    first, second = slice(half), slice(half, 2 * half)
    return (
        frechet_distance(real[first], samples[first]),
        frechet_distance(real[second], samples[second]),
    )


def _regression() -> RidgeCV:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=np.logspace(-1, 3, 9))


@dataclass(frozen=True)
class Predictors:
    """Scores of an order by the covariance alone; less is predicted to be better.

    Attributes:
        entropy: area under the entropy generated so far, nats.
        residual: conditional variance of every group given those before it, summed.
    """

    entropy: float
    residual: float


@isolated
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


@isolated
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


@isolated
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
    if not drawn or len(set(x)) == 1 or len(set(y)) == 1:
        return Estimate(math.nan, math.nan, math.nan)  # one of them is constant
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(round(float(spearmanr(x, y).statistic), 12), float(low), float(high))
