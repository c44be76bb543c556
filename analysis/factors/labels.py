"""Known properties of images, as targets that a probe can predict.

A *factor* is a label of a store. It is discrete (texts, truth values, whole numbers of few values),
continuous, or circular: its range closes on itself, as that of a hue. Its targets are one column a
class (1 or 0), the value itself, or cosine and sine. An image without a factor is left out for that
factor, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gdm_repr.boundary import numerals
from gdm_repr.boundary.isolation import isolated
from gdm_repr.data.scenes.factors import SCENE_FACTORS
from gdm_repr.latents.store import LatentStore

Kind = Literal["discrete", "continuous", "circular"]

MOST_CLASSES = 50
_FEW_NUMBERS = 20  # whole numbers of more values than that are taken for an amount


@dataclass(frozen=True, eq=False)
class Factor:
    """A known property of some of n images.

    Attributes:
        name: of the label.
        kind: what it is.
        rows: the m images that have it, as positions 0..n-1, ascending.
        targets: what is predicted, shape (m, t).
        classes: names of the t classes of a discrete factor, otherwise empty.
        note: what was left out, if anything.
    """

    name: str
    kind: Kind
    rows: NDArray[np.int64]
    targets: NDArray[np.float64]
    classes: tuple[str, ...] = ()
    note: str = ""

    @property
    def measure(self) -> str:
        """Name of the score that a prediction gets."""
        return "balanced accuracy" if self.kind == "discrete" else "R^2"


@isolated
def read_factor(
    name: str, column: Sequence[Any] | NDArray[Any], *, period: float | None = None, fewest: int = 5
) -> Factor:
    """Make a factor of one value an image.

    Args:
        name: of the factor.
        column: n values; None and NaN are missing.
        period: of a circular factor; None for another kind.
        fewest: images that a class must have; the images of smaller ones are left out.

    Raises:
        ValueError: for labels that can't be predicted: one value only, names of single images, too
            many classes, too few images.

    >>> factor = read_factor("shape", ["ball", "cube", None] * 5)
    >>> factor.kind, factor.classes, len(factor.rows)
    ('discrete', ('ball', 'cube'), 10)
    """
    rows, values = known_cells(column)
    text = values.dtype.kind == "U"
    if text and period is not None:
        raise ValueError("holds texts; a circular factor needs numbers")
    if not text and not np.isfinite(values).all():
        raise ValueError("holds infinite values")
    distinct = len(np.unique(values))
    if distinct < 2:
        raise ValueError("has one value only" if distinct else "is missing in all images")
    if len(rows) < 2 * fewest:
        raise ValueError(f"is known of {len(rows)} images only, of at least {2 * fewest}")
    if period is not None:
        if not 0 < period < math.inf:
            raise ValueError(f"has the period {period}, which must be above 0")
        angle = values * (2 * math.pi / period)
        return Factor(name, "circular", rows, np.stack([np.cos(angle), np.sin(angle)], 1))
    whole = text or bool((values == np.round(values)).all())
    if whole and distinct == len(rows) and (text or distinct > _FEW_NUMBERS):
        raise ValueError("has as many values as images: it names images")
    if text or (whole and distinct <= _FEW_NUMBERS):
        if text and distinct > MOST_CLASSES:
            raise ValueError(f"has {distinct} classes, of at most {MOST_CLASSES}")
        return _classes(name, rows, values, fewest)
    return Factor(name, "continuous", rows, values[:, None])


def _classes(name: str, rows: NDArray[np.int64], values: NDArray[Any], fewest: int) -> Factor:
    names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(counts >= fewest)
    if len(kept) < 2:
        raise ValueError(f"has fewer than two classes of at least {fewest} images")
    note = ""
    if rare := len(names) - len(kept):
        lost = int(counts.sum() - counts[kept].sum())
        note = f"{rare} classes of fewer than {fewest} images left out ({lost} images)"
    has = np.isin(codes, kept)
    targets = (codes[has][:, None] == kept).astype(np.float64)
    labels = tuple(v if isinstance(v, str) else f"{v:g}" for v in names[kept].tolist())
    return Factor(name, "discrete", rows[has], targets, labels, note)


def known_cells(
    column: Sequence[Any] | NDArray[Any], missing: Sequence[Any] = ()
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return which of n cells hold something, and what: float64, or text where any is a text.

    None and NaN hold nothing, nor does what ``missing`` lists.
    """
    cells = np.asarray(column, dtype=object)
    rows = np.flatnonzero(
        [cell is not None and cell == cell and cell not in missing for cell in cells]
    )
    known = cells[rows]
    text = any(isinstance(cell, str) for cell in known)
    return rows, known.astype(str if text else np.float64)


def of_same_images(factors: Sequence[Factor]) -> list[list[int]]:
    """Return the places of factors that are known of the same images, put together."""
    groups: dict[bytes, list[int]] = {}
    for place, factor in enumerate(factors):
        groups.setdefault(factor.rows.tobytes(), []).append(place)
    return list(groups.values())


def store_periods(store: LatentStore, specs: Sequence[str] = ()) -> dict[str, float]:
    """Return the periods of a store's labels that come round.

    Args:
        store: the latents; those of scenes have circular factors that are known.
        specs: further labels, ``name=period``; a name alone has its known period, or 1.

    Raises:
        ValueError: for a label that the store does not have, or a period that is no number above 0.
    """
    periods = {}
    if str(store.manifest.settings.get("source", "")).startswith("scenes"):
        periods = {
            factor.name: float(factor.range[1]) - float(factor.range[0])
            for factor in SCENE_FACTORS
            if factor.kind == "circular"
        }
    for spec in specs:
        name, _, text = spec.partition("=")
        period = numerals.real(text) if text else periods.get(name, 1.0)
        if period is None or not 0 < period < math.inf:
            raise ValueError(
                f"--circular {spec!r}: the period must be a number above 0, as in angle=360"
            )
        periods[name] = period
        store_labels(store, [name], "circular")
    return periods


def store_labels(
    store: LatentStore, names: Sequence[str] = (), option: str = "factors"
) -> tuple[str, ...]:
    """Return labels of a store: those named, or all.

    Raises:
        ValueError: for one that the store does not have, or that is named twice.
    """
    for name in names:
        if name not in store.manifest.labels:
            raise ValueError(
                f"--{option} {name!r}: no label of the store; it has "
                f"{', '.join(store.manifest.labels) or 'none'}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"--{option} {','.join(names)}: names one twice; name it once")
    return tuple(names) or tuple(store.manifest.labels)


@isolated
def store_factors(
    store: LatentStore,
    rows: Sequence[int],
    names: Sequence[str] = (),
    circular: Sequence[str] = (),
    *,
    fewest: int = 5,
) -> tuple[list[Factor], dict[str, str]]:
    """Read the labels of some rows of a store.

    Args:
        store: the latents.
        rows: its rows.
        names: the labels; all when empty.
        circular: ``name`` or ``name=period`` of labels that come round; those of scenes are known.
        fewest: images that a class must have.

    Returns:
        The factors, and by name why others are none.

    Raises:
        ValueError: for labels that the store does not have, or a period that is none.
    """
    wanted, periods = store_labels(store, names), store_periods(store, circular)
    factors, refused = [], {}
    for name in wanted:
        column = store.labels(name)[list(rows)]
        try:
            factors.append(read_factor(name, column, period=periods.get(name), fewest=fewest))
        except ValueError as error:
            refused[name] = str(error)
    return factors, refused
