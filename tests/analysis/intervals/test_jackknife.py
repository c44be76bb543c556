"""Intervals cover what they are for, of every score, and mistakes are told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import (
    SHARE,
    SIGNED,
    Measure,
    Rows,
    Score,
    Statistic,
    compare,
)
from gdm_repr.analysis.sample_quality.frechet import FRECHET
from gdm_repr.analysis.sample_quality.kernel_distance import KID
from gdm_repr.analysis.sample_quality.neighbour_scores import neighbours
from gdm_repr.analysis.sample_quality.sliced_distance import sliced

TRIALS, N, F = 100, 40, 3
MEASURES = [FRECHET, KID, neighbours(), sliced(16)]
# Of intervals that cover 95 % in truth, fewer than 88 of 100 do so once in 700 times (binomial).
ENOUGH = 88


def trials(measure: Measure, shift: float) -> list[dict[str, Score]]:
    """Score N(shift, I) against N(0, I), with a floor, over and over."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(TRIALS):
        real, fake, other = rng.standard_normal((3, N, F))
        found.append(compare(measure, real, {"x": fake + shift}, other, groups=10, seed=seed)["x"])
    return found


@pytest.mark.parametrize("shift", [0.0, 0.8])
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.names[0])
def test_intervals_cover_the_mean_score_at_this_n(measure: Measure, shift: float) -> None:
    """Also between images of one kind, where distances have no first-order term."""
    found = trials(measure, shift)
    for name in measure.names:
        scores = [each[name] for each in found]
        values = np.array([score.value for score in scores])
        truth = values.mean()
        assert sum(s.low <= truth <= s.high for s in scores) >= ENOUGH, name
        half = np.mean([(s.high - s.low) / 2 for s in scores])
        assert half < 3 * 1.96 * values.std(), name  # nor are they wide for nothing
        floors = [s.floor for s in scores if s.floor is not None]
        truth = np.mean([floor.value for floor in floors])
        assert sum(floor.low <= truth <= floor.high for floor in floors) >= ENOUGH, name
        gaps = [s.excess for s in scores if s.excess is not None]
        truth = np.mean([gap.value for gap in gaps])
        assert sum(gap.low <= truth <= gap.high for gap in gaps) >= ENOUGH, name


@pytest.mark.parametrize("measure", [FRECHET, sliced(16)], ids=lambda measure: measure.names[0])
def test_the_ratio_to_the_floor_is_covered(measure: Measure) -> None:
    """Of images as good as real ones it is 1: the log of it is symmetric around 0."""
    ratios = [each[measure.names[0]].ratio for each in trials(measure, 0.0)]
    assert sum(ratio is not None and ratio.low <= 1 <= ratio.high for ratio in ratios) >= ENOUGH


def _mean_gap(real: Floats, other: Floats) -> Statistic:
    def statistic(kept: Rows) -> list[float]:
        return [float(other[kept].mean() - real[kept].mean())]

    return statistic


def test_of_a_mean_it_is_the_t_interval() -> None:
    """With a group for every image the jackknife of a mean is its standard error."""
    rng = np.random.default_rng(1)
    real, fake = rng.standard_normal((2, 12, 1))
    score = compare(Measure(("gap",), _mean_gap, (SIGNED,)), real, {"x": fake}, groups=12)["x"][
        "gap"
    ]
    each = (fake - real).ravel()
    half = 2.200985160 * each.std(ddof=1) / np.sqrt(12)  # the t quantile of 11 degrees
    assert score.value == pytest.approx(each.mean())
    assert (score.high - score.low) / 2 == pytest.approx(half)
    assert score.floor is score.ratio is score.excess is score.corrected is None


def _constant(value: float) -> Measure:
    def bind(real: Floats, other: Floats) -> Statistic:
        return lambda kept: [value]

    return Measure(("share",), bind, (SHARE,))


def test_a_share_of_all_or_none_is_not_certain() -> None:
    x = np.zeros((20, 1))
    low, high = (compare(m, x, {"x": x})["x"]["share"] for m in map(_constant, (0.0, 1.0)))
    assert (low.low, high.high) == (0, 1)
    assert low.high == 1 - high.low == pytest.approx(1 - 0.025 ** (1 / 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:3], "x: n=3 images; at least 4"),
        (lambda x: x[:-1], r"x: shape \(7, 2\), but the real images' is \(8, 2\)"),
        (lambda x: x[:, :1], r"x: shape \(8, 1\), but"),
        (lambda x: x * np.nan, "x: 16 values are not finite; drop those images"),
        (lambda x: x[:, 0], r"x: shape \(8,\); must be \(n, F\)"),
    ],
)
def test_sets_that_can_t_be_compared(change: Callable[[Floats], Floats], message: str) -> None:
    x = np.random.default_rng(0).standard_normal((8, 2))
    with pytest.raises(ValueError, match=message):
        compare(FRECHET, x, {"x": change(x)})
    with pytest.raises(ValueError, match="groups=1: must be at least 2"):
        compare(FRECHET, x, {"x": x}, groups=1)
