"""Sentences, tables and metrics of the element factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gdm_repr.analysis.element_factors import ELEMENTS, RANDOM, WAYS, Measured
from gdm_repr.analysis.element_shares import LEVEL, Claim, Floats, Shares, both, carriers, claim
from gdm_repr.analysis.estimate import Estimate, number
from gdm_repr.analysis.factors import Factor
from gdm_repr.analysis.report import Table
from gdm_repr.run_facts import ELEMENT_FACTORS, ELEMENT_FACTORS_CONTROL, metric_key

LISTED = 6  # elements, and factors, that the answer names
TRAVERSAL = WAYS[1]
BOTH = "both"  # what probe and traversal agree on
ERRS = 1.1  # sum of a factor's shares above which readings of it can't be true
Claims = dict[str, dict[str, Claim]]


def claims(found: Measured, least: float) -> Claims:
    """Return how many factors directions move, by way, then by what was moved."""
    made = {
        way: {
            source: claim(shares, least, sampled=source == RANDOM)
            for source, shares in by_source.items()
        }
        for way, by_source in found.shares.items()
    }
    probed, moved = (found.shares.get(way) for way in WAYS)
    if probed and moved:
        made[BOTH] = {source: claim(both(probed[source], moved[source]), least) for source in moved}
    return made


def answer(found: Measured | None, least: float, refused: Mapping[str, str]) -> list[str]:
    """Say how many elements move one factor alone, which those are, and what can't be said."""
    why = "; ".join(f"{name} {reason}" for name, reason in list(refused.items())[:LISTED])
    if found is None:
        return [f"There is no factor to look for: {why or 'the store has no labels'}."]
    made = claims(found, least)
    said = [_verdict(found, made, least)] if found.shares else []
    said += [_counted(way, made[way], found.pool.name, least) for way in made]
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


def _verdict(found: Measured, made: Claims, least: float) -> str:
    """Answer the question in one sentence."""
    parts = []
    for way, by_source in made.items():
        own = by_source[ELEMENTS]
        if own.factors == 1:
            parts.append(f"by {way}, one factor alone can't tell")
        elif not own.moving:
            parts.append(f"by {way}, no element moves any factor")
        else:
            parts.append(
                f"by {way}, {own.singles} of the {own.moving} elements of band {found.pool.name} "
                f"that move any factor move exactly one ({own.single.percent()})"
            )
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def _counted(way: str, made: Mapping[str, Claim], band: str, least: float) -> str:
    """Say how many elements move how many factors, beside the controls."""
    own = made[ELEMENTS]
    n = f"n = {own.n} images" + (" moved" if way != WAYS[0] else "")
    beside = "; ".join(
        f"{source}: {each.moving} of {each.total} move any, {each.singles} exactly one"
        + (f" ({each.single.percent()})" if each.moving else "")
        for source, each in made.items()
        if source != ELEMENTS
    )
    several = own.counts[own.counts > 0]
    usual = f", {number(float(several.mean()), 2)} factors on average" if len(several) else ""
    left_out = "".join(
        f" Not judged, since more than half of their images are unlike real ones: {each.strange} "
        f"{source}."
        for source, each in made.items()
        if each.strange
    )
    how = "both ways at once" if way == BOTH else way
    return (
        f"By {how} ({n}, {own.factors} factor{'s' * (own.factors > 1)}), {own.moving} of "
        f"{own.total} elements of band {band} move a factor, by {100 * least:g} % of its variance "
        f"or more at a false-discovery rate of {LEVEL:g}{usual}; of any size, "
        f"{int((own.any_size > 0).sum())} do, {int((own.any_size == 1).sum())} exactly one. "
        f"{beside[:1].upper()}{beside[1:]}.{left_out}"
    )


def _purity(made: Claims) -> list[str]:
    """Say how pure elements are, beside random directions."""
    said = []
    for way, by_source in made.items():
        own, random = by_source[ELEMENTS], by_source[RANDOM]
        if own.factors < 2 or not own.moving:
            continue
        others = "; ".join(
            f"{source} {each.purity}" for source, each in by_source.items() if source != ELEMENTS
        )
        text = (
            f"Of what an element does by {way}, its largest factor has {own.purity} on average "
            f"(1: one factor alone; {number(1 / own.factors, 2)}: all alike); {others}."
        )
        if random.moving:
            gap = own.purer(random)
            word = "purer" if gap.low > 0 else "less pure" if gap.high < 0 else ""
            text += (
                f" Elements are {word} than random directions, by {gap}."
                if word
                else f" Elements are not shown to differ from random directions ({gap})."
            )
        said.append(text)
    return said


