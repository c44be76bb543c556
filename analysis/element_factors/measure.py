"""Which single elements hold which factor: ``python -m gdm_repr.analysis.element_factors``.

The paper says that a single element of the lowest band changes a single attribute (Sec. 4.4,
Fig. 6). Here the attributes are known: see :mod:`gdm_repr.analysis.element_factors.shares` for what
is counted, :mod:`gdm_repr.analysis.element_factors.probes` and
:mod:`gdm_repr.analysis.element_factors.moves` for the two ways in which it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.element_factors.options import (
    ELEMENTS,
    RANDOM,
    RAW,
    WAYS,
    ElementFactorsConfig,
)
from gdm_repr.analysis.options import (
    require_asked,
    with_advice,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gdm_repr.analysis.element_factors.shares import Shares
    from gdm_repr.analysis.factors.labels import Factor
    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.analysis.traversal.directions import Direction, Pool


def check(config: ElementFactorsConfig, subject: Subject) -> None:
    """Refuse labels that are no factors though asked for, elements, a reader or images not there.

    The images are looked for although latents come first: after these much would be measured.
    """
    from gdm_repr.analysis.element_factors.traversal import split_rows
    from gdm_repr.analysis.factors.reader import PATCHES
    from gdm_repr.analysis.features.extractors import build_extractor

    rows, factors, refused = _inputs(config, subject)
    require_asked(config.factors, refused)
    choose_elements(config, subject)
    if not factors:
        return
    if WAYS[1] in config.ways:
        split_rows(config, len(rows))
        if config.reader != PATCHES:
            with_advice("reader", config.reader, build_extractor)
    if WAYS[1] in config.ways or "raw" in config.controls:
        subject.require_images()


def _inputs(
    config: ElementFactorsConfig, subject: Subject
) -> tuple[list[int], list[Factor], dict[str, str]]:
    """Return rows of the store, their factors, and labels that are none."""
    from gdm_repr.analysis.factors.labels import store_factors

    rows = subject.rows(min(config.images, len(subject.store)), seed=config.seed)
    return rows, *store_factors(subject.store, rows, config.factors, config.circular)


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured.

    Attributes:
        pool: the band and its elements.
        shares: by way, then by what was moved.
        reader: R^2 of readings of images not fitted to, by factor; empty without traversal.
        decoded: the same of the anchors as the model decodes them.
        fitted: images that the reader was fitted to.
        readable: factors that traversal looks at.
        moved: images that were traversed.
    """

    pool: Pool
    shares: Mapping[str, Mapping[str, Shares]]
    reader: Mapping[str, Estimate]
    decoded: Mapping[str, Estimate]
    fitted: int
    readable: tuple[str, ...]
    moved: int = 0


def choose_elements(
    config: ElementFactorsConfig, subject: Subject
) -> tuple[Pool, list[Direction], list[Direction]]:
    """Return the elements, one number each, and random directions of their band.

    Raises:
        ValueError: for bands or elements that are not there.
    """
    import numpy as np

    from gdm_repr.analysis.traversal import directions
    from gdm_repr.masks import element_mask

    channels, grouping = subject.model.shape[0], subject.model.grouping
    given = directions.choose_pool(grouping, channels, band=config.band, elements=config.elements)
    names: list[str] = []
    for name in given.elements:
        mask = element_mask(name, channels, grouping.d) & given.mask
        names += [f"{n}:{c}" for n, c in np.argwhere(mask.T)]
    pool = directions.Pool(given.name, given.mask, tuple(names[: config.columns]), single=True)
    random = directions.random_directions(pool, config.directions, seed=config.seed)
    return pool, directions.element_directions(pool), random


def _measure(
    config: ElementFactorsConfig,
    subject: Subject,
    journal: Journal,
    rows: Sequence[int],
    factors: Sequence[Factor],
) -> Measured:
    """Measure by both ways what the journal does not have."""
    from gdm_repr.analysis.element_factors.traversal import Traversal

    pool, elements, random = choose_elements(config, subject)
    shares: dict[str, dict[str, Shares]] = {}
    if WAYS[0] in config.ways:
        shares[WAYS[0]] = _by_probe(config, subject, rows, factors, elements, random)
    if WAYS[1] not in config.ways:
        return Measured(pool, shares, {}, {}, 0, ())
    moved = Traversal(config, subject, journal, rows, factors)
    if moved.readable:
        asked = {ELEMENTS: elements, RANDOM: random}
        if "raw" in config.controls:
            asked[RAW] = elements
        shares[WAYS[1]] = moved.shares(asked)
    return Measured(
        pool,
        shares,
        moved.r2,
        moved.decoded,
        moved.fitted,
        tuple(factor.name for factor in moved.readable),
        config.anchors if moved.readable else 0,
    )


def _by_probe(
    config: ElementFactorsConfig,
    subject: Subject,
    rows: Sequence[int],
    factors: Sequence[Factor],
    elements: Sequence[Direction],
    random: Sequence[Direction],
) -> dict[str, Shares]:
    """Return shares by probe; they take seconds, and the journal does not keep them."""
    import numpy as np

    from gdm_repr.analysis.columns.sources import chunks
    from gdm_repr.analysis.element_factors.probes import probe_shares

    def along(z: NDArray[Any], directions: Sequence[Direction]) -> NDArray[Any]:
        w = np.stack([each.w.numpy().ravel() for each in directions])
        used = np.flatnonzero(w.any(0))
        columns: NDArray[Any] = z.reshape(len(z), -1)[:, used] @ w[:, used].T
        return columns

    tables: dict[str, list[NDArray[Any]]] = {}
    for part in chunks(len(rows)):
        some = [rows[i] for i in part]
        z = subject.store.z(some)
        tables.setdefault(ELEMENTS, []).append(along(z, elements))
        tables.setdefault(RANDOM, []).append(along(z, random))
        if "raw" in config.controls:
            x = subject.model.to_basis(subject.images(some)).cpu().numpy()
            tables.setdefault(RAW, []).append(along(x, elements))
    return {
        source: probe_shares(
            np.concatenate(parts),
            [each.name for each in (random if source == RANDOM else elements)],
            factors,
            permutations=config.permutations,
            resamples=config.resamples,
            seed=config.seed,
        )
        for source, parts in tables.items()
    }
