"""Are latents independent: ``python -m gdm_repr.analysis.total_correlation`` (Sec. 4.4).

Total correlation within bands, between bands and of chosen elements, by several estimators, beside
controls; and whether single elements are N(0, 1). See
:mod:`gdm_repr.analysis.total_correlation.estimate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gdm_repr.analysis.total_correlation.measure import _measure, _tables
from gdm_repr.analysis.total_correlation.options import (
    BASELINE,
    CONTROLS,
    TotalCorrelationConfig,
)
from gdm_repr.boundary.names import key_part
from gdm_repr.tracking.keys import (
    NOT_NORMAL,
    TOTAL_CORRELATION,
    TOTAL_CORRELATION_CONTROL,
    band_metric,
)

if TYPE_CHECKING:
    from gdm_repr.analysis.columns.layout import Layout
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.analysis.total_correlation.answers import Row
    from gdm_repr.analysis.total_correlation.estimate import ElementNormality

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


def analyse(config: TotalCorrelationConfig, subject: Subject, journal: Journal) -> Report:
    """Measure, and write down what was found.

    Raises:
        ValueError: for options that can't be used, or images or a baseline that are not there.
    """
    from gdm_repr.analysis.columns.layout import layout
    from gdm_repr.analysis.report.page import Report, Table
    from gdm_repr.analysis.total_correlation import figures
    from gdm_repr.analysis.total_correlation.answers import FEW, LATENTS, most_columns
    from gdm_repr.analysis.total_correlation.estimate import element_normality
    from gdm_repr.analysis.total_correlation.questions import questions
    from gdm_repr.analysis.total_correlation.sentences import (
        as_table,
        normality_rows,
        normality_sentence,
        sentences,
    )

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
