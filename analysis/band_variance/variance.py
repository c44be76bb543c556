"""How much an image still varies when some of its latents are fixed (Sec. 4.2, Fig. 4a).

For an anchor z_a and a set K of kept latents, draw the others afresh and decode:

    V_a(K) = E || phi(x) - E phi(x) ||^2,   x = decode(z),   z_K = (z_a)_K,   z_n ~ N(0, 1) off K,

estimated without bias from D draws, with the mean over anchors, and shown relative to the *free*
variance V(empty set). K is the first m latents of the generation order (the paper's curve), every
band but one, or one band alone. Draw i of anchor a is the same noise for every K, so that the
difference between two K is not hidden by noise, and the result depends on the seed alone.

**Control.** The same with the images' own coefficients instead of latents: x keeps the anchor
image's coefficients in K and takes the others from another image. A thumbnail keeps low frequencies
too; what the latents do beyond it is the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.basis import Basis
from gdm_repr.boundary.isolation import isolated
from gdm_repr.edit.operations import vary
from gdm_repr.generation import Generation, Mask, shared_groups

Floats = NDArray[np.float64]
RESAMPLES = 2000  # of the bootstrap over anchors
_STRAIGHT = 1e-9  # of the curve's height: nearer to its chord than that, it does not bend
Features = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [-1, 1] to features (B, F)."""


@dataclass(frozen=True)
class Curve:
    """Variance against what is kept; one entry a kept set.

    Attributes:
        kept: number of latents kept.
        value: mean over anchors of the variance over that of the first entry, the free one.
        low: lower end of the 95 % bootstrap interval over anchors.
        high: upper end.
        variance: mean over anchors, in squared units of the features.
        anchors: n, number of anchors.
        draws: D, draws an anchor.
    """

    kept: tuple[int, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    variance: tuple[float, ...]
    anchors: int
    draws: int


class Welford:
    """Running mean and summed squared deviation of vectors (Welford 1962, Chan et al. 1983)."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.n, self.mean, self.square = 0, torch.zeros(()), 0.0

    @isolated
    def add(self, values: Tensor) -> None:
        """Take in vectors (B, F)."""
        values = values.double()
        n, mean = len(values), values.mean(0)
        square = float((values - mean).square().sum())
        shift = mean - self.mean
        total = self.n + n
        self.square += square + float(shift.square().sum()) * self.n * n / total
        self.mean = self.mean + shift * n / total
        self.n = total

    def variance(self) -> float:
        """Return the unbiased variance, summed over the vector's components."""
        return self.square / (self.n - 1)


@isolated
def fresh_noise(shape: tuple[int, int], seed: int, anchor: int, draws: range) -> Tensor:
    """Return noise (D, C, d) of an anchor's draws, each from (seed, anchor, draw) alone."""
    rows = [np.random.default_rng([seed, anchor, draw]).standard_normal(shape) for draw in draws]
    return torch.from_numpy(np.stack(rows)).float()


@isolated
def anchor_variances(
    generation: Generation,
    basis: Basis,
    features: Sequence[Features],
    z: Tensor,
    kept: Sequence[Mask],
    *,
    anchor: int,
    draws: int,
    seed: int,
    batch_size: int = 64,
    advance: Callable[[int], object] = lambda images: None,
) -> list[list[float]]:
    """Return V_a(K) of one anchor for every phi and K; memory does not grow with the draws.

    Args:
        generation: decodes, sharing the groups that lie in K where the model allows it.
        basis: turns decoded coefficients to pixels.
        features: every phi; the images are decoded once for all.
        z: the anchor's latents, (1, C, d).
        kept: the sets K, each bool (1 or C, d).
        anchor: the anchor's number, which seeds its draws.
        draws: D, at least 2.
        seed: of the draws.
        batch_size: images decoded together; it does not change the result.
        advance: told how many images were decoded, for a progress bar.

    Raises:
        ValueError: if there are fewer than 2 draws.
    """
    if draws < 2:
        raise ValueError(f"draws={draws}: a variance needs at least 2 draws an anchor")
    grouping = generation.flow.grouping
    states = generation.states(z)
    shared = [min(shared_groups(grouping, keep), len(states) - 1) for keep in kept]
    running = [[Welford() for _ in kept] for _ in features]
    for start in range(0, draws, batch_size):
        part = range(start, min(start + batch_size, draws))
        noise = fresh_noise((z.shape[1], z.shape[2]), seed, anchor, part).to(z.device)
        together = max(1, batch_size // len(part))  # sets that are decoded at once
        for done in sorted(set(shared)):
            alike = [number for number in range(len(kept)) if shared[number] == done]
            for first in range(0, len(alike), together):
                numbers = alike[first : first + together]
                latents = torch.cat([vary(z, ~kept[number], noise)[0] for number in numbers])
                data = generation.finish(states[done].expand_as(latents), latents, done)
                x = basis.inverse(data)
                for phi, row in zip(features, running, strict=True):
                    values = torch.split(phi(x), len(part))
                    for number, value in zip(numbers, values, strict=True):
                        row[number].add(value)
                advance(len(x))
    return [[welford.variance() for welford in row] for row in running]


@isolated
def control_variances(
    features: Sequence[Features],
    basis: Basis,
    x_bar: Tensor,
    pool: Tensor,
    kept: Sequence[Mask],
    *,
    anchor: int,
    draws: int,
    seed: int,
    batch_size: int = 64,
) -> list[list[float]]:
    """Return the control's V_a(K): the anchor's coefficients in K, other images' elsewhere.

    Args:
        features: every phi.
        basis: turns coefficients to pixels.
        x_bar: coefficients of the anchor image, (1, C, d).
        pool: coefficients of other images, (N, C, d).
        kept: the sets K.
        anchor: the anchor's number.
        draws: D, at least 2 and at most N.
        seed: of the draws.
        batch_size: images at a time.

    Raises:
        ValueError: if there are fewer than 2 draws or not so many other images.
    """
    if not 2 <= draws <= len(pool):
        raise ValueError(f"draws={draws}: must be between 2 and {len(pool)}, the images to draw")
    stream = [seed, anchor, 0, 1]  # none of fresh_noise's
    chosen = np.random.default_rng(stream).choice(len(pool), draws, replace=False)
    running = [[Welford() for _ in kept] for _ in features]
    for start in range(0, draws, batch_size):
        other = pool[torch.from_numpy(chosen[start : start + batch_size])].to(x_bar.device)
        for number, keep in enumerate(kept):
            mixed = torch.where(torch.from_numpy(keep).to(x_bar.device), x_bar, other)
            x = basis.inverse(mixed)
            for phi, row in zip(features, running, strict=True):
                row[number].add(phi(x))
    return [[welford.variance() for welford in row] for row in running]


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


def around(place: float, kept: Sequence[int]) -> tuple[int, int]:
    """Return the measured numbers between which a place was read on a straight line.

    >>> around(125.0, [0, 90, 160]), around(90.0, [0, 90, 160])
    ((90, 160), (90, 90))
    """
    m = np.asarray(kept)
    return int(m[m <= place][-1]), int(m[m >= place][0])


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
