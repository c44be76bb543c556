"""Which single elements hold which factor: ``python -m gdm_repr.analysis.element_factors``.

The paper says that a single element of the lowest band changes a single attribute (Sec. 4.4,
Fig. 6). Here the attributes are known: see :mod:`gdm_repr.analysis.element_factors.shares` for what
is counted, :mod:`gdm_repr.analysis.element_factors.probes` and
:mod:`gdm_repr.analysis.element_factors.moves` for the two ways in which it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.columns.names import LATENTS, RAW
from gdm_repr.analysis.columns.sources import Sources
from gdm_repr.analysis.cost import Cost, share_left
from gdm_repr.analysis.element_factors.options import (
    ELEMENTS,
    RANDOM,
    WAYS,
    ElementFactorsConfig,
)
from gdm_repr.analysis.element_factors.probes import probe_shares
from gdm_repr.analysis.element_factors.shares import Shares
from gdm_repr.analysis.element_factors.traversal import MovedAnchors, split_rows
from gdm_repr.analysis.factors.labels import Factor, store_factors
from gdm_repr.analysis.factors.reader import PATCHES
from gdm_repr.analysis.features.extractors import build_extractor
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.options import require_asked, with_advice
from gdm_repr.analysis.subject import Subject
from gdm_repr.analysis.traversal.directions import (
    Direction,
    Pool,
    choose_pool,
    element_directions,
    random_directions,
)
from gdm_repr.masks import element_mask, untouched_groups

READER_FLOPS = 20_000  # of the reader on patches, a number of an image
PROBE_FLOPS = 200  # of a draw, an image and an element


def check(config: ElementFactorsConfig, subject: Subject) -> None:
    """Refuse labels that are no factors though asked for, elements, a reader or images not there.

    The images are looked for although latents come first: after these much would be measured.
    """
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


def cost(config: ElementFactorsConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    pool, elements, random = choose_elements(config, subject)
    done = untouched_groups(subject.model.grouping, pool.mask)
    n, E, R = config.anchors, len(elements), len(random)
    moved, size = n * config.places, math.prod(subject.model.shape)
    read = moved * (2 * E + R) + min(config.fit, len(subject.store))
    images = min(config.images, len(subject.store))
    share = share_left(subject, done)
    return Cost(
        decoded=n + moved * (E + R) * share,
        batches=1 + -(-moved // config.batch_size) * (E + R) * share,  # a direction, a batch
        flops=read * size * READER_FLOPS
        + PROBE_FLOPS * images * (2 * E + R) * (config.permutations + config.resamples),
    )


def _inputs(
    config: ElementFactorsConfig, subject: Subject
) -> tuple[list[int], list[Factor], dict[str, str]]:
    """Return rows of the store, their factors, and labels that are none."""
    rows = subject.rows(min(config.images, len(subject.store)), seed=config.seed)
    return rows, *store_factors(subject.store, rows, config.factors, config.circular)


@dataclass(frozen=True, eq=False)
class ElementFactors(Found):
    """What was measured.

    Attributes:
        images: how many were looked at.
        factors: that were looked for; without any, the rest is empty.
        refused: why other labels were not, by name.
        pool: the band and its elements.
        shares: by way, then by what was moved.
        reader: R^2 of readings of images not fitted to, by factor; empty without traversal.
        decoded: the same of the anchors as the model decodes them.
        fitted: images that the reader was fitted to.
        readable: factors that traversal looks at.
        moved: images that were traversed.
    """

    images: int
    factors: Sequence[Factor]
    refused: Mapping[str, str]
    pool: Pool
    shares: Mapping[str, Mapping[str, Shares]]
    reader: Mapping[str, Estimate] = field(default_factory=dict)
    decoded: Mapping[str, Estimate] = field(default_factory=dict)
    fitted: int = 0
    readable: tuple[str, ...] = ()
    moved: int = 0


def choose_elements(
    config: ElementFactorsConfig, subject: Subject
) -> tuple[Pool, list[Direction], list[Direction]]:
    """Return the elements, one number each, and random directions of their band.

    Raises:
        ValueError: for bands or elements that are not there.
    """
    channels, grouping = subject.model.shape[0], subject.model.grouping
    given = choose_pool(grouping, channels, band=config.band, elements=config.elements)
    names: list[str] = []
    for name in given.elements:
        mask = element_mask(name, channels, grouping.d) & given.mask
        names += [f"{n}:{c}" for n, c in np.argwhere(mask.T)]
    pool = Pool(given.name, given.mask, tuple(names[: config.columns]), single=True)
    random = random_directions(pool, config.directions, seed=config.seed)
    return pool, element_directions(pool), random


def measure(config: ElementFactorsConfig, subject: Subject, journal: Journal) -> ElementFactors:
    """Measure by both ways what the journal does not have.

    Raises:
        ValueError: for labels, elements or images that are not there.
    """
    rows, factors, refused = _inputs(config, subject)
    pool, elements, random = choose_elements(config, subject)
    shares: dict[str, dict[str, Shares]] = {}
    found = (config, subject, len(rows), factors, refused, pool, shares)
    if factors and WAYS[0] in config.ways:
        shares[WAYS[0]] = _by_probe(config, subject, rows, factors, elements, random)
    if not factors or WAYS[1] not in config.ways:
        return ElementFactors(*found)
    moved = MovedAnchors(config, subject, journal, rows, factors)
    if moved.readable:
        asked = {ELEMENTS: elements, RANDOM: random}
        if "raw" in config.controls:
            asked[RAW] = elements
        shares[WAYS[1]] = moved.shares(asked)
    return ElementFactors(
        *found,
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

    def along(z: NDArray[Any], directions: Sequence[Direction]) -> NDArray[Any]:
        w = np.stack([each.w.numpy().ravel() for each in directions])
        used = np.flatnonzero(w.any(0))
        columns: NDArray[Any] = z.reshape(len(z), -1)[:, used] @ w[:, used].T
        return columns

    both = Sources(
        subject, rows, lambda z: np.hstack([along(z, elements), along(z, random)])
    ).table(LATENTS)
    tables = {ELEMENTS: both[:, : len(elements)], RANDOM: both[:, len(elements) :]}
    if "raw" in config.controls:
        tables[RAW] = Sources(subject, rows, lambda x: along(x, elements)).table(RAW)
    return {
        source: probe_shares(
            table,
            [each.name for each in (random if source == RANDOM else elements)],
            factors,
            permutations=config.permutations,
            resamples=config.resamples,
            seed=config.seed,
        )
        for source, table in tables.items()
    }
