"""Band variance of data whose latents are known: the closed form, and that nothing else matters."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.analysis.band_variance.variance import anchor_variances, control_variances
from gdm_repr.analysis.intervals.curves import (
    curve,
    cut_grid,
    difference,
    knee,
    place,
    suffices,
    suggested_cuts,
    to_grid,
)
from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.basis import build_basis
from gdm_repr.coordinates import Flow
from gdm_repr.generation import Generation
from gdm_repr.grouping import build_grouping
from gdm_repr.masks import Mask, first_elements, group_elements
from gdm_repr.ode import Plan
from gdm_repr.oracle import gaussian_oracle
from gdm_repr.process import PROCESSES

SHAPE = (1, 3, 4)
D = 12
GROUPING = build_grouping("bands", SHAPE, cuts=[3, 7])
BASIS = build_basis("dct", SHAPE[1:])
CUTS = [0, 1, 3, 5, 7, 10, 12]


def covariance() -> Tensor:
    root = torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return root @ root.T / D + 0.1 * torch.eye(D, dtype=torch.float64)


def generation(*, strict: bool = True, steps: int = 3) -> Generation:
    S, mean = covariance(), torch.zeros(D, dtype=torch.float64)
    oracle = gaussian_oracle(mean, S, GROUPING)
    flow = Flow(oracle, GROUPING, PROCESSES["linear"], mean[None], S.diagonal().sqrt()[None])
    return Generation(flow, Plan("midpoint", "whitened", (steps,) * 3), strict=strict)


def pixels(x: Tensor) -> Tensor:
    return x.flatten(1)


def closed_form(kept: Mask, steps: int = 3) -> float:
    """Return the variance of x = L z with z free off K: x = decode(z) is linear for Gaussians."""
    eye = torch.eye(D, dtype=torch.float64)[:, None]
    L = generation(steps=steps).decode(eye)[:, 0].T
    return float(L[:, torch.from_numpy(~kept[0])].square().sum())


def variances(
    kept: list[Mask],
    anchors: int,
    draws: int,
    *,
    seed: int = 0,
    batch_size: int = 64,
    by: Generation | None = None,
) -> NDArray[np.float64]:
    z = torch.randn(anchors, 1, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows = [
        anchor_variances(
            by or generation(), BASIS, [pixels], z[a : a + 1], kept,
            anchor=a, draws=draws, seed=seed, batch_size=batch_size,
        )[0]
        for a in range(anchors)
    ]  # fmt: skip
    return np.array(rows)


def test_the_gaussian_oracle_has_its_closed_form() -> None:
    """Within 3 standard errors over anchors, for prefixes and for both complements."""
    kept = [first_elements(GROUPING, m) for m in CUTS]
    kept += [group_elements(GROUPING, [j]) for j in range(3)]
    kept += [~group_elements(GROUPING, [j]) for j in range(3)]
    measured = variances(kept, anchors=40, draws=24)
    exact = np.array([closed_form(mask) for mask in kept])
    error = measured.std(0, ddof=1) / np.sqrt(len(measured))
    assert (np.abs(measured.mean(0) - exact) <= 3 * error + 1e-12).all()
    assert exact[CUTS.index(12)] == 0


def test_the_closed_form_is_the_conditional_variance() -> None:
    """With whole groups kept, what is left is the variance that the kept data do not explain."""
    S = covariance()
    for cut in (3, 7):
        kept, free = S[:cut], S[cut:]
        left = free[:, cut:] - free[:, :cut] @ torch.linalg.solve(kept[:, :cut], kept[:, cut:])
        exact = closed_form(first_elements(GROUPING, cut), steps=60)
        assert exact == pytest.approx(float(left.trace()), rel=1e-3)


def test_neither_batch_size_nor_sharing_changes_the_result() -> None:
    kept = [first_elements(GROUPING, m) for m in CUTS]
    first = variances(kept, anchors=2, draws=10)
    np.testing.assert_array_equal(variances(kept, anchors=2, draws=10), first)
    for other in (
        variances(kept, 2, 10, batch_size=3),
        variances(kept, 2, 10, batch_size=1),
        variances(kept, 2, 10, by=generation(strict=False)),
    ):
        np.testing.assert_allclose(other, first, rtol=1e-9, atol=1e-12)
    reseeded = variances(kept, 2, 10, seed=1)
    assert (np.abs(reseeded - first)[:, :-1] > 1e-6).all()


def test_a_set_s_result_does_not_depend_on_the_other_sets() -> None:
    kept = [first_elements(GROUPING, m) for m in (0, 5)]
    both = variances(kept, anchors=2, draws=6)
    np.testing.assert_allclose(variances(kept[1:], 2, 6)[:, 0], both[:, 1])


def test_sharing_saves_what_it_says() -> None:
    kept = [first_elements(GROUPING, m) for m in CUTS]
    shared, plain = generation(), generation(strict=False)
    variances(kept, 2, 16, by=shared)
    variances(kept, 2, 16, by=plain)
    # groups left after 0, 1, 3, 5, 7, 10 and 12 kept latents, and three for each anchor's states
    assert shared.groups == 2 * (16 * (3 + 3 + 2 + 2 + 1 + 1 + 0) + 3)
    assert plain.groups == 2 * 16 * 3 * len(CUTS)


def test_the_control_mixes_images() -> None:
    """Independent coefficients: what is left is the variance of those that are not kept."""
    std = torch.linspace(0.2, 1.5, D)
    pool = torch.randn(4000, 1, D, generator=torch.Generator().manual_seed(1)) * std
    kept = [first_elements(GROUPING, m) for m in CUTS]
    measured = control_variances(
        [pixels], BASIS, pool[:1], pool, kept, anchor=0, draws=4000, seed=0, batch_size=512
    )[0]
    exact = [float((std[m:] ** 2).sum()) for m in CUTS]
    np.testing.assert_allclose(measured, exact, rtol=0.05, atol=1e-6)
    for draws in (1, 4001):
        with pytest.raises(ValueError, match=f"draws={draws}: must be between 2 and 4000"):
            control_variances([pixels], BASIS, pool[:1], pool, kept, anchor=0, draws=draws, seed=0)


def test_one_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="draws=1: a variance needs at least 2"):
        variances([first_elements(GROUPING, 0)], 1, 1)


def test_the_interval_covers_the_true_curve() -> None:
    kept = [first_elements(GROUPING, m) for m in CUTS]
    exact = np.array([closed_form(mask) for mask in kept])
    result = curve(variances(kept, anchors=40, draws=24), CUTS, 24)
    assert result.value[0] == 1
    assert abs(result.value[-1]) < 1e-12
    assert (result.anchors, result.draws, result.kept) == (40, 24, tuple(CUTS))
    inside = (result.low <= exact / exact[0]) & (exact / exact[0] <= result.high)
    assert inside.sum() >= len(CUTS) - 1
    np.testing.assert_array_less(np.array(result.low) - 1e-12, result.value)
    np.testing.assert_array_less(result.value, np.array(result.high) + 1e-12)


def test_knee_and_cuts_of_known_curves() -> None:
    m = list(range(101))
    bent = [1 - 0.9 * min(i, 20) / 20 - 0.1 * max(i - 20, 0) / 80 for i in m]
    assert knee(m, bent) == 20
    straight = [1 - i / 100 for i in m]
    assert suggested_cuts(m, straight, 4) == (25, 50, 75)
    # 90 % of the variance falls in the first 20 latents
    assert suggested_cuts(m, bent, 3) == (7, 15)
    noisy = [v + (0.004 if i % 2 else 0) for i, v in enumerate(straight)]
    assert np.allclose(suggested_cuts(m, noisy, 4), (25, 50, 75), atol=1)


def test_a_bend_is_no_sharper_than_the_grid_it_was_found_on() -> None:
    """All anchors bend alike, so that the bootstrap alone has no width."""
    kept = [0, 16, 64, 125, 160, 784]
    rows = np.tile([1.0, 0.9, 0.6, 0.1, 0.09, 0.0], (12, 1)) * np.arange(1.0, 13.0)[:, None]
    alone = place(rows, kept, knee)
    assert (alone.value, alone.low, alone.high) == (125, 125, 125)
    for coarse in (kept, [0, 125, 784], list(range(0, 785, 5))):
        found = to_grid(alone, coarse)
        assert found.value == 125
        assert found.low == max(m for m in coarse if m < 125)
        assert found.high == min(m for m in coarse if m > 125)
    end = to_grid(Estimate(784, 160, 784), kept)
    assert (end.low, end.high) == (125, 784)


def test_curves_without_a_bend_have_none() -> None:
    for flat in ([1.0, 1.0, 1.0], [1.0, 0.5, 0.0], [1.0, 0.9, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0]):
        assert np.isnan(knee(range(len(flat)), flat))


def test_an_end_beyond_what_was_measured_leaves_the_other_end() -> None:
    """Half of the anchors keep a fifth to the end: some resamples never come below a tenth."""
    rows = np.array([[1.0, 0.5, 0.05]] * 8 + [[1.0, 0.5, 0.25]] * 3)
    found = place(rows, [0, 10, 20], partial(suffices, level=0.1))
    assert np.isnan(found.high)
    assert 10 < found.low < 20


def test_the_grid_of_cuts_runs_from_nothing_to_everything() -> None:
    grid = list(cut_grid(64, 20))
    assert (grid[0], grid[-1]) == (0, 64)
    assert grid == sorted(set(grid))
    assert np.diff(grid)[0] < np.diff(grid)[-1]


def test_what_suffices() -> None:
    assert suffices([0, 10, 20], [1, 0.3, 0.1], 0.2) == pytest.approx(15)
    assert suffices([0, 10, 20], [1, 0.05, 0.2], 0.1) != suffices([0, 10], [1, 0.05], 0.1)
    assert np.isnan(suffices([0, 10, 20], [1, 0.05, 0.2], 0.1))
    assert suffices([0, 10], [0.05, 0], 0.1) == 0


def test_places_and_differences_have_intervals_over_anchors() -> None:
    """Anchors that agree leave no doubt; anchors that differ leave the range of what they say."""
    straight = np.tile(1 - np.arange(11) / 10, (6, 1))
    found = place(straight, range(11), suffices)
    assert found.value == found.low == found.high == pytest.approx(9)
    steep = np.tile(np.maximum(0, 1 - np.arange(11) / 5), (6, 1))
    mixed = np.concatenate([straight, steep])
    found = place(mixed, range(11), suffices)
    assert 4.5 < found.low < found.value < found.high < 9
    gap = difference(steep, straight)
    assert [g.value for g in gap] == pytest.approx(steep[0] - straight[0])
    # paired: what both share is not noise
    scale = np.linspace(1, 5, 6)[:, None]
    assert all(g.high - g.low < 1e-12 for g in difference(steep * scale, straight * scale))
