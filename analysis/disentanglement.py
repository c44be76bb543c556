"""Disentanglement scores of latents, each with interval, null and code length.

What each score means, and its source, is in the module of its function; `SCORES` is the registry.
A score depends on the number of images n, on the number of latents d (the *code length*) and on what
unrelated latents would get, so none is told without these beside it.

>>> rng = np.random.default_rng(0)
>>> v = rng.integers(0, 5, (600, 2))
>>> factors = read_factors({"shape": v[:, 0], "hue": v[:, 1]})
>>> mig, jemmig = score("mig", v + 0.0, factors)
>>> print(f"{mig.value:.2f} [{mig.low:.2f}, {mig.high:.2f}], null {mig.null_mean:.2f}")
1.00 [0.99, 1.01], null 0.01
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gdm_repr.analysis.importance_scores import (
    dci_boosted,
    dci_forest,
    dci_linear,
    modularity_explicitness,
    sap,
)
from gdm_repr.analysis.information_scores import Values, mig
from gdm_repr.analysis.interventional_scores import beta_vae, factor_vae, irs
from gdm_repr.analysis.score_input import (
    MISSING,
    Factors,
    Floats,
    Ints,
    Settings,
    read_factors,
)
from gdm_repr.analysis.unsupervised_scores import (
    gaussian_tc,
    mutual_information_score,
    udr,
    wasserstein,
)

__all__ = ["SCORES", "Method", "Score", "Settings", "read_factors", "score", "scores", "udr_scores"]

Compute = Callable[[Floats, Factors, Settings, np.random.Generator], Values]


@dataclass(frozen=True)
class Method:
    """A way to score latents.

    Attributes:
        compute: values by name, from latents (n, d), factors, settings and a generator.
        permutations: draws of the null unless said: few where a value takes seconds.
        resamples: half-samples of the interval unless said.
        factors: fewest factors accepted; 0: none are used.
        latents: fewest latents accepted.
        tested: whether a part of the images is kept to test on, so that more are used in all.
        best: "high" or "low" values are what disentangled latents have.
    """

    compute: Compute
    permutations: int
    resamples: int
    factors: int = 1
    latents: int = 1
    tested: bool = True
    best: str = "high"


SCORES: dict[str, Method] = {
    "dci_linear": Method(dci_linear, 99, 50),
    "dci_boosted": Method(dci_boosted, 9, 10),
    "dci_forest": Method(dci_forest, 19, 20),
    "mig": Method(mig, 99, 50, latents=2, tested=False),
    "sap": Method(sap, 19, 20, latents=2),
    "modularity_explicitness": Method(modularity_explicitness, 19, 20),
    "factor_vae": Method(factor_vae, 19, 20, factors=2),
    "beta_vae": Method(beta_vae, 19, 20, factors=2),
    "irs": Method(irs, 99, 50, tested=False),
    "gaussian_tc": Method(gaussian_tc, 99, 50, 0, 2, tested=False, best="low"),
    "wasserstein": Method(wasserstein, 99, 50, 0, 2, tested=False, best="low"),
    "mutual_information": Method(mutual_information_score, 19, 20, 0, 2, tested=False, best="low"),
}
"""The scores by name."""


@dataclass(frozen=True)
class Score:
    """A score, beside what unrelated latents would get.

    Attributes:
        name: of the score; a method may give several.
        value: the score on all n images.
        low: lower end of the 95 % interval for another n images.
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


