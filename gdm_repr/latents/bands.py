"""Bands of a store by name or by indices, and where the store has their numbers.

A band of m numbers is a set of elements of (C, d). The store holds groups of elements, each in a
column of its own, so that a band is read as *parts*: columns of some groups, side by side (n, m).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.boundary.arguments import Rows
from gdm_repr.latents.format import grouping_of
from gdm_repr.latents.store import Floats, LatentStore
from gdm_repr.masks import Mask, band_mask

ALL = "all"  # the band of all latents

Part = tuple[int, NDArray[np.int64] | slice]
"""A group of the store by its position, and columns of it."""


def band_masks(store: LatentStore, bands: Sequence[str] = ()) -> dict[str, Mask]:
    """Return the elements of bands, bool (C, d), by the bands' names.

    Args:
        store: the store, whose groups are named by its manifest.
        bands: each as in :func:`gdm_repr.masks.band_mask`, or ``all``; every group of the store,
            then all latents, by default.

    Raises:
        ValueError: for an unknown band, or one without elements.
    """
    grouping, channels = grouping_of(store.manifest), store.manifest.shape[0]
    masks = {}
    for band in bands or (*grouping.names, ALL):
        if band == ALL and ALL not in grouping.names:
            masks[band] = np.ones((channels, grouping.d), np.bool_)
        else:
            masks[band] = band_mask(band, grouping, channels)
        if not masks[band].any():
            raise ValueError(f"band {band!r}: holds no element; name one that does")
    return masks


def in_store_order(store: LatentStore, values: NDArray[Any]) -> list[NDArray[Any]]:
    """Return values (C, d) as the store has them: for each group (its width,)."""
    manifest = store.manifest
    rows = values.reshape(1, -1) if manifest.per_channel else values
    stored = rows[:, manifest.order()]
    return [stored[:, band.start : band.stop].ravel() for band in manifest.bands]


def band_parts(store: LatentStore, mask: Mask) -> list[Part]:
    """Return where the store has the elements of a mask (C, d)."""
    parts: list[Part] = []
    for position, here in enumerate(in_store_order(store, mask)):
        if here.all():
            parts.append((position, slice(None)))
        elif here.any():
            parts.append((position, np.flatnonzero(here)))
    return parts


def read_group(store: LatentStore, position: int, rows: Rows = None) -> Floats:
    """Return one group's numbers of some rows, (n, width of the group).

    Raises:
        ValueError: if the store has no such row, or a shard is damaged.
    """
    values = store.band(position, rows)
    return values.reshape(len(values), -1)


def read_parts(store: LatentStore, parts: Sequence[Part], rows: Rows = None) -> Floats:
    """Return a band's numbers of some rows, (n, m), by its parts.

    Raises:
        ValueError: if the store has no such row, or a shard is damaged.
    """
    return np.concatenate([read_group(store, p, rows)[:, columns] for p, columns in parts], axis=1)
