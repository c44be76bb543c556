"""Which images of a store are nearest to one image, in a band of latents or in all of them.

The distance of two images in a band of m numbers is the RMS of their difference,

    D(z, z') = sqrt(mean over the band of (z - z')^2),

so that bands of any size compare: latents are ~ N(0, I), and two independent images have
E[D^2] = 2, D near sqrt(2) where the band is large. How near is *near* the store itself says: its
own images' distances to their nearest other image are the null that a distance is held against.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gdm_repr.boundary.arguments import count, integer
from gdm_repr.boundary.arguments import seed as checked_seed
from gdm_repr.boundary.isolation import isolated
from gdm_repr.grouping import Grouping
from gdm_repr.latents.bands import (
    Part,
    band_masks,
    band_parts,
    in_store_order,
    read_group,
)
from gdm_repr.latents.format import grouping_of
from gdm_repr.latents.store import Floats, Ints, LatentStore
from gdm_repr.masks import Mask
from gdm_repr.progress import tick

ROWS = 1024  # of the store that are compared at a time
KEPT = 2**28  # bytes: latents of a store that has no more are read once, and kept
RARE, MUCH_NEARER = 0.01, 0.5  # share and part of the usual distance of a near-duplicate
_TIE = 1 + 1e-9  # distances of one pair of images, summed in two orders, differ by less


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The rows of a store that are nearest to one image's latents in a band.

    Attributes:
        band: as it was asked for, or the name of a group; ``all`` for all latents.
        rows: places in the store, nearest first, int64 (n,).
        ids: of these rows.
        distances: RMS over the band's numbers, float64 (n,). Two independent images of N(0, I)
            latents have sqrt(2).
        closer: share of the store's own images whose nearest other image is at least as near as
            the first of these rows, in [0, 1]; near 0 for a near-duplicate.
        of: how many of the store's images that share is of, a random sample; not the image itself
            and its nearest one, where it is of the store. With 0 the share is NaN.
        typical: median of these images' distances to their nearest others.
    """

    band: str
    rows: Ints
    ids: list[str]
    distances: NDArray[np.float64]
    closer: float
    of: int
    typical: float

    @property
    def near_duplicate(self) -> bool:
        """Whether the first row is as near as next to none of the store's images are to another.

        Some image is always the nearest of all, so that it also has to be much nearer than usual.
        """
        return self.closer <= RARE and bool(self.distances[0] <= MUCH_NEARER * self.typical)


