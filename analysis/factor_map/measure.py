"""Which band holds which factor: ``python -m gdm_repr.analysis.factor_map``.

Probes predict each label of a store from each band, from the first bands, and from all latents,
and the same from controls. See :mod:`gdm_repr.analysis.factor_map.scores` for the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gdm_repr.analysis.factor_map.options import CONTROLS, FactorMapConfig
from gdm_repr.analysis.options import require_asked

if TYPE_CHECKING:
    from gdm_repr.analysis.columns.baselines import Baseline
    from gdm_repr.analysis.columns.layout import Layout
    from gdm_repr.analysis.factor_map.cells import Cell, Columns
    from gdm_repr.analysis.factors.labels import Factor
    from gdm_repr.analysis.factors.probes import Probe
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.subject import Subject


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
    from gdm_repr.analysis.columns.baselines import open_baselines, shared_rows
    from gdm_repr.analysis.factors.labels import store_factors

    baselines = open_baselines(config.baseline, subject)
    rows = subject.rows(min(config.images, len(subject.store)), seed=config.seed)
    rows = shared_rows(baselines, subject, rows)
    found = store_factors(subject.store, rows, config.factors, config.circular, fewest=config.folds)
    return baselines, rows, *found


def _measure(
    config: FactorMapConfig,
    subject: Subject,
    journal: Journal,
    rows: Sequence[int],
    columns: Layout,
    asked: Sequence[Columns],
    baselines: Sequence[Baseline],
    factors: Sequence[Factor],
) -> list[Cell]:
    """Measure what the journal does not have; one source's columns are in memory at a time."""
    import hashlib
    from dataclasses import replace

    from tqdm import tqdm

    from gdm_repr.analysis.factor_map.cells import LATENTS, Cell, code_columns
    from gdm_repr.analysis.factor_map.scores import Score, measure
    from gdm_repr.analysis.factor_map.sources import tables
    from gdm_repr.analysis.factors.probes import PROBES, fold_of

    fold = fold_of(len(rows), config.folds, config.seed)
    sources = {LATENTS: asked}
    sources |= {CONTROLS[name]: asked for name in CONTROLS if name in config.controls}
    sources |= {b.name: code_columns(b.length) if b.length else asked for b in baselines}
    probes = [(name, PROBES[name]) for name in config.probes]
    groups = [(name, probe, group) for name, probe in probes for group in _groups(probe, factors)]
    found = []
    total = sum(map(len, sources.values())) * len(groups)
    with tqdm(total=total, desc="factors", unit="fit") as bar:
        for source, sets in sources.items():
            made = tables(source, subject, rows, columns, fold, baselines, seed=config.seed)
            digest = hashlib.sha256(b"".join(table.tobytes() for table in made)).hexdigest()[:16]
            width = min(table.shape[1] for table in made)
            for each in sets:
                within = tuple(c for c in each.columns if c < width)
                for name, probe, group in groups:
                    bar.update(1)
                    if not within:  # fewer principal components than that
                        continue
                    key = f"{source} {digest} {each.name} {name} " + _key(group)
                    if key not in journal:
                        scores = measure(
                            probe,
                            [table[:, within] for table in made],
                            group,
                            fold,
                            permutations=config.permutations,
                            resamples=config.resamples,
                            seed=config.seed,
                        )
                        journal.add(key, [score.record() for score in scores])
                    found += [
                        Cell(factor.name, name, source, replace(each, columns=within), score)
                        for factor, score in zip(group, map(Score.of, journal[key]), strict=True)
                    ]
    order = {factor.name: place for place, factor in enumerate(factors)}
    return sorted(found, key=lambda cell: order[cell.factor])


def _groups(probe: Probe, factors: Sequence[Factor]) -> list[list[Factor]]:
    """Put together the factors that a probe can be fitted to at once: those of the same images."""
    from gdm_repr.analysis.factors.labels import of_same_images

    if not probe.together:
        return [[factor] for factor in factors]
    return [[factors[place] for place in places] for places in of_same_images(factors)]


def _key(group: Sequence[Factor]) -> str:
    """Name factors with a digest of what is predicted: labels may have been added since."""
    import hashlib

    digest = hashlib.sha256()
    for factor in group:
        digest.update(factor.rows.tobytes() + factor.targets.tobytes())
    return f"{','.join(factor.name for factor in group)} {digest.hexdigest()[:16]}"
