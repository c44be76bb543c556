"""Intervals, paired differences and the Pareto front: against SciPy, and by their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gdm_repr.analysis.compare.statistics import (
    DIRECTIONS,
    HIGHER,
    LOWER,
    Difference,
    better_of,
    has_word,
    holm,
    is_cost,
    near,
    paired,
    pareto_front,
    seed_mean,
)


def by_seed(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    return {str(seed): float(value) for seed, value in enumerate(values)}


@pytest.mark.parametrize("n", [2, 3, 10])
def test_intervals_are_those_of_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(1, 2, (2, n))
    found = seed_mean(list(a))
    assert found is not None
    expected = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    assert (found.mean.low, found.mean.high) == pytest.approx((expected.low, expected.high))
    assert found.n == n
    assert found.std == pytest.approx(np.std(a, ddof=1))
    difference, test = paired(by_seed(a), by_seed(b)), stats.ttest_rel(a, b)
    assert difference.mean is not None
    interval = test.confidence_interval(0.95)
    assert (difference.mean.low, difference.mean.high) == pytest.approx(tuple(interval))
    assert difference.p == pytest.approx(test.pvalue)


def test_intervals_over_three_seeds_cover() -> None:
    """The seed's share is far wider than the difference, and cancels."""
    rng = np.random.default_rng(0)
    runs, covered, covered_difference, told = 2000, 0, 0, 0
    for _ in range(runs):
        common = rng.normal(0, 10, 3)
        a, b = common + rng.normal(0.5, 1, 3), common + rng.normal(0, 1, 3)
        found, difference = seed_mean(list(a)), paired(by_seed(a), by_seed(b))
        assert found is not None
        assert difference.mean is not None
        covered += found.mean.low < 0.5 < found.mean.high
        covered_difference += difference.mean.low < 0.5 < difference.mean.high
        null = paired(by_seed(a), by_seed(a + rng.normal(0, 1, 3)))
        told += null.p < 0.05
    error = 3 * math.sqrt(0.95 * 0.05 / runs)
    assert covered / runs == pytest.approx(0.95, abs=error)
    assert covered_difference / runs == pytest.approx(0.95, abs=error)
    assert told / runs == pytest.approx(0.05, abs=error)


def test_pairs_are_made_by_seed() -> None:
    found = paired({"2": 5.0, "0": 1.0, "9": 7.0}, {"0": 0.5, "1": 9.0, "2": 4.5})
    assert found.mean is not None
    assert (found.n, found.mean.value, found.varies) == (2, 0.5, False)
    assert paired({"0": 1.0}, {"1": 1.0}).verdict(LOWER) == "no common seed"


def test_one_seed_gives_no_interval_and_no_test() -> None:
    found = seed_mean([2.0])
    assert str(found) == "2 [-]"
    assert seed_mean([]) is None
    one = paired({"0": 1.0}, {"0": 2.0})
    assert math.isnan(one.p)
    assert not one.told_apart
    assert one.verdict(LOWER) == "one pair: no test"


def test_counts_that_do_not_vary_are_not_tested() -> None:
    by_design = paired({"0": 0.3, "1": 0.3}, {"0": 0.1, "1": 0.1})
    assert by_design.verdict(LOWER) == "does not vary: no test"
    assert paired({"0": 0.3, "1": 0.1}, {"0": 0.3, "1": 0.1}).verdict(None) == "equal"
    corrected = holm(
        {"a": by_design, "b": paired({"0": 1, "1": 2.1, "2": 3}, {"0": 0, "1": 1, "2": 2})}
    )
    assert math.isnan(corrected["a"].holm)
    assert corrected["b"].holm == corrected["b"].p  # a is not among those tested


def test_holm_is_between_none_and_bonferroni_and_keeps_the_order() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        p = rng.uniform(0, 1, 6) ** 3
        found = holm({str(i): Difference(3, None, each, each, True) for i, each in enumerate(p)})
        corrected = np.array([found[str(i)].holm for i in range(6)])
        assert (corrected >= p).all()
        assert (corrected <= np.minimum(1, 6 * p) + 1e-15).all()
        assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
        assert corrected.min() == pytest.approx(min(1, 6 * p.min()))