class NearestIndex:
    """A store that is asked for many images' nearest ones; what is common to them is done once.

    Each question reads the bands that it is of, shard by shard, and compares all rows exactly. The
    store's own distances are found when a band is first asked for, and kept.

    Attributes:
        store: the store.
        grouping: its groups, by which bands are named.
        sample: rows whose own nearest images are the null, int64 (of,).
    """

    def __init__(self, store: LatentStore, *, sample: int = 256, seed: int = 0) -> None:
        """Choose the images that the null is of.

        Args:
            store: at least 2 images' latents.
            sample: how many of its images the null is of; all of them if it has fewer.
            seed: of their choice.

        Raises:
            ValueError: if the store holds fewer than 2 images, or the sample fewer.
        """
        if len(store) < 2:
            raise ValueError(
                f"latents {str(store.path)!r} hold {len(store)} image; nearest images take 2: "
                "encode more"
            )
        self.store = store
        self.grouping: Grouping = grouping_of(store.manifest)
        n = min(count(sample, "sample", 2), len(store))
        rng = np.random.default_rng(checked_seed(seed))
        self.sample: Ints = np.sort(rng.choice(len(store), n, replace=False)).astype(np.int64)
        self._own: dict[str, NDArray[np.float64]] = {}
        self._kept: dict[tuple[int, int], Floats] = {}

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the store's rows."""
        return self.store.ids

    @isolated
    def nearest(
        self, z: ArrayLike, bands: Sequence[str] = (), n: int = 5, *, without: int | None = None
    ) -> list[Neighbours]:
        """Find the images that are nearest to one image, band by band.

        Args:
            z: the image's latents, (C, d), in basis order.
            bands: each as in :func:`gdm_repr.masks.band_mask`, or ``all``; by default every group
                of the store, then all latents.
            n: how many to find.
            without: a row of the store that is passed over: the image's own.

        Returns:
            One for each band, in their order.

        Raises:
            ValueError: for latents of another shape or that are not finite, an unknown or empty
                band, a row that is not there, or more rows than there are.
        """
        query = self._checked(z)
        masks = self.masks(bands)
        n, left_out = count(n, "n"), -1
        others = len(self.store)
        if without is not None:
            left_out, others = integer(without, "without"), others - 1
            if not 0 <= left_out <= others:
                raise ValueError(f"without={without}: must be a row of the store, 0 .. {others}")
        if n > others:
            more = "" if without is None else "other "
            raise ValueError(f"n={n}: the store holds {others} {more}images; ask for fewer")
        parts = {band: band_parts(self.store, mask) for band, mask in masks.items()}
        if new := {band: each for band, each in parts.items() if band not in self._own}:
            self._own |= self._own_distances(new)
        best = {band: (np.empty(0, np.int64), np.empty(0)) for band in parts}
        targets = in_store_order(self.store, query)
        for start, block in self._blocks(parts):
            for band, each in parts.items():
                squared = _total(
                    _squared(block[p][:, columns] - targets[p][columns]) for p, columns in each
                )
                rows = np.arange(start, start + len(squared))
                here = rows != left_out
                rows = np.concatenate([best[band][0], rows[here]])
                squared = np.concatenate([best[band][1], squared[here]])
                first = np.argsort(squared, kind="stable")[:n]
                best[band] = rows[first], squared[first]
        found = []
        for band, (rows, squared) in best.items():
            distances = np.sqrt(squared / masks[band].sum())
            # an image of the store and its nearest one: the pair itself says nothing of the others
            pair = [] if without is None else [left_out, int(rows[0])]
            own = self._own[band][~np.isin(self.sample, pair)]
            found.append(
                Neighbours(
                    band,
                    rows,
                    ids=[self.ids[row] for row in rows],
                    distances=distances,
                    closer=float((own <= distances[0] * _TIE).mean()) if len(own) else math.nan,
                    of=len(own),
                    typical=float(np.median(own)) if len(own) else math.nan,
                )
            )
        return found

    def masks(self, bands: Sequence[str] = ()) -> dict[str, Mask]:
        """Return the elements of bands, bool (C, d), by the bands' names; all of them by default.

        Raises:
            ValueError: for an unknown band, or one without elements.
        """
        return band_masks(self.store, bands)

    def own_distances(self, band: str) -> NDArray[np.float64]:
        """Return how far the sample's images are from their nearest others in a band, (of,).

        Raises:
            ValueError: for an unknown band, or one without elements.
        """
        if band not in self._own:
            mask = self.masks([band])[band]
            self._own |= self._own_distances({band: band_parts(self.store, mask)})
        return self._own[band]

    @isolated
    def _own_distances(self, parts: Mapping[str, Sequence[Part]]) -> dict[str, NDArray[np.float64]]:
        """Find each sampled image's nearest other one, band by band."""
        anchors: dict[int, Floats] = {}
        for start, block in self._blocks(parts):
            rows = self.sample[(self.sample >= start) & (self.sample < start + _length(block))]
            for p, values in block.items():
                empty = np.empty((0, values.shape[1]), np.float32)
                anchors[p] = np.concatenate([anchors.get(p, empty), values[rows - start]])
        best = {band: np.full(len(self.sample), np.inf) for band in parts}
        for start, block in self._blocks(parts):
            own = (self.sample >= start) & (self.sample < start + _length(block))
            for band, each in parts.items():
                squared = _total(_products(anchors[p][:, c], block[p][:, c]) for p, c in each)
                squared[own, self.sample[own] - start] = np.inf
                nearest = squared.argmin(1)
                # |a|^2 + |b|^2 - 2 ab finds the nearest one, but is no small distance's value
                exact = _total(
                    _squared(anchors[p][:, columns] - block[p][nearest][:, columns])
                    for p, columns in each
                )
                exact[np.isinf(squared.min(1))] = np.inf  # the block held the image alone
                best[band] = np.minimum(best[band], exact)
        return {band: np.sqrt(best[band] / self.masks([band])[band].sum()) for band in parts}

    def _checked(self, z: ArrayLike) -> Floats:
        channels, height, width = self.store.manifest.shape
        values = np.asarray(z, dtype=np.float32)
        if values.shape != (channels, height * width):
            raise ValueError(
                f"z: shape {values.shape} is not that of the store's images, "
                f"({channels}, {height * width}); give latents (C, d) of one image"
            )
        if not np.isfinite(values).all():
            raise ValueError("z: holds numbers that are not finite; give an image's latents")
        return values

    def _blocks(
        self, parts: Mapping[str, Sequence[Part]]
    ) -> Iterator[tuple[int, dict[int, Floats]]]:
        """Yield the first row and the values (m, width) of some rows, by band of the store."""
        positions = sorted({p for each in parts.values() for p, _ in each})
        for rows in self.store.runs():
            values = {p: self._read(p, rows) for p in positions}
            for start in range(0, rows.stop - rows.start, ROWS):
                tick()
                yield rows.start + start, {p: v[start : start + ROWS] for p, v in values.items()}

    def _read(self, position: int, rows: slice) -> Floats:
        """Read one band of some rows, (m, width), or take it from memory."""
        key = (position, rows.start)
        if (kept := self._kept.get(key)) is not None:
            return kept
        values = read_group(self.store, position, rows)
        if 4 * len(self.store) * self.store.manifest.shape[0] * self.grouping.d <= KEPT:
            self._kept[key] = values
        return values