def _which(way: str, shares: Shares, made: Claim, least: float) -> list[str]:
    """Name the purest elements, and where each factor is."""
    moves = shares.moves(least)
    said = []
    largest = shares.value.argmax(1)
    size = shares.value.max(1)
    single = np.flatnonzero(made.counts == 1)
    if made.factors > 1 and len(single):
        first = single[np.argsort(-size[single], kind="stable")][:LISTED]
        named = "; ".join(
            f"{shares.names[e]} {shares.factors[largest[e]]} {shares.interval(e, largest[e])}"
            for e in first
        )
        more = f"; {len(single) - LISTED} more in the table" if len(single) > LISTED else ""
        said.append(
            f"Elements that move one factor alone by {way} (index:channel, share of the factor's "
            f"variance): {named}{more}."
        )
    spread = carriers(np.where(moves, shares.value, 0))
    known = _known(shares)
    by_size = sorted(range(len(shares.factors)), key=lambda f: -float(known[:, f].max()))
    parts: list[str] = []
    nowhere: list[str] = []
    for f in by_size:
        count = int(moves[:, f].sum())
        if not count:
            nowhere.append(shares.factors[f])
        elif len(parts) < LISTED:
            e = int(known[:, f].argmax())
            parts.append(
                f"{shares.factors[f]} by {count}, most by {shares.names[e]} "
                f"({shares.interval(e, f)}; as if by {number(float(spread[f]), 2)} alike)"
            )
    if parts:
        left = len(shares.factors) - len(nowhere) - len(parts)
        more = f"; {left} more in the table" if left else ""
        said.append(f"Factors moved by {way}: {'; '.join(parts)}{more}.")
    if nowhere:
        said.append(f"Moved by no element, by {way}: {', '.join(nowhere)}.")
    return said


def _readings(found: Measured) -> str:
    read = [f"{name} {number(found.reader[name].value, 2)}" for name in found.readable]
    missed = [
        f"{name} {number(each.value, 2)}"
        for name, each in found.reader.items()
        if name not in found.readable
    ]
    sums = (
        {
            name: float(total)
            for name, total in zip(
                found.readable, _known(found.shares[TRAVERSAL][ELEMENTS]).sum(0), strict=True
            )
        }
        if found.readable
        else {}
    )
    errs = [f"{name} {number(total, 2)}" for name, total in sums.items() if total > ERRS]
    text = f"The reader (R^2, n = {found.fitted} left out one by one) reads "
    text += ", ".join(read) or "no factor well enough, so that nothing is said by traversal"
    text += f"; not well enough: {', '.join(missed)}." if missed else "."
    if errs:
        text += (
            f" Shares by traversal add up to more than all of {', '.join(errs)}: moved images are "
            "unlike those that the reader knows, and it takes other changes for these."
        )
    return text


def _known(shares: Shares) -> Floats:
    """Return shares (E, F), 0 where a direction is not judged."""
    known: Floats = np.where(shares.judged[:, None], shares.value, 0)
    return known


def tables(
    found: Measured | None, least: float, factors: Sequence[Factor], refused: Mapping[str, str]
) -> list[Table]:
    """Return the counts, the elements, where factors are, all pairs, and what was read."""
    made: list[Table] = []
    if found is not None and found.shares:
        all_claims = claims(found, least)
        made += [
            _claim_table(all_claims),
            _elements_table(found, all_claims, least),
            _factors_table(found, least),
            _pairs_table(found, least),
        ]
    if found is not None and found.reader:
        rows = [
            {
                "factor": name, "R^2": each.value, "low": each.low, "high": each.high,
                "R^2 of decoded": found.decoded[name].value,
                "decoded, low": found.decoded[name].low, "decoded, high": found.decoded[name].high,
                "readable": name in found.readable,
            }
            for name, each in found.reader.items()
        ]  # fmt: skip
        caption = (
            f"How well factors are read off images, n = {found.fitted}, each left out in turn; and "
            "off the anchors as the model decodes them."
        )
        made.append(Table.of_rows("reader", caption, rows))
    if notes := {**{f.name: f.note for f in factors if f.note}, **refused}:
        caption = "Labels that were not looked at, or not of all images."
        listed = {"label": list(notes), "why": list(notes.values())}
        made.append(Table("factors_left_out", caption, listed))
    return made


