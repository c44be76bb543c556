"""Means of per-image values with intervals: curves, paired differences, and where a curve is low.

Intervals are 95 % percentile bootstraps that resample images, the same ones at every call with one
seed and number of images: what is compared is resampled together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gdm_repr.analysis.intervals.bootstrap import resampled_means
from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.boundary.isolation import isolated

RESAMPLES = 2000  # of the bootstrap over anchors
_STRAIGHT = 1e-9  # of the curve's height: nearer to its chord than that, it does not bend


@dataclass(frozen=True)
class Means:
    """Means over images against what is kept; one entry a kept set.

    Attributes:
        kept: number of latents, or of a control's coordinates in a channel.
        value: mean over images; NaN where it was not measured.
        low: lower end of the 95 % bootstrap interval over images.
        high: upper end.
    """

    kept: tuple[int, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def points(self) -> list[Estimate]:
        """The values with their intervals."""
        return list(map(Estimate, self.value, self.low, self.high))

    def at(self, m: int) -> Estimate:
        """Return the value at one of ``kept``."""
        return self.points[self.kept.index(m)]


@dataclass(frozen=True)
class DistanceCurve(Means):
    """A distance or likeness against what is kept.

    Attributes:
        n: number of images.
        draws: reconstructions of an image that each value is the mean of.
    """

    n: int
    draws: int


@isolated
def distance_curve(
    values: Floats,
    kept: Sequence[int],
    draws: int,
    *,
    reference: Floats | None = None,
    seed: int = 0,
) -> DistanceCurve:
    """Summarise values of n images.

    Args:
        values: (n, K), one row an image.
        kept: what each column keeps.
        draws: reconstructions behind each value.
        reference: what counts as 1, (n,), of which the mean is taken, too; values as they are
            when None.
        seed: of the bootstrap.

    Raises:
        ValueError: if there are fewer than 2 images.
    """
    mean, low, high = _interval(values, reference, seed)
    return DistanceCurve(tuple(kept), tuple(mean), tuple(low), tuple(high), len(values), draws)


@isolated
def paired_difference(
    values: Floats, others: Floats, *, reference: Floats | None = None, seed: int = 0
) -> list[Estimate]:
    """Return the mean of values less others, both (n, K) of the same images, column by column."""
    return [
        Estimate(*row) for row in zip(*_interval(values - others, reference, seed), strict=True)
    ]


@isolated
def enough(
    values: Floats, kept: Sequence[int], level: float, *, reference: Floats, seed: int = 0
) -> Estimate:
    """Return the m from which on a distance stays below a share of a reference.

    Curves are read on straight lines between their points.

    Args:
        values: distances (n, K); columns that were not measured are NaN and left out.
        kept: m of each column.
        level: the share, such as 0.1.
        reference: what counts as 1, (n,), as the distance to unrelated images.
        seed: of the bootstrap.

    Returns:
        NaN where the distance does not stay below it, and for an end that lies beyond all measured.
    """
    measured = ~np.isnan(values).any(0)
    m = np.asarray(kept)[measured].tolist()
    mean, resampled = _means(values[:, measured], reference, seed)
    low, high = place_interval([suffices(m, row, level) for row in resampled.tolist()], m)
    return Estimate(suffices(m, mean.tolist(), level), low, high)


def _interval(values: Floats, reference: Floats | None, seed: int) -> tuple[list[float], ...]:
    """Return means of columns, and the ends of their intervals."""
    if len(values) < 2:
        raise ValueError(f"values: {len(values)} images; an interval needs 2 or more")
    mean, resampled = _means(values, reference, seed)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return mean.tolist(), low.tolist(), high.tolist()


def _means(values: Floats, reference: Floats | None, seed: int) -> tuple[Floats, Floats]:
    """Return means (K,), and those of resampled images (resamples, K), over the reference's."""
    both = np.column_stack([values, np.ones(len(values)) if reference is None else reference])
    mean, resampled = both.mean(0), resampled_means(both, seed)
    return mean[:-1] / mean[-1], resampled[:, :-1] / resampled[:, -1:]


@dataclass(frozen=True)
class Curve(Means):
    """Variance against what is kept, over that of the first entry, the free one.

    Attributes:
        variance: mean over anchors, in squared units of the features.
        anchors: n, number of anchors.
        draws: D, draws an anchor.
    """

    variance: tuple[float, ...]
    anchors: int
    draws: int


@isolated
def curve(variances: Floats, kept: Sequence[int], draws: int, *, seed: int = 0) -> Curve:
    """Summarise V_a(K) of n anchors, relative to the first K, in which nothing is kept.

    Args:
        variances: (n, K), one row an anchor.
        kept: latents kept in each column.
        draws: D.
        seed: of the bootstrap.
    """
    value, resampled = _ratios(variances, seed)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return Curve(
        tuple(kept),
        tuple(value.tolist()),
        tuple(low.tolist()),
        tuple(high.tolist()),
        tuple(variances.mean(0).tolist()),
        len(variances),
        draws,
    )