def test_holm_tells_a_choice_apart_by_chance_in_one_of_twenty() -> None:
    rng, runs, wrong = np.random.default_rng(2), 3000, 0
    for _ in range(runs):
        p = rng.uniform(0, 1, 5)
        found = holm({str(i): Difference(3, None, each, each, True) for i, each in enumerate(p)})
        wrong += any(each.told_apart for each in found.values())
    assert wrong / runs == pytest.approx(0.05, abs=0.012)


def test_an_interval_excludes_0_exactly_where_the_p_beside_it_is_below_a_twentieth() -> None:
    """Of one choice by its own interval and p, of all by Holm's, by which the verdict goes."""
    rng, seen = np.random.default_rng(3), set()
    for _ in range(400):
        n, choices = int(rng.integers(2, 9)), int(rng.integers(1, 7))
        base = by_seed(rng.normal(0, 5, n))
        found = holm(
            {
                str(i): paired(
                    {s: v + rng.normal(rng.uniform(0, 2), 1) for s, v in base.items()}, base
                )
                for i in range(choices)
            }
        )
        for each in found.values():
            assert each.mean is not None
            assert each.joint is not None
            assert (each.mean.low > 0 or each.mean.high < 0) == (each.p < 0.05)
            told = each.joint.low > 0 or each.joint.high < 0
            assert told == (each.holm < 0.05) == each.told_apart
            assert each.joint.low <= each.mean.low and each.joint.high >= each.mean.high
            assert (each.verdict(HIGHER) in ("better", "worse")) == told
            seen.add((each.p < 0.05, told))
    assert seen == {(False, False), (True, False), (True, True)}


def test_the_interval_beside_holms_p_is_that_of_its_level() -> None:
    base = {str(s): 0.0 for s in range(4)}
    noise = np.array([-1.5, -0.5, 0.5, 1.5])
    found = holm({str(m): paired(by_seed(noise + m), base) for m in (9.0, 3.0, 1.0)})
    for name, left in (("9.0", 3), ("3.0", 2), ("1.0", 1)):
        expected = stats.ttest_1samp(noise + float(name), 0).confidence_interval(1 - 0.05 / left)
        joint = found[name].joint
        assert joint is not None
        assert (joint.low, joint.high) == pytest.approx((expected.low, expected.high))
    assert found["1.0"].joint == found["1.0"].mean


def test_verdicts_know_what_is_better() -> None:
    lower = Difference(3, paired({"0": 1.0}, {"0": 2.0}).mean, 0.01, 0.01, True)
    assert [lower.verdict(better) for better in (LOWER, near(1), HIGHER, None)] == [
        "better",
        "better",
        "worse",
        "differs",
    ]


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("sample_quality/frechet/pixels", "lower is better"),
        ("sample_quality/sliced_wasserstein/band_0_5", "lower is better"),
        ("sample_quality/recall/dct", "higher is better"),
        ("denoising_loss/0_5", "lower is better"),
        ("valLoss", None),
        ("val-loss", "lower is better"),
        ("train_seconds", "lower is better"),
        ("images_per_second", "higher is better"),
        ("band_std/0_5", "nearer to 1 is better"),
        ("band_kurtosis/0_5", "nearer to 3 is better"),
        ("total_correlation", None),
        ("lossless", None),
    ],
)
def test_what_is_better_is_read_from_words(key: str, rule: str | None) -> None:
    better = better_of(key)
    assert (better.rule if better else None) == rule


def test_the_directions_are_one_table() -> None:
    assert len({words for words, _ in DIRECTIONS}) == len(DIRECTIONS)
    assert is_cost("evaluations_per_sample")
    assert not is_cost("sample_quality/kid/pixels")
    assert has_word("a.images-per/second", "per_second")


def test_the_front_is_what_nothing_dominates() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        points = rng.integers(0, 8, (12, 2)).astype(float)  # with ties
        front = pareto_front([tuple(each) for each in points])
        for place, own in enumerate(points):
            by_front = [bool((points[f] <= own).all() and (points[f] < own).any()) for f in front]
            assert any(by_front) == (place not in front)
        best = np.lexsort((points[:, 1], points[:, 0]))[0]  # lowest cost, then best quality
        assert best in front
        bent = np.stack([np.exp(points[:, 0]), points[:, 1] ** 3], 1)
        assert pareto_front([tuple(each) for each in bent]) == front
    assert pareto_front([]) == []
