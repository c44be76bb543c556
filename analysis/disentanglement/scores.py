"""Disentanglement scores of latents, each with interval, null and code length.

What each score means, and its source, is in the module of its function; `SCORES` is the registry.
A score depends on the number of images n and of latents d (the *code length*), and on what
unrelated latents would get, so none is told without these beside it.

>>> rng = np.random.default_rng(0)
>>> v = rng.integers(0, 5, (600, 2))
>>> factors = read_factors({"shape": v[:, 0], "hue": v[:, 1]})
>>> mig, jemmig = score("mig", v + 0.0, factors)
>>> print(f"{mig.value:.2f} [{mig.low:.2f}, {mig.high:.2f}], null {mig.null_mean:.2f}")
0.99 [0.98, 1.00], null 0.00
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.disentanglement.estimate import LatentScore, estimate, score_rng
from gdm_repr.analysis.disentanglement.importance import (
    dci_boosted,
    dci_forest,
    dci_linear,
    modularity_explicitness,
    sap,
)
from gdm_repr.analysis.disentanglement.information import Values, mig
from gdm_repr.analysis.disentanglement.input import MISSING, Factors, Ints, Settings, read_factors
from gdm_repr.analysis.disentanglement.interventional import beta_vae, factor_vae, irs
from gdm_repr.analysis.disentanglement.unsupervised import (
    gaussian_tc,
    mutual_information_score,
    udr,
    wasserstein,
)
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.boundary import arguments
from gdm_repr.boundary.arguments import count, table
from gdm_repr.boundary.isolation import isolated

__all__ = ["SCORES", "Method", "Settings", "read_factors", "score", "scores", "udr_scores"]

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


@isolated
def score(
    name: str,
    z: NDArray[Any],
    factors: Factors | None = None,
    *,
    settings: Settings | None = None,
    permutations: int | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> tuple[LatentScore, ...]:
    """Score latents by one method.

    Interval: the method runs on random halves of the images, drawn without replacement, whose
    variance is that of another n images; a bootstrap's repeated images would be in both of what is
    fitted on and tested on. It is Student's t, about the value, for the score's mean at this n.
    Of 100 sets of 600 images it held that in 93 to 100 for most scores: a little wide where images
    are kept to test on. It is short where the extremes of a latent decide: 87 for irs, 88 for
    jemmig.

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
    method, settings, seed = SCORES[name], settings or Settings(), arguments.seed(seed)
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
        chosen = np.sort(score_rng(seed, 0).choice(n, most, replace=False))
        x, own, n = x[chosen], own.take(chosen), most

    def evaluate(rows: Ints, rng: np.random.Generator) -> Values:
        return method.compute(x[rows], own.take(rows), settings, rng)

    def null(rng: np.random.Generator) -> Values:
        if method.factors:
            return method.compute(x, own.take(rng.permutation(n)), settings, rng)
        return method.compute(rng.permuted(x, axis=0), own, settings, rng)

    return estimate(
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


@isolated
def scores(
    z: NDArray[Any],
    factors: Factors | None = None,
    names: Sequence[str] | None = None,
    *,
    settings: Settings | None = None,
    permutations: int | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> tuple[LatentScore, ...]:
    """Score latents by several methods.

    Args:
        z: see `score`, as for what follows `names`.
        factors: see there.
        names: in SCORES; None for all that these latents and factors suffice for, but boosted
            trees, which take minutes.
        settings: see `score`.
        permutations: see there.
        resamples: see there.
        seed: see there.

    Raises:
        ValueError: see `score`.
    """
    count = 0 if factors is None else len(factors.names)
    d = _latents(z).shape[1]
    if names is None:
        names = [
            name
            for name, method in SCORES.items()
            if name != "dci_boosted" and method.factors <= count and method.latents <= d
        ]
    return tuple(
        found
        for name in names
        for found in score(
            name, z, factors,
            settings=settings, permutations=permutations, resamples=resamples, seed=seed,
        )
    )  # fmt: skip


@isolated
def udr_scores(
    models: Mapping[str, NDArray[Any]],
    *,
    similarity: str = "lasso",
    active: Sequence[NDArray[np.bool_]] | None = None,
    images: int = 1000,
    permutations: int = 19,
    resamples: int = 20,
    seed: int = 0,
) -> tuple[LatentScore, ...]:
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
    x, images, seed = (
        [_latents(z) for z in models.values()],
        count(images, "images"),
        arguments.seed(seed),
    )
    if len(x) < 2 or len({len(z) for z in x}) != 1:
        raise ValueError(
            f"models: shapes {[z.shape for z in x]} must be two or more of the same images"
        )
    n = min(images, len(x[0]))
    rows = np.sort(score_rng(seed, 0).choice(len(x[0]), n, replace=False))
    x = [z[rows] for z in x]

    def values(zs: list[Floats]) -> Values:
        found = udr(zs, similarity=similarity, active=active)
        names = [f"udr_{similarity} {name}" for name in models]
        each = dict(zip(names, found.tolist(), strict=True))
        return {**each, f"udr_{similarity}": float(found.mean())}

    return estimate(
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


def _latents(z: NDArray[Any]) -> Floats:
    x = table(z, "z", "must be (images, latents) of numbers", "images")
    if x.ndim != 2 or len(x) < 50:
        raise ValueError(f"z: shape {x.shape} must be (images, latents), with 50 images or more")
    return x


def _no_factors(n: int) -> Factors:
    return Factors((), (), np.empty((n, 0), np.int64), np.empty((n, 0)))
