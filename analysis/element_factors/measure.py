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

from pydantic import Field

from gdm_repr.analysis.options import (
    AnalysisConfig,
    Needs,
    check_names,
    require_asked,
    with_advice,
)
from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.config import MANY, Held
from gdm_repr.edit.options import Words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gdm_repr.analysis.element_factors.shares import Shares
    from gdm_repr.analysis.factors.labels import Factor
    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.analysis.traversal.directions import Direction, Pool

WAYS = ("probe", "traversal")
ANCHORS, FEWEST = 6, 16  # images that are traversed, and others that a reader is fitted to
ELEMENTS, RANDOM, RAW = "elements", "random directions", "raw coefficients"


class ElementFactorsConfig(AnalysisConfig):
    """Measure which single elements of a band hold which factor, and whether each holds just one.

    A factor is a label of the store. By probe: how much of it an element's number tells. By
    traversal: how much of it changes when the element is moved, as a reader sees it that was fitted
    to labelled images. Beside random directions of the band and the images' own coefficients.
    Traversal decodes --anchors times --places images for each element and random direction.

    Example:
      python -m gdm_repr.analysis.element_factors --checkpoint runs/scenes --latents runs/scenes/latents --out runs/scenes/element_factors
      python -m gdm_repr.analysis.element_factors --checkpoint runs/scenes --latents runs/scenes/latents --band 30_99 --columns 60 --ways probe --controls none --out runs/scenes/middle_elements
    """  # noqa: E501

    of_labels = True

    factors: Words = Field((), description="Labels to look at, joined by commas; all by default.")
    circular: Words = Field(
        (), description="Labels that come round, as angle=360; those of scenes are known."
    )
    band: str | None = Field(
        None,
        description="By name, number or indices 0-29; + joins several. The band of --elements, or "
        "the first one generated, by default.",
    )
    elements: Words = Field(
        (),
        description="One channel's number, 7:1, or an index in each channel, 7, or 0-5; all of the "
        "band by default.",
    )
    columns: Held = Field(128, description="Elements (numbers) at most; the lowest of the band.")
    ways: Words = Field(WAYS, min_length=1, description="probe, traversal, joined by commas.")
    controls: Words = Field(("raw",), description="raw: coefficients of the images; or none.")
    images: int = Field(5000, ge=32, le=MANY, description="Images at most, chosen at random.")
    anchors: int = Field(
        32, ge=ANCHORS, le=MANY, description="Of these, images that are traversed."
    )
    fit: int = Field(
        2000, ge=16, le=MANY, description="Of the others, images the reader is fitted to."
    )
    places: int = Field(3, ge=2, le=9, description="Values that an element is set to.")
    reader: str = Field(
        "patches",
        description="What factors are read from: patches, or an extractor such as pixels, dct, "
        "efficientnet-lite0, FAMILY:MODEL:LAYER.",
    )
    readable: float = Field(
        0.5, gt=0, lt=1, description="R^2 below which a factor counts as not readable."
    )
    directions: int = Field(30, ge=2, le=MANY, description="Random directions to compare with.")
    least: float = Field(
        0.01, ge=0, lt=1, description="Share of a factor below which an element does not move it."
    )
    permutations: int = Field(
        199, ge=9, le=MANY, description="Draws of the probe's null, each of all elements."
    )
    resamples: int = Field(
        400, ge=40, le=MANY, description="Draws of images that an interval is from."
    )

    def check(self) -> None:
        """Refuse unknown names."""
        super().check()
        check_names("ways", self.ways, WAYS)
        check_names("controls", self.controls, ("raw", "none"))

    def needs(self) -> Needs:
        """Factors need ten images; traversal moves some, and fits the reader to others."""
        if WAYS[1] in self.ways:
            return Needs(
                ANCHORS + FEWEST, f"{ANCHORS} to traverse, and {FEWEST} others to fit the reader to"
            )
        return Needs(10, "a factor needs 5 images of 2 classes")


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


def analyse(config: ElementFactorsConfig, subject: Subject, journal: Journal) -> Report:
    """Measure, and write down what was found.

    Raises:
        ValueError: for options that can't be used, or images that are not there.
    """
    from gdm_repr.analysis.element_factors import figures
    from gdm_repr.analysis.element_factors import report as words
    from gdm_repr.analysis.element_factors.tables import tables
    from gdm_repr.analysis.report.page import Report

    config.check()
    rows, factors, refused = _inputs(config, subject)
    found = _measure(config, subject, journal, rows, factors) if factors else None
    return Report(
        title="Element factors",
        question="Does a single element change a single attribute?",
        answer=words.answer(found, config.least, refused),
        pictures=figures.pictures(found, config.least) if found else (),
        tables=tables(found, config.least, factors, refused),
        method={
            "images": len(rows),
            "factors": [f"{f.name} ({f.kind}, n = {len(f.rows)})" for f in factors],
            "elements": found.pool.count if found else 0,
            "probe": "means in at most 10 bins of equal counts, 5 folds",
            "traversal": f"{found.moved if found else 0} images, {config.places} places of "
            "Gauss-Hermite quadrature",
            "reader": f"kernel ridge on {config.reader}, fitted to {found.fitted if found else 0} "
            "other images, R^2 by leaving one out",
            "counts as moved": f"at a false-discovery rate of 0.05, and {config.least:g} or more "
            "of the factor's variance",
            "random directions": f"{config.directions}, from random orthonormal bases of the band",
            "permutations": config.permutations,
            "resamples": config.resamples,
            "seed": config.seed,
        },
        controls=[
            "Null of the probe: permuted labels. Null of the traversal: the sign of each image's "
            "change drawn anew. Both adjusted over all elements and factors.",
            "Both: what probe and traversal agree on, the smaller share and the larger p. A reader "
            "that is misled, and latents that go together, each mislead one way only.",
            "Random unit directions of the same band, measured in the same way.",
            "The images' own coefficients at the same elements, moved in their stds without the "
            "model, and read by the same reader.",
        ],
        limits=[
            "With fewer images fewer shares are found, and more elements seem to move one factor "
            "alone; purity depends on it less.",
            "Of known factors only: an element may change what no label names.",
            "What is read off a moved image is a regression's guess; it may take one change for "
            "another. Factors that it can't read are left out.",
            "A reader knows real images only. Directions that lead away from these, as a model not "
            "trained to the end makes them, are not judged; neither are raw ones.",
            "Shares count what an element does in all images alike; what it does in some and not "
            "in others is in the column 'total', with the reader's errors.",
            "Elements count as independent N(0, 1) numbers; where latents are not, what a probe "
            "finds may be of another element that goes with this one.",
            "Intervals are of the images: predictions and readings are resampled, which pairs "
            "differ from 0 is held fixed, and of counts and purity the spread is laid about the "
            "value. Random directions are resampled, too. They leave out another training seed.",
            "Both ways at once find fewer pairs than either, so that more elements seem to move "
            "one factor alone: compare with random directions by the same way.",
        ],
        metrics=[(0, words.metrics(found, config.least))] if found else (),
    )


def choose_elements(
    config: ElementFactorsConfig, subject: Subject
) -> tuple[Pool, list[Direction], list[Direction]]:
    """Return the elements, one number each, and random directions of their band.

    Raises:
        ValueError: for bands or elements that are not there.
    """
    import numpy as np

    from gdm_repr.analysis.traversal import directions
    from gdm_repr.edit.operations import element_mask

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


ANALYSIS = Analysis("element_factors", ElementFactorsConfig, analyse, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse element_factors``."""
    return run_analysis(ANALYSIS, argv)