def _claim_table(made: Claims) -> Table:
    rows = []
    for way, by_source in made.items():
        for source, each in by_source.items():
            gap = None
            if source != RANDOM and each.moving and by_source[RANDOM].moving:
                gap = each.purer(by_source[RANDOM])
            rows.append(
                {
                    "way": way, "moved": source, "directions": each.total + each.strange,
                    "not judged": each.strange, "n": each.n,
                    "factors": each.factors, "move any": each.moving, "exactly one": each.singles,
                    "exactly one, share": each.single.value, "low": each.single.low,
                    "high": each.single.high, "purity": each.purity.value,
                    "purity, low": each.purity.low, "purity, high": each.purity.high,
                    "purer than random": gap and gap.value, "purer, low": gap and gap.low,
                    "purer, high": gap and gap.high, "purity of totals": each.purity_total,
                    "any size: move any": int((each.any_size > 0).sum()),
                    "any size: exactly one": int((each.any_size == 1).sum()),
                }
            )  # fmt: skip
    caption = (
        "How many directions move exactly one factor, of those that move any; purity is the "
        "largest factor's part of what a direction does, averaged over those that move any. 95 % "
        "intervals of the images."
    )
    return Table.of_rows("claim", caption, rows)


def _elements_table(found: Measured, made: Claims, least: float) -> Table:
    rows = []
    for way, by_source in found.shares.items():
        shares, own = by_source[ELEMENTS], made[way][ELEMENTS]
        moves = shares.moves(least)
        for e, name in enumerate(shares.names):
            largest = int(shares.value[e].argmax())
            share = shares.interval(e, largest)
            rows.append(
                {
                    "way": way, "element": name, "factors": int(own.counts[e]),
                    "purity": float(own.purity_of[e]), "largest": shares.factors[largest],
                    "share": share.value, "low": share.low, "high": share.high,
                    "strange images": None if shares.strange is None else float(shares.strange[e]),
                    "all it moves": ", ".join(
                        shares.factors[f]
                        for f in np.argsort(-shares.value[e], kind="stable")
                        if moves[e, f]
                    ),
                }
            )  # fmt: skip
    caption = (
        "Each element (index:channel): how many factors it moves, and the largest. Strange images "
        "are farther from real ones than 95 % of these are from each other; with more than half of "
        "them, an element is not judged by traversal."
    )
    return Table.of_rows("elements", caption, rows)


def _factors_table(found: Measured, least: float) -> Table:
    rows = []
    for way, by_source in found.shares.items():
        shares = by_source[ELEMENTS]
        moves = shares.moves(least)
        alike = carriers(np.where(moves, shares.value, 0))
        known = _known(shares)
        for f, name in enumerate(shares.factors):
            e = int(known[:, f].argmax())
            best = shares.interval(e, f)
            random = by_source[RANDOM]
            rows.append(
                {
                    "way": way, "factor": name, "elements that move it": int(moves[:, f].sum()),
                    "most": shares.names[e], "share": best.value, "low": best.low,
                    "high": best.high, "sum of shares": float(known[:, f].sum()),
                    "as many alike": float(alike[f]),
                    "largest of random": float(random.value[:, f].max()),
                }
            )  # fmt: skip
    caption = (
        "Each factor: how many elements move it, the one that does most, and of how many equal "
        "elements these shares could be. A sum of 1 is all of the factor's variance, made by "
        "single elements, each by itself; more can't be, and the reader errs."
    )
    return Table.of_rows("factors", caption, rows)


def _pairs_table(found: Measured, least: float) -> Table:
    rows = []
    for way, by_source in found.shares.items():
        shares = by_source[ELEMENTS]
        moves = shares.moves(least)
        for e, name in enumerate(shares.names):
            for f, factor in enumerate(shares.factors):
                each = shares.interval(e, f)
                rows.append(
                    {
                        "way": way, "element": name, "factor": factor, "share": each.value,
                        "low": each.low, "high": each.high, "p": float(shares.p[e, f]),
                        "q": float(shares.q[e, f]),
                        "total": None if shares.total is None else float(shares.total[e, f]),
                        "moved": bool(moves[e, f]),
                    }
                )  # fmt: skip
    caption = (
        "Each element's share in each factor's variance, with the 95 % interval of the images; q "
        "is p adjusted over all pairs of a way; total adds what differs from image to image."
    )
    return Table.of_rows("element_factors", caption, rows)


def metrics(found: Measured, least: float) -> dict[str, float]:
    """Return counts and purity by key; controls under a name of their own."""
    values: dict[str, float] = {}
    for way, by_source in claims(found, least).items():
        for source, each in by_source.items():
            start = f"{ELEMENT_FACTORS}/{way}"
            if source != ELEMENTS:
                start = f"{ELEMENT_FACTORS_CONTROL}/{source}/{way}"
            numbers: dict[str, float | Estimate] = {
                "moving": float(each.moving), "single": each.single, "purity": each.purity
            }  # fmt: skip
            for name, value in numbers.items():
                plain = value.value if isinstance(value, Estimate) else value
                if np.isfinite(plain):
                    values[metric_key(f"{start}/{name}")] = plain
    return values