def score(
    name: str,
    z: NDArray[Any],
    factors: Factors | None = None,
    *,
    settings: Settings | None = None,
    permutations: int | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> tuple[Score, ...]:
    """Score latents by one method.

    Interval: the method runs on random halves of the images, drawn without replacement, whose
    variance is that of another n images; a bootstrap's repeated images would be in both of what is
    fitted on and tested on. It is Student's t, about the value, for the score's mean at this n.

    Null: the images' factors are permuted, all of an image together; without factors, each latent
    on its own. At least 19 permutations are needed for p = .05.

    Args:
        name: a name in SCORES.
        z: latents, shape (n, d); of more than `settings` use, that many are chosen by the seed.
        factors: of the same n images; None for methods without.
        settings: None for those that published figures use.
        permutations: draws of the null; None for the method's own.
        resamples: half-samples, at least 5; None for the method's own.
        seed: of the choice of images, permutations, halves and the method's own draws.

    Returns:
        One score, or several from the same fit.

    Raises:
        ValueError: for an unknown name, latents or factors that don't fit, too few latents.
    """
    if name not in SCORES:
        raise ValueError(f"name: {name!r} is unknown; use one of {', '.join(SCORES)}")
    method, settings = SCORES[name], settings or Settings()
    x = _latents(z)
    n, d = x.shape
    if d < method.latents:
        raise ValueError(f"z: {d} latents; {name!r} needs at least {method.latents}")
    own = factors if method.factors and factors is not None else _no_factors(n)
    if len(own.names) < method.factors:
        raise ValueError(
            f"factors: {len(own.names)} given; {name!r} needs at least {method.factors}"
        )
    if len(own) != n:
        raise ValueError(f"factors: of {len(own)} images, but z of {n}; give the same images")
    most = settings.train + (settings.test if method.tested else 0)
    if n > most:
        chosen = np.sort(_rng(seed, 0).choice(n, most, replace=False))
        x, own, n = x[chosen], own.take(chosen), most

    def evaluate(rows: Ints, rng: np.random.Generator) -> Values:
        return method.compute(x[rows], own.take(rows), settings, rng)

    def null(rng: np.random.Generator) -> Values:
        if method.factors:
            return method.compute(x, own.take(rng.permutation(n)), settings, rng)
        return method.compute(rng.permuted(x, axis=0), own, settings, rng)

    return _estimate(
        evaluate,
        null,
        n=n,
        code_length=d,
        factors=own.names,
        complete=float((own.codes != MISSING).all(1).mean()),
        best=method.best,
        permutations=method.permutations if permutations is None else permutations,
        resamples=method.resamples if resamples is None else resamples,
        settings=settings,
        seed=seed,
    )


def scores(
    z: NDArray[Any],
    factors: Factors | None = None,
    names: Sequence[str] | None = None,
    **options: Any,
) -> tuple[Score, ...]:
    """Score latents by several methods; options are those of `score`.

    names: None for all that fit, but boosted trees, which take minutes.
    """
    count = 0 if factors is None else len(factors.names)
    d = _latents(z).shape[1]
    if names is None:
        names = [
            name
            for name, method in SCORES.items()
            if name != "dci_boosted" and method.factors <= count and method.latents <= d
        ]
    return tuple(found for name in names for found in score(name, z, factors, **options))


def udr_scores(
    models: Mapping[str, NDArray[Any]],
    *,
    similarity: str = "lasso",
    active: Sequence[NDArray[np.bool_]] | None = None,
    images: int = 1000,
    permutations: int = 19,
    resamples: int = 20,
    seed: int = 0,
) -> tuple[Score, ...]:
    """Score models by how well those of other seeds agree with them (see `udr`).

    Args:
        models: latents (n, d) of the same images by the model's name, two or more.
        similarity: "lasso" or "spearman".
        active: latents of each model to look at; None: all.
        images: how many to use, at most; published figures use 1,000.
        permutations: draws of the null: each model's images permuted on their own.
        resamples: half-samples of the interval.
        seed: of the choice of images, permutations and halves.

    Returns:
        A score named ``udr_<similarity> <model>`` for each, then their mean.

    Raises:
        ValueError: for less than two models, or models of other images.
    """
    x = [_latents(z) for z in models.values()]
    if len(x) < 2 or len({len(z) for z in x}) != 1:
        raise ValueError(
            f"models: shapes {[z.shape for z in x]} must be two or more of the same images"
        )
    n = min(images, len(x[0]))
    rows = np.sort(_rng(seed, 0).choice(len(x[0]), n, replace=False))
    x = [z[rows] for z in x]

    def values(zs: list[Floats]) -> Values:
        found = udr(zs, similarity=similarity, active=active)
        names = [f"udr_{similarity} {name}" for name in models]
        each = dict(zip(names, found.tolist(), strict=True))
        return {**each, f"udr_{similarity}": float(found.mean())}

    return _estimate(
        lambda rows, rng: values([z[rows] for z in x]),
        lambda rng: values([z[rng.permutation(len(z))] for z in x]),
        n=n,
        code_length=x[0].shape[1],
        factors=(),
        complete=1.0,
        best="high",
        permutations=permutations,
        resamples=resamples,
        settings=Settings(),
        seed=seed,
    )


def _estimate(
    evaluate: Callable[[Ints, np.random.Generator], Values],
    null: Callable[[np.random.Generator], Values],
    *,
    n: int,
    permutations: int,
    resamples: int,
    seed: int,
    **facts: Any,
) -> tuple[Score, ...]:
    """Add interval and null to values computed from chosen rows, and from permuted ones."""
    for name, given, least in (("permutations", permutations, 1), ("resamples", resamples, 5)):
        if given < least:
            raise ValueError(f"{name}: {given} is too few; use at least {least}")
    value = evaluate(np.arange(n), _rng(seed, 1))
    halves, nulls = [], []
    for index in range(resamples):
        rng = _rng(seed, 2, index)
        halves.append(evaluate(rng.permutation(n)[: n // 2], rng))
    for index in range(permutations):
        nulls.append(null(_rng(seed, 3, index)))
    wide = float(stats.t.ppf(0.975, resamples - 1))
    found = []
    for name, middle in value.items():
        half = np.array([values[name] for values in halves])
        drawn = np.array([values[name] for values in nulls])
        finite = math.isfinite(middle) and bool(np.isfinite(half).all())
        error = wide * float(half.std(ddof=1)) if finite else 0.0
        found.append(
            Score(
                name=name,
                value=middle,
                low=middle - error,
                high=middle + error,
                drift=middle - float(half.mean()) if finite else 0.0,
                null_mean=float(drawn.mean()),
                null_high=float(np.quantile(drawn, 0.95, method="higher")),
                p=float(1 + (drawn >= middle).sum()) / (1 + permutations),
                n=n,
                permutations=permutations,
                resamples=resamples,
                **facts,
            )
        )
    return tuple(found)


def _latents(z: NDArray[Any]) -> Floats:
    x = np.asarray(z, dtype=np.float64)
    if x.ndim != 2 or len(x) < 50:
        raise ValueError(f"z: shape {x.shape} must be (images, latents), with 50 images or more")
    if not np.isfinite(x).all():
        raise ValueError(f"z: {(~np.isfinite(x)).sum()} values are not finite; drop those images")
    return x


def _no_factors(n: int) -> Factors:
    return Factors((), (), np.empty((n, 0), np.int64), np.empty((n, 0)))


def _rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
