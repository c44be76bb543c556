"""Are latents independent: ``python -m gdm_repr.analysis.total_correlation`` (Sec. 4.4).

Total correlation within bands, between bands and of chosen elements, by several estimators, beside
controls; and whether single elements are N(0, 1). See
:mod:`gdm_repr.analysis.total_correlation.estimate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from gdm_repr.analysis.options import AnalysisConfig, Needs, check_names
from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.boundary.names import key_part
from gdm_repr.command import UserPath
from gdm_repr.config import MANY, Held
from gdm_repr.edit.options import Words
from gdm_repr.tracking.facts import (
    NOT_NORMAL,
    TOTAL_CORRELATION,
    TOTAL_CORRELATION_CONTROL,
    band_metric,
)

if TYPE_CHECKING:
    from gdm_repr.analysis.columns.layout import Layout, Question
    from gdm_repr.analysis.columns.sources import Table as Columns
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.analysis.total_correlation.answers import Row
    from gdm_repr.analysis.total_correlation.estimate import ElementNormality

CONTROLS = {
    "noise": "fresh noise",
    "encoded-noise": "noise, decoded and encoded",
    "raw": "raw coefficients",
    "pca": "principal components",
}
BASELINE = "other model"
LEAST = 8  # images; that estimators need more is told of each
MEANINGS = {
    "fresh noise": "independent columns, so that it shows the estimators' own error.",
    "noise, decoded and encoded": "what the model and its solver add; true latents of noise are "
    "independent.",
    "raw coefficients": "those of the images in the model's basis, at the same elements.",
    "principal components": "of half the images, as many as the bands have columns and in their "
    "places, scored on the other half, so n is half.",
    BASELINE: "--baseline, same images, same elements.",
}
REACH = {
    "gaussian": "gaussian sees dependence of a Gaussian kind only.",
    "copula": "copula sees that of a Gaussian kind only, whatever the single elements' laws.",
    "knn": "knn sees any dependence, of few columns. Where it is strong and far from Gaussian the "
    "value is low, by 10 % for 4 columns and up to 30 % for 8; between blocks of three columns its "
    "interval held the truth in 27 of 30 trials.",
    "classifier": "classifier gives a lower bound of the total correlation, often far below it; "
    "the interval is that of the bound, so its upper end is none of the total correlation.",
}


class TotalCorrelationConfig(AnalysisConfig):
    """Measure how much latents tell of each other, within bands and between them (Sec. 4.4).

    Total correlation in nats by several estimators, each with an interval and the null of
    independent latents; the same for controls; and whether each element is N(0, 1).

    Example:
      python -m gdm_repr.analysis.total_correlation --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/total_correlation
      python -m gdm_repr.analysis.total_correlation --checkpoint runs/digits --latents runs/digits/latents --elements 0,1,2:0 --baseline runs/digits-k1/latents --out runs/digits/against-k1
    """  # noqa: E501

    images: int = Field(
        5000, ge=LEAST, le=MANY, description="Latents measured at most, chosen at random."
    )
    columns: Held = Field(
        256, description="Columns (elements times channels) of a band at most; its lowest."
    )
    elements: Words = Field(
        (), description="Elements to measure together, as 0,1,2:0: an index, or index:channel."
    )
    first: int | None = Field(
        None,
        ge=0,
        le=MANY,
        description="First columns for knn; as many as samples allow, 8 at most.",
    )
    estimators: Words = Field(
        ("gaussian", "copula", "knn"),
        min_length=1,
        description="gaussian, copula, knn, classifier (slow); the first is told and drawn first.",
    )
    controls: Words = Field(
        tuple(CONTROLS), description="noise, encoded-noise, raw and pca, joined by commas; or none."
    )
    noise: Held = Field(800, description="Noise to decode and encode again, at most.")
    baseline: UserPath | None = Field(
        None, description="Latents of the same images by another model, such as one with k = 1."
    )
    permutations: int = Field(99, ge=19, le=MANY, description="Draws of the null.")
    resamples: int = Field(50, ge=10, le=MANY, description="Half-samples that an interval is from.")

    def check(self) -> None:
        """Refuse unknown names."""
        from gdm_repr.analysis.total_correlation.estimators import ESTIMATORS

        super().check()
        check_names("estimators", self.estimators, ESTIMATORS)
        check_names("controls", self.controls, (*CONTROLS, "none"))

    def needs(self) -> Needs:
        """The test of normality takes some."""
        return Needs(LEAST, f"a test of normality takes {LEAST}")


def check(config: TotalCorrelationConfig, subject: Subject) -> None:
    """Refuse elements, images and a baseline that are not there."""
    from gdm_repr.analysis.columns.layout import layout
    from gdm_repr.analysis.columns.sources import other_store

    layout(subject.model.grouping, subject.model.shape[0], config.columns, config.elements)
    if config.baseline is not None:
        other_store(config.baseline, subject)
    if {"raw", "pca"} & set(config.controls):
        subject.require_images()


def analyse(config: TotalCorrelationConfig, subject: Subject, journal: Journal) -> Report:
    """Measure, and write down what was found.

    Raises:
        ValueError: for options that can't be used, or images or a baseline that are not there.
    """
    from gdm_repr.analysis.columns.layout import layout, questions
    from gdm_repr.analysis.report.page import Report, Table
    from gdm_repr.analysis.total_correlation import figures
    from gdm_repr.analysis.total_correlation.answers import (
        FEW,
        LATENTS,
        as_table,
        most_columns,
        normality_rows,
        normality_sentence,
        sentences,
    )
    from gdm_repr.analysis.total_correlation.estimate import element_normality

    config.check()
    rows = subject.rows(min(config.images, len(subject.store)), seed=config.seed)
    columns = layout(
        subject.model.grouping, subject.model.shape[0], config.columns, config.elements
    )
    tables = _tables(config, subject, journal, rows, columns)
    fewest = min(map(len, tables.values()))  # so that no control is refused where latents are not
    asked = questions(columns, most_columns(fewest) if config.first is None else config.first)
    found = _measure(config, journal, asked, tables)
    normality = {
        name: element_normality(table)
        for name, table in tables.items()
        if name not in (CONTROLS["raw"], CONTROLS["pca"])
    }
    main, *others = config.estimators
    shown = (LATENTS, BASELINE, CONTROLS["raw"])
    return Report(
        title="Total correlation",
        question="Are the latents independent, within bands and between them?",
        answer=[
            *sentences(found, [main, *(name for name in others if name in FEW)]),
            normality_sentence(normality, columns.whole()),
        ],
        pictures=figures.pictures(found, normality, tables, shown, columns, main),
        tables=[
            Table.of_rows(
                "total_correlation",
                "Total correlation with its 95 % interval, bias subtracted; what independent "
                "columns give (null mean, what 95 % of permuted tables stay below, p); drift is "
                "the change from n/2 to n samples; the note says why there is no value. Of a value "
                "above 0 the interval lies above 0 exactly where p is .05 or less.",
                as_table(found),
            ),
            Table.of_rows(
                "normality",
                "Kolmogorov-Smirnov distance of each element to N(0, 1) with its 95 % interval; q "
                "is p adjusted for the number of elements (Benjamini, Hochberg 1995).",
                normality_rows(normality, columns),
            ),
        ],
        method=_method(config, len(rows), columns),
        controls=[
            f"{name[0].upper()}{name[1:]}: {MEANINGS[name]}" for name in tables if name in MEANINGS
        ],
        limits=[
            *(REACH[name] for name in config.estimators),
            "None of them proves independence.",
            "Exact latents are independent, over the distribution that was learnt. What is found "
            "here is what training has left, on these images.",
            "p-values are of single questions; of twenty independent ones, one lies below 0.05.",
            "The interval is over images; it leaves out another training seed.",
        ],
        metrics=[(0, _metrics(found, normality, main))],
    )


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


def _method(config: TotalCorrelationConfig, n: int, columns: Layout) -> dict[str, object]:
    left_out = {name: count for name, count in columns.left_out.items() if count}
    return {
        "latents": n,
        "columns": {
            name: f"{stop - start} of {columns.whole(name)}"
            for name, (start, stop) in columns.bands.items()
        },
        "columns left out (--columns)": left_out or "none",
        "estimators": config.estimators,
        "permutations": config.permutations,
        "half-samples": config.resamples,
        "seed": config.seed,
    }


def _metrics(
    found: Sequence[Row], normality: Mapping[str, ElementNormality], main: str
) -> dict[str, float]:
    """Return values by key: the main estimator's under the bare name, others with theirs."""
    from gdm_repr.analysis.total_correlation.answers import LATENTS

    values = {}
    for row in found:
        if row.tc is None:
            continue
        name = (
            row.question.name if row.estimator == main else f"{row.question.name}_{row.estimator}"
        )
        kind = TOTAL_CORRELATION
        if row.source != LATENTS:
            kind = f"{TOTAL_CORRELATION_CONTROL}/{key_part(row.source)}"
        values[band_metric(kind, name)] = row.tc.value
    for source, each in normality.items():
        values[band_metric(NOT_NORMAL, source)] = float(each.rejected.mean())
    return values


ANALYSIS = Analysis("total_correlation", TotalCorrelationConfig, analyse, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse total_correlation``."""
    return run_analysis(ANALYSIS, argv)
