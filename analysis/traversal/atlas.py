"""The atlas of a band: its elements ranked by effect, against random directions of the band.

Every number is a mean over n anchors with a 95 % t interval over them. S_e is the mean effect of
element e, S_r that of random direction r.

**An element's p** is of the hypothesis that it changes images no more than the average random
direction does: Wilcoxon's signed ranks of the anchors' effect_a(e) - mean_r effect_a(r), one-sided,
exact for up to 50 anchors. **q** is p adjusted over all elements (Benjamini, Hochberg 1995).

Any one direction differs from the average of all, also a random one. So q alone does not make
elements special. Each random direction takes the same test against the others, and how many pass
stands beside how many elements do; and the spread of log S_e over elements is compared with that of
log S_r over random directions, by permutation of which is which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.analysis.traversal.paths import FEATURE_MEASURES, IMAGE_MEASURES, Measures
from gdm_repr.boundary.isolation import isolated

LEVEL = 0.05  # false-discovery rate
KINDS = (*FEATURE_MEASURES, *IMAGE_MEASURES)
LIMITS: dict[str, tuple[float, float]] = {
    "straightness": (0, 1),
    "monotonicity": (-1, 1),
    "alike": (-1, 1),
    "own": (0, 1),
    "row": (0, 1),
    "column": (0, 1),
    "area": (0, 1),
}
_PERMUTATIONS = 9999


@dataclass(frozen=True)
class Entry:
    """One element, or one random direction.

    Attributes:
        name: of it.
        numbers: by measure, of :data:`FEATURE_MEASURES` and :data:`IMAGE_MEASURES`.
        shares: of the squared change, by data group.
        moved: drift of each data group.
        raw: the same of the images' own coefficients; empty for random directions.
        gain: effect less the raw one, paired by anchor; None for random directions.
        p: of no more effect than the average random direction.
        q: p adjusted for all entries of its kind.
        above: share of random directions of less effect (of the others, for one of them).
    """

    name: str
    numbers: Mapping[str, Estimate]
    shares: tuple[Estimate, ...]
    moved: tuple[Estimate, ...]
    raw: Mapping[str, Estimate]
    gain: Estimate | None
    p: float
    q: float
    above: float

    @property
    def effect(self) -> Estimate:
        """Return what entries are ranked by."""
        return self.numbers["effect"]


@dataclass(frozen=True, eq=False)
class Atlas:
    """Elements in the order of their effect, the largest first.

    Attributes:
        feature: by which effects are measured.
        entries: the elements.
        maps: |dx/dv| of each, (E, h, w).
        random: the random directions, in the order drawn.
        average: means over all random directions, by measure.
        spread: standard deviation of log S_e over that of log S_r; NaN for fewer than 3 of either.
        spread_p: of a ratio as far from 1 where elements are no other than random directions.
        n: number of anchors.
    """

    feature: str
    entries: tuple[Entry, ...]
    maps: Floats
    random: tuple[Entry, ...]
    average: Mapping[str, Estimate]
    spread: float
    spread_p: float
    n: int

    @property
    def passing(self) -> int:
        """Return how many elements do more than the average random direction, at LEVEL."""
        return sum(entry.q <= LEVEL for entry in self.entries)

    @property
    def passing_random(self) -> int:
        """Return how many random directions pass the same test."""
        return sum(entry.q <= LEVEL for entry in self.random)


@isolated
def mean_over_anchors(values: Floats, limits: tuple[float, float] = (0, np.inf)) -> Estimate:
    """Return the mean of n values with its 95 % t interval, cut to limits; NaN gives NaN.

    >>> print(mean_over_anchors(np.array([1.0, 2.0, 3.0])))
    2 [0, 4.48]
    """
    mean, n = float(values.mean()), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    low, high = np.clip([mean - half, mean + half], *limits).tolist()
    return Estimate(mean, low, high)


@isolated
def build_atlas(
    feature: str,
    elements: Mapping[str, Measures],
    raw: Mapping[str, Measures],
    random: Mapping[str, Measures],
    *,
    seed: int = 0,
) -> Atlas:
    """Rank elements by their effect, and test them.

    Args:
        feature: by which effects are measured.
        elements: what each does, by name.
        raw: what the images' own coefficients of the same names do.
        random: what random directions do, two at least.
        seed: of the permutations.

    Raises:
        ValueError: if there are too few directions or anchors for a test.
    """
    if len(random) < 2:
        raise ValueError(f"directions={len(random)}: a null needs at least 2 random directions")
    key = f"effect/{feature}"
    effects = np.column_stack([m.numbers[key] for m in elements.values()])
    null = np.column_stack([m.numbers[key] for m in random.values()])
    n, R = null.shape
    if n < 2:
        raise ValueError(f"anchors={n}: an interval needs at least 2 anchors")
    average = null.mean(1, keepdims=True)
    p = _more(effects - average)
    p_random = _more(null - (R * average - null) / (R - 1))
    q, q_random = (stats.false_discovery_control(each) for each in (p, p_random))
    S_e, S_r = effects.mean(0), null.mean(0)
    order = np.argsort(-S_e, kind="stable")
    names = list(elements)
    entries = [
        _entry(feature, name, elements[name], (p[i], q[i], (S_r < S_e[i]).mean()), raw[name])
        for i, name in enumerate(names)
    ]
    spread, spread_p = _spread(S_e, S_r, seed)
    return Atlas(
        feature=feature,
        entries=tuple(entries[i] for i in order),
        maps=np.stack([elements[names[i]].map for i in order]),
        random=tuple(
            _entry(feature, name, each, (p_random[r], q_random[r], (S_r < S_r[r]).sum() / (R - 1)))
            for r, (name, each) in enumerate(random.items())
        ),
        average={
            kind: mean_over_anchors(
                np.mean([_values(each, kind, feature) for each in random.values()], axis=0),
                LIMITS.get(kind, (0, np.inf)),
            )
            for kind in KINDS
        },
        spread=spread,
        spread_p=spread_p,
        n=n,
    )


def _values(measures: Measures, kind: str, feature: str) -> Floats:
    return measures.numbers[f"{kind}/{feature}" if kind in FEATURE_MEASURES else kind]


def _entry(
    feature: str,
    name: str,
    measures: Measures,
    tested: tuple[float, float, float],
    raw: Measures | None = None,
) -> Entry:
    """Return an entry of what was measured and of its p, q and above."""

    def numbers(of: Measures) -> dict[str, Estimate]:
        return {
            kind: mean_over_anchors(_values(of, kind, feature), LIMITS.get(kind, (0, np.inf)))
            for kind in KINDS
        }

    gain = None
    if raw is not None:
        own, other = (_values(of, "effect", feature) for of in (measures, raw))
        gain = mean_over_anchors(own - other, (-np.inf, np.inf))
    return Entry(
        name,
        numbers(measures),
        tuple(mean_over_anchors(column, (0, 1)) for column in measures.shares.T),
        tuple(mean_over_anchors(column) for column in measures.moved.T),
        {} if raw is None else numbers(raw),
        gain,
        *map(float, tested),
    )


def _more(difference: Floats) -> Floats:
    """Return one-sided p-values of differences (n, K) above 0."""
    p = np.ones(difference.shape[1])
    for column, values in enumerate(difference.T):
        # Rounding is no difference, and Wilcoxon's test needs one.
        if np.abs(values).max() > 1e-9:
            p[column] = stats.wilcoxon(values, alternative="greater").pvalue
    return p


def _spread(S_e: Floats, S_r: Floats, seed: int) -> tuple[float, float]:
    """Return sd(log S_e) / sd(log S_r) and its two-sided permutation p."""
    if min(len(S_e), len(S_r)) < 3 or min(S_e.min(), S_r.min()) <= 0 or np.ptp(S_r) < 1e-9:
        return float("nan"), float("nan")

    def log_ratio(a: Floats, b: Floats, axis: int = -1) -> Floats:
        ratio: Floats = np.log(a.std(axis, ddof=1) / b.std(axis, ddof=1))
        return ratio

    test = stats.permutation_test(
        (np.log(S_e) - np.log(S_e).mean(), np.log(S_r) - np.log(S_r).mean()),
        log_ratio,
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        batch=1000,
        random_state=np.random.default_rng(seed),
    )
    return float(np.exp(test.statistic)), float(test.pvalue)
