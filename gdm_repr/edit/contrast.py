"""Two kinds of a store's images, by a label or by their ids, for a direction to tell apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.factors.labels import known_cells, store_labels
from gdm_repr.analysis.intervals.estimate import number
from gdm_repr.boundary import numerals
from gdm_repr.boundary.isolation import isolated
from gdm_repr.boundary.text import listed
from gdm_repr.latents.store import LatentStore

MEDIAN = "median"  # a value that parts a label of numbers in two halves
FEWEST = 8  # images of either kind

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Contrast:
    """Two kinds of a store's images.

    Attributes:
        rows: the images of either kind, as rows of the store, ascending, (n,).
        is_positive: whether each is of the positive kind, (n,).
        positive: what that kind is called.
        negative: what the other is called.
        label: that the kinds come from; None where they were picked.
    """

    rows: Ints
    is_positive: Bools
    positive: str
    negative: str
    label: str | None = None

    def __post_init__(self) -> None:
        """Refuse too few images of a kind."""
        require_enough(self.is_positive, self.positive, self.negative)

    def fingerprint(self, store: LatentStore) -> str:
        """Return a SHA-256 of the store that it is of, and of which of its images are of what."""
        digest = hashlib.sha256(store.manifest.digest.encode())
        for array in (store.index[self.rows].astype("<i8"), self.is_positive):
            digest.update(array.tobytes())
        return digest.hexdigest()


@isolated
def label_contrast(
    store: LatentStore, label: str, value: str, against: str | None = None
) -> Contrast:
    """Part a store's images by a label; those that lack it are of neither kind.

    Args:
        store: the latents.
        label: its name.
        value: of the positive kind, as text; a number is compared as one. ``median`` parts a label
            of numbers at its median.
        against: value of the negative kind; every other value by default.

    Raises:
        ValueError: for a label or value that no image has, or fewer than 8 images of a kind.
    """
    store_labels(store, [label], "label")
    rows, cells = known_cells(store.labels(label))
    if not len(rows):
        raise ValueError(f"--label {label!r}: is missing in all images; choose another label")
    is_text = cells.dtype.kind == "U"
    if value == MEDIAN and not is_text:
        if against is not None:
            raise ValueError(f"--against {against!r}: goes with no --value {MEDIAN}; leave it out")
        middle = float(np.median(cells))
        at = number(middle)
        return Contrast(rows, cells > middle, f"{label} above {at}", f"{label} up to {at}", label)
    is_bool = store.manifest.labels[label] == "bool"
    positive = _equal(cells, label, value, "value", is_bool)
    if against is None:
        return Contrast(rows, positive, f"{label} = {value}", f"{label} is not {value}", label)
    negative = _equal(cells, label, against, "against", is_bool)
    if (positive & negative).any():
        raise ValueError(f"--against {against!r}: is --value, too; give another value, or none")
    some = positive | negative
    names = f"{label} = {value}", f"{label} = {against}"
    return Contrast(rows[some], positive[some], *names, label)


def _equal(cells: NDArray[Any], label: str, value: str, option: str, is_bool: bool) -> Bools:
    """Return which cells hold a value; some do."""
    wanted: str | float | None = value
    if cells.dtype.kind != "U":
        truth = {"true": 1.0, "false": 0.0}.get(value.lower()) if is_bool else None
        wanted = numerals.real(value) if truth is None else truth
    found: Bools = np.zeros(len(cells), np.bool_) if wanted is None else cells == wanted
    if not found.any():
        known = [str(v) if isinstance(v, str) else f"{v:g}" for v in np.unique(cells).tolist()]
        half = "" if cells.dtype.kind == "U" else f"; {MEDIAN} parts numbers in two halves"
        raise ValueError(
            f"--{option} {value!r}: no image has it as its {label}, which is one of "
            f"{listed(known)}{half}"
        )
    return found


@isolated
def picked_contrast(
    store: LatentStore,
    positive_ids: Sequence[str],
    negative_ids: Sequence[str] | None = None,
    *,
    positive: str = "the first images",
    negative: str = "the others",
) -> Contrast:
    """Part some of a store's images by their ids.

    Args:
        store: the latents.
        positive_ids: images of the positive kind; an id may be there more than once.
        negative_ids: of the negative kind; all other images by default.
        positive: what the kinds are called.
        negative: the other one.

    Raises:
        ValueError: for ids that the store lacks or that are of both kinds, or fewer than 8 images
            of a kind.
    """
    places = {name: row for row, name in enumerate(store.ids)}
    is_positive, chosen = (np.zeros(len(places), np.bool_) for _ in range(2))
    is_positive[_find(positive_ids, places, "positive")] = True
    if negative_ids is None:
        chosen[:] = True
    else:
        negatives = _find(negative_ids, places, "negative")
        if both := np.flatnonzero(is_positive[negatives]).tolist():
            raise ValueError(
                f"--negative-ids: {negative_ids[both[0]]!r} is among --positive-ids, too; an image "
                "is of one kind"
            )
        chosen[negatives] = True
    chosen |= is_positive
    rows = np.flatnonzero(chosen)
    return Contrast(rows, is_positive[rows], positive, negative)


def _find(ids: Sequence[str], places: Mapping[str, int], kind: str) -> list[int]:
    if missing := [name for name in ids if name not in places]:
        raise ValueError(
            f"--{kind}-ids: the store lacks {len(missing)} of them, such as {missing[0]!r}; give "
            f"ids of the store, such as {next(iter(places))!r}"
        )
    return [places[name] for name in ids]


def require_enough(is_positive: Bools, positive: str, negative: str) -> None:
    """Refuse fewer than 8 images of a kind.

    Raises:
        ValueError: naming both kinds and their counts.
    """
    ones = int(np.count_nonzero(is_positive))
    zeros = len(is_positive) - ones
    if min(ones, zeros) < FEWEST:
        raise ValueError(
            f"{positive}: {ones} images, and {negative}: {zeros}; a direction needs at least "
            f"{FEWEST} of either kind, so choose another value or more images"
        )
