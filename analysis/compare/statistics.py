"""Means over seeds, paired differences between choices, and what is better: plain numbers.

A choice c is compared with the reference r by its differences at the same seeds s,

    d_s = v_cs - v_rs,

whose mean has Student's 95 % interval (n - 1 degrees of freedom); what a seed does to all choices
alike cancels. The p values of one metric's choices are corrected by Holm (1979): if no choice
differs, any is told apart with probability 5 % at most, for each metric.

Interval and test are one: a difference has an interval and a p of its own, and a wider interval
that belongs to Holm's p, the t interval of the level at which Holm's procedure tests it. Each of
the two excludes 0 exactly where the p beside it is below .05. What is said goes by the wider one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gdm_repr.analysis.intervals.estimate import LEVEL, Estimate, number
from gdm_repr.boundary.isolation import isolated

_ROUNDING = 1e-12  # differences that vary by less, relative to the values, do not vary


@dataclass(frozen=True)
class Better:
    """Which values of a metric are better.

    Attributes:
        rule: for a reader, as in ``lower is better``.
        target: the best value; -inf for lower, inf for higher.
    """

    rule: str
    target: float

    def measure(self, value: float) -> float:
        """Return what is compared: the value, or its distance from the target.

        >>> HIGHER.measure(0.75), near(1).measure(0.75)
        (0.75, 0.25)
        """
        return value if math.isinf(self.target) else abs(value - self.target)

    def loss(self, measured: float) -> float:
        """Return a number that is the lower, the better what was measured is."""
        return -measured if self.target == math.inf else measured


LOWER = Better("lower is better", -math.inf)
HIGHER = Better("higher is better", math.inf)


def near(target: float) -> Better:
    """Return the rule of a metric whose best value is ``target``."""
    return Better(f"nearer to {number(target)} is better", target)


# The first row counts that has a word of the key: its parts between dots, slashes, underscores.
# Of a metric without one, nothing is said to be better.
DIRECTIONS: tuple[tuple[str, Better], ...] = (
    ("band_std", near(1)),
    ("band_kurtosis", near(3)),
    ("band_mean", near(0)),
    ("per_second", HIGHER),
    *((word, LOWER) for word in ("loss", "error", "err", "rmse", "mse", "mae", "nll", "bpd")),
    *((word, LOWER) for word in ("frechet", "fid", "kid", "sliced", "lpips", "ks")),
    *((word, LOWER) for word in ("seconds", "evaluations", "nfe")),
    *((word, HIGHER) for word in ("precision", "recall", "density", "coverage")),
    *((word, HIGHER) for word in ("accuracy", "acc", "auc", "f1", "psnr", "ssim")),
)
# What a choice costs, the preferred one first; the words are matched as above.
COSTS = ("evaluations_per_sample", "evaluations", "nfe", "seconds_per_sample", "seconds")


def has_word(key: str, words: str) -> bool:
    """Tell whether a key has a word, or several that follow each other.

    >>> has_word("sample_quality/kid/dct", "kid"), has_word("kidney", "kid")
    (True, False)
    """
    parts, wanted = _words(key), _words(words)
    return any(parts[at : at + len(wanted)] == wanted for at in range(len(parts)))


def _words(key: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", key.lower()) if word]


def better_of(key: str) -> Better | None:
    """Return which values of a metric are better; None where that is not known.

    >>> better_of("val_loss").rule, better_of("band_std/0_5").rule, better_of("epoch")
    ('lower is better', 'nearer to 1 is better', None)
    """
    return next((better for words, better in DIRECTIONS if has_word(key, words)), None)


def is_cost(key: str) -> bool:
    """Tell whether a metric is what a choice costs rather than what it is worth."""
    return any(has_word(key, words) for words in COSTS)


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds.

    Attributes:
        n: seeds.
        mean: with its 95 % t interval; its ends are NaN for n = 1.
        std: over seeds, NaN for n = 1.
    """

    n: int
    mean: Estimate
    std: float

    def __str__(self) -> str:
        """Return mean and interval; a dash where one seed gives none."""
        return str(self.mean) if self.n > 1 else f"{number(self.mean.value)} [-]"


@isolated
def seed_mean(values: Sequence[float]) -> SeedMean | None:
    """Return the mean of independent values with its t interval; None of no values.

    >>> print(seed_mean([1.0, 2.0, 3.0]))
    2 [-0.484, 4.48]
    """
    from scipy.special import stdtrit  # as scipy.stats.t has it, a hundred times as fast

    x = np.asarray(values, float)
    n = len(x)
    if n == 0:
        return None
    mean = float(x.mean())
    if n == 1:
        return SeedMean(1, Estimate(mean, math.nan, math.nan), math.nan)
    std = float(x.std(ddof=1))
    half = float(stdtrit(n - 1, 1 - LEVEL / 2)) * std / math.sqrt(n)
    return SeedMean(n, Estimate(mean, mean - half, mean + half), std)


