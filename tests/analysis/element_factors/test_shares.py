"""Shares, purity and the claim: closed forms, and what noise gives."""

from __future__ import annotations

import numpy as np
import pytest

from gdm_repr.analysis.element_factors.probes import probe_shares
from gdm_repr.analysis.element_factors.shares import Shares, carriers, claim, purity
from gdm_repr.analysis.factors.labels import Factor, read_factor

N, E = 2400, 6
FEW = {"permutations": 99, "resamples": 40, "seed": 0}


def latents() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, E))


def factors_of(z: np.ndarray) -> list[Factor]:
    """An amount, a thing that is not monotone, classes, and an angle of two elements."""
    return [
        read_factor("amount", z[:, 0]),
        read_factor("bent", z[:, 1] ** 2),
        read_factor("kind", np.digitize(z[:, 2], [-0.7, 0.7]).astype(str)),
        read_factor("angle", np.arctan2(z[:, 3], z[:, 4]), period=2 * np.pi),
    ]


def probe(table: np.ndarray, factors: list[Factor], **more: int) -> Shares:
    names = [str(e) for e in range(table.shape[1])]
    return probe_shares(table, names, factors, **{**FEW, **more})


def test_an_element_that_is_a_factor_has_it_alone() -> None:
    z = latents()
    shares = probe(z, factors_of(z))
    found = shares.moves(0.01)
    expected = np.zeros((E, 4), bool)
    expected[[0, 1, 2, 3, 4], [0, 1, 2, 3, 3]] = True
    np.testing.assert_array_equal(found, expected)
    # bins of a normal number: the variance of their means
    assert shares.value[0, 0] == pytest.approx(0.96, abs=0.02)
    # of an angle of two normal numbers, each tells the mean of its own cosine over the other
    v, w = np.polynomial.hermite_e.hermegauss(60)
    mean = (w / np.hypot(v[:, None], v)).sum(1) / w.sum() * v
    assert shares.value[3, 3] == pytest.approx((w * mean**2).sum() / w.sum(), abs=0.03)
    told = claim(shares, 0.01)
    assert (told.total, told.moving, told.singles, told.factors) == (E, 5, 5, 4)
    assert told.single.value == 1
    assert told.purity.value > 0.97
    assert told.purity.low <= told.purity.value <= told.purity.high
    assert carriers(shares.value)[[0, 3]] == pytest.approx([1, 2], rel=0.05)


def test_a_rotation_of_the_same_numbers_is_less_pure() -> None:
    z = latents()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(E, E)))[0]
    own = claim(probe(z, factors_of(z)), 0.01)
    turned = claim(probe(z @ turn, factors_of(z)), 0.01)
    assert turned.single.value < 0.5
    gap = own.purer(turned)
    assert gap.low > 0.2
    assert gap.low < gap.value < gap.high


def test_noise_has_no_factor() -> None:
    """Of 1,200 pairs without any relation none is found, whatever the kind of the factor."""
    rng = np.random.default_rng(2)
    shares = probe(rng.normal(size=(N, 300)), factors_of(latents()), permutations=9)
    assert not shares.found.any()
    assert abs(shares.value).max() < 0.02
    # p is uniform: its draws are of one null for all columns
    assert (shares.p <= 0.1).mean() == pytest.approx(0.1, abs=0.03)
    told = claim(shares, 0.01)
    assert (told.moving, told.singles) == (0, 0)
    assert np.isnan(told.single.value)


def test_a_column_of_one_value_tells_nothing_though_images_are_sorted() -> None:
    table = np.column_stack([np.zeros(N), np.arange(N)])
    shares = probe(table, [read_factor("place", np.arange(N) / 7.1)])
    assert shares.moves(0.01)[:, 0].tolist() == [False, True]


def test_factors_of_some_images_only() -> None:
    z = latents()
    column = z[:, 0].copy()
    column[::3] = np.nan
    half = [read_factor("whole", z[:, 0]), read_factor("part", column)]
    shares = probe(z, half)
    assert shares.moves(0.01)[:, 1].tolist() == [True, *[False] * (E - 1)]
    # beside another factor nothing changes
    alone = probe(z, half[1:])
    np.testing.assert_array_equal(alone.value[:, 0], shares.value[:, 1])
    np.testing.assert_array_equal(alone.draws[..., 0], shares.draws[..., 1])
    np.testing.assert_array_equal(shares.only(["part"]).value[:, 0], shares.value[:, 1])


def test_purity() -> None:
    assert purity(np.array([[0.0, 0.0, 0.0], [0.2, 0.2, 0.0]])).tolist() == [1 / 3, 0.5]
    assert purity(np.full((2, 3, 4), 0.1)) == pytest.approx(0.25)


def test_a_sample_of_directions_is_less_certain() -> None:
    z = latents()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(E, E)))[0]
    shares = probe(z @ turn, factors_of(z))
    fixed, sampled = claim(shares, 0.01), claim(shares, 0.01, sampled=True)
    assert sampled.purity.value == fixed.purity.value
    assert sampled.purity.high - sampled.purity.low > fixed.purity.high - fixed.purity.low
