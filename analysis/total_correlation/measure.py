"""Are latents independent: ``python -m gdm_repr.analysis.total_correlation`` (Sec. 4.4).

Total correlation within bands, between bands and of chosen elements, by several estimators, beside
controls; and whether single elements are N(0, 1). See
:mod:`gdm_repr.analysis.total_correlation.estimate`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gdm_repr.analysis.columns.baselines import Baseline, other_store
from gdm_repr.analysis.columns.layout import Layout, layout
from gdm_repr.analysis.columns.names import ENCODED_NOISE, FRESH_NOISE, LATENTS, OTHER, PCA, RAW
from gdm_repr.analysis.columns.sources import Columns, Sources
from gdm_repr.analysis.cost import Cost
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.subject import Subject
from gdm_repr.analysis.total_correlation.answers import Answer, Outcome, answer, fits, most_columns
from gdm_repr.analysis.total_correlation.estimate import ElementNormality, element_normality
from gdm_repr.analysis.total_correlation.options import CONTROLS, LEAST, TotalCorrelationConfig
from gdm_repr.analysis.total_correlation.questions import Question, questions
from gdm_repr.progress import progress

SORT_FLOPS = 60  # of a draw, a number of a table
NEAR_FLOPS = 1500  # of a draw, a sample whose neighbours are looked for, times log2 n


@dataclass(frozen=True, eq=False)
class TotalCorrelation(Found):
    """What was measured.

    Attributes:
        n: latents looked at.
        columns: of the tables.
        tables: the latents and their controls, by name.
        answers: to every question, by every estimator that fits it, of every table.
        normality: of single elements, by table; not of the images' own numbers.
    """

    n: int
    columns: Layout
    tables: Mapping[str, Columns]
    answers: Sequence[Answer]
    normality: Mapping[str, ElementNormality]


def check(config: TotalCorrelationConfig, subject: Subject) -> None:
    """Refuse elements, images and a baseline that are not there."""
    _layout(config, subject)
    if config.baseline is not None:
        other_store(config.baseline, subject)
    if {"raw", "pca"} & set(config.controls):
        subject.require_images()


def cost(config: TotalCorrelationConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    n, columns = min(config.images, len(subject.store)), _layout(config, subject)
    asked = questions(columns, most_columns(n) if config.first is None else config.first)
    tables = 1 + len({*config.controls} & {*CONTROLS}) + (config.baseline is not None)
    draws = 1 + config.permutations + config.resamples
    noise = min(n, config.noise) if "encoded-noise" in config.controls else 0
    each = sum(n * q.d * SORT_FLOPS + n * q.d**2 * 2 + q.d**3 for q in asked)
    near = n * math.log2(n) * NEAR_FLOPS if "knn" in config.estimators else 0
    return Cost(decoded=2 * noise, flops=draws * tables * (each * len(config.estimators) + near))


def measure(config: TotalCorrelationConfig, subject: Subject, journal: Journal) -> TotalCorrelation:
    """Ask every question of the latents and of their controls, and test single elements.

    Raises:
        ValueError: for elements, images or a baseline that are not there.
    """
    rows = subject.rows(min(config.images, len(subject.store)), seed=config.seed)
    columns = _layout(config, subject)
    tables = _tables(config, subject, journal, rows, columns)
    fewest = min(map(len, tables.values()))  # so that no control is refused where latents are not
    asked = questions(columns, most_columns(fewest) if config.first is None else config.first)
    answers = _answers(config, journal, asked, tables)
    normality = {
        name: element_normality(table) for name, table in tables.items() if name not in (RAW, PCA)
    }
    return TotalCorrelation(config, subject, len(rows), columns, tables, answers, normality)


def _layout(config: TotalCorrelationConfig, subject: Subject) -> Layout:
    model = subject.model
    return layout(model.grouping, model.shape[0], config.columns, config.elements)


def _tables(
    config: TotalCorrelationConfig,
    subject: Subject,
    journal: Journal,
    rows: Sequence[int],
    columns: Layout,
) -> dict[str, Columns]:
    """Return the latents and their controls, by name."""
    n, seed = len(rows), config.seed
    baselines = []
    if config.baseline is not None:
        baselines.append(Baseline(OTHER, other_store(config.baseline, subject), None, {}))
        if (shared := len(baselines[0].latents(subject, rows)[1])) < LEAST:
            raise ValueError(
                f"--baseline {str(config.baseline)!r}: holds {shared} of the {n} images that "
                f"are looked at, and needs {LEAST}; encode the same images by it"
            )
    given = Sources(subject, rows, columns.take, baselines)
    makers: dict[str, Callable[[], Columns]] = {
        FRESH_NOISE: lambda: given.fresh_noise(seed),
        ENCODED_NOISE: lambda: given.encoded_noise(
            min(n, config.noise),
            seed + n,  # other draws than those of the fresh noise
            batch_size=config.batch_size,
            folder=config.out / "encoded_noise",
            journal=journal,
        ),
        RAW: lambda: given.table(RAW),
        PCA: lambda: given.half_components(len(columns.columns), seed),
    }
    controls = {name: makers[name]() for key, name in CONTROLS.items() if key in config.controls}
    return {name: given.table(name) for name in (LATENTS, *(b.name for b in baselines))} | controls


def _answers(
    config: TotalCorrelationConfig,
    journal: Journal,
    asked: Sequence[Question],
    tables: Mapping[str, Columns],
) -> list[Answer]:
    """Answer what the journal does not."""
    wanted = [
        (question, estimator, source)
        for question in asked
        for estimator in config.estimators
        for source in tables
        if fits(question, estimator)
    ]
    digests = {name: hashlib.sha256(table.tobytes()).hexdigest() for name, table in tables.items()}
    draws = config.model_dump(include={"permutations", "resamples", "seed"})
    found = []
    with progress(len(wanted), desc="total_correlation", unit="estimate") as bar:
        for question, estimator, source in wanted:
            key = f"{question.name} {estimator} {source} {digests[source][:16]}"
            given = (tables[source], question, estimator)
            outcome = journal.once(key, Outcome, answer, *given, **draws)
            found.append(
                Answer(**vars(outcome), source=source, question=question, estimator=estimator)
            )
            bar.update()
    return found
