"""The page of band variance."""

from __future__ import annotations

import math
from functools import partial

from gdm_repr.analysis.band_variance import figures
from gdm_repr.analysis.band_variance.measure import LEVEL, BandVariance
from gdm_repr.analysis.band_variance.variance import around
from gdm_repr.analysis.intervals.estimate import place_text, with_ends
from gdm_repr.analysis.report.page import Picture, Report, Table
from gdm_repr.tracking.keys import (
    BAND_VARIANCE,
    BAND_VARIANCE_CONTROL,
    BAND_VARIANCE_CURVE,
    band_metric,
)

BANDS = 6  # that the answer speaks of
MORE_THAN_FREE = (
    "A share above 100 % means more variance than free generation has: the fixed latents lead to "
    "images that vary more than samples do, as where latents are not near N(0, 1)."
)

_count = partial(place_text, beyond="more than all")


def report(found: BandVariance) -> Report:
    """Write down what was found."""
    config, subject = found.config, found.subject
    main, (enough, enough_control) = config.features[0], found.enough
    latents, control = found.left[main]
    kept = latents.curve.kept
    first, fixed, others = next(iter(found.ends)), latents.fixed[0], control.fixed[0]
    answer = [
        *_drawn(found, main),
        f"Fixing band {first} alone leaves {fixed.percent()} of the variance of free generation. "
        f"Fixing the same of an image's own coefficients leaves {others.percent()}.",
        f"Latents that settle nine tenths of the variance, from the first on: {_count(enough)}. "
        f"Of an image's own coefficients it takes {_count(enough_control)}.",
        *_bends(found),
        f"Between the {len(kept)} values of m that were measured, curves are read on straight "
        "lines." + ("" if math.isnan(enough.value) else _between(around(enough.value, kept))),
    ]
    if any(each.value > 1 for each in (*latents.drawn, *control.drawn, fixed, others)):
        answer.append(MORE_THAN_FREE)
    who = "encoded images" if config.source == "images" else "samples"
    n = f"n = {config.anchors} {who}, {config.draws} draws each; 95 % bootstrap intervals over them"
    return Report(
        title="Band variance",
        question="Which band holds what, and how many latents suffice?",
        answer=answer,
        pictures=[
            Picture(
                "band_variance",
                "Variance left when the first m latents are fixed, relative to none fixed "
                f"({n}). Dashed: the control, coefficients of real images. Gray line: "
                f"{100 * LEVEL:.0f} %.",
                figures.draw_curves(found),
            ),
            Picture(
                "bands",
                "Variance left with one band drawn (left) and with one band fixed (right), "
                f"relative to free generation ({n}). Open: the control.",
                figures.draw_shares(found),
            ),
            Picture(
                "draws",
                f"An anchor ({found.anchors.ids[0]}) and draws with more and more bands fixed; a "
                "column has the same noise in every row.",
                figures.draw_sheet(found),
            ),
        ],
        tables=[_curve_table(found), _share_table(found)],
        method={
            "anchors": f"{config.anchors} {who}, chosen at random",
            "draws": f"{config.draws} an anchor",
            "latents": subject.model.grouping.index.size,
            "seed": config.seed,
            "control": "as many draws from the coefficients of "
            f"{min(config.pool, len(subject.store))} random images, or all of these",
            "features": found.fingerprints,
        },
        controls=[
            "The same with the images' own coefficients: an image's are fixed, the others come "
            "from other images. A thumbnail keeps the low ones too, so that only the difference "
            "is due to the latents.",
            "Pixels beside a network's features: what is large in one may be small in the other.",
        ],
        limits=[
            "Variance is not meaning: a feature may ignore what a person would see.",
            "Latents are drawn from N(0, I); where the encoded ones are not quite that, the images "
            "drawn are not quite the data's.",
            "The interval is over images; it leaves out another training seed.",
        ],
        metrics=_metrics(found, main),
    )


def _drawn(found: BandVariance, main: str) -> list[str]:
    """Say of each of the first bands how much varies when it alone is drawn."""
    latents, control = found.left[main]
    bands = list(found.ends)[:BANDS]
    said = [
        f"Band {band} drawn afresh, all others fixed, gives {own.percent()} of the variance of "
        f"free generation in {main}. Drawing the same of an image's own coefficients gives "
        f"{other.percent()}."
        for band, own, other in zip(bands, latents.drawn, control.drawn, strict=False)
    ]
    left = len(found.ends) - len(bands)
    return [*said, *[f"The table has the other {left} bands."] * bool(left)]


def _bends(found: BandVariance) -> list[str]:
    """Say where the curve bends, and where bands would be cut."""
    groups = found.config.groups or found.subject.model.grouping.k
    said = "The curve lies nowhere below a straight line."
    if not math.isnan(found.bend.value):
        said = (
            f"The curve bends most at {_count(found.bend)} latents; the interval reaches to the "
            "next values of m."
        )
    if not found.cuts:
        return [said]
    cuts = ", ".join(map(str, found.cuts))
    return [said, f"Cut at [{cuts}], each of {groups} bands would hold an equal share."]


def _between(ends: tuple[int, int]) -> str:
    """Say between which values of m nine tenths are settled."""
    low, high = ends
    return (
        f" Nine tenths are settled {f'at {low}' if low == high else f'between {low} and {high}'}."
    )


def _metrics(found: BandVariance, main: str) -> list[tuple[int, dict[str, float]]]:
    """Return bands of the main feature at step 0, and curves with m as step."""
    values = {f"{BAND_VARIANCE}/suffices": found.enough[0].value}
    keys = (BAND_VARIANCE, BAND_VARIANCE_CONTROL)
    for key, of in zip(keys, found.left[main], strict=True):
        values |= {band_metric(key, b): s.value for b, s in zip(found.ends, of.drawn, strict=True)}
    metrics = [(0, values)]
    for name, pair in found.left.items():
        for suffix, of in zip(("", "_control"), pair, strict=True):
            key = f"{BAND_VARIANCE_CURVE}{suffix}/{name}"
            points = zip(of.curve.kept, of.curve.value, strict=True)
            metrics += [(m, {key: value}) for m, value in points]
    return metrics


def _curve_table(found: BandVariance) -> Table:
    rows = []
    for name, (latents, control) in found.left.items():
        a, b, gaps = latents.curve, control.curve, found.gaps[name]
        rows += [
            {
                "feature": name,
                "m": m,
                **with_ends("left", a.at(m)),
                "variance": a.variance[i],
                **with_ends("control", b.at(m), "its {}"),
                **with_ends("difference", gaps[i], "{} of it"),
            }
            for i, m in enumerate(a.kept)
        ]
    caption = (
        "Variance left when the first m latents are fixed: share of the free variance with its "
        "95 % interval, and in squared units of the feature; the control; the paired difference."
    )
    return Table.of_rows("curve", caption, rows)


def _share_table(found: BandVariance) -> Table:
    rows = [
        {
            "feature": name,
            "band": band,
            "of": of,
            **with_ends("only it drawn", drawn),
            **with_ends("only it fixed", fixed, "its {}"),
        }
        for name, pair in found.left.items()
        for of, summary in zip(("latents", "control"), pair, strict=True)
        for band, drawn, fixed in zip(found.ends, summary.drawn, summary.fixed, strict=True)
    ]
    return Table.of_rows("bands", "Share of the free variance left, with 95 % intervals.", rows)
