"""How the scenes of `gdm_repr.data.scenes.factors` are drawn.

Outlines are signed distances: a function takes coordinates (u, v) in units of the object's size, v
pointing down, and returns the distance to the outline, negative inside. Only the outline's
neighbourhood must be exact: that is where anti-aliasing looks.

Pixels are float32, made of sums, products, roots and comparisons only: these have the same bits on
every machine. Angles and colours are computed once per scene, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

_Plane = npt.NDArray[Any]  # float32

_OUTLINE = 0.022  # width of the object's outline
_OUTLINE_SHADE = np.float32(0.3)  # relative to the object's colour
_ACCESSORY_SIZE = 0.08
_ACCESSORY_OFFSET = 0.72  # of the object's size, to the right and up
_ACCESSORY_COLOUR = np.float32(0.97)


def _f(value: float) -> np.float32:
    return np.float32(value)


def _length(u: _Plane, v: _Plane) -> _Plane:
    length: _Plane = np.sqrt(u * u + v * v)
    return length


def ellipse(u: _Plane, v: _Plane) -> _Plane:
    """Return the distance to an ellipse with half axes 1 and .65, to first order at its outline."""
    b = 0.65
    tiny = _f(1e-3)  # instead of 0 / 0 at the centre
    value = np.maximum(_length(u, v * _f(1 / b)), tiny)
    gradient = np.maximum(_length(u, v * _f(1 / b**2)), tiny)
    return value * (value - _f(1)) / gradient


def square(u: _Plane, v: _Plane) -> _Plane:
    """Return the distance to a square with half side .82."""
    return np.maximum(np.abs(u), np.abs(v)) - _f(0.82)


def triangle(u: _Plane, v: _Plane) -> _Plane:
    """Return the distance to an equilateral triangle with circumradius 1.1, pointing up."""
    v = v - _f(0.12)  # towards the middle of its height
    return np.maximum(np.abs(u) * _f(math.sqrt(0.75)) - v * _f(0.5), v) - _f(1.1 / 2)


def star(u: _Plane, v: _Plane) -> _Plane:
    """Return the distance to a five-pointed star, tips at 1.1 and notches at .5, pointing up."""
    outer, notch = 1.1, 0.5
    # Mirror the plane into the wedge of 36 degrees between a tip (up) and the notch beside it.
    p, q = np.abs(u), -v
    for k in (4, 2):  # mirror lines at 36 k / 2 degrees from the upward axis
        nx, ny = math.cos(math.radians(18 * k)), -math.sin(math.radians(18 * k))
        outside = np.maximum(p * _f(nx) + q * _f(ny), _f(0))
        p, q = p - _f(2 * nx) * outside, q - _f(2 * ny) * outside
        p = np.abs(p)
    x, y = notch * math.sin(math.pi / 5), notch * math.cos(math.pi / 5)
    side = math.hypot(x, outer - y)
    return p * _f((outer - y) / side) + (q - _f(outer)) * _f(x / side)


def heart(u: _Plane, v: _Plane) -> _Plane:
    """Return the distance to a heart: a square on its corner with a disc on each upper side."""
    half = 0.55
    p, q = np.abs(u), v + _f(0.08)
    # Axes of the turned square; mirrored, so that one disc is both.
    s, t = (p + q) * _f(math.sqrt(0.5)), (p - q) * _f(math.sqrt(0.5))
    body = np.maximum(np.abs(s), np.abs(t)) - _f(half)
    distance: _Plane = np.minimum(body, _length(s, t - _f(half)) - _f(half))
    return distance


def dot(u: _Plane, v: _Plane) -> _Plane:
    """Return the distance to a disc of radius .9."""
    return _length(u, v) - _f(0.9)


def ring(u: _Plane, v: _Plane) -> _Plane:
    """Return the distance to a ring of radii .55 and 1.15."""
    return np.abs(_length(u, v) - _f(0.85)) - _f(0.3)


def cross(u: _Plane, v: _Plane) -> _Plane:
    """Return the distance to an upright cross of arm length 1.2 and arm width .6."""
    a, b = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(a, b) - _f(0.3), np.maximum(a, b) - _f(1.2))


OBJECTS: dict[str, Callable[[_Plane, _Plane], _Plane]] = {
    "ellipse": ellipse,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
}
"""Objects by name."""

ACCESSORIES: dict[str, Callable[[_Plane, _Plane], _Plane]] = {
    "dot": dot,
    "ring": ring,
    "cross": cross,
}
"""Accessories by name."""


def draw_scenes(
    columns: dict[str, npt.NDArray[np.float64]], shape: str, accessory: str, size: int
) -> npt.NDArray[np.uint8]:
    """Draw scenes that share their object's shape and their accessory.

    Args:
        columns: The other factors of B scenes, each (B, 1, 1).
        shape: Key of `OBJECTS`.
        accessory: Key of `ACCESSORIES`, or "none".
        size: Height and width in pixels.

    Returns:
        RGB images (B, size, size, 3).
    """
    scale = columns["size"]
    at = (np.arange(size) + 0.5) / size
    x, y = at - columns["x"], at[:, None] - columns["y"]

    angle = np.deg2rad(columns["rotation"])
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    u = _f32(cos * x) + _f32(sin * y)
    v = _f32(cos * y) - _f32(sin * x)
    distance = OBJECTS[shape](u, v)
    pixels = scale * size  # per unit of the object's own coordinates
    outer = _coverage(distance, pixels, 0.0)
    inner = _coverage(distance, pixels, _OUTLINE * size)

    # Stripes along one diagonal, with the contrast that a pixel's area leaves them.
    slope = columns["texture_frequency"] / math.sqrt(2)
    strength = columns["texture_strength"] * np.sinc(slope / size) ** 2
    stripes = _wave(_f32(slope * x + columns["texture_phase"]) + _f32(slope * y))
    stripes *= _f32(strength) * inner
    shade = _OUTLINE_SHADE + inner * (1 - _OUTLINE_SHADE)

    if accessory != "none":
        offset = _ACCESSORY_OFFSET * scale
        p, q = _f32((x - offset) / _ACCESSORY_SIZE), _f32((y + offset) / _ACCESSORY_SIZE)
        mark = _coverage(ACCESSORIES[accessory](p, q), np.float64(_ACCESSORY_SIZE * size), 0.0)

    light = np.deg2rad(columns["background_angle"])
    towards_x, towards_y = np.cos(light) * (at - 0.5), np.sin(light) * (at[:, None] - 0.5)
    images = np.empty((len(scale), size, size, 3), np.uint8)
    for channel in range(3):
        # The hue turns a little and the lightness rises along the gradient.
        dark = _colour(columns["background_hue"] - 0.06, channel, 0.30, 0.15)
        bright = _colour(columns["background_hue"] + 0.06, channel, 0.68, 0.20)
        rise = bright - dark
        plane = _f32(rise * towards_x + (dark + bright) / 2) + _f32(rise * towards_y)
        colour = _f32(_colour(columns["hue"], channel, 0.52, 0.30))
        plane += outer * (colour * shade + stripes - plane)
        if accessory != "none":
            plane += mark * (_ACCESSORY_COLOUR - plane)
        images[..., channel] = np.clip(plane, 0, 1) * np.float32(255) + np.float32(0.5)
    return images


def _f32(values: npt.NDArray[np.float64]) -> _Plane:
    return values.astype(np.float32)


def _coverage(
    distance: _Plane, pixels: npt.NDArray[np.float64] | np.float64, inset: float
) -> _Plane:
    """Return the share of each pixel inside an edge, from its distance in units of `pixels`."""
    share = np.float32(0.5 - inset) - distance * np.float32(pixels)
    return np.clip(share, 0, 1, out=share)


def _wave(turns: _Plane) -> _Plane:
    """Return a sine made of parabolas: unlike sin, it has the same bits on every machine."""
    a = turns - np.floor(turns) - np.float32(0.5)
    return np.float32(8) * a * (np.float32(1) - np.float32(2) * np.abs(a))


def _colour(
    hue: npt.NDArray[np.float64], channel: int, mean: float, chroma: float
) -> npt.NDArray[np.float64]:
    """Return one channel of a colour circle: mean + chroma cos(2 pi (hue - channel / 3))."""
    return mean + chroma * np.cos(2 * np.pi * (hue - channel / 3))
