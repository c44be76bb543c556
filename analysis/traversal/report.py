"""What a traversal's report says and shows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from gdm_repr.analysis.intervals.estimate import in_twos, with_ends
from gdm_repr.analysis.report.page import Picture, Report, Table
from gdm_repr.analysis.subject import Subject
from gdm_repr.analysis.traversal import figures
from gdm_repr.analysis.traversal.atlas import LEVEL, Atlas
from gdm_repr.analysis.traversal.directions import Pool
from gdm_repr.analysis.traversal.measure import Traversal
from gdm_repr.grouping import Grouping
from gdm_repr.masks import element_mask, untouched_groups
from gdm_repr.pictures import Animation
from gdm_repr.tracking.keys import (
    TRAVERSAL_EFFECT,
    TRAVERSAL_MONOTONICITY,
    TRAVERSAL_PASSING,
    TRAVERSAL_PASSING_RANDOM,
    band_metric,
)

SHEET_ROWS, MOVING_ROWS = 32, 8  # of the sheet, and of the animation
LISTED = 8  # elements that the answer names
METRICS = 64  # elements whose metrics are tracked, the first ones in rank
MEANING = (
    "Straightness is 1 where the way leads straight on, monotonicity where images move steadily, "
    "alike where all images change in the same way."
)
INTERVALS = ("straightness", "monotonicity", "alike", "drift", "row", "column", "area")


def report(found: Traversal) -> Report:
    """Write down what was found."""
    config, main = found.config, next(iter(found.atlases.values()))
    who = "encoded images" if found.anchors.rows else "samples"
    return Report(
        title="Traversals",
        question="What does each single element do, and is it more than any other direction does?",
        answer=_answer(main, found.pool, found.subject, who),
        pictures=_pictures(found, main, who),
        tables=_tables(found.atlases, found.subject.model.grouping),
        method={
            "anchors": f"{config.anchors} {who}, chosen at random",
            "elements": found.pool.count,
            "places": list(config.values),
            "random directions": f"{config.directions}, from random orthonormal bases of the band",
            "unit": f"mean distance of two of {found.paired} decoded images",
            "seed": config.seed,
            "features": found.features,
        },
        controls=[
            "Random directions of the same band, traversed at the same pace: what any direction "
            "does. Each takes an element's test, too.",
            "The same moves, in stds, of the images' own coefficients, without the model.",
        ],
        limits=[
            "One element is not one attribute: a number says how much changes and how steadily, "
            "not what, nor that nothing else does. Look at the sheets.",
            "An element may pass the test as any fixed direction may that does more than average; "
            "only beside the random directions that pass does it say something of elements.",
            "Values beyond 2 are rare among latents of images; straightness, monotonicity and "
            "drift are over the whole range.",
            "Intervals and tests are over images; they leave out another training seed.",
        ],
        metrics=[(0, _metrics(main))],
    )


def _answer(atlas: Atlas, pool: Pool, subject: Subject, who: str) -> list[str]:
    """Say what was found of the first element, and of all of them."""
    first, average = atlas.entries[0], atlas.average
    E, R = len(atlas.entries), len(atlas.random)
    part = f" They were chosen of the {pool.whole:,} of the band." if pool.whole > E else ""
    path = " ".join(
        f"{kind.capitalize()}: {first.numbers[kind]} (random directions {average[kind]})."
        for kind in ("straightness", "monotonicity", "alike")
    )
    return [
        f"In features of {atlas.feature}, element {first.name} of band {pool.name} changes images "
        f"most: per unit it moves them {first.effect} of the way to another image "
        f"(n = {atlas.n} {who}). A random direction of the band moves them {average['effect']}, "
        f"the image's own coefficient {first.raw['effect']}.",
        f"{atlas.passing} of {E} elements do more than the average random direction.{part} By the "
        f"same test, so do {atlas.passing_random} of {R} random directions. The test has a "
        f"false-discovery rate of {LEVEL:g}.",
        _spread(atlas),
        *_others(atlas),
        *_where_it_falls(atlas, pool, subject),
        f"Over the whole range element {first.name} leaves the image {first.numbers['drift']} of "
        f"the way to another one (own coefficient {first.raw['drift']}). {path} {MEANING}",
    ]


def _spread(atlas: Atlas) -> str:
    """Say whether elements differ from each other more than random directions do."""
    if atlas.spread != atlas.spread:
        return "There are too few directions to compare how unequal they are."
    verdict = "Elements as a whole are not shown to differ from random directions"
    if atlas.spread_p <= LEVEL:
        wide = "more unequal" if atlas.spread > 1 else "more alike"
        verdict = f"Elements are {wide} than random directions"
    return (
        f"{verdict}: their effects spread {atlas.spread:.2g} times as wide (p = "
        f"{atlas.spread_p:.2g})."
    )


def _others(atlas: Atlas) -> list[str]:
    """Name the other elements."""
    names = [entry.name for entry in atlas.entries[1:LISTED]]
    more = ", ..." if len(atlas.entries) > LISTED else ""
    return [f"Next by effect: element{'s' * (len(names) > 1)} {', '.join(names)}{more}."] * bool(
        names
    )


def _where_it_falls(atlas: Atlas, pool: Pool, subject: Subject) -> list[str]:
    """Say which bands the first element's change falls in."""
    grouping, first = subject.model.grouping, atlas.entries[0]
    mask = element_mask(first.name, *pool.mask.shape)
    before = untouched_groups(grouping, mask)
    bands = [
        f"band {grouping.names[group]} has {first.shares[group].percent()}"
        for group in grouping.order[before : before + 4]
    ]
    said = [
        f"Of the squared change by element {first.name}, {first.numbers['own'].percent()} falls on "
        f"its own coefficient. {in_twos(bands)}"
    ]
    if before and subject.generation.strict:
        said.append("Bands made before it are left alone by the model's construction.")
    elif before:
        early = first.numbers["early"]
        said.append(f"In bands made before it the largest change of a coefficient is {early}.")
    return said


