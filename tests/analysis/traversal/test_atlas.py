"""The atlas: what was planted is found, and chance is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gdm_repr.analysis.traversal.atlas import LEVEL, Atlas, build_atlas
from gdm_repr.analysis.traversal.figures import draw_effects, draw_maps, draw_measures, draw_shares
from gdm_repr.analysis.traversal.paths import FEATURE_MEASURES, IMAGE_MEASURES, Measures
from gdm_repr.grouping import build_grouping

N = 16


def measures(effect: NDArray[np.float64]) -> Measures:
    """Measures of n anchors, all the same but for the effect."""
    n = len(effect)
    numbers = {f"{kind}/pixels": np.full(n, 0.5) for kind in FEATURE_MEASURES}
    numbers |= {kind: np.full(n, 0.25) for kind in IMAGE_MEASURES} | {"effect/pixels": effect}
    shares = np.tile([0.5, 0.3, 0.2], (n, 1))
    return Measures(numbers, shares, shares, np.full((3, 4), 0.1))


def atlas(
    elements: NDArray[np.float64], random: NDArray[np.float64], raw: float = 0.5, seed: int = 0
) -> Atlas:
    """An atlas of effects (n, E) and (n, R)."""
    return build_atlas(
        "pixels",
        {str(e): measures(values) for e, values in enumerate(elements.T)},
        {str(e): measures(np.full(len(elements), raw)) for e in range(elements.shape[1])},
        {f"random {r}": measures(values) for r, values in enumerate(random.T)},
        seed=seed,
    )


def effects(
    means: NDArray[np.float64], rng: np.random.Generator, anchors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Effects of given means, times what is the anchor's own, and noise."""
    noise = rng.lognormal(0, 0.1, (len(anchors), len(means)))
    return np.asarray(means * anchors[:, None] * noise)


def test_planted_elements_are_found_and_ranked() -> None:
    rng = np.random.default_rng(0)
    own = rng.lognormal(0, 0.5, N)  # what anchors differ by is no noise: the test is paired
    means = np.array([1.0, 2.0, 1.0, 0.5, 3.0, 1.0])
    found = atlas(effects(means, rng, own), effects(np.ones(12), rng, own))
    assert [entry.name for entry in found.entries[:2]] == ["4", "1"]
    assert found.entries[-1].name == "3"
    assert {entry.name for entry in found.entries if entry.q <= LEVEL} == {"4", "1"}
    assert found.passing == 2
    assert found.entries[0].above == 1
    assert found.entries[-1].above == 0
    assert found.spread > 3
    assert found.spread_p < 0.01
    assert all(entry.p <= entry.q for entry in found.entries)
    top = found.entries[0]
    assert top.gain is not None
    assert top.gain.value == pytest.approx(top.effect.value - 0.5)
    assert top.gain.low == pytest.approx(top.effect.low - 0.5)


def test_equal_elements_pass_as_seldom_as_the_level_says() -> None:
    rng = np.random.default_rng(1)
    own = rng.lognormal(0, 0.5, N)
    found = atlas(effects(np.ones(250), rng, own), effects(np.ones(100), rng, own))
    for entries in (found.entries, found.random):
        share = np.mean([entry.p <= 0.05 for entry in entries])
        assert share < 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(entries))
        assert np.mean([entry.p for entry in entries]) == pytest.approx(0.5, abs=0.06)
    assert found.passing == 0
    assert found.spread == pytest.approx(1, abs=0.2)
    assert found.spread_p > 0.01


def test_unequal_random_directions_pass_too() -> None:
    """Where all directions differ, elements pass, and so do random ones: nothing special."""
    rng = np.random.default_rng(2)
    own = np.ones(N)
    means = rng.lognormal(0, 0.4, 60)
    found = atlas(effects(means[:30], rng, own), effects(means[30:], rng, own))
    assert found.passing > 5
    assert found.passing_random > 5
    assert found.spread_p > 0.05


def test_intervals_cover_the_mean() -> None:
    """95 % of intervals over 8 anchors, within three standard errors."""
    rng = np.random.default_rng(3)
    values = rng.normal(5, 1, (8, 300))
    entries = atlas(values, values[:, :2]).entries
    inside = np.mean([entry.effect.low <= 5 <= entry.effect.high for entry in entries])
    assert abs(inside - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 300)


def test_the_only_direction_of_a_band_is_no_more_than_itself() -> None:
    same = np.random.default_rng(4).lognormal(size=(N, 1))
    found = atlas(same, np.tile(same, (1, 2)))
    assert (found.entries[0].p, found.passing) == (1, 0)
    assert np.isnan(found.spread)


def test_too_little_to_compare_is_refused() -> None:
    one = np.ones((N, 1))
    with pytest.raises(ValueError, match="directions=1: a null needs at least 2"):
        atlas(one, one)
    with pytest.raises(ValueError, match="anchors=1: an interval needs at least 2"):
        atlas(one[:1], np.ones((1, 2)))


@pytest.mark.parametrize("count", [1, 100])
def test_figures_hold_one_or_many_elements(count: int) -> None:
    rng = np.random.default_rng(5)
    own = np.ones(N)
    found = atlas(effects(np.ones(count), rng, own), effects(np.ones(3), rng, own))
    grouping = build_grouping("bands", (1, 3, 4), cuts=[3, 7])
    for figure in (
        draw_effects(found),
        draw_measures(found),
        draw_maps(found),
        draw_shares(found, grouping, [0]),
    ):
        figure.canvas.draw()
    bars = draw_shares(found, grouping, [0]).axes[0].patches
    tops = [float(bar.get_extents().y1) for bar in bars]
    assert max(tops) == pytest.approx(min(tops[-count:]))  # every bar is full
