"""Which band holds which factor: ``python -m gdm_repr.analysis.factor_map``.

Probes predict each label of a store from each band, from the first bands, and from all latents,
and the same from controls. See :mod:`gdm_repr.analysis.factor_map.scores` for the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from gdm_repr.analysis.options import AnalysisConfig, Needs, check_names, require_asked
from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.boundary.names import key_part, metric_key
from gdm_repr.config import MANY, Held
from gdm_repr.edit.options import Places, Words
from gdm_repr.tracking.facts import FACTOR_MAP, FACTOR_MAP_CONTROL

if TYPE_CHECKING:
    from gdm_repr.analysis.columns.baselines import Baseline
    from gdm_repr.analysis.columns.layout import Layout
    from gdm_repr.analysis.factor_map.cells import Cell, Columns
    from gdm_repr.analysis.factors.labels import Factor
    from gdm_repr.analysis.factors.probes import Probe
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.subject import Subject

CONTROLS = {"raw": "raw coefficients", "pca": "principal components"}


class FactorMapConfig(AnalysisConfig):
    """Measure how much of each factor each band predicts, beside controls.

    A factor is a label of the store: R^2, or balanced accuracy above chance, of probes on images
    they were not fitted to; for each band, for the first bands, and for all latents. Of 3,000
    images with 12 factors, linear and kernel take a minute on one core, trees hours.

    Example:
      python -m gdm_repr.analysis.factor_map --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/factor_map
      python -m gdm_repr.analysis.factor_map --checkpoint runs/scenes --latents runs/scenes/latents --factors shape,hue --baseline k1=runs/scenes-k1/latents,vae=runs/scenes-vae/codes.npz --out runs/scenes/factor_map
    """  # noqa: E501

    of_labels = True

    factors: Words = Field((), description="Labels to predict, joined by commas; all by default.")
    circular: Words = Field(
        (), description="Labels that come round, as angle=360; those of scenes are known."
    )
    images: int = Field(5000, ge=8, le=MANY, description="Images at most, chosen at random.")
    columns: Held = Field(
        256, description="Columns (elements times channels) of a band at most; its lowest."
    )
    folds: int = Field(5, ge=2, le=50, description="Parts of which each is predicted by the rest.")
    probes: Words = Field(
        ("linear", "kernel"),
        min_length=1,
        description="linear; kernel, knn (nonlinear); trees (slow). The first is the main one.",
    )
    controls: Words = Field(tuple(CONTROLS), description="raw and pca, joined by commas; or none.")
    baseline: Places = Field(
        (),
        description="Other models, NAME=PATH, joined by commas: latents of the same images, such "
        "as by one with k = 1, or .npz of codes (n, D) and ids.",
    )
    permutations: int = Field(
        19, ge=9, le=MANY, description="Draws of the null; 9 at most for trees."
    )
    resamples: int = Field(
        400, ge=40, le=MANY, description="Draws of images that an interval is from."
    )

    def check(self) -> None:
        """Refuse unknown names."""
        from gdm_repr.analysis.factors.probes import PROBES

        super().check()
        check_names("probes", self.probes, PROBES)
        check_names("controls", self.controls, (*CONTROLS, "none"))

    def needs(self) -> Needs:
        """Each of two classes needs an image a fold."""
        return Needs(2 * self.folds, f"a factor needs {self.folds} images, the folds, of 2 classes")


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


def analyse(config: FactorMapConfig, subject: Subject, journal: Journal) -> Report:
    """Measure, and write down what was found.

    Raises:
        ValueError: for options that can't be used, or images or a baseline that are not there.
    """
    from gdm_repr.analysis.columns.layout import layout
    from gdm_repr.analysis.factor_map import figures
    from gdm_repr.analysis.factor_map import report as words
    from gdm_repr.analysis.factor_map.cells import column_sets
    from gdm_repr.analysis.report.page import Report

    config.check()
    baselines, rows, factors, refused = _inputs(config, subject)
    columns = layout(subject.model.grouping, subject.model.shape[0], config.columns)
    lengths = [b.length for b in baselines if b.length]
    asked = column_sets(columns.bands, lengths, columns.left_out)
    measured = (config, subject, journal, rows, columns, asked, baselines)
    cells = _measure(*measured, factors) if factors else []
    main = config.probes[0]
    left_out = {name: count for name, count in columns.left_out.items() if count}
    return Report(
        title="Factor map",
        question="Which band holds which known factor of the images?",
        answer=words.sentences(cells, refused, factors, config.probes),
        pictures=figures.pictures(cells, config.probes) if cells else (),
        tables=words.tables(cells, factors, refused),
        method={
            "images": len(rows),
            "factors": [f"{f.name} ({f.kind}, n = {len(f.rows)})" for f in factors],
            "columns": {s.label: s.count for s in asked},
            "columns left out (--columns)": left_out or "none",
            "length of codes": {b.name: b.length for b in baselines if b.length} or "none",
            "probes": config.probes,
            "folds": config.folds,
            "permutations": config.permutations,
            "resamples": config.resamples,
            "seed": config.seed,
        },
        controls=[
            "Null: probes fitted to permuted labels.",
            "Raw coefficients of the images in the model's basis, at the same elements.",
            "Principal components, fitted to the same folds as the probes; as many as the bands "
            "have columns and in their places.",
            "Other models (--baseline), of the same images: latents at the same elements; codes "
            "beside as many first columns.",
        ],
        limits=[
            "Intervals are of the images alone: predictions are resampled, probes are not fitted "
            "again, and another training seed is left out.",
            "A probe finds what it can express: what a linear one misses may be there.",
            "Of columns that were left out (--columns) nothing is known: a band has or has not a "
            "factor in the columns that were looked at.",
            "A probe of many columns may do worse than one of few, where images are few.",
            "Intervals are of single cells; of twenty without a difference, one excludes 0.",
        ],
        metrics=[(0, _metrics(cells, main))] if cells else (),
    )


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


def _metrics(cells: Sequence[Cell], main: str) -> dict[str, float]:
    """Return scores above chance by key: the main probe's of latents under the bare name."""
    values: Mapping[str, float] = {
        metric_key(
            "/".join(
                [
                    FACTOR_MAP
                    if cell.source == "latents"
                    else f"{FACTOR_MAP_CONTROL}/{key_part(cell.source)}",
                    key_part(cell.factor),
                    cell.columns.name + ("" if cell.probe == main else f"_{cell.probe}"),
                ]
            )
        ): cell.score.above_chance.value
        for cell in cells
    }
    return dict(values)


ANALYSIS = Analysis("factor_map", FactorMapConfig, analyse, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse factor_map``."""
    return run_analysis(ANALYSIS, argv)
