"""How well factors are predicted: score, interval, null; and the fewest bands that suffice.

A discrete factor's score is balanced accuracy, the mean over classes of the share found; others'
is R^2 of predictions of images not fitted to, pooled over cosine and sine of a circular one. R^2 is
about 0 or below where nothing is predicted; balanced accuracy is compared with its null:
(score - null) / (1 - null), which is 0 by chance and 1 at best.

Intervals are of the images: predictions are resampled, probes not fitted again. The null is the
score of probes fitted to permuted labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.factors.labels import Factor
from gdm_repr.analysis.factors.probes import Probe, out_of_fold, over_frequency
from gdm_repr.analysis.intervals.bootstrap import image_counts
from gdm_repr.analysis.intervals.estimate import Estimate, Floats, p_value
from gdm_repr.boundary.isolation import isolated

_CHUNK = 50  # resamples at a time
CLOSE = 0.05  # of what all latents tell beyond chance, which a prefix that suffices may lack


@dataclass(frozen=True)
class ProbeScore:
    """How well a probe predicts a factor from some columns.

    Attributes:
        value: R^2, or balanced accuracy.
        null: scores of probes fitted to permuted labels.
        draws: scores of resampled images; of one factor, the same images for all columns.
        n: images.
        classes: whether the score is balanced accuracy.
    """

    value: float
    null: tuple[float, ...]
    draws: tuple[float, ...]
    n: int
    classes: bool

    @property
    def null_mean(self) -> float:
        """Mean score by chance."""
        return float(np.mean(self.null))

    @property
    def p_value(self) -> float:
        """Share of scores by chance that are as high, this one counted among them."""
        return p_value(self.value, self.null)

    @property
    def estimate(self) -> Estimate:
        """The score with its interval."""
        return _estimate(self.value, np.array(self.draws))

    @property
    def above_chance(self) -> Estimate:
        """R^2, or balanced accuracy as a share of the way from chance to 1."""
        return _estimate(float(self._above(self.value)), self._above(np.array(self.draws)))

    @property
    def null_top(self) -> float:
        """The highest score by chance, on the scale of :attr:`above_chance`."""
        return float(self._above(max(self.null)))

    @property
    def found(self) -> bool:
        """Whether it is higher than chance allows for: than every null, and so is its interval."""
        return self.value > max(self.null) and self.estimate.low > self.null_mean

    def minus(self, other: ProbeScore) -> Estimate:
        """Return how much more this predicts than others of the same images, by the same scale."""
        draws = self._above(np.array(self.draws)) - other._above(np.array(other.draws))
        return _estimate(self.above_chance.value - other.above_chance.value, draws)

    def differs(self, other: ProbeScore) -> int:
        """Return 1 where this predicts more than others, -1 where less, 0 where that is not clear.

        Of two that are both no better than chance, none is more.
        """
        gap = self.minus(other)
        if gap.low > 0 and self.found:
            return 1
        return -1 if gap.high < 0 and other.found else 0

    def _above(self, value: Any) -> Any:  # noqa: ANN401
        return (value - self.null_mean) / (1 - self.null_mean) if self.classes else value


@isolated
def probe_scores(
    probe: Probe,
    tables: Sequence[NDArray[Any]],
    factors: Sequence[Factor],
    fold: NDArray[np.int64],
    *,
    permutations: int,
    resamples: int,
    seed: int,
) -> list[ProbeScore]:
    """Score a probe's predictions of factors that the same images have.

    Args:
        probe: the probe.
        tables: columns of all images (n, D), for each fold.
        factors: one or more, of the same rows; of one kind where the probe fits them one by one.
        fold: of all images, (n,).
        permutations: draws of the null, unless the probe takes fewer.
        resamples: draws of images that an interval is from.
        seed: of the draws.
    """
    rows = factors[0].rows
    own = fold[rows]
    tables = [table[rows] for table in tables]
    draws = [
        np.random.default_rng([seed, 1, draw]).permutation(len(rows))
        for draw in range(min(permutations, probe.most_null))
    ]
    orders = [np.arange(len(rows)), *draws]
    blocks = [factor.targets[order] for factor in factors for order in orders]
    is_class = [factor.kind == "discrete" for factor in factors for _ in orders]
    if probe.together:
        scaled = np.concatenate(blocks, axis=1)
        stacked = out_of_fold(probe, tables, scaled, own, classes=False)
        predicted = np.split(stacked, np.cumsum([block.shape[1] for block in blocks])[:-1], axis=1)
    else:
        predicted = [
            out_of_fold(probe, tables, block, own, classes=classes)
            for block, classes in zip(blocks, is_class, strict=True)
        ]
    sums = [
        _moments(guess, block, own, classes)
        for guess, block, classes in zip(predicted, blocks, is_class, strict=True)
    ]
    values = [
        float(_score(m.sum(0)[None], classes)[0]) for m, classes in zip(sums, is_class, strict=True)
    ]
    each = len(orders)
    resampled = _resample(sums[::each], is_class[::each], resamples, seed)
    return [
        ProbeScore(
            values[i * each],
            tuple(values[i * each + 1 : (i + 1) * each]),
            tuple(resampled[i].tolist()),
            len(rows),
            is_class[i * each],
        )
        for i in range(len(factors))
    ]


def enough(prefixes: Mapping[str, ProbeScore]) -> str | None:
    """Return the first prefix that is close to all columns, or None if these tell nothing.

    Args:
        prefixes: scores by name, each of more columns than the one before, the last of all.
    """
    *_, whole = prefixes.values()
    if not whole.found:
        return None
    wanted = whole.value - CLOSE * (whole.value - whole.null_mean)
    return next(name for name, score in prefixes.items() if score.value >= wanted)


def _moments(predicted: Floats, targets: Floats, fold: NDArray[np.int64], classes: bool) -> Floats:
    """Return numbers of each image whose sums give the score, (n, moments)."""
    if classes:
        guess = over_frequency(predicted, targets, fold).argmax(1)
        right = targets * (guess == targets.argmax(1))[:, None]
        return np.concatenate([right, targets], axis=1)
    centred = targets - targets.mean(0)  # so that the sums of squares do not cancel
    error = ((predicted - targets) ** 2).sum(1)
    squares = (centred**2).sum(1)
    return np.column_stack([np.ones(len(targets)), error, squares, centred])


def _score(sums: Floats, classes: bool) -> Floats:
    """Return scores (draws,) of sums of moments (draws, moments)."""
    if classes:
        right, count = np.split(sums, 2, axis=1)
        share = np.divide(right, count, out=np.zeros_like(right), where=count > 0)
        found: Floats = share.sum(1) / np.maximum((count > 0).sum(1), 1)
        return found
    n, error, squares = sums[:, 0], sums[:, 1], sums[:, 2]
    spread = squares - (sums[:, 3:] ** 2).sum(1) / n
    r2: Floats = 1 - error / np.maximum(spread, np.finfo(float).tiny)
    return r2


def _resample(
    moments: Sequence[Floats], classes: Sequence[bool], resamples: int, seed: int
) -> list[Floats]:
    """Return scores of resampled images, (resamples,) for each."""
    n = len(moments[0])
    ends = np.cumsum([m.shape[1] for m in moments])[:-1]
    table = np.concatenate(moments, axis=1)
    parts = []
    for start in range(0, resamples, _CHUNK):
        draws = range(start, min(start + _CHUNK, resamples))
        parts.append(image_counts(n, draws, seed, 2) @ table)
    sums = np.split(np.concatenate(parts), ends, axis=1)
    return [_score(s, c) for s, c in zip(sums, classes, strict=True)]


def _estimate(value: float, draws: Floats) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
