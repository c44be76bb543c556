"""Noise on images, a pure function of (seed, item, draw, element).

A counter-based generator: every number is a hash of where it stands, so neither the order of the
items, nor the batch they are in, nor the number of workers can change it. The hash is SplitMix64
(Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", Fig. 15).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from gdm_repr.boundary.isolation import isolated

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_CHUNK = 1 << 20  # elements at a time: keeps the float64 intermediates small
_GAUSSIAN_BITS = 32  # of the uniform number behind a Gaussian one: none beyond 6.3 stds


@isolated
def dequantize(
    values: npt.NDArray[np.unsignedinteger],
    levels: int,
    ids: Sequence[str],
    *,
    seed: int,
    draw: int,
) -> npt.NDArray[np.float32]:
    """Spread integer levels over their width: x = 2 (v + u) / (levels + 1) - 1, u ~ U(0, 1).

    u is a multiple of a power of two, as fine as float32 can hold beside v (14 bits for 8-bit
    data, 6 for 16-bit), so that floor((x + 1) / 2 * (levels + 1)) gives v back.

    Args:
        values: Levels v, 0..levels, shape (B, ...).
        levels: Highest level.
        ids: B item ids.
        seed: Seed of the data set.
        draw: Number of the noise draw; each gives other noise for the same item.

    Returns:
        x in (-1, 1), same shape as `values`.
    """
    x = np.empty(values.shape, np.float32)
    step = max(1, _CHUNK // max(1, values[0].size if len(values) else 1))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        u = uniform(ids[rows], values[0].size, seed=seed, draw=draw, bits=_noise_bits(levels))
        x[rows] = (values[rows] + u.reshape(values[rows].shape)) * (2 / (levels + 1)) - 1
    return x


@isolated
def gaussian(
    ids: Sequence[str], shape: tuple[int, ...], *, seed: int, draw: int
) -> npt.NDArray[np.float32]:
    """Return noise N(0, 1) for B items, independent of that of `dequantize`.

    Args:
        ids: B item ids.
        shape: of one item.
        seed: Seed of the data set.
        draw: Number of the noise draw; each gives other noise for the same item.

    Returns:
        Noise (B, *shape).
    """
    noise = np.empty((len(ids), *shape), np.float32)
    names = [f"noise {name}" for name in ids]
    count = int(np.prod(shape))
    step = max(1, _CHUNK // max(1, count))
    for start in range(0, len(ids), step):
        u = uniform(names[start : start + step], count, seed=seed, draw=draw, bits=_GAUSSIAN_BITS)
        noise[start : start + step] = ndtri(u).reshape(-1, *shape)
    return noise


@isolated
def uniform(
    ids: Sequence[str], n: int, *, seed: int, draw: int, bits: int
) -> npt.NDArray[np.float64]:
    """Return noise (B, n): midpoints (j + 1/2) / 2^bits of 2^bits equal cells of (0, 1)."""
    names = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids]
    item = np.frombuffer(b"".join(names), "<u8").astype(np.uint64)
    stream = _splitmix64(np.array([seed % 2**64], np.uint64))
    stream = _splitmix64(stream ^ np.uint64(draw % 2**64))
    key = _splitmix64(item ^ stream)[:, None]
    element = np.arange(1, n + 1, dtype=np.uint64)
    cell = _splitmix64(key + element * _GOLDEN) >> np.uint64(64 - bits)
    u: npt.NDArray[np.float64] = (cell + 0.5) / 2**bits
    return u


def _noise_bits(levels: int) -> int:
    """Bits of u that float32's 24 have left beside the level, the midpoint and the sign of x."""
    return 22 - levels.bit_length()


def _splitmix64(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Hash 64-bit integers; arithmetic is modulo 2^64."""
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
