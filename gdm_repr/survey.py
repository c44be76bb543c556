"""What images are like, as far as a choice of model depends on it: sizes, colour, levels, spectrum.

**Cuts.** Bands are cut where the summed standard deviation of the elements, lowest frequency first,
reaches equal shares. Variance itself would put all cuts among the first elements: of photographs,
the mean alone often has half of it. The std that the smallest twentieth of the elements stay below
is taken for a noise floor and counts as nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gdm_repr.boundary.isolation import isolated
from gdm_repr.data.images import BadImage, Preprocess

LOOKED_AT = 512  # images, spread over the source
FLAT, FEW_LEVELS = 0.25, 64  # from there on images are rendered or drawn; levels a set uses
NOISE = 0.04  # std added to flat images: that of the shipped scenes
_FLOOR = 0.05  # of the elements


@dataclass(frozen=True)
class Survey:
    """What was found in a source of images.

    Attributes:
        images: how many there are.
        looked_at: how many of them were opened.
        sizes: (H, W) of those, most frequent first, with their counts.
        channels: 1 (gray), 3, or any number without colour; as many as the image with most.
        flat: share of neighbouring pixels that are equal.
        levels: how many values pixels take.
        labels: number of different values of each label column.
        unusable: reasons of those that can't be used, by id.
    """

    images: int
    looked_at: int
    sizes: tuple[tuple[tuple[int, int], int], ...]
    channels: int
    flat: float
    levels: int
    labels: dict[str, int]
    unusable: dict[str, str]

    @property
    def side(self) -> int:
        """Shorter side that half of the images have, or more."""
        sides = [min(size) for size, count in self.sizes for _ in range(count)]
        return int(np.median(sides))

    @property
    def noise(self) -> float:
        """Std of noise that flat areas need; 0 for photographs."""
        return NOISE if self.flat >= FLAT and self.levels > FEW_LEVELS // 2 else 0.0


@isolated
def survey(data: str | Path, labels: Path | None = None, *, seed: int = 0) -> Survey:
    """Open some images, and say what they are like.

    Raises:
        ValueError: if there are none that can be used.
    """
    from gdm_repr.data.labels import read_labels
    from gdm_repr.data.sources.registry import open_source

    source = open_source(data)
    columns = {**source.labels, **(read_labels(labels, source.ids) if labels else {})}
    total = len(source.ids)
    if not total:  # of a source by name; of a path, open_source says more
        raise ValueError(f"data {str(data)!r}: holds no images; give data with at least two")
    chosen = np.random.default_rng(seed).choice(total, min(total, LOOKED_AT), replace=False)
    sizes, channels, unusable = Counter[tuple[int, int]](), 1, dict[str, str]()
    equal, pairs, values = 0, 0, set[float]()
    for index in sorted(chosen.tolist()):
        try:
            pixels = source.pixels(index, Preprocess())
        except BadImage as error:
            unusable[source.ids[index]] = str(error)
            continue
        sizes[pixels.shape[:2]] += 1
        channels = max(channels, pixels.shape[2])
        equal += int((pixels[:, 1:] == pixels[:, :-1]).all(2).sum())
        pairs += pixels[:, 1:, 0].size
        if len(values) < 4 * FEW_LEVELS:
            values |= set(np.unique(pixels).tolist())
    if not sizes:
        name, why = next(iter(unusable.items()))
        raise ValueError(f"data {str(data)!r}: none of {total} images can be used; {name}: {why}")
    return Survey(
        total,
        len(chosen),
        tuple(sizes.most_common()),
        channels,
        equal / max(pairs, 1),
        len(values),
        {
            name: len({value for value in column if value is not None})
            for name, column in columns.items()
        },
        unusable,
    )


@isolated
def cuts_of_spectrum(variance: NDArray[np.float64], bands: int) -> tuple[int, ...]:
    """Return cuts that give each band an equal share of the summed std.

    Args:
        variance: of each element, summed over channels, lowest frequency first, (d,).
        bands: their number, of which there are fewer where d is small.

    >>> cuts_of_spectrum(np.array([16.0, 4, 4, 1, 1, 1, 1, 0]), 2)
    (2,)
    """
    std = np.sqrt(np.maximum(variance, 0))
    std = np.maximum(std - np.quantile(std, _FLOOR), 0)
    if not std.any():
        std = np.ones_like(std)
    share = np.cumsum(std) / std.sum()
    places = np.searchsorted(share, np.arange(1, bands) / bands - 1e-12) + 1
    return tuple(sorted({min(max(1, int(place)), len(std) - 1) for place in places}))


def describe_sizes(sizes: Sequence[tuple[tuple[int, int], int]]) -> str:
    """Say which sizes there are.

    >>> describe_sizes([((28, 28), 5)]), describe_sizes([((30, 40), 5), ((20, 20), 1)])
    ('28x28', '2 sizes, mostly 30x40')
    """
    (height, width), _ = sizes[0]
    return (
        f"{height}x{width}" if len(sizes) == 1 else f"{len(sizes)} sizes, mostly {height}x{width}"
    )
