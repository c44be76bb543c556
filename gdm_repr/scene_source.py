"""Procedural scenes as an image source: rendered when asked for, their factors as labels."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gdm_repr.images import Pixels, Preprocess
from gdm_repr.labels import Labels
from gdm_repr.scenes import LARGEST, SMALLEST, render_scenes, scene_factors

COUNT = 10_000  # scenes of the plain name
SIZE = 64  # pixels where none, or one that can't be rendered, is asked for
_CHUNK = 256  # scenes rendered together: one by one is ten times slower
_HASHED = 16
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")


class SceneSource:
    """Scenes ``start`` to ``stop`` - 1 of seed 0: ids are their numbers, labels their factors.

    A scene depends on its number alone, so that two ranges that do not overlap are a training set
    and a held-out one.
    """

    def __init__(self, start: int, stop: int) -> None:
        """Draw the factors."""
        self.name = "scenes"
        self.levels: int | None = None
        self.ids = [f"{number:06d}" for number in range(start, stop)]
        self._factors = scene_factors(range(start, stop))
        self.labels: Labels = {name: column.tolist() for name, column in self._factors.items()}
        self._rendered: tuple[tuple[int, int], npt.NDArray[np.uint8]] | None = None

    def pixels(self, index: int, preprocess: Preprocess) -> Pixels:
        """Return a scene (size, size, 3), uint8; whole runs of scenes are rendered together."""
        size, first = _size(preprocess), index // _CHUNK * _CHUNK
        if self._rendered is None or self._rendered[0] != (first, size):
            self._rendered = ((first, size), self._render(slice(first, first + _CHUNK), size))
        scene: Pixels = self._rendered[1][index - first]
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
    """Open scenes 0..9999, or the range of ``scenes:START-STOP``, STOP left out.

    Raises:
        ValueError: The argument is no range.
    """
    if not argument:
        return SceneSource(0, COUNT)
    match = _RANGE.fullmatch(argument)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(
            f"data 'scenes:{argument}': must be scenes:START-STOP with START < STOP, as in "
            "scenes:50000-60000"
        )
    return SceneSource(int(match[1]), int(match[2]))
