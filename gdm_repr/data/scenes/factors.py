"""Procedural images with known factors at three spatial scales.

A scene is a background that runs from one colour to another, an outlined object with stripes, and
a small accessory at the object's upper right corner. `SCENE_FACTORS` lists what varies, within
which range, and at which scale. Factors are a table: a dict of columns, one value per scene.

Lengths are fractions of the image's side, so the same factors give the same scene at every size.
The y axis points down, and rotations turn clockwise on the screen.

>>> factors = scene_factors(range(4), seed=0)
>>> list(factors)[:4], factors["shape"].tolist()
(['background_hue', 'background_angle', 'shape', 'size'], ['ellipse', 'star', 'heart', 'star'])
>>> render_scenes(factors, size=32).shape
(4, 32, 32, 3)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from gdm_repr.boundary.isolation import isolated
from gdm_repr.data.dequantize import uniform
from gdm_repr.data.scenes.render import ACCESSORIES, OBJECTS, draw_scenes

__all__ = [
    "SCENE_FACTORS",
    "Factors",
    "SceneFactor",
    "held_out",
    "render_scenes",
    "scene_factors",
]

Factors = dict[str, npt.NDArray[Any]]
Condition = tuple[float, float] | Collection[str]


@dataclass(frozen=True)
class SceneFactor:
    """A factor of variation, uniform over its range.

    Attributes:
        name: Column of the table.
        kind: "continuous"; "circular": the ends of the range are the same; "discrete".
        range: Lowest and highest value, or the names of a discrete factor.
        scale: Size of what it changes: the whole image, the object, or its details.
    """

    name: str
    kind: Literal["continuous", "circular", "discrete"]
    range: tuple[float, float] | tuple[str, ...]
    scale: Literal["coarse", "middle", "fine"]


SCENE_FACTORS = (
    SceneFactor("background_hue", "circular", (0.0, 1.0), "coarse"),
    SceneFactor("background_angle", "circular", (0.0, 360.0), "coarse"),  # degrees, to the light
    SceneFactor("shape", "discrete", tuple(OBJECTS), "middle"),
    SceneFactor("size", "continuous", (0.20, 0.32), "middle"),  # half the object's extent
    SceneFactor("x", "continuous", (0.35, 0.65), "middle"),  # object's centre
    SceneFactor("y", "continuous", (0.35, 0.65), "middle"),
    SceneFactor("rotation", "continuous", (-30.0, 30.0), "middle"),  # degrees
    SceneFactor("hue", "circular", (0.0, 1.0), "middle"),  # of the object
    SceneFactor("texture_frequency", "continuous", (4.0, 7.0), "fine"),  # stripes per side
    SceneFactor("texture_phase", "circular", (0.0, 1.0), "fine"),  # at the object's centre
    SceneFactor("texture_strength", "continuous", (0.06, 0.18), "fine"),  # amplitude; 1 is white
    SceneFactor("accessory", "discrete", ("none", *ACCESSORIES), "fine"),
)
"""What varies, in the order of the table's columns."""

SMALLEST, LARGEST = 16, 128  # size in pixels; below 16, stripes would alias

_BY_NAME = {factor.name: factor for factor in SCENE_FACTORS}
_ROUNDS = 1000  # redraws before a hold-out is called impossible
_CHUNK = 1 << 16  # pixels drawn together: keeps the intermediates in cache


