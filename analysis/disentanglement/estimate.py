"""A score with its interval, from half-samples, and its null, from permutations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gdm_repr.analysis.disentanglement.information import Values
from gdm_repr.analysis.disentanglement.input import Ints, Settings
from gdm_repr.analysis.intervals.estimate import Estimate, agreeing, p_value
from gdm_repr.boundary.isolation import isolated
from gdm_repr.progress import tick


@dataclass(frozen=True)
class LatentScore:
    """A score, beside what unrelated latents would get.

    Attributes:
        name: of the score; a method may give several.
        value: the score on all n images.
        low: lower end of the 95 % interval for another n images; above null_mean exactly where p is
            .05 or less, if the permutations are enough for that (19).
        high: upper end.
        drift: value less its mean over n/2 images. Far from 0: it depends on n, compare at equal n.
        null_mean: mean score with images' factors (or, without factors, each latent) permuted.
        null_high: what 95 % of those stay below; with fewer than 20 draws the largest.
        p: of the null, (1 + #{null >= value}) / (1 + permutations).
        n: images used.
        code_length: d, number of latents.
        factors: names of the factors.
        complete: share of images that have every factor.
        best: "high" or "low" values are what disentangled latents have.
        permutations: draws of the null.
        resamples: half-samples that the interval is from.
        settings: of the score.
    """

    name: str
    value: float
    low: float
    high: float
    drift: float
    null_mean: float
    null_high: float
    p: float
    n: int
    code_length: int
    factors: tuple[str, ...]
    complete: float
    best: str
    permutations: int
    resamples: int
    settings: Settings

    @property
    def estimate(self) -> Estimate:
        """Value and interval."""
        return Estimate(self.value, self.low, self.high)


@isolated
def estimate(
    evaluate: Callable[[Ints, np.random.Generator], Values],
    null: Callable[[np.random.Generator], Values],
    *,
    n: int,
    permutations: int,
    resamples: int,
    seed: int,
    code_length: int,
    factors: tuple[str, ...],
    complete: float,
    best: str,
    settings: Settings,
) -> tuple[LatentScore, ...]:
    """Add interval and null to values.

    Args:
        evaluate: values by name, from rows and a generator.
        null: values where nothing is related, from a generator.
        n: see :class:`LatentScore`, as for what follows but the seed.
        permutations: see there.
        resamples: see there.
        seed: of the generators.
        code_length: see there.
        factors: see there.
        complete: see there.
        best: see there.
        settings: see there.

    Raises:
        ValueError: for too few permutations or resamples.
    """
    for name, given, least in (("permutations", permutations, 1), ("resamples", resamples, 5)):
        if given < least:
            raise ValueError(f"{name}: {given} is too few; use at least {least}")
    value = evaluate(np.arange(n), score_rng(seed, 1))
    halves, nulls = [], []
    for index in range(resamples):
        rng = score_rng(seed, 2, index)
        halves.append(evaluate(rng.permutation(n)[: n // 2], rng))
        tick()
    for index in range(permutations):
        nulls.append(null(score_rng(seed, 3, index)))
        tick()
    wide = float(stats.t.ppf(0.975, resamples - 1))
    found = []
    for name, middle in value.items():
        half = np.array([values[name] for values in halves])
        drawn = np.array([values[name] for values in nulls])
        finite = math.isfinite(middle) and bool(np.isfinite(half).all())
        error = wide * float(half.std(ddof=1)) if finite else 0.0
        p = p_value(middle, drawn)
        around = Estimate(middle, middle - error, middle + error)
        agreed = agreeing(around, p, permutations, float(drawn.mean()))
        found.append(
            LatentScore(
                name=name,
                value=middle,
                low=agreed.low,
                high=agreed.high,
                drift=middle - float(half.mean()) if finite else 0.0,
                null_mean=float(drawn.mean()),
                null_high=float(np.quantile(drawn, 0.95, method="higher")),
                p=p,
                n=n,
                code_length=code_length,
                factors=factors,
                complete=complete,
                best=best,
                permutations=permutations,
                resamples=resamples,
                settings=settings,
            )
        )
    return tuple(found)


def score_rng(*seed: int) -> np.random.Generator:
    """Return the generator of a seed, what it is for, and which draw."""
    return np.random.default_rng(seed)
