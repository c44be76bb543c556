"""What is said and shown of total correlation."""

from __future__ import annotations

import numpy as np

from gdm_repr.analysis.columns.layout import counted
from gdm_repr.analysis.columns.names import (
    ENCODED_NOISE,
    FRESH_NOISE,
    LATENTS,
    OTHER,
    PCA,
    RAW,
)
from gdm_repr.analysis.intervals.estimate import in_twos
from gdm_repr.analysis.report.page import Picture, Report, Table
from gdm_repr.analysis.total_correlation.answers import FEW
from gdm_repr.analysis.total_correlation.figures import (
    correlation_picture,
    normality_figure,
    total_correlation_figure,
)
from gdm_repr.analysis.total_correlation.measure import TotalCorrelation
from gdm_repr.analysis.total_correlation.sentences import (
    as_table,
    normality_rows,
    normality_sentence,
    sentences,
)
from gdm_repr.boundary.names import key_part
from gdm_repr.tracking.keys import (
    NOT_NORMAL,
    TOTAL_CORRELATION,
    TOTAL_CORRELATION_CONTROL,
    band_metric,
)

MEANINGS = {
    FRESH_NOISE: "independent columns, so that it shows the estimators' own error.",
    ENCODED_NOISE: "what the model and its solver add; true latents of noise are independent.",
    RAW: "those of the images in the model's basis, at the same elements.",
    PCA: "of half the images, as many as the bands have columns and in their "
    "places, scored on the other half, so n is half.",
    OTHER: "--baseline, same images, same elements.",
}
REACH = {
    "gaussian": "gaussian sees dependence of a Gaussian kind only.",
    "copula": "copula sees that of a Gaussian kind only, whatever the single elements' laws.",
    "knn": "knn sees any dependence, of few columns. Where it is strong and far from Gaussian the "
    "value is low, by 10 % for 4 columns. For 8 columns it is low by up to 30 %. Between blocks of "
    "three columns its interval held the truth in 27 of 30 trials.",
    "classifier": "classifier gives a lower bound of the total correlation, often far below it; "
    "the interval is that of the bound, so its upper end is none of the total correlation.",
}


def report(found: TotalCorrelation) -> Report:
    """Write down what was found."""
    config = found.config
    main, *others = config.estimators
    return Report(
        title="Total correlation",
        question="Are the latents independent, within bands and between them?",
        answer=[
            *sentences(found.answers, [main, *(name for name in others if name in FEW)]),
            normality_sentence(found.normality, found.columns.whole()),
        ],
        pictures=_pictures(found, main),
        tables=[
            Table.of_rows(
                "total_correlation",
                "Total correlation with its 95 % interval, bias subtracted; what independent "
                "columns give (null mean, what 95 % of permuted tables stay below, p); drift is "
                "the change from n/2 to n samples; the note says why there is no value. Of a value "
                "above 0 the interval lies above 0 exactly where p is .05 or less.",
                as_table(found.answers),
            ),
            Table.of_rows(
                "normality",
                "Kolmogorov-Smirnov distance of each element to N(0, 1) with its 95 % interval; q "
                "is p adjusted for the number of elements (Benjamini, Hochberg 1995).",
                normality_rows(found.normality, found.columns),
            ),
        ],
        method=_method(found),
        controls=[
            f"{name[0].upper()}{name[1:]}: {MEANINGS[name]}"
            for name in found.tables
            if name in MEANINGS
        ],
        limits=[
            *(REACH[name] for name in config.estimators),
            "None of them proves independence.",
            "Exact latents are independent, over the distribution that was learnt. What is found "
            "here is what training has left, on these images.",
            "p-values are of single questions; of twenty independent ones, one lies below 0.05.",
            "The interval is over images; it leaves out another training seed.",
        ],
        metrics=[(0, _metrics(found, main))],
    )


def _pictures(found: TotalCorrelation, main: str) -> list[Picture]:
    """Show answers by the main estimator, normality, and correlations of columns that vary."""
    tables, bands = found.tables, found.columns.bands
    which = counted(len(found.columns.columns), found.columns.whole())
    drawn = []
    if any(row.tc for row in found.answers if row.estimator == main):
        caption = (
            f"Total correlation by the estimator {main}, with 95 % intervals. Gray tick: 95 % "
            "of tables with independent columns lie at its left. The axis is linear about 0, then "
            f"logarithmic. {in_twos([f'of {name} n = {len(t)}' for name, t in tables.items()])}"
        )
        figure = total_correlation_figure(found.answers, main)
        drawn.append(Picture("total_correlation", caption, figure))
    caption = (
        f"Distance of each column to N(0, 1), Kolmogorov-Smirnov, {which}. A distance's "
        "95 % interval is as wide to each side as the null is high (dashed)."
    )
    drawn.append(Picture("normality", caption, normality_figure(found.normality, bands)))
    shown = {name: tables[name] for name in (LATENTS, OTHER, RAW) if name in tables}
    varying = {name: table for name, table in shown.items() if np.ptp(table, 0).all()}
    if varying:
        caption = f"Correlation of all pairs of columns ({which}), on one scale; squares are bands."
        if lacking := [name for name in shown if name not in varying]:
            caption += f" Not drawn, since a column is constant: {', '.join(lacking)}."
        drawn.append(Picture("correlation", caption, correlation_picture(varying, bands)))
    return drawn


def _method(found: TotalCorrelation) -> dict[str, object]:
    config, columns = found.config, found.columns
    left_out = {name: count for name, count in columns.left_out.items() if count}
    return {
        "latents": found.n,
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


def _metrics(found: TotalCorrelation, main: str) -> dict[str, float]:
    """Return values by key: the main estimator's under the bare name, others with theirs."""
    values = {}
    for row in found.answers:
        if row.tc is None:
            continue
        name = (
            row.question.name if row.estimator == main else f"{row.question.name}_{row.estimator}"
        )
        kind = TOTAL_CORRELATION
        if row.source != LATENTS:
            kind = f"{TOTAL_CORRELATION_CONTROL}/{key_part(row.source)}"
        values[band_metric(kind, name)] = row.tc.value
    for source, each in found.normality.items():
        values[band_metric(NOT_NORMAL, source)] = float(each.rejected.mean())
    return values
