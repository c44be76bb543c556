"""Means of per-image values with intervals: curves, paired differences, and where a curve is low.

Intervals are 95 % percentile bootstraps that resample images, the same ones at every call with one
seed and number of images: what is compared is resampled together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.band_variance.variance import place_interval, suffices
from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.boundary.isolation import isolated

Floats = NDArray[np.float64]
RESAMPLES = 2000
_AT_ONCE = 50  # resamples drawn together: memory is 400 bytes an image


@dataclass(frozen=True)
class DistanceCurve:
    """A mean over images against what is kept; one entry a kept set.

    Attributes:
        kept: number of latents, or of a control's coordinates in a channel.
        value: mean over images; NaN where it was not measured.
        low: lower end of the 95 % bootstrap interval over images.
        high: upper end.
        n: number of images.
        draws: reconstructions of an image that each value is the mean of.
    """

    kept: tuple[int, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int
    draws: int

    def at(self, m: int) -> Estimate:
        """Return the value at one of ``kept``."""
        i = self.kept.index(m)
        return Estimate(self.value[i], self.low[i], self.high[i])


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


@isolated
def resampled_means(values: Floats, seed: int) -> Floats:
    """Return means of resampled images, (resamples, K), from values (n, K)."""
    n = len(values)
    rng = np.random.default_rng(seed)
    even = np.full(n, 1 / n)
    parts = [rng.multinomial(n, even, _AT_ONCE) @ values / n for _ in range(0, RESAMPLES, _AT_ONCE)]
    return np.concatenate(parts)


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
