"""Measures of paths whose geometry is known: straight ones of a Gaussian, circles, opposed ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.traversal.directions import (
    Direction,
    choose_pool,
    element_directions,
    move_coefficients,
    random_directions,
    traverse,
)
from gdm_repr.analysis.traversal.paths import (
    MAP_SIDE,
    Measures,
    Ruler,
    measure_paths,
    typical_distance,
)
from gdm_repr.basis import build_basis
from gdm_repr.coordinates import Flow
from gdm_repr.generation import Generation
from gdm_repr.grouping import build_grouping, group_std
from gdm_repr.ode import Plan
from gdm_repr.oracle import gaussian_oracle
from gdm_repr.process import PROCESSES

SHAPE = (1, 3, 4)
D = 12
GROUPING = build_grouping("bands", SHAPE, cuts=[3, 7])
BASIS = build_basis("dct", SHAPE[1:])
VALUES = (-3.0, -1.0, 0.0, 2.0, 3.0)
T = 2.5


def generation() -> Generation:
    root = torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    S, mean = root @ root.T / D + 0.1 * torch.eye(D, dtype=torch.float64), torch.zeros(D).double()
    oracle = gaussian_oracle(mean, S, GROUPING)
    flow = Flow(oracle, GROUPING, PROCESSES["linear"], mean[None], S.diagonal().sqrt()[None])
    return Generation(flow, Plan("midpoint", "whitened", (3,) * 3), strict=True)


FLOW = generation().flow
RULER = Ruler(FLOW, BASIS, {"pixels": lambda x: x.flatten(1)}, {"pixels": T}, VALUES)


def traversed(direction: Direction, z: Tensor) -> Measures:
    by = generation()
    return measure_paths(RULER, direction, traverse(by, z, by.states(z), direction, VALUES))


def anchors(n: int = 6) -> Tensor:
    return torch.randn(n, 1, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def element(name: str) -> Direction:
    return element_directions(choose_pool(GROUPING, 1, elements=[name]))[0]


@pytest.mark.parametrize("which", ["1", "4", "random"])
def test_a_gaussian_s_paths_are_straight_and_known(which: str) -> None:
    """x = L z: every number follows from the vector L w."""
    pool = choose_pool(GROUPING, 1, band="3_6")
    direction = random_directions(pool, 1)[0] if which == "random" else element(which)
    z = anchors()
    L = generation().decode(torch.eye(D, dtype=torch.float64)[:, None])[:, 0].T
    change = L @ direction.w[0]
    found = traversed(direction, z)
    numbers = found.numbers
    length = float(change.norm())
    np.testing.assert_allclose(numbers["effect/pixels"], length / T, rtol=1e-9)
    for name in ("straightness", "monotonicity", "alike"):
        np.testing.assert_allclose(numbers[f"{name}/pixels"], 1, rtol=1e-9)
    place = (z[:, 0] @ direction.w[0])[:, None]
    away = (torch.tensor(VALUES) - place).abs()
    np.testing.assert_allclose(numbers["drift/pixels"], away.mean(1) * length / T, rtol=1e-9)
    share = [float(change[GROUPING.mask(g)[0]].square().sum()) / length**2 for g in range(3)]
    np.testing.assert_allclose(found.shares, [share] * len(z), atol=1e-12)
    own = float((change @ direction.w[0]).square()) / length**2
    np.testing.assert_allclose(numbers["own"], own, rtol=1e-9)
    sizes, std = np.array(GROUPING.sizes()), np.array(group_std(GROUPING, FLOW.std))
    another = np.sqrt(2 * sizes) * std / (np.sqrt(share) * length + 1e-300)
    moved = away.square().mean(1).sqrt().numpy()[:, None] / another
    np.testing.assert_allclose(found.moved, moved, atol=1e-12)
    assert (numbers["early"] == 0).all()
    rate = BASIS.inverse(change[None, None]).abs()[0, 0].numpy()
    np.testing.assert_allclose(found.map, rate, rtol=1e-9)
    weight = rate / rate.sum()
    np.testing.assert_allclose(numbers["row"], weight.sum(1) @ ((np.arange(3) + 0.5) / 3))
    np.testing.assert_allclose(numbers["column"], weight.sum(0) @ ((np.arange(4) + 0.5) / 4))
    np.testing.assert_allclose(numbers["area"], 1 / (D * np.square(weight).sum()))


def test_a_basis_shares_out_all_that_the_elements_do() -> None:
    """Squared effects of an orthonormal basis of a band sum to the trace, whichever the basis."""
    pool = choose_pool(GROUPING, 1, band="3_6")
    sums = [
        sum(traversed(each, anchors(1)).numbers["effect/pixels"][0] ** 2 for each in basis)
        for basis in (element_directions(pool), random_directions(pool, 4, seed=5))
    ]
    assert sums[0] == pytest.approx(sums[1])


def test_the_control_moves_one_std_a_unit() -> None:
    found = measure_paths(
        RULER, element("4"), move_coefficients(FLOW, anchors(), element("4"), VALUES)
    )
    np.testing.assert_allclose(found.numbers["effect/pixels"], float(FLOW.std[0, 4]) / T)
    np.testing.assert_allclose(found.numbers["own"], 1)
    np.testing.assert_allclose(found.shares, [[0, 1, 0]] * 6, atol=1e-12)


def on_path(points: Tensor, values: tuple[float, ...]) -> Measures:
    """Measure paths of phi given outright, (n, V, 2), whose data are phi's numbers and zeros."""
    data = torch.zeros(*points.shape[:2], 1, D, dtype=torch.float64)
    data[..., 0, :2] = points
    basis = build_basis("identity", SHAPE[1:])
    ruler = Ruler(FLOW, basis, {"pixels": lambda x: x.flatten(1)}, {"pixels": 1.0}, values)
    return measure_paths(ruler, element("0"), [(data, data[:, 0])])


