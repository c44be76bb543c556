"""Means over images, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from gdm_repr.analysis.intervals.bootstrap import resampled_means
from gdm_repr.analysis.intervals.curves import distance_curve, enough, paired_difference

KEPT = [0, 10, 20, 40]


def test_intervals_cover_the_mean_about_as_often_as_they_say() -> None:
    covered = []
    for seed in range(100):
        values = np.random.default_rng(seed).exponential(size=(60, 1))
        curve = distance_curve(values, [0], 3, seed=seed)
        covered.append(curve.low[0] <= 1 <= curve.high[0])
        assert curve.value[0] == pytest.approx(values.mean())
        assert (curve.n, curve.draws) == (60, 3)
    assert 88 <= sum(covered) <= 99


def test_resamples_have_the_spread_of_a_mean() -> None:
    values = np.random.default_rng(0).standard_normal((50, 3))
    means = resampled_means(values, 0)
    np.testing.assert_allclose(means.mean(0), values.mean(0), atol=0.02)
    np.testing.assert_allclose(means.std(0), values.std(0) / np.sqrt(50), rtol=0.06)
    np.testing.assert_array_equal(resampled_means(values, 0), means)


def test_pairs_cancel_what_images_share() -> None:
    rng = np.random.default_rng(0)
    shared = 10 * rng.standard_normal((40, 1))
    a, b = (shared + [[1.0, 0.0]] * 40 + 0.01 * rng.standard_normal((40, 2)) for _ in range(2))
    first, second = paired_difference(a + np.array([2.0, 0.0]), b, seed=0)
    assert first.low < 2 < first.high
    assert second.low < 0 < second.high
    assert first.high - first.low < 0.02


def test_enough_is_read_from_the_curve() -> None:
    fall = np.array([1.0, 0.6, 0.2, 0.0])
    size = np.random.default_rng(0).uniform(1, 2, (30, 1))
    values, reference = size * fall, 2 * size[:, 0]
    found = enough(values, KEPT, 0.2, reference=reference)  # at 0.4, halfway from 10 to 20
    assert (found.value, found.low, found.high) == pytest.approx((15, 15, 15))
    values[:, 3] = np.nan  # not measured
    assert enough(values, KEPT, 0.2, reference=reference).value == pytest.approx(15)
    assert np.isnan(enough(values, KEPT, 0.05, reference=reference).value)
    rough = fall * np.random.default_rng(1).uniform(0, 2, (30, 1))
    loose = enough(rough, KEPT, 0.2, reference=2 * np.ones(30))
    assert loose.low < loose.value < loose.high


def test_a_reference_counts_as_one() -> None:
    size = np.random.default_rng(0).uniform(1, 2, (30, 1))
    curve = distance_curve(size * [1.0, 0.25], [0, 1], 1, reference=size[:, 0])
    for ends in (curve.value, curve.low, curve.high):
        assert ends == pytest.approx((1, 0.25))
    gap = paired_difference(size * [[1.0]], size * [[0.5]], reference=size[:, 0])[0]
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_image_has_no_interval() -> None:
    with pytest.raises(ValueError, match="values: 1 images; an interval needs 2 or more"):
        distance_curve(np.ones((1, 2)), [0, 1], 1, seed=0)
    curve = distance_curve(np.ones((2, 2)), [0, 1], 1, seed=0)
    assert str(curve.at(1)) == "1 [1, 1]"