def place(
    variances: Floats, kept: Sequence[int], find: Callable[..., float], *, seed: int = 0
) -> Estimate:
    """Return a place on the curve, such as its :func:`knee`, with its interval over anchors.

    Args:
        variances: (n, K), one row an anchor.
        kept: latents kept in each column.
        find: from ``kept`` and a curve's values to a number of latents.
        seed: of the bootstrap.

    Returns:
        NaN where there is no such place, and for an end of the interval that lies beyond all kept.
    """
    value, resampled = _ratios(variances, seed)
    low, high = place_interval([find(kept, row) for row in resampled], kept)
    return Estimate(float(find(kept, value)), low, high)


@isolated
def difference(variances: Floats, others: Floats, *, seed: int = 0) -> list[Estimate]:
    """Return one curve less another, K by K; rows of both are resampled together.

    Args:
        variances: (n, K).
        others: (n, K), in whose rows the same anchors stand.
        seed: of the bootstrap.
    """
    (a, a_rows), (b, b_rows) = _ratios(variances, seed), _ratios(others, seed)
    low, high = np.quantile(a_rows - b_rows, [0.025, 0.975], axis=0)
    return [Estimate(*row) for row in np.stack([a - b, low, high], 1).tolist()]


def _ratios(variances: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return the mean over anchors relative to its first entry, and the same of resampled anchors.

    Numerator and denominator are resampled together (percentile bootstrap).
    """
    n = len(variances)
    rows = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    means, mean = variances[rows].mean(1), variances.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where all images are alike
        return mean / mean[0], means / means[:, :1]


def knee(kept: Sequence[int], value: Sequence[float]) -> float:
    """Return the m at which a falling curve bends most: farthest below its chord.

    Both axes are scaled to [0, 1] first (Satopaa et al. 2011, "Kneedle"). It is one of ``kept``,
    which are its resolution (:func:`to_grid`). NaN where the curve does not fall, or lies nowhere
    below its chord.
    """
    m, v = np.asarray(kept, float), np.asarray(value, float)
    if not v[0] > v[-1]:
        return float("nan")
    across = (m - m[0]) / (m[-1] - m[0])
    down = (v - v[-1]) / (v[0] - v[-1])
    below = 1 - across - down
    place = int(np.argmax(below))
    return float(kept[place]) if below[place] > _STRAIGHT else float("nan")


def suffices(kept: Sequence[int], value: Sequence[float], level: float = 0.1) -> float:
    """Return the m from which on the variance stays below a level, read on straight lines.

    NaN if it never does, or is not known.
    """
    v = np.asarray(value, float)
    if np.isnan(v).any():
        return float("nan")
    above = np.flatnonzero(v > level)
    if not len(above):
        return float(kept[0])
    last = int(above[-1])
    if last + 1 == len(v):
        return float("nan")
    part = (v[last] - level) / (v[last] - v[last + 1])
    return float(kept[last] + part * (kept[last + 1] - kept[last]))


def suggested_cuts(kept: Sequence[int], value: Sequence[float], k: int) -> tuple[int, ...]:
    """Return k - 1 cuts that leave each of k bands about the same share of the variance.

    The curve is read between its points on a straight line. Cuts that would coincide are one.
    """
    falling = np.minimum.accumulate(np.asarray(value, float))
    targets = falling[-1] + (falling[0] - falling[-1]) * (1 - np.arange(1, k) / k)
    places = np.interp(-targets, -falling, np.asarray(kept, float))
    return tuple(sorted({max(1, round(float(place))) for place in places}))


def cut_grid(total: int, count: int) -> Iterator[int]:
    """Yield about ``count`` numbers of latents from 0 to ``total``, denser where m is small."""
    grid = np.unique(np.rint(total * np.linspace(0, 1, count) ** 2).astype(int))
    yield from grid.tolist()


def place_interval(places: Sequence[float], kept: Sequence[int]) -> tuple[float, float]:
    """Return the 95 % interval of resampled places, of which NaN lie beyond all kept.

    >>> place_interval([10.0] * 50 + [float("nan")] * 50, [0, 10, 20])
    (10.0, nan)
    """
    last = float(kept[-1])
    ends = np.quantile(np.nan_to_num(places, nan=2 * last + 1), [0.025, 0.975])
    low, high = (float(end) if end <= last else float("nan") for end in ends)
    return low, high


def to_grid(place: Estimate, kept: Sequence[int]) -> Estimate:
    """Widen the interval of a place that is one of ``kept`` to the measured numbers beside it.

    A curve that was measured at few places bends somewhere between the neighbours of the one found.

    >>> print(to_grid(Estimate(125, 125, 125), [0, 90, 125, 160]))
    125 [90, 160]
    """
    m = np.asarray(kept)
    below, above = m[m < place.low], m[m > place.high]
    low = float(below[-1]) if len(below) else place.low
    return Estimate(place.value, low, float(above[0]) if len(above) else place.high)