@dataclass(frozen=True)
class Difference:
    """A choice against the reference, over the seeds that both have.

    Attributes:
        n: pairs.
        mean: of choice - reference with its 95 % t interval, of this choice alone; None without a
            pair.
        p: of the paired t test, two-sided; NaN for n = 1 or differences that do not vary.
        holm: p corrected for the choices compared.
        varies: whether the differences vary; a count such as evaluations may not.
        joint: the mean with the interval that belongs to ``holm``; None as ``mean``.
    """

    n: int
    mean: Estimate | None
    p: float
    holm: float
    varies: bool
    joint: Estimate | None = None

    @property
    def told_apart(self) -> bool:
        """Whether the test, corrected, tells the difference from 0."""
        return self.holm < LEVEL

    def verdict(self, better: Better | None) -> str:
        """Return what may be said of the choice, from differences of `Better.measure`."""
        if self.mean is None:
            return "no common seed"
        if not self.varies and self.mean.value == 0:
            return "equal"
        if self.n == 1:
            return "one pair: no test"
        if not self.varies:
            return "does not vary: no test"
        if not self.told_apart:
            return "not told apart"
        if better is None:
            return "differs"
        return "better" if better.loss(self.mean.value) < 0 else "worse"


@isolated
def paired(value: Mapping[str, float], reference: Mapping[str, float]) -> Difference:
    """Compare values by seed with the reference's; ``holm`` is p until `holm` corrects it.

    >>> found = paired({"0": 1.0, "1": 2.5, "2": 3.0}, {"1": 2.0, "2": 2.0, "3": 0.0})
    >>> found.n, found.mean.value
    (2, 0.75)
    """
    from scipy.special import stdtr

    seeds = [seed for seed in value if seed in reference]
    a, b = (np.array([of[seed] for seed in seeds], float) for of in (value, reference))
    found = seed_mean(list(a - b))
    if found is None:
        return Difference(0, None, math.nan, math.nan, False)
    if found.n == 1:
        return Difference(1, found.mean, math.nan, math.nan, bool(a[0] != b[0]), found.mean)
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    if found.std <= _ROUNDING * scale:
        same = 0.0 if abs(found.mean.value) <= _ROUNDING * scale else found.mean.value
        exact = Estimate(same, same, same)
        return Difference(found.n, exact, math.nan, math.nan, False, exact)
    statistic = abs(found.mean.value) / (found.std / math.sqrt(found.n))
    p = float(2 * stdtr(found.n - 1, -statistic))
    return Difference(found.n, found.mean, p, p, True, found.mean)


@isolated
def holm(found: Mapping[str, Difference]) -> dict[str, Difference]:
    """Correct the p values of one metric for the number of choices tested, and the intervals too.

    Of a p that becomes c p, the interval is that of the level .05 / c: it excludes 0 exactly where
    c p is below .05. c is at most the number of choices (Bonferroni), 1 where there is one.
    """
    tested = sorted((each.p, name) for name, each in found.items() if not math.isnan(each.p))
    corrected, least = dict(found), 0.0
    for place, (p, name) in enumerate(tested):
        left = len(tested) - place
        least = max(least, left * p)
        wider = _at_level(found[name], LEVEL / (least / p if p > 0 else left))
        corrected[name] = replace(found[name], holm=min(1.0, least), joint=wider)
    return corrected


def _at_level(found: Difference, level: float) -> Estimate | None:
    """Return a difference with the t interval that leaves out a share other than LEVEL."""
    from scipy.special import stdtrit

    mean = found.mean
    if mean is None or level == LEVEL:
        return mean
    ratio = float(stdtrit(found.n - 1, level / 2) / stdtrit(found.n - 1, LEVEL / 2))
    half = ratio * (mean.high - mean.low) / 2
    return Estimate(mean.value, mean.value - half, mean.value + half)


def pareto_front(losses: Sequence[tuple[float, ...]]) -> list[int]:
    """Return which points no other dominates: as low in every number, and lower in one.

    >>> pareto_front([(1, 3), (2, 2), (3, 3), (3, 1)])
    [0, 1, 3]
    """
    points = np.asarray(losses, float)
    return [
        place
        for place, own in enumerate(points)
        if not ((points <= own).all(1) & (points < own).any(1)).any()
    ]
