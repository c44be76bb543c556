"""Sentences and metrics of the element factors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gdm_repr.analysis.element_factors.claims import BOTH, Claims, claims, known
from gdm_repr.analysis.element_factors.figures import pictures
from gdm_repr.analysis.element_factors.measure import ElementFactors
from gdm_repr.analysis.element_factors.options import ELEMENTS, RANDOM, WAYS
from gdm_repr.analysis.element_factors.shares import LEVEL, Claim, Shares
from gdm_repr.analysis.element_factors.tables import tables
from gdm_repr.analysis.intervals.estimate import in_twos, listed, number
from gdm_repr.analysis.report.page import Report
from gdm_repr.boundary.names import metric_key
from gdm_repr.tracking.keys import ELEMENT_FACTORS, ELEMENT_FACTORS_CONTROL

LISTED = 6  # elements, and factors, that the answer names
TRAVERSAL = WAYS[1]
ERRS = 1.1  # sum of a factor's shares above which readings of it can't be true


def report(found: ElementFactors) -> Report:
    """Write down what was found."""
    config, factors, made = found.config, found.factors, claims(found)
    return Report(
        title="Element factors",
        question="Does a single element change a single attribute?",
        answer=answer(found, made),
        pictures=pictures(found, made),
        tables=tables(found, made),
        method={
            "images": found.images,
            "factors": [f"{f.name} ({f.kind}, n = {len(f.rows)})" for f in factors],
            "elements": found.pool.count if factors else 0,
            "probe": "means in at most 10 bins of equal counts, 5 folds",
            "traversal": f"{found.moved} images, {config.places} places of "
            "Gauss-Hermite quadrature",
            "reader": f"kernel ridge on {config.reader}, fitted to {found.fitted} other images, "
            "R^2 by leaving one out",
            "counts as moved": f"at a false-discovery rate of 0.05, and {config.least:g} or more "
            "of the factor's variance",
            "random directions": f"{config.directions}, from random orthonormal bases of the band",
            "permutations": config.permutations,
            "resamples": config.resamples,
            "seed": config.seed,
        },
        controls=[
            "Null of the probe: permuted labels. Null of the traversal: the sign of each image's "
            "change drawn anew. Both adjusted over all elements and factors.",
            "Both: what probe and traversal agree on, the smaller share and the larger p. A reader "
            "that is misled, and latents that go together, each mislead one way only.",
            "Random unit directions of the same band, measured in the same way.",
            "The images' own coefficients at the same elements, moved in their stds without the "
            "model, and read by the same reader.",
        ],
        limits=[
            "With fewer images fewer shares are found, and more elements seem to move one factor "
            "alone; purity depends on it less.",
            "Of known factors only: an element may change what no label names.",
            "What is read off a moved image is a regression's guess; it may take one change for "
            "another. Factors that it can't read are left out.",
            "A reader knows real images only. Directions that lead away from these, as a model not "
            "trained to the end makes them, are not judged; neither are raw ones.",
            "Shares count what an element does in all images alike; what it does in some and not "
            "in others is in the column 'total', with the reader's errors.",
            "Elements count as independent N(0, 1) numbers; where latents are not, what a probe "
            "finds may be of another element that goes with this one.",
            "Intervals are of the images: predictions and readings are resampled, which pairs "
            "differ from 0 is held fixed, and of counts and purity the spread is laid about the "
            "value. Random directions are resampled, too. They leave out another training seed.",
            "Both ways at once find fewer pairs than either, so that more elements seem to move "
            "one factor alone: compare with random directions by the same way.",
        ],
        metrics=[(0, metrics(made))] if factors else (),
    )


def answer(found: ElementFactors, made: Claims) -> list[str]:
    """Say how many elements move one factor alone, which those are, and what can't be said."""
    why = "; ".join(f"{name} {reason}" for name, reason in list(found.refused.items())[:LISTED])
    if not found.factors:
        return [f"There is no factor to look for: {why or 'the store has no labels'}."]
    least = found.config.least
    said = _verdict(found, made) if found.shares else []
    if len(found.pool.elements) < found.pool.whole:
        said.append(f"Looked at: {found.pool.count}, which is what is meant by its elements here.")
    said += [_counted(way, made[way], found.pool.name) for way in made]
    if made:
        said.append(
            f"To move a factor means to make {100 * least:g} % of its variance or more, at a "
            f"false-discovery rate of {LEVEL:g}."
        )
    said += _purity(made)
    said += [
        line
        for way, by_source in found.shares.items()
        for line in _which(way, by_source[ELEMENTS], made[way][ELEMENTS], least)
    ]
    if found.reader:
        said.append(_readings(found))
    if why:
        said.append(f"Not looked at: {why}.")
    return said


def _verdict(found: ElementFactors, made: Claims) -> list[str]:
    """Answer the question, by each way."""
    said = []
    for way, by_source in made.items():
        own = by_source[ELEMENTS]
        if own.factors == 1:
            said.append(f"By {way}, one factor alone can't tell.")
        elif not own.moving:
            said.append(f"By {way}, no element moves any factor.")
        else:
            said.append(
                f"By {way}, {own.singles} of the {own.moving} elements of band {found.pool.name} "
                "that move any factor move exactly one."
            )
    return [" ".join(said)]


