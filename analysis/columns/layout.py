"""Which numbers of a latent are columns, and which columns' dependence is a question of its own.

Latents z (n, C, d) become a table (n, D): column ``index * C + channel`` is an element in one
channel, so that the columns of low frequencies come first. Bands follow each other in the order of
generation. Of a band with more columns than can be measured, its first ones are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.grouping import Grouping
from gdm_repr.masks import element_mask


def counted(taken: int, of: int) -> str:
    """Say how many columns were taken of how many.

    >>> counted(316, 784), counted(3, 3)
    ('316 of 784 columns', 'all 3 columns')
    """
    return f"all {of:,} columns" if taken == of else f"{taken:,} of {of:,} columns"


@dataclass(frozen=True, eq=False)
class Layout:
    """Columns of a table of latents.

    Attributes:
        columns: ``index * C + channel`` of each, (D,).
        channels: C.
        bands: first column of each band and one past its last, by name, in generation order.
        left_out: columns of each band that are not taken.
        chosen: columns asked for by element, in that order.
    """

    columns: NDArray[np.int64]
    channels: int
    bands: dict[str, tuple[int, int]]
    left_out: dict[str, int]
    chosen: tuple[int, ...]

    def whole(self, band: str | None = None) -> int:
        """Return how many columns a band has, or all bands, those not taken among them."""
        names = self.bands if band is None else (band,)
        return sum(self.bands[n][1] - self.bands[n][0] + self.left_out[n] for n in names)

    def take(self, z: NDArray[Any]) -> NDArray[Any]:
        """Return the table (n, D) of latents, or of coefficients, (n, C, d)."""
        return z.transpose(0, 2, 1).reshape(len(z), -1)[:, self.columns]


def layout(grouping: Grouping, channels: int, most: int, elements: Sequence[str] = ()) -> Layout:
    """Choose the columns of each band.

    Args:
        grouping: the bands.
        channels: C.
        most: columns of a band at most; its lowest.
        elements: taken in any case, each an index, ``7``, or one of one channel, ``7:0``.

    Raises:
        ValueError: for an element that is not there, or named twice.
    """
    shape = (channels, grouping.d)
    index = np.broadcast_to(grouping.index, shape).T.ravel()
    wanted: list[int] = []
    for spec in elements:
        found = np.flatnonzero(element_mask(spec, *shape).T.ravel()).tolist()
        if twice := set(found) & set(wanted):
            raise ValueError(
                f"--elements {','.join(elements)}: element {min(twice) // channels} is named twice"
            )
        wanted += found
    parts, bands, left_out, start = [], {}, {}, 0
    for group in grouping.order:
        own = np.flatnonzero(index == group)
        taken = np.union1d(own[:most], np.intersect1d(own, wanted)).astype(np.int64)
        parts.append(taken)
        bands[grouping.names[group]] = (start, start + len(taken))
        left_out[grouping.names[group]] = len(own) - len(taken)
        start += len(taken)
    columns = np.concatenate(parts)
    position = {int(column): place for place, column in enumerate(columns)}
    chosen = tuple(position[column] for column in wanted)
    return Layout(columns, channels, bands, left_out, chosen)
