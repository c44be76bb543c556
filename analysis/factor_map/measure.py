"""Which band holds which factor: ``python -m gdm_repr.analysis.factor_map``.

Probes predict each label of a store from each band, from the first bands, and from all latents,
and the same from controls. See :mod:`gdm_repr.analysis.factor_map.scores` for the scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gdm_repr.analysis.columns.baselines import Baseline, open_baselines, shared_rows
from gdm_repr.analysis.columns.layout import Layout, layout
from gdm_repr.analysis.columns.names import LATENTS, PCA
from gdm_repr.analysis.columns.sources import Sources
from gdm_repr.analysis.cost import Cost
from gdm_repr.analysis.factor_map.cells import Cell, ColumnSet, code_columns, column_sets
from gdm_repr.analysis.factor_map.options import CONTROLS, FactorMapConfig
from gdm_repr.analysis.factor_map.scores import ProbeScore, probe_scores
from gdm_repr.analysis.factors.labels import Factor, of_same_images, store_factors
from gdm_repr.analysis.factors.probes import PROBES, Probe, fold_of
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.options import require_asked
from gdm_repr.analysis.subject import Subject
from gdm_repr.progress import progress

FIT_FLOPS = 50  # of a probe, times the third power of the smaller of images and columns
LANDMARKS = 300  # of the probe of kernels
RESAMPLE_FLOPS = 250  # of a draw, an image and a target


def check(config: FactorMapConfig, subject: Subject) -> None:
    """Refuse labels that are no factors though asked for, and images or a baseline that are away.

    The images are looked for although latents come first: after these a third would be measured.
    """
    require_asked(config.factors, _inputs(config, subject)[3])
    if set(CONTROLS) & set(config.controls):
        subject.require_images()


def _inputs(
    config: FactorMapConfig, subject: Subject
) -> tuple[list[Baseline], list[int], list[Factor], dict[str, str]]:
    """Return other models, rows of the store, their factors, and labels that are none."""
    baselines = open_baselines(config.baseline, subject)
    rows = subject.rows(min(config.images, len(subject.store)), seed=config.seed)
    rows = shared_rows(baselines, subject, rows)
    found = store_factors(subject.store, rows, config.factors, config.circular, fewest=config.folds)
    return baselines, rows, *found


@dataclass(frozen=True, eq=False)
class FactorMap(Found):
    """What was measured.

    Attributes:
        images: how many were looked at.
        factors: that were predicted.
        refused: why other labels were not, by name.
        asked: columns of latents that factors were predicted from.
        left_out: how many columns are not among these, by bands that lack some.
        codes: length of each baseline that has codes.
        cells: the scores; none without factors.
    """

    images: int
    factors: Sequence[Factor]
    refused: Mapping[str, str]
    asked: Sequence[ColumnSet]
    left_out: Mapping[str, int]
    codes: Mapping[str, int]
    cells: Sequence[Cell]


def measure(config: FactorMapConfig, subject: Subject, journal: Journal) -> FactorMap:
    """Predict each factor from each band, from the first bands, from all, and from controls.

    Raises:
        ValueError: for labels, images or a baseline that are not there.
    """
    baselines, rows, factors, refused = _inputs(config, subject)
    columns = layout(subject.model.grouping, subject.model.shape[0], config.columns)
    codes = {b.name: b.length for b in baselines if b.length}
    asked = column_sets(columns.bands, list(codes.values()), columns.left_out)
    given = (config, subject, journal, rows, columns, asked, baselines)
    cells = _cells(*given, factors) if factors else []
    left_out = {name: count for name, count in columns.left_out.items() if count}
    return FactorMap(config, subject, len(rows), factors, refused, asked, left_out, codes, cells)


def cost(config: FactorMapConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    baselines, rows, factors, _ = _inputs(config, subject)
    columns = layout(subject.model.grouping, subject.model.shape[0], config.columns)
    asked = column_sets(columns.bands, [], columns.left_out)
    sources = 1 + len({*config.controls} & {*CONTROLS}) + len(baselines)
    n, targets = len(rows), sum(factor.targets.shape[1] for factor in factors)
    flops = 0.0
    for each in asked:
        D = len(each.columns)
        m = min(n, D)
        fit = FIT_FLOPS * m**3 + 4 * n * D * m + 2 * n * m * targets * config.permutations
        kernel = FIT_FLOPS * min(n, D + LANDMARKS) ** 3 + 4 * n * (D + LANDMARKS) * m
        flops += config.folds * (fit + kernel * (len(config.probes) - 1))
        flops += RESAMPLE_FLOPS * n * targets * (config.resamples + config.permutations)
    return Cost(flops=sources * flops, seconds=3.5) if factors else Cost()


def _cells(
    config: FactorMapConfig,
    subject: Subject,
    journal: Journal,
    rows: Sequence[int],
    columns: Layout,
    asked: Sequence[ColumnSet],
    baselines: Sequence[Baseline],
    factors: Sequence[Factor],
) -> list[Cell]:
    """Measure what the journal does not have; one source's columns are in memory at a time."""
    given = Sources(subject, rows, columns.take, baselines)
    fold = fold_of(len(rows), config.folds, config.seed)
    sources = {LATENTS: asked}
    sources |= {CONTROLS[name]: asked for name in CONTROLS if name in config.controls}
    sources |= {b.name: code_columns(b.length) if b.length else asked for b in baselines}
    probes = [(name, PROBES[name]) for name in config.probes]
    groups = [(name, probe, group) for name, probe in probes for group in _groups(probe, factors)]
    draws = config.model_dump(include={"permutations", "resamples", "seed"})
    found = []
    total = sum(map(len, sources.values())) * len(groups)
    with progress(total, desc="factor_map", unit="fit") as bar:
        for source, sets in sources.items():
            if source == PCA:
                made = given.fold_components(len(columns.columns), fold, config.seed)
            else:
                made = [given.table(source)] * config.folds
            digest = hashlib.sha256(b"".join(table.tobytes() for table in made)).hexdigest()[:16]
            width = min(table.shape[1] for table in made)
            for each in sets:
                within = tuple(c for c in each.columns if c < width)
                own = [table[:, within] for table in made]
                for name, probe, group in groups:
                    bar.update(1)
                    if not within:  # fewer principal components than that
                        continue
                    key = f"{source} {digest} {each.name} {name} " + _key(group)
                    scores = journal.once(
                        key, list[ProbeScore], probe_scores, probe, own, group, fold, **draws
                    )
                    taken = replace(each, columns=within)
                    found += [
                        Cell(factor.name, name, source, taken, score)
                        for factor, score in zip(group, scores, strict=True)
                    ]
    order = {factor.name: place for place, factor in enumerate(factors)}
    return sorted(found, key=lambda cell: order[cell.factor])


def _groups(probe: Probe, factors: Sequence[Factor]) -> list[list[Factor]]:
    """Put together the factors that a probe can be fitted to at once: those of the same images."""
    if not probe.together:
        return [[factor] for factor in factors]
    return [[factors[place] for place in places] for places in of_same_images(factors)]


def _key(group: Sequence[Factor]) -> str:
    """Name factors with a digest of what is predicted: labels may have been added since."""
    digest = hashlib.sha256()
    for factor in group:
        digest.update(factor.rows.tobytes() + factor.targets.tobytes())
    return f"{','.join(factor.name for factor in group)} {digest.hexdigest()[:16]}"