@isolated
def scene_factors(
    indices: Sequence[int] | npt.NDArray[np.integer[Any]],
    seed: int = 0,
    *,
    correlated: Sequence[tuple[str, str, float]] = (),
    holdout: Sequence[Mapping[str, Condition]] = (),
    only: Sequence[Mapping[str, Condition]] = (),
    values: int | None = None,
) -> Factors:
    """Draw the factors of scenes; a scene depends on its index and the seed alone.

    Args:
        indices: Numbers of the scenes, N of them.
        seed: Seed of the data set.
        correlated: Triples (first, second, r): the factors' normal scores get correlation r in
            [-1, 1], a Gaussian copula, and both stay uniform. The second factor of a triple must
            not have occurred in a triple before. Names of discrete factors count in their order.
        holdout: Combinations that do not occur, each a dict of factor to range or names, as in
            ``{"shape": ["star"], "hue": (0, 0.2)}``. Scenes that `held_out` finds are redrawn.
        only: Combinations of which each scene is one, as a test set of what was held out; scenes
            that `held_out` does not find are redrawn.
        values: Continuous and circular factors take this many values each, the middles of equal
            parts of their range, so that all factors are discrete; None: any value.

    Returns:
        One column of N values per factor: float64, or str for discrete factors.

    Raises:
        ValueError: A triple or a combination is refused, or nearly every scene is held out.
    """
    _check_correlated(correlated)
    if values is not None and values < 1:
        raise ValueError(f"values = {values} is no number of values; give 1 or more")

    def refused(factors: Factors) -> npt.NDArray[np.bool_]:
        out = held_out(factors, holdout)
        return out | ~held_out(factors, only) if only else out

    wanted = np.asarray(indices, dtype=np.int64)
    factors = _draw(wanted, seed, 0, correlated, values)
    again = np.flatnonzero(refused(factors))
    for draw in range(1, _ROUNDS):
        if not len(again):
            return factors
        redrawn = _draw(wanted[again], seed, draw, correlated, values)
        for name, column in factors.items():
            column[again] = redrawn[name]
        again = again[refused(redrawn)]
    rules = f"holdout = {list(holdout)}" + (f" and only = {list(only)}" if only else "")
    raise ValueError(f"{rules} leaves almost no scenes; use wider ranges")


def held_out(factors: Factors, holdout: Sequence[Mapping[str, Condition]]) -> npt.NDArray[np.bool_]:
    """Find the scenes that one of the combinations describes.

    Args:
        factors: Table of N scenes.
        holdout: Combinations as in `scene_factors`; ranges include their low end only.

    Returns:
        N booleans.

    Raises:
        ValueError: A combination is empty, or names a factor or a value that does not exist.
    """
    count = len(next(iter(factors.values())))
    found = np.zeros(count, bool)
    for combination in holdout:
        if not combination:
            raise ValueError("holdout holds an empty combination; name at least one factor")
        all_of = np.ones(count, bool)
        for name, condition in combination.items():
            if _factor(name, "holdout").kind == "discrete":
                all_of &= np.isin(factors[name], _names(name, condition))
            else:
                low, high = _interval(name, condition)
                all_of &= (factors[name] >= low) & (factors[name] < high)
        found |= all_of
    return found


