"""Signed distances: sign, extent, slope and symmetry of every outline."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gdm_repr.data.scenes.render import ACCESSORIES, OBJECTS

ALL = {**OBJECTS, **ACCESSORIES}
STEP = np.float32(0.01)
_Plane = npt.NDArray[Any]


def grid() -> tuple[_Plane, _Plane]:
    axis = np.arange(-1.6, 1.6, float(STEP), dtype=np.float32)
    v, u = np.meshgrid(axis, axis, indexing="ij")
    return u, v


@pytest.mark.parametrize("name", ALL)
def test_is_inside_somewhere_and_outside_far_away(name: str) -> None:
    u, v = grid()
    distance = ALL[name](u, v)
    assert distance.dtype == np.float32
    assert 0.05 < (distance < 0).mean() < 0.5
    assert (distance[np.hypot(u, v) > 1.25] > 0).all()


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_cover_their_centre(name: str) -> None:
    assert OBJECTS[name](np.zeros(1, np.float32), np.zeros(1, np.float32))[0] < -0.2


@pytest.mark.parametrize("name", ALL)
def test_grows_by_one_per_unit_at_the_outline(name: str) -> None:
    distance = ALL[name](*grid())
    slope = np.hypot(*np.gradient(distance, STEP))[np.abs(distance) < 0.02]
    # corners, where two sides meet, are a few percent of the outline
    assert np.quantile(np.abs(slope - 1), 0.9) < 0.05


@pytest.mark.parametrize(
    ("name", "folds", "centre"),
    [("square", 4, 0.0), ("triangle", 3, 0.12), ("star", 5, 0.0), ("ring", 36, 0.0)],
)
def test_turned_by_its_symmetry_is_the_same(name: str, folds: int, centre: float) -> None:
    u, v = grid()
    cos, sin = math.cos(2 * math.pi / folds), math.sin(2 * math.pi / folds)
    here = ALL[name](u, v + np.float32(centre))
    turned = ALL[name](
        (cos * u - sin * v).astype(np.float32), (sin * u + cos * v + centre).astype(np.float32)
    )
    near = np.hypot(u, v) < 1.2
    np.testing.assert_allclose(turned[near], here[near], atol=2e-6)


@pytest.mark.parametrize("name", ALL)
def test_left_mirrors_right(name: str) -> None:
    u, v = grid()
    np.testing.assert_array_equal(ALL[name](u, v), ALL[name](-u, v))


def test_ellipse_has_its_half_axes() -> None:
    zero = np.zeros(1, np.float32)
    ellipse = OBJECTS["ellipse"]
    assert abs(ellipse(zero + 1, zero)[0]) < 1e-6
    assert abs(ellipse(zero, zero + np.float32(0.65))[0]) < 1e-6


def test_star_has_its_tips_and_notches() -> None:
    for k in range(10):
        radius, angle = (0.5 if k % 2 else 1.1), math.pi / 5 * k
        u, v = np.float32(radius * math.sin(angle)), np.float32(-radius * math.cos(angle))
        assert abs(OBJECTS["star"](np.array([u]), np.array([v]))[0]) < 1e-5
