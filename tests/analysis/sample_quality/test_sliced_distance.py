"""The sliced Wasserstein distance: closed forms of shifts and of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import Score, compare
from gdm_repr.analysis.sample_quality.sliced_distance import DIRECTIONS, directions, sliced


def sliced_wasserstein(
    real: Floats, fake: Floats, other: Floats | None = None, count: int = DIRECTIONS, seed: int = 0
) -> Score:
    found = compare(sliced(count, seed), real, {"fake": fake}, other, seed=seed)
    return found["fake"]["sliced_wasserstein"]


def test_of_a_shift_it_is_the_shift_s_projection() -> None:
    x = np.random.default_rng(0).standard_normal((30, 5))
    shift = np.array([1.0, 0, -2, 0, 3])
    score = sliced_wasserstein(x, x[::-1] + shift, count=64, seed=3)
    w = directions(5, 64, 3)
    assert score.value == pytest.approx(np.sqrt(np.square(shift @ w).mean()))
    assert np.linalg.norm(w, axis=0) == pytest.approx(np.ones(64))


def test_directions_are_uniform() -> None:
    """E w w^T = I / F; of a shift, SW is on average its length over sqrt(F)."""
    w = directions(4, 20_000, 0)
    assert np.allclose(w @ w.T / 20_000, np.eye(4) / 4, atol=0.01)
    with pytest.raises(ValueError, match="directions=0: must be at least 1"):
        directions(4, 0, 0)


def test_of_gaussians_in_one_dimension() -> None:
    """W_2^2 = (m - m')^2 + (s - s')^2, for any direction, which is 1 or -1."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4000, 1))
    score = sliced_wasserstein(x, 2 * y + 1, count=1)
    assert score.low < np.sqrt(2) < score.high
    assert score.high - score.low < 0.2


def test_it_sees_a_shape_that_a_frechet_distance_does_not() -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (400, 1))  # of mean 0 and variance 1, as N(0, 1)
    real, other = rng.standard_normal((2, 400, 1))
    score = sliced_wasserstein(real, signs, other)
    assert score.ratio is not None
    assert score.ratio.low > 2