@isolated
def render_scenes(factors: Factors, size: int) -> npt.NDArray[np.uint8]:
    """Draw scenes, anti-aliased.

    Args:
        factors: Table of N scenes with the columns of `SCENE_FACTORS`.
        size: Height and width in pixels, 16 to 128.

    Returns:
        RGB images (N, size, size, 3); each depends on its own row alone.

    Raises:
        ValueError: The size, a column or a value is out of range.
    """
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"size = {size} is out of range; use {SMALLEST} to {LARGEST} pixels")
    _check_table(factors)
    images = np.empty((len(factors["shape"]), size, size, 3), np.uint8)
    chunk = max(1, _CHUNK // size**2)
    for shape in OBJECTS:
        for accessory in _BY_NAME["accessory"].range:
            same = (factors["shape"] == shape) & (factors["accessory"] == accessory)
            rows = np.flatnonzero(same)
            for start in range(0, len(rows), chunk):
                some = rows[start : start + chunk]
                columns = {
                    factor.name: factors[factor.name][some].astype(np.float64)[:, None, None]
                    for factor in SCENE_FACTORS
                    if factor.kind != "discrete"
                }
                images[some] = draw_scenes(columns, shape, str(accessory), size)
    return images


def _draw(
    indices: npt.NDArray[np.int64],
    seed: int,
    draw: int,
    correlated: Sequence[tuple[str, str, float]],
    values: int | None,
) -> Factors:
    names = [f"scene {index}" for index in indices.tolist()]
    u = uniform(names, len(SCENE_FACTORS), seed=seed, draw=draw, bits=52)
    columns = dict(zip(_BY_NAME, u.T, strict=True))
    for first, second, r in correlated:
        score = r * ndtri(columns[first]) + math.sqrt(1 - r * r) * ndtri(columns[second])
        columns[second] = np.minimum(ndtr(score), 1 - 2.0**-53)
    factors: Factors = {}
    for name, column in columns.items():
        factor = _BY_NAME[name]
        if factor.kind == "discrete":
            factors[name] = np.array(factor.range)[(column * len(factor.range)).astype(int)]
        else:
            low, high = (float(end) for end in factor.range)
            if values is not None:
                column = (np.floor(column * values) + 0.5) / values
            factors[name] = low + (high - low) * column
    return factors


def _factor(name: str, argument: str) -> SceneFactor:
    if name not in _BY_NAME:
        names = ", ".join(_BY_NAME)
        raise ValueError(f"{argument} names {name!r}, which is no factor; use {names}")
    return _BY_NAME[name]


def _names(name: str, condition: object) -> list[str]:
    if isinstance(condition, str) or not isinstance(condition, Collection):
        raise ValueError(f"holdout: {name}: {condition!r} must be a list of names, as ['star']")
    names = [str(value) for value in condition]
    _check_names(name, names, "holdout")
    return names


def _interval(name: str, condition: object) -> tuple[float, float]:
    lowest, highest = (float(end) for end in _BY_NAME[name].range)
    match condition:
        case (int() | float() as low, int() | float() as high) if low < high:
            if low >= highest or high <= lowest:
                raise ValueError(
                    f"holdout: {name}: {condition!r} holds none of its values, which run from "
                    f"{lowest} to {highest}"
                )
            return low, high
    raise ValueError(f"holdout: {name}: {condition!r} must be a range (low, high), low < high")


def _check_names(name: str, values: Collection[str], argument: str) -> None:
    allowed = _BY_NAME[name].range
    for value in values:
        if value not in allowed:
            names = ", ".join(map(str, allowed))
            raise ValueError(f"{argument}: {name} = {value!r} is none of {names}")


def _check_correlated(correlated: Sequence[tuple[str, str, float]]) -> None:
    seen: set[str] = set()
    for first, second, r in correlated:
        for name in (first, second):
            _factor(name, "correlated")
        if not -1 <= r <= 1:
            raise ValueError(f"correlated: r = {r} of {first}, {second} is outside [-1, 1]")
        if second == first or second in seen:
            raise ValueError(
                f"correlated: {second!r} comes second but occurred before; it would break the "
                "earlier correlation, so order the triples from causes to effects"
            )
        seen |= {first, second}


def _check_table(factors: Factors) -> None:
    for factor in SCENE_FACTORS:
        if factor.name not in factors:
            raise ValueError(f"factors lack the column {factor.name!r}; start from scene_factors()")
        column = factors[factor.name]
        if column.shape != factors[SCENE_FACTORS[0].name].shape or column.ndim != 1:
            raise ValueError(f"factors: column {factor.name!r} has shape {column.shape}; give (N,)")
        if factor.kind == "discrete":
            _check_names(factor.name, np.unique(column).tolist(), "factors")
            continue
        low, high = (float(end) for end in factor.range)
        # Circular factors may leave their range: they come round.
        inside = np.isfinite(column)
        if factor.kind == "continuous":
            inside &= (low <= column) & (column <= high)
        if not inside.all():
            raise ValueError(
                f"factors: {factor.name} = {column[~inside][0]} is outside [{low}, {high}]"
            )
