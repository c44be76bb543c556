"""How much of a factor a direction makes by itself, and how many factors it makes: the claim.

Latents are independent and N(0, 1), so that the variance of a factor f falls apart into what each
latent makes alone and what several make together (Sobol 1993). The *share* of direction e in f is

    S_ef = Var(E[f | z_e]) / Var(f),

f being one number, cosine and sine of an angle, or one indicator a class, whose variances are added
up: the same unit for all kinds of factors. Shares of all latents of a factor sum to 1 at most.
:mod:`gdm_repr.analysis.element_factors.probes` estimates it from latents and labels of images,
:mod:`gdm_repr.analysis.element_factors.moves` by moving latents and reading the factors off the
images.

    moves    e moves f: S_ef differs from 0 (Benjamini and Hochberg 1995, over all pairs) and is
             ``least`` or more. With images enough, everything differs from 0.
    single   e moves exactly one factor.
    purity   max_f S_ef / sum_f S_ef: 1 is one factor alone, 1 / F all F factors alike. Estimates
             below 0 count in the sum as they are: cut off, noise would add to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gdm_repr.analysis.intervals.estimate import NOTHING, Estimate, Floats, agreeing
from gdm_repr.boundary.isolation import isolated

LEVEL = 0.05  # false-discovery rate
MOST_STRANGE = 0.5  # of a direction's images, for its readings to be believed


@dataclass(frozen=True, eq=False)
class Shares:
    """Shares of E directions in F factors.

    Attributes:
        names: of the directions.
        factors: their names.
        value: S, (E, F); estimates may be below 0.
        draws: the same of R resamples of the images, (R, E, F).
        p: of no share, (E, F).
        n: images, of the factor with most.
        total: what e makes alone and with others, as far as it was measured, (E, F).
        strange: share of the images of e, moved, that are unlike real ones, (E,).
        permutations: draws of the null that p is from.
    """

    names: tuple[str, ...]
    factors: tuple[str, ...]
    value: Floats
    draws: Floats
    p: Floats
    n: int
    total: Floats | None = None
    strange: Floats | None = None
    permutations: int = 9999

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Which directions' images are like real ones, half of them at least, (E,)."""
        if self.strange is None:
            return np.ones(len(self.names), np.bool_)
        return self.strange <= MOST_STRANGE

    @cached_property
    def q(self) -> Floats:
        """P adjusted over all pairs of directions that are judged, otherwise 1, (E, F)."""
        adjusted = np.ones_like(self.p)
        if self.judged.any():
            own = self.p[self.judged]
            adjusted[self.judged] = stats.false_discovery_control(own.ravel()).reshape(own.shape)
        return adjusted

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which shares differ from 0, of any size, (E, F)."""
        return (self.q <= LEVEL) & (self.value > 0)

    def moves(self, least: float) -> NDArray[np.bool_]:
        """Return which directions move which factors, (E, F)."""
        return self.found & (self.value >= least)

    def interval(self, e: int, f: int) -> Estimate:
        """Return a share with the interval of its images, above 0 exactly where p is .05 or less.

        Both are of this pair alone; q and what counts as moved are adjusted over all pairs.
        """
        found = _estimate(float(self.value[e, f]), self.draws[:, e, f])
        return agreeing(found, float(self.p[e, f]), self.permutations)

    def only(self, factors: Sequence[str]) -> Shares:
        """Return the shares in some of the factors."""
        at = [self.factors.index(name) for name in factors]
        return Shares(
            self.names,
            tuple(factors),
            self.value[:, at],
            self.draws[..., at],
            self.p[:, at],
            self.n,
            None if self.total is None else self.total[:, at],
            self.strange,
            self.permutations,
        )


@dataclass(frozen=True, eq=False)
class Claim:
    """How many directions move a single factor.

    Attributes:
        total: directions that are judged.
        strange: directions that are not, since most images that they make are unlike real ones.
        factors: F.
        n: images.
        counts: how many factors each moves, (E,); none where not judged.
        any_size: the same, however small the shares.
        purity_of: purity of each that moves a factor, NaN for others, (E,).
        single: share of those moving a factor that move exactly one; NaN where none moves any.
        purity: mean purity of those that move a factor.
        purity_total: the same of what each makes alone and with others.
        draws: mean purity of resampled images, (R,), NaN where none moves any.
    """

    total: int
    strange: int
    factors: int
    n: int
    counts: NDArray[np.int64]
    any_size: NDArray[np.int64]
    purity_of: Floats
    single: Estimate
    purity: Estimate
    purity_total: float
    draws: Floats

    @property
    def moving(self) -> int:
        """Directions that move a factor."""
        return int((self.counts > 0).sum())

    @property
    def singles(self) -> int:
        """Directions that move exactly one."""
        return int((self.counts == 1).sum())

    def purer(self, other: Claim) -> Estimate:
        """Return how much purer these are than others, measured on the same images."""
        return _centred(self.purity.value - other.purity.value, self.draws - other.draws)


@isolated
def both(first: Shares, second: Shares) -> Shares:
    """Return what two ways of measuring agree on: the smaller share, and the larger p.

    Both differ from 0 only if each does (Berger's intersection-union test, 1982).

    Args:
        first: by one way.
        second: by the other, of the same directions; its factors are looked at.
    """
    own = first.only(second.factors)
    return Shares(
        own.names,
        own.factors,
        np.minimum(own.value, second.value),
        np.minimum(own.draws, second.draws),
        np.maximum(own.p, second.p),
        min(own.n, second.n),
        strange=second.strange,
        permutations=min(own.permutations, second.permutations),
    )


@isolated
def claim(shares: Shares, least: float, *, sampled: bool = False) -> Claim:
    """Count factors, with intervals over images: which pairs differ from 0 is held fixed.

    Args:
        shares: of the directions.
        least: share in a factor below which it does not count as moved.
        sampled: whether directions are a sample of more, and resampled, too.
    """
    moves = shares.moves(least)
    counts = moves.sum(1)
    active = counts > 0
    judged = int(shares.judged.sum())
    pure = np.where(active, purity(shares.value), math.nan)
    again = (shares.found & (shares.draws >= least)).sum(2)  # (R, E)
    weight = np.ones(again.shape)
    if sampled:
        rng = np.random.default_rng(len(again))
        drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), len(again))
        weight = drawn.astype(np.float64)
    moving, singles = (weight * (again > 0)).sum(1), (weight * (again == 1)).sum(1)
    share = np.divide(singles, moving, out=np.full(len(again), math.nan), where=moving > 0)
    if not active.any():
        none = np.full(len(again), math.nan)
        return Claim(
            judged, len(counts) - judged, len(shares.factors), shares.n, counts,
            shares.found.sum(1), pure, NOTHING, NOTHING, math.nan, none,
        )  # fmt: skip
    own = weight[:, active]
    mean = np.divide(
        (own * purity(shares.draws)[:, active]).sum(1),
        own.sum(1),
        out=np.full(len(own), math.nan),
        where=own.sum(1) > 0,
    )
    whole = math.nan
    if shares.total is not None:
        whole = float(purity(shares.total)[active].mean())
    return Claim(
        total=judged,
        strange=len(counts) - judged,
        factors=len(shares.factors),
        n=shares.n,
        counts=counts,
        any_size=shares.found.sum(1),
        purity_of=pure,
        single=_centred(float((counts == 1).sum() / active.sum()), share, (0, 1)),
        purity=_centred(float(pure[active].mean()), mean, (0, 1)),
        purity_total=whole,
        draws=mean,
    )


@isolated
def purity(share: Floats) -> Floats:
    """Return the largest factor's part of shares (.., E, F), in [1 / F, 1]; 1 / F without any.

    >>> purity(np.array([[0.3, 0.0, -0.01], [0.1, 0.1, 0.2], [0.0, 0.0, 0.0]])).round(2).tolist()
    [1.0, 0.5, 0.33]
    """
    most = share.max(-1)
    whole = np.maximum(share.sum(-1), most)
    least = 1 / share.shape[-1]
    found: Floats = np.divide(most, whole, out=np.full(whole.shape, least), where=most > 0)
    return found


@isolated
def carriers(share: Floats) -> Floats:
    """Return how many equal directions shares (E, F) would be of, (F,): 1 / sum of squared parts.

    >>> carriers(np.array([[0.2, 0.1], [0.0, 0.1]])).tolist()
    [1.0, 2.0]
    """
    positive = np.maximum(share, 0)
    squares = (positive**2).sum(0)
    found: Floats = np.divide(
        positive.sum(0) ** 2, squares, out=np.full(len(squares), math.nan), where=squares > 0
    )
    return found


def _estimate(value: float, draws: Floats) -> Estimate:
    known = draws[np.isfinite(draws)]
    if not len(known) or not math.isfinite(value):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _centred(
    value: float, draws: Floats, limits: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """Return a value with the spread of its resamples about their mean.

    Resamples hold their own noise besides that of the images: they are less pure throughout.
    """
    if not np.isfinite(draws).any():
        return Estimate(value, math.nan, math.nan)
    found = _estimate(value, value + draws - np.nanmean(draws))
    low, high = np.clip([found.low, found.high], *limits).tolist()
    return Estimate(value, low, high)
