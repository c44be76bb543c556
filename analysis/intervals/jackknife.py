"""Intervals for scores of sets of images, by the delete-a-group jackknife.

A score theta compares n features of real images with n of others. It is no mean over images, and
many are biased, so that resampling with replacement would add its own bias (a bootstrap sample of
the Frechet distance is farther away than the sample itself). Here the n images of every set are
cut into g random groups, and the score is taken g times more, each time without one group:

    se^2 = (g-1)/g sum_j (theta_(j) - mean theta_(.))^2,   interval: theta +- t_{g-1} se,
    corrected = g theta - (g-1) mean theta_(.),            free of bias of order 1/n.

se^2 is on average not too small, for any score (Efron and Stein 1981); for scores by neighbours,
which one image can change much, and between sets of one kind, intervals were found up to 1.7 times
too wide. The interval is for the score *at this n*: what other images, as many, would give on
average. The same groups leave all sets together, so that a ratio of two scores that share the real
images has its own interval.

The *floor* is the same score between two disjoint sets of n real images. A perfect model reaches it
on average; precision and density of samples that stay where images are dense can exceed it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.boundary import arguments
from gdm_repr.boundary.arguments import count, table
from gdm_repr.boundary.isolation import isolated
from gdm_repr.progress import tick

Rows = NDArray[np.int64]
Statistic = Callable[[Rows], Sequence[float]]
"""From the rows that are kept to scores, always in the same order."""
Bind = Callable[[Floats, Floats], Statistic]
"""From features of real images and of others, each (n, F), to their statistic."""
GROUPS = 20
DISTANCE, SHARE, SIGNED = (0.0, np.inf), (0.0, 1.0), (-np.inf, np.inf)
LEAST = 4  # images: a group less, a covariance needs 2 or more


@dataclass(frozen=True)
class Score(Estimate):
    """A score of n images against n real ones, with 95 % intervals.

    Attributes:
        n: images in each set.
        floor: the same between n and n real images; None if there were no others.
        ratio: value over floor; None for a signed score, or where either is 0.
        excess: value less floor.
        corrected: the score without its bias of order 1/n, as n grows; None where that can't be
            told from n images.
    """

    n: int
    floor: Estimate | None = None
    ratio: Estimate | None = None
    excess: Estimate | None = None
    corrected: Estimate | None = None


@dataclass(frozen=True)
class Measure:
    """Scores that are computed together.

    Attributes:
        names: of the scores.
        bind: makes the statistic of two sets.
        ranges: of the scores, one each: :data:`DISTANCE`, :data:`SHARE` or :data:`SIGNED`.
        enough: from n and F to whether the bias can be corrected.
    """

    names: tuple[str, ...]
    bind: Bind
    ranges: tuple[tuple[float, float], ...]
    enough: Callable[[int, int], bool] = lambda n, features: False


@isolated
def compare(
    measure: Measure,
    real: ArrayLike,
    sets: Mapping[str, ArrayLike],
    other: ArrayLike | None = None,
    *,
    groups: int = GROUPS,
    seed: int = 0,
) -> dict[str, dict[str, Score]]:
    """Score sets of images against real ones.

    Args:
        measure: the scores.
        real: features of n real images, (n, F).
        sets: features of n other images each, (n, F), by name.
        other: features of n more real images, for the floor.
        groups: g; n where that is less.
        seed: of the cut into groups.

    Returns:
        Scores by their name, by set.

    Raises:
        ValueError: for sets of different shapes, fewer than 4 images, values that are not finite,
            or fewer than 2 groups.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((3, 40, 2))
        >>> gap = Measure(("gap",), lambda a, b: lambda kept: [b[kept].mean() - a[kept].mean()],
        ...               (SIGNED,))
        >>> found = compare(gap, x[0], {"other": x[1] + 1}, x[2])["other"]["gap"]
        >>> found.low < 1 < found.high, found.floor.low < 0 < found.floor.high
        (True, True)
    """
    a = features_array(real, "real", LEAST)
    others = {name: _alike(each, a, name) for name, each in sets.items()}
    groups, seed = count(groups, "groups", 2), arguments.seed(seed)
    n = len(a)
    order = np.random.default_rng(seed).permutation(n)
    parts = np.array_split(order, min(groups, n))
    every = np.arange(n)
    kept = [every, *(np.setdiff1d(every, part) for part in parts)]

    def scores(b: Floats) -> Floats:
        """Return all scores (1 + g, K): of all images, then without each group."""
        statistic = measure.bind(a, b)
        found = []
        for rows in kept:
            found.append(statistic(rows))
            tick()
        return np.array(found, float)

    floor = None if other is None else scores(_alike(other, a, "other"))
    enough = measure.enough(n, a.shape[1])
    result: dict[str, dict[str, Score]] = {}
    for name, b in others.items():
        rows = scores(b)
        result[name] = {
            score: _score(
                rows[:, i],
                None if floor is None else floor[:, i],
                n,
                within=measure.ranges[i],
                enough=enough,
            )
            for i, score in enumerate(measure.names)
        }
    return result


def features_array(values: ArrayLike, name: str, least: int = 2) -> Floats:
    """Return features (n, F) as float64.

    Raises:
        ValueError: for another shape, fewer than ``least`` rows, or values that are not finite.
    """
    array = table(values, name, "must be (n, F), one row an image", "images")
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name}: shape {array.shape}; must be (n, F), one row an image")
    if len(array) < least:
        raise ValueError(f"{name}: n={len(array)} images; at least {least} are needed")
    return array


@isolated
def interval(rows: Floats) -> Estimate:
    """Return a score with its interval; rows (1 + g,): of all images, then without each group."""
    value, deleted = float(rows[0]), rows[1:]
    half = _half_width(deleted)
    return Estimate(value, value - half, value + half)


def _half_width(deleted: Floats) -> float:
    g = len(deleted)
    se = np.sqrt((g - 1) / g * np.square(deleted - deleted.mean()).sum())
    return float(student.ppf(0.975, g - 1) * se)


def _score(
    rows: Floats, floor: Floats | None, n: int, *, within: tuple[float, float], enough: bool
) -> Score:
    corrected = None
    if enough:
        g = len(rows) - 1
        value, half = float(g * rows[0] - (g - 1) * rows[1:].mean()), _half_width(rows[1:])
        corrected = Estimate(value, value - half, value + half)
    own = _within(interval(rows), n, *within)
    if floor is None:
        return Score(own.value, own.low, own.high, n, corrected=corrected)
    least = _within(interval(floor), n, *within)
    ratio = None
    if within != SIGNED and (floor > 0).all() and (rows > 0).all():
        log = interval(np.log(rows) - np.log(floor))
        ratio = Estimate(*(float(np.exp(each)) for each in (log.value, log.low, log.high)))
    excess = interval(rows - floor)
    return Score(own.value, own.low, own.high, n, least, ratio, excess, corrected)


def _within(score: Estimate, n: int, least: float, most: float) -> Estimate:
    """Keep an interval in its range; a share that is all or none of n is not certain for that."""
    low, high = max(least, score.low), min(most, score.high)
    if (least, most) == SHARE:
        spare = 1 - 0.025 ** (1 / n)  # Clopper and Pearson 1934, for 0 or n of n
        low = min(low, 1 - spare) if score.value == 1 else low
        high = max(high, spare) if score.value == 0 else high
    return Estimate(score.value, low, high)


def _alike(values: ArrayLike, real: Floats, name: str) -> Floats:
    array = features_array(values, name, LEAST)
    if array.shape != real.shape:
        raise ValueError(
            f"{name}: shape {array.shape}, but the real images' is {real.shape}; scores depend on "
            "n, so compare as many images, through the same features"
        )
    return array