def test_a_circle_is_as_long_as_its_arc_and_not_straight() -> None:
    """A half circle: effect pi / range, straightness 2 / pi; a whole one ends where it began."""
    V = 2001
    values = tuple(np.linspace(-3, 3, V).tolist())
    angle = torch.linspace(0, math.pi, V, dtype=torch.float64)
    circles = torch.stack([torch.stack([(t * angle).cos(), (t * angle).sin()], 1) for t in (1, 2)])
    half, whole = (on_path(circle.expand(3, V, 2), values).numbers for circle in circles)
    np.testing.assert_allclose(half["effect/pixels"], math.pi / 6, rtol=1e-5)
    np.testing.assert_allclose(half["straightness/pixels"], 2 / math.pi, rtol=1e-5)
    np.testing.assert_allclose(half["monotonicity/pixels"], 1)
    np.testing.assert_allclose(whole["effect/pixels"], math.pi / 3, rtol=1e-5)
    np.testing.assert_allclose(whole["straightness/pixels"], 0, atol=1e-9)


def test_opposed_paths_are_not_alike() -> None:
    """Two anchors one way and two the other: 2 pairs agree and 4 don't, a mean cosine of -1/3."""
    way = torch.tensor([1.0, 1, -1, -1], dtype=torch.float64)
    points = way[:, None, None] * torch.tensor([[-1.0, 0], [0, 0], [1, 0]], dtype=torch.float64)
    found = on_path(points, (-1.0, 0.0, 1.0)).numbers
    assert found["alike/pixels"].mean() == pytest.approx(-1 / 3)
    np.testing.assert_allclose(found["monotonicity/pixels"], -1)  # the others' sum goes against it
    np.testing.assert_allclose(found["straightness/pixels"], 1)


def test_the_spread_of_alike_is_that_of_the_mean_cosine() -> None:
    """The jackknife's standard error of U agrees with U's spread over many sets of anchors."""
    generator = torch.Generator().manual_seed(0)
    end = torch.randn(400, 12, 2, generator=generator, dtype=torch.float64)
    end[..., 0] += 1
    points = torch.stack([torch.zeros_like(end), end], 2)
    pseudo = np.array([on_path(each, (0.0, 1.0)).numbers["alike/pixels"] for each in points])
    error = np.sqrt(pseudo.var(1, ddof=1).mean() / 12)
    assert error == pytest.approx(pseudo.mean(1).std(ddof=1), rel=0.15)


def test_paths_that_stand_still_give_numbers() -> None:
    found = on_path(torch.ones(3, 4, 2, dtype=torch.float64), (0.0, 1.0, 2.0, 3.0))
    for name in ("effect", "straightness", "monotonicity", "alike", "drift"):
        np.testing.assert_array_equal(found.numbers[f"{name}/pixels"], 0)
    assert np.isfinite(found.map).all()
    assert all(np.isfinite(values).all() for values in found.numbers.values())


def test_measures_come_back_from_a_journal_and_join() -> None:
    z, one = anchors(7), element("4")
    whole = traversed(one, z)
    joined = Measures.join([traversed(one, part) for part in (z[:3], z[3:])])
    np.testing.assert_allclose(joined.map, whole.map, rtol=1e-4)
    np.testing.assert_allclose(joined.shares, whole.shares)
    for name, values in whole.numbers.items():
        np.testing.assert_allclose(joined.numbers[name], values, atol=1e-9)
    again = Journal().once("whole", Measures, lambda: whole)
    np.testing.assert_array_equal(again.numbers["drift/pixels"], whole.numbers["drift/pixels"])
    np.testing.assert_array_equal(again.map, whole.map)


def test_large_maps_are_averaged_down() -> None:
    side = 2 * MAP_SIDE
    grouping = build_grouping("bands", (1, side, side), cuts=[3])
    mean = torch.zeros(1, side * side)
    flow = Flow(lambda x, A: x, grouping, PROCESSES["linear"], mean, mean + 1)
    ruler = Ruler(flow, build_basis("dct", (side, side)), {}, {}, VALUES)
    direction = element_directions(choose_pool(grouping, 1, elements=["0"]))[0]
    found = measure_paths(ruler, direction, move_coefficients(flow, mean[None], direction, VALUES))
    assert found.map.shape == (MAP_SIDE, MAP_SIDE)
    np.testing.assert_allclose(found.map, 1 / side, rtol=1e-5)  # index 0 is the mean over pixels
    np.testing.assert_allclose(found.numbers["area"], 1, rtol=1e-5)


def test_the_unit_is_the_mean_distance_of_two_images() -> None:
    """Corners of an equilateral triangle, whatever the parts; equal images have no unit."""
    corners = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]).reshape(3, 1, 1, 3)
    for parts in ([corners], torch.split(corners, 1), torch.split(corners, 2)):
        assert typical_distance(lambda x: x.flatten(1), parts) == pytest.approx(math.sqrt(2))
    with pytest.raises(ValueError, match="features: are the same for all images"):
        typical_distance(lambda x: 0 * x.flatten(1), [corners])