def _counted(way: str, made: Mapping[str, Claim], band: str) -> str:
    """Say how many elements move how many factors, beside the controls."""
    own = made[ELEMENTS]
    several = own.counts[own.counts > 0]
    how = "both ways at once" if way == BOTH else way
    factors = f"{own.factors} factor{'s' * (own.factors > 1)}"
    said = [f"By {how}, {own.moving} of {own.total} elements of band {band} move a factor."]
    if own.factors > 1:
        if len(several):
            said.append(f"They move {number(float(several.mean()), 2)} of {factors} on average.")
        said.append(
            f"Counting shares of any size, {int((own.any_size > 0).sum())} move a factor and "
            f"{int((own.any_size == 1).sum())} exactly one."
        )
    for source, each in made.items():
        if source != ELEMENTS:
            alone = f" {each.singles} of these move exactly one." * bool(each.moving)
            said.append(
                f"{source[:1].upper()}{source[1:]}: {each.moving} of {each.total} move any.{alone}"
            )
        if each.strange:
            said.append(
                "Not judged, since more than half of their images are unlike real ones: "
                f"{each.strange} {source}."
            )
    said.append(f"Looked at: {own.n} images{', moved' if way != WAYS[0] else ''}, and {factors}.")
    return " ".join(said)


def _purity(made: Claims) -> list[str]:
    """Say how pure elements are, beside random directions."""
    said = []
    for way, by_source in made.items():
        own, random = by_source[ELEMENTS], by_source[RANDOM]
        if own.factors < 2 or not own.moving:
            continue
        text = ""
        if random.moving:
            gap = own.purer(random)
            word = "purer" if gap.low > 0 else "less pure" if gap.high < 0 else ""
            text = (
                f"By {way}, elements are {word} than random directions, by {gap}. "
                if word
                else f"By {way}, elements are not shown to differ from random directions ({gap}). "
            )
        others = [
            f"of {source} it has {each.purity}"
            for source, each in by_source.items()
            if source != ELEMENTS
        ]
        said.append(
            f"{text}Of what an element does by {way}, its largest factor has {own.purity} on "
            f"average. One factor alone would give 1, all alike {number(1 / own.factors, 2)}. "
            f"{in_twos(others)}"
        )
    return said


def _which(way: str, shares: Shares, made: Claim, least: float) -> list[str]:
    """Name the purest elements, and where each factor is."""
    moves = shares.moves(least)
    said = []
    largest = shares.value.argmax(1)
    size = shares.value.max(1)
    single = np.flatnonzero(made.counts == 1)
    if made.factors > 1 and len(single):
        named = [
            f"{shares.names[e]} {shares.factors[largest[e]]}"
            for e in single[np.argsort(-size[single], kind="stable")]
        ]
        said.append(
            f"Elements that move one factor alone by {way} (index:channel, the largest share "
            f"first): {listed(named, LISTED)}."
        )
    shown = known(shares)
    by_size = sorted(range(len(shares.factors)), key=lambda f: -float(shown[:, f].max()))
    moved = [f for f in by_size if moves[:, f].any()]
    parts = [f"{shares.factors[f]} {shares.names[int(shown[:, f].argmax())]}" for f in moved]
    nowhere = [shares.factors[f] for f in by_size if f not in moved]
    if parts:
        said.append(
            f"Factors that are moved by {way}, each with the element that moves it most: "
            f"{listed(parts, LISTED)}."
        )
    if nowhere:
        said.append(f"Moved by no element, by {way}: {', '.join(nowhere)}.")
    return said


def _readings(found: ElementFactors) -> str:
    missed = [name for name in found.reader if name not in found.readable]
    text = "No factor is read well enough off images, so that nothing is said by traversal."
    if found.readable:
        text = f"The reader reads {', '.join(found.readable)} off images."
        text += f" Not well enough: {', '.join(missed)}." if missed else ""
    text += f" The table has its R^2, from n = {found.fitted} images left out one by one."
    if found.readable:
        sums = known(found.shares[TRAVERSAL][ELEMENTS]).sum(0).tolist()
        errs = {n: total for n, total in zip(found.readable, sums, strict=True) if total > ERRS}
        if errs:
            text += (
                f" Shares by traversal add up to more than all of {', '.join(errs)} (the largest "
                f"sum is {number(max(errs.values()), 2)}). Moved images are then unlike those that "
                "the reader knows, and it takes other changes for these."
            )
    return text


def metrics(made: Claims) -> dict[str, float]:
    """Return counts and purity by key; controls under a name of their own."""
    values: dict[str, float] = {}
    for way, by_source in made.items():
        for source, each in by_source.items():
            start = f"{ELEMENT_FACTORS}/{way}"
            if source != ELEMENTS:
                start = f"{ELEMENT_FACTORS_CONTROL}/{source}/{way}"
            numbers = {"single": each.single.value, "purity": each.purity.value}
            for name, value in {"moving": float(each.moving), **numbers}.items():
                if np.isfinite(value):
                    values[metric_key(f"{start}/{name}")] = value
    return values
