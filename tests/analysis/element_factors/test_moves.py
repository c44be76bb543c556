"""Shares by traversal: known functions of latents have known Sobol indices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gdm_repr.analysis.element_factors.moves import changes, move_shares, places
from gdm_repr.analysis.element_factors.shares import Shares, both, claim

N = 60


def readings(z: np.ndarray, e: int, count: int) -> np.ndarray:
    """Read four known functions, of variance 1, off z with element e set to the places."""
    there = np.repeat(z[:, None], count, axis=1)
    there[..., e] = places(count)[0]
    a, b = there[..., 0], there[..., 1]
    return np.stack([a, (b**2 - 1) / 2**0.5, a * b, 0.6 * a + 0.8 * b], axis=-1)


def shares_of(z: np.ndarray, count: int = 3) -> Shares:
    names = ["line", "bent", "product", "sum"]
    return move_shares(
        [readings(z, e, count) for e in range(3)],
        ["0", "1", "2"],
        names,
        [np.ones(1)] * 4,
        strange=[0.0] * 3,
        resamples=40,
        seed=0,
    )


def latents() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 3))


@pytest.mark.parametrize("count", [3, 5])
def test_shares_are_sobol_s(count: int) -> None:
    found = shares_of(latents(), count)
    first = np.array([[1, 0, 0, 0.36], [0, 1, 0, 0.64], [0, 0, 0, 0]])
    np.testing.assert_allclose(found.value, first, atol=0.08)
    assert found.total is not None
    total = np.array([[1, 0, 1, 0.36], [0, 1, 1, 0.64], [0, 0, 0, 0]])
    np.testing.assert_allclose(found.total, total, atol=0.5)
    np.testing.assert_array_equal(
        found.moves(0.01), [[True, False, False, True], [False, True, False, True], [False] * 4]
    )


def test_two_places_see_straight_lines_only() -> None:
    found = shares_of(latents(), 2)
    assert found.value[0, 0] == pytest.approx(1)
    assert found.value[1, 1] == pytest.approx(0, abs=1e-12)


def test_reading_errors_have_no_share() -> None:
    """Errors of the variance of the factor itself leave no bias, and are not found."""
    rng = np.random.default_rng(1)
    noise = [rng.normal(size=(N, 3, 4)) for _ in range(100)]
    names = [str(e) for e in range(100)]
    found = move_shares(
        noise, names, list("abcd"), [np.ones(1)] * 4, strange=[0.0] * 100, resamples=40, seed=0
    )
    assert not found.found.any()
    assert found.value.mean() == pytest.approx(0, abs=0.003)
    assert found.draws.mean() == pytest.approx(0, abs=0.003)
    assert found.total is not None
    assert found.total.mean() > 0.4
    assert (found.p <= 0.1).mean() == pytest.approx(0.1, abs=0.04)


def test_changes_hold_all_of_the_variance_over_places() -> None:
    read = np.random.default_rng(2).normal(size=(5, 4, 3))
    w = places(4)[1][:, None]
    mean = (w * read).sum(1, keepdims=True)
    variance = (w * (read - mean) ** 2).sum(1)
    np.testing.assert_allclose((changes(read) ** 2).sum(1), variance)


def test_directions_of_strange_images_are_not_judged() -> None:
    found = replace(shares_of(latents()), strange=np.array([0.9, 0.2, 0.0]))
    assert found.moves(0.01).sum(1).tolist() == [0, 2, 0]
    told = claim(found, 0.01)
    assert (told.total, told.strange, told.moving) == (2, 1, 1)


def test_both_is_what_two_ways_agree_on() -> None:
    one = shares_of(latents())
    other = replace(one, value=one.value[::-1], p=one.p[::-1], draws=one.draws[:, ::-1])
    agreed = both(one, other)
    np.testing.assert_array_equal(agreed.moves(0.01)[:, 3], [False, True, False])
    np.testing.assert_array_equal(both(one, one.only(["sum"])).value, one.value[:, 3:])
