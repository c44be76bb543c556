"""Scenes: factors keep their ranges, laws and hold-outs; images depend on nothing else."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.fft import dctn

from gdm_repr.data.scenes.factors import (
    SCENE_FACTORS,
    Factors,
    held_out,
    render_scenes,
    scene_factors,
)

FACTORS = {factor.name: factor for factor in SCENE_FACTORS}


def plain(**changes: float | str) -> Factors:
    """Return scenes in the middle of every range, but for the changes."""
    factors: Factors = {}
    for name, factor in FACTORS.items():
        value = changes.get(name)
        if value is None:
            low, high = factor.range[0], factor.range[-1]
            value = low if isinstance(low, str) else (float(low) + float(high)) / 2
        factors[name] = np.array([value])
    return factors


def test_every_column_stays_in_its_range_and_fills_it() -> None:
    factors = scene_factors(range(4000), seed=3)
    assert list(factors) == list(FACTORS)
    for name, factor in FACTORS.items():
        column = factors[name]
        assert column.shape == (4000,)
        if factor.kind == "discrete":
            _, counts = np.unique(column, return_counts=True)
            assert set(column.tolist()) == set(factor.range)
            assert stats.chisquare(counts).pvalue > 1e-4
        else:
            low, high = (float(end) for end in factor.range)
            unit = (column - low) / (high - low)
            assert unit.min() >= 0 and unit.max() < 1
            assert stats.kstest(unit, "uniform").pvalue > 1e-4


def test_factors_are_independent_unless_told() -> None:
    factors = scene_factors(range(4000), seed=1)
    codes = [np.unique(column, return_inverse=True)[1] for column in factors.values()]
    correlation = stats.spearmanr(np.stack(codes, axis=1)).statistic
    # 66 pairs of standard error 1/sqrt(4000) = .016: 4.5 of these
    assert np.abs(correlation - np.eye(len(codes))).max() < 0.07


def test_a_scene_depends_on_index_and_seed_only() -> None:
    together = scene_factors(range(50), seed=2)
    alone = scene_factors([31], seed=2)
    backwards = scene_factors(np.arange(49, -1, -1), seed=2)
    other = scene_factors(range(50), seed=3)
    for name, column in together.items():
        assert column[31] == alone[name][0]
        np.testing.assert_array_equal(column, backwards[name][::-1])
        assert (column != other[name]).any()


def test_images_depend_on_their_own_row_only() -> None:
    factors = scene_factors(range(40), seed=0)
    images = render_scenes(factors, 24)
    for i in (0, 17, 39):
        row = {name: column[i : i + 1] for name, column in factors.items()}
        np.testing.assert_array_equal(render_scenes(row, 24)[0], images[i])


def test_the_same_bits_on_every_machine() -> None:
    factors = scene_factors(range(200), seed=0)
    bits = [render_scenes(factors, size).tobytes() for size in (16, 32)]
    digests = [hashlib.sha256(some).hexdigest()[:16] for some in bits]
    assert digests == ["639e3cbb5af46707", "bbe308cf44ac39c9"]


@pytest.mark.parametrize("r", [0.8, -0.5])
def test_correlated_factors_stay_uniform(r: float) -> None:
    factors = scene_factors(range(4000), correlated=[("size", "y", r)])
    rank = stats.spearmanr(factors["size"], factors["y"]).statistic
    assert rank == pytest.approx(6 / np.pi * np.arcsin(r / 2), abs=0.05)  # of a Gaussian copula
    unit = (factors["y"] - 0.35) / 0.3
    assert stats.kstest(unit, "uniform").pvalue > 1e-4
    np.testing.assert_array_equal(factors["x"], scene_factors(range(4000))["x"])


def test_full_correlation_and_discrete_factors() -> None:
    factors = scene_factors(range(500), correlated=[("x", "y", 1.0), ("x", "shape", 1.0)])
    np.testing.assert_allclose(factors["y"], factors["x"], atol=1e-9)
    order = [FACTORS["shape"].range.index(shape) for shape in factors["shape"]]
    assert (np.diff(np.array(order)[np.argsort(factors["x"])]) >= 0).all()


def test_held_out_combinations_do_not_occur() -> None:
    holdout: list[dict[str, Any]] = [
        {"shape": ["star", "heart"], "hue": (0.0, 0.5)},
        {"accessory": ["dot"], "x": (0.5, 0.65)},
    ]
    free, factors = scene_factors(range(2000)), scene_factors(range(2000), holdout=holdout)
    out = held_out(free, holdout)
    assert out.mean() == pytest.approx(0.4 * 0.5 + 0.25 * 0.5 - 0.4 * 0.5 * 0.25 * 0.5, abs=0.05)
    assert not held_out(factors, holdout).any()
    for name, column in factors.items():
        np.testing.assert_array_equal(column[~out], free[name][~out])
    alone = scene_factors([int(np.flatnonzero(out)[0])], holdout=holdout)
    assert alone["x"][0] == factors["x"][np.flatnonzero(out)[0]]


def test_only_what_was_held_out() -> None:
    combinations: list[dict[str, Any]] = [
        {"shape": ["star"], "hue": (0.0, 0.25)},
        {"rotation": (10.0, 30.0), "accessory": ["ring", "dot"]},
    ]
    factors = scene_factors(range(1000), only=combinations)
    assert held_out(factors, combinations).all()
    both = scene_factors(range(100), only=combinations[:1], holdout=combinations[1:])
    assert set(both["shape"]) == {"star"}
    assert not held_out(both, combinations[1:]).any()
    free = scene_factors(range(1000))
    inside = held_out(free, combinations)
    for name, column in factors.items():
        np.testing.assert_array_equal(column[inside], free[name][inside])


def test_few_values() -> None:
    factors = scene_factors(range(2000), values=4, correlated=[("size", "y", 0.8)])
    for name, factor in FACTORS.items():
        distinct, counts = np.unique(factors[name], return_counts=True)
        if factor.kind == "discrete":
            assert set(distinct) == set(factor.range)
            continue
        low, high = (float(end) for end in factor.range)
        # circular ones too: their ends are the same, and the values evenly spaced around
        np.testing.assert_allclose((distinct - low) / (high - low), [0.125, 0.375, 0.625, 0.875])
        assert stats.chisquare(counts).pvalue > 1e-4
    assert stats.spearmanr(factors["size"], factors["y"]).statistic > 0.6
    with pytest.raises(ValueError, match="values = 0"):
        scene_factors(range(3), values=0)


@pytest.mark.parametrize("size", [16, 17, 32, 64, 128])
def test_any_size(size: int) -> None:
    images = render_scenes(scene_factors(range(6)), size)
    assert images.shape == (6, size, size, 3)
    assert images.dtype == np.uint8
    assert images.std(axis=(1, 2)).min() > 3


def test_no_scenes_give_no_images() -> None:
    assert render_scenes(scene_factors([]), 16).shape == (0, 16, 16, 3)


def shrunk(images: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.float64]:
    n, size, _, channels = images.shape
    blocks = images.reshape(n, size // factor, factor, size // factor, factor, channels)
    mean: npt.NDArray[np.float64] = blocks.mean(axis=(2, 4))
    return mean


@pytest.mark.parametrize(("size", "largest"), [(32, 2.0), (64, 1.2)])
def test_anti_aliased_small_images_are_averages_of_large_ones(size: int, largest: float) -> None:
    factors = scene_factors(range(100))
    difference = shrunk(render_scenes(factors, 128), 128 // size) - render_scenes(factors, size)
    # edges that only sample pixel centres are six times as far off
    assert np.sqrt(np.mean(difference**2)) < largest


def test_moving_by_one_pixel_moves_the_object_by_one_pixel() -> None:
    size = 32
    here = plain(background_angle=90.0, x=0.45, accessory="ring")
    there = plain(background_angle=90.0, x=0.45 + 1 / size, accessory="ring")
    a, b = render_scenes(here, size)[0].astype(int), render_scenes(there, size)[0].astype(int)
    # the background runs from top to bottom and does not tell the columns apart
    assert np.abs(b[:, 1:] - a[:, :-1]).max() <= 1


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_shows(name: str) -> None:
    factor = FACTORS[name]
    low, high = factor.range[0], factor.range[-1]
    if not isinstance(low, str) and factor.kind == "circular":
        high = (float(low) + float(high)) / 2
    a, b = (render_scenes(plain(**{name: value}), 32).astype(float) for value in (low, high))
    assert np.sqrt(np.mean((a - b) ** 2)) > 2


@pytest.mark.parametrize("name", [name for name, f in FACTORS.items() if f.kind == "circular"])
def test_circular_factors_come_round(name: str) -> None:
    low, high = (float(end) for end in FACTORS[name].range)
    a, b = (render_scenes(plain(**{name: value}), 32).astype(int) for value in (low, high))
    assert np.abs(a - b).max() <= 1


def test_scales_are_what_they_say() -> None:
    """Redrawing a coarse factor changes low frequencies, redrawing a fine one hardly does."""
    size = 32
    low = np.hypot(*np.meshgrid(np.arange(size), np.arange(size))) / 2 < 2.5  # cycles per image
    factors, other = scene_factors(range(300)), scene_factors(range(300, 600))
    images = render_scenes(factors, size).astype(float)
    share: dict[str, list[float]] = {"coarse": [], "middle": [], "fine": []}
    for name, factor in FACTORS.items():
        change = render_scenes(factors | {name: other[name]}, size) - images
        power = (dctn(change, axes=(1, 2)) ** 2).sum(axis=(0, 3))
        share[factor.scale].append(power[low].sum() / power.sum())
    assert min(share["coarse"]) > 0.95
    assert max(share["fine"]) < 0.3
    # between them on average only: the object's edges hold high frequencies too
    assert np.mean(share["fine"]) < np.mean(share["middle"]) < np.mean(share["coarse"])


@pytest.mark.parametrize(
    ("correlated", "message"),
    [
        ([("size", "z", 0.5)], "names 'z', which is no factor; use background_hue"),
        ([("size", "y", 1.5)], r"r = 1.5 of size, y is outside \[-1, 1\]"),
        ([("size", "size", 0.5)], "'size' comes second but occurred before"),
        ([("size", "y", 0.5), ("x", "y", 0.5)], "'y' comes second but occurred before"),
    ],
)
def test_wrong_correlations_are_refused(
    correlated: list[tuple[str, str, float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scene_factors(range(3), correlated=correlated)


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        ({"colour": (0, 1)}, "names 'colour', which is no factor"),
        ({"shape": ["disc"]}, "shape = 'disc' is none of ellipse, square"),
        ({}, "empty combination"),
        ({"hue": (0, 1)}, "leaves almost no scenes"),
        ({"hue": (0.5, 0.2)}, "hue: .* must be"),
        ({"hue": 0.5}, "hue: .* must be"),
        ({"size": (0.5, 0.6)}, "holds none of its values, which run from 0.2 to 0.32"),
        ({"shape": "star"}, "shape: .* must be"),
    ],
)
def test_wrong_hold_outs_are_refused(holdout: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene_factors(range(3), holdout=[holdout])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": np.array([0.9])}, r"size = 0.9 is outside \[0.2, 0.32\]"),
        ({"hue": np.array([np.nan])}, "hue = nan is outside"),
        ({"shape": np.array(["disc"])}, "shape = 'disc' is none of"),
        ({"x": np.array([0.5, 0.5])}, r"column 'x' has shape \(2,\)"),
        ({"x": np.float64(0.5)}, r"column 'x' has shape \(\)"),
    ],
)
def test_wrong_tables_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_scenes(plain() | change, 32)


def test_a_missing_column_and_a_wrong_size_are_refused() -> None:
    factors = plain()
    with pytest.raises(ValueError, match="size = 15 is out of range; use 16 to 128"):
        render_scenes(factors, 15)
    del factors["hue"]
    with pytest.raises(ValueError, match="lack the column 'hue'"):
        render_scenes(factors, 32)
