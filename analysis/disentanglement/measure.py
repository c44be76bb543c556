"""How well latents separate known factors: ``python -m gdm_repr.analysis.disentanglement``.

Scores of every band, and of all latents, beside the images' own coefficients. What each score means
is in :mod:`gdm_repr.analysis.disentanglement.scores`. DCI and MIG depend on the number of latents,
so that none is told without it, nor without what unrelated factors would give.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gdm_repr.analysis.columns.baselines import Baseline, open_baselines, shared_rows
from gdm_repr.analysis.columns.names import LATENTS, RAW
from gdm_repr.analysis.columns.sources import Sources
from gdm_repr.analysis.cost import Cost
from gdm_repr.analysis.disentanglement.estimate import LatentScore
from gdm_repr.analysis.disentanglement.input import Factors, read_factors
from gdm_repr.analysis.disentanglement.options import LEAST, DisentanglementConfig
from gdm_repr.analysis.disentanglement.scores import SCORES, score
from gdm_repr.analysis.factors.labels import store_labels, store_periods
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.subject import Subject
from gdm_repr.masks import group_elements
from gdm_repr.progress import progress

ALL = "all bands"
TRIED_IMAGES, TRIED_LATENTS = 200, 16  # on which a score is timed


@dataclass(frozen=True, eq=False)
class Disentanglement(Found):
    """What was measured.

    Attributes:
        n: images looked at.
        factors: names of the labels that are factors.
        left_out: why other labels are none, by name.
        scores: by (latents, raw coefficients or a baseline's name, band).
    """

    n: int
    factors: Sequence[str]
    left_out: Mapping[str, str]
    scores: Mapping[tuple[str, str], Sequence[LatentScore]]


def check(config: DisentanglementConfig, subject: Subject) -> None:
    """Refuse labels that are no factors though asked for, and images or a baseline not there."""
    _, rows, _, _ = _inputs(config, subject)
    if len(rows) >= LEAST:
        subject.require_images()


def measure(config: DisentanglementConfig, subject: Subject, journal: Journal) -> Disentanglement:
    """Score the latents, the images' own coefficients and other models.

    Raises:
        ValueError: for factors, images or a baseline that are not there.
    """
    baselines, rows, factors, left_out = _inputs(config, subject)
    scores = _scores(config, subject, journal, rows, factors, baselines)
    names = factors.names if factors else ()
    return Disentanglement(config, subject, len(rows), names, left_out, scores)


def cost(config: DisentanglementConfig, subject: Subject) -> Cost:
    """Count what measuring takes; each score is tried once, on few latents."""
    baselines, rows, factors, _ = _inputs(config, subject)
    n = len(rows)
    if n < LEAST:
        return Cost()
    channels, grouping = subject.model.shape[0], subject.model.grouping
    sizes = [channels * size for size in grouping.sizes()]
    if len(sizes) > 1:
        sizes.append(sum(sizes))
    sources = 2 + len(baselines)
    each = sum(_try_score(name, subject, factors) for name in config.scores)
    draws = 1 + config.permutations + config.resamples / 2  # these are of half of the images
    cubes = 2 * sum(size**3 for size in sizes) if "gaussian_tc" in config.scores else 0
    return Cost(flops=draws * sources * cubes, seconds=4 + each * sum(sizes) * sources * draws * n)


def _try_score(name: str, subject: Subject, factors: Factors | None) -> float:
    """Return the seconds of a score, a latent and an image."""
    method, count = SCORES[name], len(factors.names) if factors else 0
    if method.factors > count:
        return 0.0
    key = f"score {name}"
    if key not in subject.tried:
        n = min(TRIED_IMAGES, len(subject.store))
        z = np.random.default_rng(0).standard_normal((n, TRIED_LATENTS))
        own = factors.take(np.arange(n)) if factors else None
        began = time.perf_counter()
        score(name, z, own, permutations=1, resamples=5)
        subject.tried[key] = (time.perf_counter() - began) / (4.5 * n * TRIED_LATENTS)
    return subject.tried[key]


def _inputs(
    config: DisentanglementConfig, subject: Subject
) -> tuple[list[Baseline], list[int], Factors | None, dict[str, str]]:
    """Return other models, rows of the store, their factors, and labels that are none."""
    baselines = open_baselines(config.baseline, subject)
    rows = subject.rows(min(config.images, len(subject.store)), seed=config.seed)
    rows = shared_rows(baselines, subject, rows)
    return baselines, rows, *_factors(config, subject, rows)


def _factors(
    config: DisentanglementConfig, subject: Subject, rows: Sequence[int]
) -> tuple[Factors | None, dict[str, str]]:
    """Read the factors of some rows; without --factors, leave out labels that are none.

    Raises:
        ValueError: for names that are no labels, or labels that are no factors though asked for.
    """
    wanted = store_labels(subject.store, config.factors)
    periods = store_periods(subject.store, config.circular)
    columns = {name: subject.store.labels(name)[list(rows)] for name in wanted}
    left_out: dict[str, str] = {}
    for name in [*columns]:
        try:
            read_factors({name: columns[name]})
        except ValueError as error:
            if config.factors:
                raise ValueError(f"--factors {name}: {error}") from None
            left_out[name] = str(error)
            continue
        texts = columns[name].dtype.kind in "OUS"
        if not config.factors and texts and len(set(columns[name].tolist())) > len(rows) / 2:
            left_out[name] = "most images have a text of their own"
    kept = {name: values for name, values in columns.items() if name not in left_out}
    if not kept:
        return None, left_out
    said = {*_named(config.circular)}
    circular = {
        name: period
        for name, period in periods.items()
        if name in kept and (name in said or name not in config.continuous)
    }
    return read_factors(kept, continuous=config.continuous, circular=circular), left_out


def _scores(
    config: DisentanglementConfig,
    subject: Subject,
    journal: Journal,
    rows: Sequence[int],
    factors: Factors | None,
    baselines: Sequence[Baseline],
) -> dict[tuple[str, str], list[LatentScore]]:
    """Score what the journal does not have; pass methods that need more factors or latents."""
    if len(rows) < LEAST:
        return {}
    tables = _tables(subject, rows, baselines)
    kinds = dict(zip(factors.names, factors.kinds, strict=True)) if factors else {}
    told = {*_named(config.circular)}
    untold = [name for name in kinds if kinds[name] == "circular" and name not in told]
    count = len(factors.names) if factors else 0
    wanted = [
        (of, band, name)
        for (of, band), z in tables.items()
        for name in config.scores
        if SCORES[name].factors <= count and SCORES[name].latents <= z.shape[1]
    ]
    draws = config.model_dump(include={"permutations", "resamples", "seed"})
    found: dict[tuple[str, str], list[LatentScore]] = {}
    with progress(len(wanted), desc="disentanglement", unit="score") as bar:
        for of, band, name in wanted:
            key = f"{name}, {of}, {band}"
            if of not in (LATENTS, RAW):  # another file may lie under the same path
                key += f", {hashlib.sha256(tables[of, band].tobytes()).hexdigest()[:16]}"
            if untold:  # which versions before 0.3 took for amounts
                key += f", circular {', '.join(untold)}"
            z = tables[of, band]
            scored = journal.once(key, tuple[LatentScore, ...], score, name, z, factors, **draws)
            found.setdefault((of, band), []).extend(scored)
            bar.update()
    return found


def _named(specs: Sequence[str]) -> list[str]:
    """Return the names of ``name=period``."""
    return [spec.partition("=")[0] for spec in specs]


def _tables(
    subject: Subject, rows: Sequence[int], baselines: Sequence[Baseline]
) -> dict[tuple[str, str], Floats]:
    """Return columns by (source, band), in the order of generation; codes are of all bands."""
    grouping = subject.model.grouping
    shape = subject.model.shape[0], grouping.d
    given = Sources(subject, rows, lambda z: z.reshape(len(z), -1), baselines)
    whole = [LATENTS, RAW, *(b.name for b in baselines if not b.length)]
    values = {of: given.table(of) for of in whole}
    masks = {grouping.names[group]: group_elements(grouping, [group]) for group in grouping.order}
    if len(masks) > 1:
        masks[ALL] = group_elements(grouping, grouping.order)
    tables = {
        (of, band): values[of][:, np.broadcast_to(mask, shape).ravel()]
        for band, mask in masks.items()
        for of in whole
    } | {(b.name, ALL): given.table(b.name) for b in baselines if b.length}
    return {key: table.astype(np.float64) for key, table in tables.items()}
