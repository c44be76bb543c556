"""What the analysis ``band_variance`` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.band_variance.options import BandVarianceConfig

if TYPE_CHECKING:
    from gdm_repr.analysis.intervals.curves import Curve
    from gdm_repr.analysis.intervals.estimate import Estimate, Floats
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.subject import Anchors, Subject
    from gdm_repr.masks import Mask


@dataclass(frozen=True)
class Summary:
    """What one feature says of latents, or of the control.

    Attributes:
        curve: share of the free variance left when the first m latents are fixed.
        drawn: share left when one band is drawn and the others fixed, in the order of generation.
        fixed: share left when one band is fixed and the others drawn.
    """

    curve: Curve
    drawn: tuple[Estimate, ...]
    fixed: tuple[Estimate, ...]


def summarise(
    variances: Floats, kept: Sequence[int], bands: int, draws: int, *, seed: int = 0
) -> Summary:
    """Summarise variances of n anchors.

    Args:
        variances: (n, M + 2k): for each of M prefixes, each band drawn, and each band fixed.
        kept: latents fixed in the prefixes, beginning with 0.
        bands: k.
        draws: an anchor.
        seed: of the bootstrap.
    """
    from gdm_repr.analysis.intervals.curves import curve
    from gdm_repr.analysis.intervals.estimate import Estimate

    m = len(kept)
    prefixes = curve(variances[:, :m], kept, draws, seed=seed)
    every = curve(variances, range(variances.shape[1]), draws, seed=seed)
    shares = tuple(map(Estimate, every.value[m:], every.low[m:], every.high[m:]))
    return Summary(prefixes, shares[:bands], shares[bands:])


def check(config: BandVarianceConfig, subject: Subject) -> None:
    """Refuse features that can't be had, more anchors than images, and images that are away."""
    config.require_features(subject)
    subject.rows(config.anchors, seed=config.seed)
    subject.require_images()


def _measure(
    config: BandVarianceConfig,
    subject: Subject,
    journal: Journal,
    anchors: Anchors,
    masks: Sequence[Mask],
) -> list[Any]:
    """Measure the anchors that the journal does not have."""
    from tqdm import tqdm

    from gdm_repr.analysis.band_variance.variance import anchor_variances, control_variances

    extractors = config.extractors()
    phi, basis = list(extractors.values()), subject.model.basis
    images = anchors.rows or subject.rows(config.anchors, seed=config.seed)
    pool_rows = subject.rows(min(config.pool, len(subject.store)), seed=config.seed + 1)
    pool = subject.model.to_basis(subject.images(pool_rows))
    keys = [f"anchor {a}" for a in range(config.anchors)]
    each = config.draws * len(masks)
    with tqdm(
        total=each * len(keys),
        initial=each * sum(key in journal for key in keys),
        unit="img",
        desc="band variance",
    ) as bar:
        for a, key in enumerate(keys):
            if key in journal:
                continue
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
            journal.add(key, {of: dict(zip(extractors, v, strict=True)) for of, v in by.items()})
    return [journal[key] for key in keys]
