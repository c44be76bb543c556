"""What is claimed of elements, by both ways of measuring."""

from __future__ import annotations

import numpy as np

from gdm_repr.analysis.element_factors.measure import ElementFactors
from gdm_repr.analysis.element_factors.options import RANDOM, WAYS
from gdm_repr.analysis.element_factors.shares import Claim, Shares, both, claim
from gdm_repr.analysis.intervals.estimate import Floats

BOTH = "both"  # what probe and traversal agree on
Claims = dict[str, dict[str, Claim]]


def claims(found: ElementFactors) -> Claims:
    """Return how many factors directions move, by way, then by what was moved."""
    least = found.config.least
    made = {
        way: {
            source: claim(shares, least, sampled=source == RANDOM)
            for source, shares in by_source.items()
        }
        for way, by_source in found.shares.items()
    }
    probed, moved = (found.shares.get(way) for way in WAYS)
    if probed and moved:
        made[BOTH] = {
            source: claim(both(probed[source], moved[source]), least, sampled=source == RANDOM)
            for source in moved
        }
    return made


def known(shares: Shares) -> Floats:
    """Return shares (E, F), 0 where a direction is not judged."""
    known: Floats = np.where(shares.judged[:, None], shares.value, 0)
    return known
