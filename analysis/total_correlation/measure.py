"""What the analysis ``total_correlation`` measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gdm_repr.analysis.total_correlation.options import (
    BASELINE,
    CONTROLS,
    LEAST,
    TotalCorrelationConfig,
)

if TYPE_CHECKING:
    from gdm_repr.analysis.columns.layout import Layout
    from gdm_repr.analysis.columns.sources import Table as Columns
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.analysis.total_correlation.answers import Row
    from gdm_repr.analysis.total_correlation.questions import Question


def check(config: TotalCorrelationConfig, subject: Subject) -> None:
    """Refuse elements, images and a baseline that are not there."""
    from gdm_repr.analysis.columns.layout import layout
    from gdm_repr.analysis.columns.sources import other_store

    layout(subject.model.grouping, subject.model.shape[0], config.columns, config.elements)
    if config.baseline is not None:
        other_store(config.baseline, subject)
    if {"raw", "pca"} & set(config.controls):
        subject.require_images()


def _tables(
    config: TotalCorrelationConfig,
    subject: Subject,
    journal: Journal,
    rows: Sequence[int],
    columns: Layout,
) -> dict[str, Columns]:
    """Return the latents and their controls, by name."""
    from gdm_repr.analysis.columns import sources
    from gdm_repr.analysis.total_correlation.answers import LATENTS

    n, seed = len(rows), config.seed
    tables = {LATENTS: sources.stored_latents(subject.store, rows, columns)}
    if config.baseline is not None:
        other = sources.other_store(config.baseline, subject)
        same = sources.same_images(subject.store, other, rows)
        if len(same) < LEAST:
            raise ValueError(
                f"--baseline {str(config.baseline)!r}: holds {len(same)} of the {n} images that "
                f"are looked at, and needs {LEAST}; encode the same images by it"
            )
        tables[BASELINE] = sources.stored_latents(other, same, columns)
    makers: dict[str, Callable[[], Columns]] = {
        "noise": lambda: sources.fresh_noise(subject, n, seed, columns),
        "encoded-noise": lambda: sources.encoded_noise(
            subject,
            min(n, config.noise),
            seed + n,  # other draws than those of the fresh noise
            columns,
            batch_size=config.batch_size,
            folder=config.out / "encoded_noise",
            journal=journal,
        ),
        "raw": lambda: sources.raw_coefficients(subject, rows, columns),
        "pca": lambda: sources.principal_components(subject, rows, columns, seed),
    }
    for name, make in makers.items():
        if name in config.controls:
            tables[CONTROLS[name]] = make()
    return tables


def _measure(
    config: TotalCorrelationConfig,
    journal: Journal,
    asked: Sequence[Question],
    tables: Mapping[str, Columns],
) -> list[Row]:
    """Measure what the journal does not have."""
    import hashlib

    from tqdm import tqdm

    from gdm_repr.analysis.total_correlation.answers import Row, fits, measure

    wanted = [
        (question, estimator, source)
        for question in asked
        for estimator in config.estimators
        for source in tables
        if fits(question, estimator)
    ]
    digests = {name: hashlib.sha256(table.tobytes()).hexdigest() for name, table in tables.items()}
    found = []
    for question, estimator, source in tqdm(wanted, desc="total correlation", unit="estimate"):
        key = f"{question.name} {estimator} {source} {digests[source][:16]}"
        if key not in journal:
            row = measure(
                source,
                tables[source],
                question,
                estimator,
                permutations=config.permutations,
                resamples=config.resamples,
                seed=config.seed,
            )
            journal.add(key, row.record())
        found.append(Row.of(source, question, estimator, journal[key]))
    return found
