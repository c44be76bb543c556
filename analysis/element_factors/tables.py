"""Tables of the element factors."""

from __future__ import annotations

import numpy as np

from gdm_repr.analysis.element_factors.claims import Claims, known
from gdm_repr.analysis.element_factors.measure import ElementFactors
from gdm_repr.analysis.element_factors.options import ELEMENTS, RANDOM
from gdm_repr.analysis.element_factors.shares import carriers
from gdm_repr.analysis.intervals.estimate import with_ends
from gdm_repr.analysis.report.page import Table


def tables(found: ElementFactors, claims: Claims) -> list[Table]:
    """Return the counts, the elements, where factors are, all pairs, and what was read."""
    made: list[Table] = []
    if found.shares:
        made += [
            _claim_table(claims),
            _elements_table(found, claims),
            _factors_table(found),
            _pairs_table(found),
        ]
    if found.reader:
        rows = [
            {
                "factor": name, **with_ends("R^2", each),
                **with_ends("R^2 of decoded", found.decoded[name], "decoded, {}"),
                "readable": name in found.readable,
            }
            for name, each in found.reader.items()
        ]  # fmt: skip
        caption = (
            f"How well factors are read off images, n = {found.fitted}, each left out in turn; and "
            "off the anchors as the model decodes them."
        )
        made.append(Table.of_rows("reader", caption, rows))
    if notes := {**{f.name: f.note for f in found.factors if f.note}, **found.refused}:
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
                    **with_ends("exactly one, share", each.single),
                    **with_ends("purity", each.purity, "purity, {}"),
                    **with_ends("purer than random", gap, "purer, {}"),
                    "purity of totals": each.purity_total,
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


def _elements_table(found: ElementFactors, made: Claims) -> Table:
    rows = []
    for way, by_source in found.shares.items():
        shares, own = by_source[ELEMENTS], made[way][ELEMENTS]
        moves = shares.moves(found.config.least)
        for e, name in enumerate(shares.names):
            largest = int(shares.value[e].argmax())
            rows.append(
                {
                    "way": way, "element": name, "factors": int(own.counts[e]),
                    "purity": float(own.purity_of[e]), "largest": shares.factors[largest],
                    **with_ends("share", shares.interval(e, largest)),
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


def _factors_table(found: ElementFactors) -> Table:
    rows = []
    for way, by_source in found.shares.items():
        shares = by_source[ELEMENTS]
        moves = shares.moves(found.config.least)
        alike = carriers(np.where(moves, shares.value, 0))
        shown = known(shares)
        for f, name in enumerate(shares.factors):
            e = int(shown[:, f].argmax())
            random = by_source[RANDOM]
            rows.append(
                {
                    "way": way, "factor": name, "elements that move it": int(moves[:, f].sum()),
                    "most": shares.names[e], **with_ends("share", shares.interval(e, f)),
                    "sum of shares": float(shown[:, f].sum()),
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


def _pairs_table(found: ElementFactors) -> Table:
    rows = []
    for way, by_source in found.shares.items():
        shares = by_source[ELEMENTS]
        moves = shares.moves(found.config.least)
        for e, name in enumerate(shares.names):
            for f, factor in enumerate(shares.factors):
                rows.append(
                    {
                        "way": way, "element": name, "factor": factor,
                        **with_ends("share", shares.interval(e, f)),
                        "p": float(shares.p[e, f]), "q": float(shares.q[e, f]),
                        "total": None if shares.total is None else float(shares.total[e, f]),
                        "moved": bool(moves[e, f]),
                    }
                )  # fmt: skip
    caption = (
        "Each element's share in each factor's variance, with the 95 % interval of the images, "
        "which lies above 0 where p is .05 or less: both are of one pair alone. q is p adjusted "
        "over all pairs of a way, by which 'moved' goes; total adds what differs from image to "
        "image."
    )
    return Table.of_rows("element_factors", caption, rows)