def _pictures(found: Traversal, atlas: Atlas, who: str) -> list[Picture]:
    """Show sheets, animations and figures of the main feature's atlas."""
    config, subject, pool = found.config, found.subject, found.pool
    by_name = {each.name: each for each in found.elements}
    ranked = [by_name[entry.name] for entry in atlas.entries]
    shown = list(range(len(ranked)))
    if len(shown) > SHEET_ROWS:
        shown = [*shown[: SHEET_ROWS // 2], *shown[-(SHEET_ROWS // 2) :]]
    labels = [
        f"{i + 1}. element {atlas.entries[i].name}\neffect {atlas.entries[i].effect.value:.2g}\n"
        f"q = {atlas.entries[i].q:.2g}"
        for i in shown
    ]
    of = [found.anchors]
    if config.source == "both":
        of.append(subject.anchors(1, "samples", seed=config.seed))
    sheets = figures.draw_sheets(
        subject,
        of,
        [ranked[i] for i in shown],
        labels,
        config.values,
        moving=MOVING_ROWS,
        batch_size=config.batch_size,
    )
    whole = len(ranked) == pool.whole
    every = "All elements" if whole else f"{len(ranked):,} of the {pool.whole:,} elements"
    which = every if len(shown) == len(ranked) else "The first and the last elements"
    drawn = []
    for anchor, (sheet, first) in zip(of, sheets, strict=True):
        kind = "image" if anchor.rows else "sample"
        caption = f"{which} of band {pool.name} by rank. Moved is {kind} {anchor.ids[0]}"
        caption = caption.replace("sample sample", "sample")
        drawn.append(Picture(f"traversal_{kind}", f"{caption}; the column says its value.", sheet))
        moving = Animation(first, still=1, moving=range(1, 1 + len(config.values)))
        caption = f"The same, moving{': the first ones' if len(shown) > MOVING_ROWS else ''}."
        drawn.append(Picture(f"traversal_{kind}_moving", caption, moving))
    n = f"n = {atlas.n} {who}, {atlas.feature}; bars are 95 % intervals over them"
    grouping = subject.model.grouping
    held = [group for group in grouping.order if (grouping.mask(group) & pool.mask).any()]
    return [
        *drawn,
        Picture(
            "effects",
            f"Effect of each element, by rank ({n}). Gray: {len(atlas.random)} random directions.",
            figures.draw_effects(atlas),
        ),
        Picture(
            "spectrum",
            f"Where in the spectrum each element's change falls ({n.split(';')[0]}).",
            figures.draw_shares(atlas, grouping, held),
        ),
        Picture(
            "maps",
            f"Where in the image it falls, averaged over {atlas.n} {who}; cross: centroid.",
            figures.draw_maps(atlas),
        ),
        Picture(
            "paths",
            f"What the paths look like ({n}). {MEANING} Drift is the mean distance from the "
            "unedited image.",
            figures.draw_measures(atlas),
        ),
    ]


def _tables(atlases: Mapping[str, Atlas], grouping: Grouping) -> list[Table]:
    """Return the atlas of every feature, the random directions, and the bands."""
    main = next(iter(atlases.values()))
    every, shares, random = [], [], []
    for feature, each in atlases.items():
        for rank, entry in enumerate(each.entries, 1):
            assert entry.gain is not None
            row: dict[str, object] = {"feature": feature, "rank": rank, "element": entry.name}
            row |= _with_ends("effect", entry.effect)
            row |= {"p": entry.p, "q": entry.q, "random directions below": entry.above}
            row |= _with_ends("own coefficient's effect", entry.raw["effect"])
            row |= _with_ends("difference", entry.gain)
            for kind in INTERVALS:
                row |= _with_ends(kind, entry.numbers[kind])
            every.append(row | _with_ends("own coefficient's drift", entry.raw["drift"]))
        random += [
            {"feature": feature, "direction": entry.name}
            | _with_ends("effect", entry.effect)
            | {"p": entry.p, "q": entry.q, "others below": entry.above}
            | {kind: entry.numbers[kind].value for kind in INTERVALS[:4]}
            for entry in each.random
        ]
    for entry in main.entries:
        shares += [
            {"element": entry.name, "band": grouping.names[group]}
            | _with_ends("share", entry.shares[group])
            | _with_ends("drift", entry.moved[group])
            for group in grouping.order
        ]
        shares.append(
            {"element": entry.name, "band": "(its own coefficient)"}
            | _with_ends("share", entry.numbers["own"])
            | {"drift": None, "drift low": None, "drift high": None}
        )
    return [
        Table.of_rows(
            "atlas",
            "The elements by rank: effect per unit (1: as far as another image), its test, the "
            "images' own coefficients, and the paths. 95 % intervals over images.",
            every,
        ),
        Table.of_rows("random", "The random directions and the same test.", random),
        Table.of_rows(
            "bands",
            "Share of each element's squared change that falls in each band, and the drift of "
            "that band's data (1: as far as another image's). 95 % intervals over images.",
            shares,
        ),
    ]


_with_ends = partial(with_ends, ends="{name} {}")


def _metrics(atlas: Atlas) -> dict[str, float]:
    """Return what is tracked of the main feature's atlas."""
    values = {
        TRAVERSAL_PASSING: float(atlas.passing),
        TRAVERSAL_PASSING_RANDOM: float(atlas.passing_random),
    }
    for entry in atlas.entries[:METRICS]:
        values[band_metric(TRAVERSAL_EFFECT, entry.name)] = entry.effect.value
        steady = entry.numbers["monotonicity"].value
        values[band_metric(TRAVERSAL_MONOTONICITY, entry.name)] = steady
    return values
