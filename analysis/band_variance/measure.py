"""Which band holds what: ``python -m gdm_repr.analysis.band_variance`` (Sec. 4.2, Fig. 4a).

Images are drawn with some latents fixed, and what still varies is measured in features; see
:mod:`gdm_repr.analysis.band_variance.variance` for the estimate and its control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gdm_repr.analysis.band_variance.options import BandVarianceConfig
from gdm_repr.analysis.band_variance.variance import anchor_variances, control_variances
from gdm_repr.analysis.cost import DRAWN, Cost, made_anew
from gdm_repr.analysis.features.extractors import Extractor
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.intervals import curves
from gdm_repr.analysis.intervals.curves import to_grid
from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.subject import Anchors, Subject
from gdm_repr.masks import Mask, band_ends, first_elements, group_elements
from gdm_repr.progress import progress

Variances = dict[str, dict[str, list[float]]]
"""Of one anchor, by ``latents`` or ``control``, and feature: one of each mask."""
LEVEL = 0.1  # of the free variance: what is left when latents "suffice"


@dataclass(frozen=True)
class VarianceLeft:
    """What one feature says of latents, or of the control.

    Attributes:
        curve: share of the free variance left when the first m latents are fixed.
        drawn: share left when one band is drawn and the others fixed, in the order of generation.
        fixed: share left when one band is fixed and the others drawn.
    """

    curve: curves.Curve
    drawn: tuple[Estimate, ...]
    fixed: tuple[Estimate, ...]


@dataclass(frozen=True, eq=False)
class BandVariance(Found):
    """What was measured.

    Attributes:
        anchors: whose latents were fixed.
        ends: how many latents are made when each band is done, in the order of generation.
        left: variance left of latents and of the control, by feature.
        gaps: latents' curve less the control's at every m, by feature.
        enough: latents that settle nine tenths of the first feature's variance, and the control's.
        bend: latents at which the first feature's curve bends most.
        cuts: of bands of equal shares; none where the curve does not tell.
        fingerprints: of the features.
    """

    anchors: Anchors
    ends: Mapping[str, int]
    left: Mapping[str, tuple[VarianceLeft, ...]]
    gaps: Mapping[str, Sequence[Estimate]]
    enough: tuple[Estimate, ...]
    bend: Estimate
    cuts: Sequence[int]
    fingerprints: Sequence[Mapping[str, Any]]


def check(config: BandVarianceConfig, subject: Subject) -> None:
    """Refuse features that can't be had, more anchors than images, and images that are away."""
    config.require_features(subject)
    subject.rows(config.anchors, seed=config.seed)
    subject.require_images()


def cost(config: BandVarianceConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    masks = _kept(config, subject)[1]
    drawn = config.draws + min(config.draws, config.pool)  # the control's are not decoded
    return Cost(
        decoded=config.anchors * (1 + config.draws * made_anew(subject, masks)),
        featured=config.anchors * drawn * len(masks),
        seconds=DRAWN,
    )


def _kept(config: BandVarianceConfig, subject: Subject) -> tuple[list[int], list[Mask]]:
    """Return numbers of first latents, and sets: of these, of all bands but one, of each band."""
    grouping = subject.model.grouping
    ends = band_ends(grouping).values()
    kept = sorted({*curves.cut_grid(grouping.index.size, config.cuts), *ends})
    bands = [group_elements(grouping, [group]) for group in grouping.order]
    return kept, [*(first_elements(grouping, m) for m in kept), *(~band for band in bands), *bands]


def measure(config: BandVarianceConfig, subject: Subject, journal: Journal) -> BandVariance:
    """Measure what varies when the first latents, one band or all but one are fixed.

    Raises:
        ValueError: for features that can't be had, or more anchors or draws than there are images.
    """
    grouping, seed, ends = subject.model.grouping, config.seed, band_ends(subject.model.grouping)
    kept, masks = _kept(config, subject)
    bands = grouping.order
    anchors = subject.anchors(config.anchors, config.source, seed=seed)
    extractors = config.extractors()
    rows = _rows(config, subject, journal, anchors, masks, extractors)
    variances = {
        name: [np.array([row[of][name] for row in rows]) for of in ("latents", "control")]
        for name in config.features
    }
    prefixes = {name: [of[:, : len(kept)] for of in pair] for name, pair in variances.items()}
    left = {
        name: tuple(_left(of, kept, len(bands), config) for of in pair)
        for name, pair in variances.items()
    }
    main, settled = config.features[0], partial(curves.suffices, level=LEVEL)
    value, groups = left[main][0].curve.value, config.groups or grouping.k
    falls = groups > 1 and bool(np.isfinite(value).all())
    return BandVariance(
        config,
        subject,
        anchors,
        ends,
        left,
        gaps={name: curves.difference(*pair, seed=seed) for name, pair in prefixes.items()},
        enough=tuple(curves.place(of, kept, settled, seed=seed) for of in prefixes[main]),
        bend=to_grid(curves.place(prefixes[main][0], kept, curves.knee, seed=seed), kept),
        cuts=curves.suggested_cuts(kept, value, groups) if falls else (),
        fingerprints=[each.fingerprint() for each in extractors.values()],
    )


def _left(
    variances: Floats, kept: Sequence[int], bands: int, config: BandVarianceConfig
) -> VarianceLeft:
    """Summarise variances (n, M + 2k): of M prefixes, each band drawn, and each band fixed."""
    m, settings = len(kept), {"draws": config.draws, "seed": config.seed}
    every = curves.curve(variances, range(variances.shape[1]), **settings)
    shares = tuple(every.points[m:])
    prefixes = curves.curve(variances[:, :m], kept, **settings)
    return VarianceLeft(prefixes, shares[:bands], shares[bands:])


def _rows(
    config: BandVarianceConfig,
    subject: Subject,
    journal: Journal,
    anchors: Anchors,
    masks: Sequence[Mask],
    extractors: Mapping[str, Extractor],
) -> list[Variances]:
    """Measure the anchors that the journal does not have."""
    phi, basis = list(extractors.values()), subject.model.basis
    images = anchors.rows or subject.rows(config.anchors, seed=config.seed)
    pool_rows = subject.rows(min(config.pool, len(subject.store)), seed=config.seed + 1)
    pool = subject.model.to_basis(subject.images(pool_rows))
    keys = [f"anchor {a}" for a in range(config.anchors)]
    each = config.draws * len(masks)
    done = each * sum(key in journal for key in keys)
    with progress(each * len(keys), desc="band_variance", initial=done) as bar:

        def variances(a: int) -> Variances:
            own = subject.model.to_basis(subject.images([images[a]]))
            others = pool[[row != images[a] for row in pool_rows]]
            settings = {"anchor": a, "seed": config.seed, "batch_size": config.batch_size}
            by = {
                "control": control_variances(
                    phi, basis, own, others, masks, draws=min(config.draws, len(others)), **settings
                ),
                "latents": anchor_variances(
                    subject.generation,
                    basis,
                    phi,
                    anchors.z[a : a + 1],
                    masks,
                    draws=config.draws,
                    advance=bar.update,
                    **settings,
                ),
            }
            return {of: dict(zip(extractors, v, strict=True)) for of, v in by.items()}

        return [journal.once(key, Variances, variances, a) for a, key in enumerate(keys)]
