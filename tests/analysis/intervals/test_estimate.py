"""Intervals that agree with the tests beside them, over many random ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdm_repr.analysis.element_factors.shares import Shares
from gdm_repr.analysis.intervals.estimate import LEVEL, Estimate, agreeing

finite = st.floats(-3, 3, allow_nan=False)


@given(st.integers(19, 999), st.data(), finite, st.floats(0.01, 2), st.floats(0.01, 2), finite)
def test_chance_is_below_the_interval_exactly_where_the_test_says_so(
    draws: int, data: st.DataObject, value: float, down: float, up: float, chance: float
) -> None:
    as_high = data.draw(st.integers(0, draws))
    p = (1 + as_high) / (1 + draws)
    given = Estimate(value, value - down, value + up)
    found = agreeing(given, p, draws, chance)
    assert found.value == value
    assert found.low <= max(value, chance) and found.high == given.high
    if value > chance + 1e-9:
        assert (found.low > chance) == (p <= LEVEL)
    else:
        assert found.low <= chance
    # what chance has no part in stays as it was
    if (given.low > chance) == (p <= LEVEL):
        assert found == given


def test_too_few_draws_decide_nothing() -> None:
    given = Estimate(0.5, 0.4, 0.6)
    assert agreeing(given, 0.1, 9) == given
    unknown = agreeing(Estimate(0.5, math.nan, math.nan), 0.01, 99)
    assert math.isnan(unknown.low)


@pytest.mark.parametrize("seed", range(20))
def test_a_share_is_above_0_where_its_p_is_small(seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = rng.normal(0.01, 0.02, (6, 3))
    draws = value + rng.normal(0, rng.uniform(0.001, 0.05), (200, 6, 3))
    p = (1 + rng.integers(0, 100, (6, 3))) / 1000
    shares = Shares(tuple("abcdef"), tuple("xyz"), value, draws, p, 100, permutations=999)
    for e in range(6):
        for f in range(3):
            found = shares.interval(e, f)
            if value[e, f] > 0:
                assert (found.low > 0) == (p[e, f] <= 0.05)
