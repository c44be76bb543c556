"""Procedural scenes as an image source: rendered when asked for, their factors as labels.

What follows ``scenes:`` is a range and settings, separated by slashes, each of them optional::

    scenes:50000-60000                       scenes 50000 to 59999
    scenes:0-5000/seed=3                     of another data set
    scenes:0-5000/values=5                   continuous factors take five values each
    scenes:0-5000/correlated=size,y,0.8      Gaussian copula of correlation .8
    scenes:0-5000/holdout=shape:star+heart,hue:0..0.5   no stars and hearts of these hues
    scenes:0-5000/only=shape:star+heart,hue:0..0.5      nothing else: the test set to it

``correlated``, ``holdout`` and ``only`` may come several times (:func:`scene_factors`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gdm_repr.boundary import numerals
from gdm_repr.data.images import Pixels, Preprocess
from gdm_repr.data.labels import Labels
from gdm_repr.data.scenes.factors import (
    LARGEST,
    SMALLEST,
    Condition,
    Factors,
    render_scenes,
    scene_factors,
)

COUNT = 10_000  # scenes of the plain name
SIZE = 64  # pixels where none, or one that can't be rendered, is asked for
_CHUNK = 256  # scenes rendered together: one by one is ten times slower
_HASHED = 16
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_EXAMPLE = "scenes:0-5000/seed=1/values=5/correlated=size,y,0.8/holdout=shape:star+heart,hue:0..0.5"


class SceneSource:
    """Scenes by number: ids are the numbers, labels the factors.

    With the same settings a scene depends on its number alone, so that two ranges that do not
    overlap are a training set and a held-out one.
    """

    def __init__(self, name: str, numbers: range, factors: Factors) -> None:
        """Keep the factors; nothing is rendered yet.

        Args:
            name: Name of the source, by which it can be opened again.
            numbers: Numbers of the N scenes.
            factors: Their table.
        """
        self.name = name
        self.levels: int | None = None
        self.ids = [f"{number:06d}" for number in numbers]
        self._factors = factors
        self.labels: Labels = {name: column.tolist() for name, column in factors.items()}
        self._rendered: tuple[int, npt.NDArray[np.uint8]] = (0, np.empty((0, 0), np.uint8))

    def pixels(self, index: int, preprocess: Preprocess) -> Pixels:
        """Return a scene (size, size, 3), uint8; scenes asked for in a row are rendered together.

        After a jump one scene is rendered, for the next request may be another jump.
        """
        size, (first, images) = _size(preprocess), self._rendered
        same_size = images.shape[1] == size
        if not (same_size and first <= index < first + len(images)):
            in_a_row = same_size and index == first + len(images)
            images = self._render(slice(index, index + (_CHUNK if in_a_row else 1)), size)
            self._rendered = (index, images)
            first = index
        scene: Pixels = images[index - first]
        return scene

    def size(self, index: int, preprocess: Preprocess) -> tuple[int, int]:
        """Return (H, W): the square size asked for, or 64x64 where it can't be rendered."""
        return _size(preprocess), _size(preprocess)

    def content(self) -> Iterator[bytes]:
        """Yield a few scenes' pixels, which change when the renderer does; ids name the others."""
        yield self._render(slice(0, _HASHED), SMALLEST).tobytes()

    def _render(self, rows: slice, size: int) -> npt.NDArray[np.uint8]:
        return render_scenes({name: column[rows] for name, column in self._factors.items()}, size)


def _size(preprocess: Preprocess) -> int:
    shape = preprocess.shape
    if shape is None or shape[0] != shape[1] or not SMALLEST <= shape[0] <= LARGEST:
        return SIZE
    return shape[0]


def open_scenes(argument: str) -> SceneSource:
    """Open scenes 0..9999, or those that the argument describes (see the module).

    Raises:
        ValueError: The argument is malformed, or describes no scenes.
    """
    name = f"scenes:{argument}" if argument else "scenes"
    try:
        numbers, settings = _parse(argument)
        return SceneSource(name, numbers, scene_factors(numbers, **settings))
    except ValueError as error:
        raise ValueError(f"data {name!r}: {error}; write it as in {_EXAMPLE}") from None


def _parse(argument: str) -> tuple[range, dict[str, Any]]:
    """Read the range and the settings of `scene_factors`."""
    first, *parts = argument.split("/")
    numbers, match = range(COUNT), _RANGE.fullmatch(first)
    if match is not None and int(match[1]) < int(match[2]):
        numbers = range(int(match[1]), int(match[2]))
    elif "=" in first:
        parts = [first, *parts]
    elif first:
        raise ValueError(f"{first!r} is no range START-STOP with START < STOP")
    settings: dict[str, Any] = {}
    for part in parts:
        key, _, text = part.partition("=")
        if key in ("seed", "values"):
            if (number := numerals.place(text)) is None or key in settings:
                raise ValueError(f"{part!r} must be one number, once")
            settings[key] = number
        elif key == "correlated":
            settings.setdefault(key, []).append(_triple(text))
        elif key in ("holdout", "only"):
            settings.setdefault(key, []).append(_combination(text))
        else:
            known = "seed, values, correlated, holdout, only"
            raise ValueError(f"{part!r} is none of the settings {known}")
    return numbers, settings


def _triple(text: str) -> tuple[str, str, float]:
    """Read ``size,y,0.8``."""
    first, _, rest = text.partition(",")
    second, _, number = rest.partition(",")
    if (r := numerals.real(number)) is None:
        raise ValueError(f"correlated={text!r} must be two factors and a number")
    return first, second, r


def _combination(text: str) -> dict[str, Condition]:
    """Read ``shape:star+heart,hue:0..0.5``."""
    conditions = list(map(_condition, text.split(",")))
    if len(dict(conditions)) < len(conditions):
        raise ValueError(f"{text!r} names a factor twice; join names by +, or write two settings")
    return dict(conditions)


def _condition(text: str) -> tuple[str, Condition]:
    """Read ``hue:0..0.5`` or ``shape:star+heart``."""
    name, _, values = text.partition(":")
    low, dots, high = values.partition("..")
    if not dots:
        return name, values.split("+")
    ends = numerals.real(low), numerals.real(high)
    if ends[0] is None or ends[1] is None:
        raise ValueError(f"{text!r} must be a range of numbers LOW..HIGH")
    return name, (ends[0], ends[1])