def nearest(
    store: LatentStore,
    z: ArrayLike,
    bands: Sequence[str] = (),
    n: int = 5,
    *,
    without: int | None = None,
    sample: int = 256,
    seed: int = 0,
) -> list[Neighbours]:
    """Find the images of a store that are nearest to one image, band by band.

    Who asks more than once makes a :class:`NearestIndex`, which finds the store's own distances
    once.

    Args:
        store: at least 2 images' latents.
        z: the image's latents, (C, d), in basis order.
        bands: as in :meth:`NearestIndex.nearest`.
        n: how many to find.
        without: a row of the store that is passed over: the image's own.
        sample: how many of the store's images the null is of.
        seed: of their choice.

    Returns:
        One for each band, in their order.

    Raises:
        ValueError: as :class:`NearestIndex` and its :meth:`~NearestIndex.nearest`.
    """
    return NearestIndex(store, sample=sample, seed=seed).nearest(z, bands, n, without=without)


def _length(block: Mapping[int, Floats]) -> int:
    return len(next(iter(block.values())))


def _squared(difference: Floats) -> NDArray[np.float64]:
    """Return the squared norms of rows (m, w), (m,), summed in float64."""
    total: NDArray[np.float64] = np.einsum("ij,ij->i", difference, difference, dtype=np.float64)
    return total


def _products(a: Floats, b: Floats) -> Floats:
    """Return |a_i - b_j|^2 of rows (n, w) and (m, w), (n, m), to float32's rounding of |a|^2."""
    norms = [_squared(each).astype(np.float32) for each in (a, b)]
    return norms[0][:, None] + norms[1] - 2 * (a @ b.T)


def _total(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    total: NDArray[Any] = reduce(np.add, parts)
    return total
