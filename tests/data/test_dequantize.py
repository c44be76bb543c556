"""Dequantisation: uniform, independent, and a function of seed, item, draw and element alone."""

import numpy as np
import numpy.typing as npt
import pytest

from gdm_repr.data.dequantize import _GOLDEN, _splitmix64, dequantize, gaussian, uniform

IDS = [f"{i:04d}" for i in range(200)]


def test_noise_is_uniform_and_uncorrelated() -> None:
    u = uniform(IDS, 500, seed=3, draw=1, bits=14)
    n = u.size
    # Standard errors of the moments of U(0, 1): Var u = 1/12, Var (u - 1/2)^2 = 1/180.
    assert abs(u.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / n)
    assert abs(((u - 1 / 2) ** 2).mean() - 1 / 12) < 4 * np.sqrt(1 / 180 / n)
    for other in (
        np.roll(u, 1, axis=0),  # other items
        np.roll(u, 1, axis=1),  # other elements
        uniform(IDS, 500, seed=3, draw=2, bits=14),
        uniform(IDS, 500, seed=4, draw=1, bits=14),
    ):
        product = (u - 1 / 2) * (other - 1 / 2)
        assert abs(product.mean()) < 4 / 12 / np.sqrt(n)
    counts = np.bincount((u * 64).astype(int).ravel(), minlength=64)
    chi_squared = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert abs(chi_squared - 63) < 4 * np.sqrt(2 * 63)


def test_noise_belongs_to_the_item() -> None:
    u = uniform(IDS, 30, seed=0, draw=0, bits=14)
    order = np.random.default_rng(0).permutation(len(IDS))
    shuffled = uniform([IDS[i] for i in order], 30, seed=0, draw=0, bits=14)
    np.testing.assert_array_equal(shuffled, u[order])
    np.testing.assert_array_equal(uniform(IDS[7:8], 9, seed=0, draw=0, bits=14)[0], u[7, :9])


def test_noise_is_the_same_on_every_machine() -> None:
    cells = (uniform(["a", "é"], 3, seed=-1, draw=2, bits=8) * 256).astype(int)
    assert cells.tolist() == [[143, 76, 156], [87, 243, 108]]


def test_the_hash_is_splitmix64() -> None:
    # The first outputs of the published generator for the seed 1234567.
    state = np.array([1234567], np.uint64) + np.arange(2, dtype=np.uint64) * _GOLDEN
    assert _splitmix64(state).tolist() == [6457827717110365317, 3203168211198807973]


@pytest.mark.parametrize(("levels", "dtype"), [(16, np.uint8), (255, np.uint8), (65535, np.uint16)])
def test_levels_come_back(levels: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    v: npt.NDArray[np.unsignedinteger] = rng.integers(0, levels + 1, (50, 3, 8, 8)).astype(dtype)
    v[0], v[1] = 0, levels
    x = dequantize(v, levels, IDS[:50], seed=0, draw=0)
    assert x.dtype == np.float32
    assert np.abs(x).max() < 1
    np.testing.assert_array_equal(np.floor((x.astype(float) + 1) / 2 * (levels + 1)), v)


def test_large_and_empty_batches() -> None:
    v = np.zeros((3, 1, 1100, 1000), np.uint8)  # several chunks
    x = dequantize(v, 255, ["a", "b", "c"], seed=0, draw=0)
    np.testing.assert_array_equal(x[2:], dequantize(v[2:], 255, ["c"], seed=0, draw=0))
    assert dequantize(v[:0], 255, [], seed=0, draw=0).shape == (0, 1, 1100, 1000)


def test_gaussian_noise_is_normal_independent_and_seeded() -> None:
    names = [f"item {i}" for i in range(400)]
    noise = gaussian(names, (3, 8, 8), seed=0, draw=0)
    flat = noise.ravel().astype(np.float64)  # 76,800 numbers: 4 standard errors each
    assert abs(flat.mean()) < 4 / len(flat) ** 0.5
    assert abs(flat.var() - 1) < 4 * (2 / len(flat)) ** 0.5
    assert abs((flat**4).mean() - 3) < 4 * (96 / len(flat)) ** 0.5
    np.testing.assert_array_equal(gaussian(names[7:9], (3, 8, 8), seed=0, draw=0), noise[7:9])
    uniforms = uniform(names, 192, seed=0, draw=0, bits=14).ravel()
    for other in (
        gaussian(names, (3, 8, 8), seed=1, draw=0).ravel(),
        gaussian(names, (3, 8, 8), seed=0, draw=1).ravel(),
        uniforms,
    ):
        assert abs(np.corrcoef(flat, other)[0, 1]) < 4 / len(flat) ** 0.5
