"""Scores that need no factors: how independent latents are, and whether seeds agree on them.

The first three are 0 for independent latents, and above it by chance: compare with the null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gdm_repr.analysis.disentanglement.information import Values, mutual_information
from gdm_repr.analysis.disentanglement.input import Factors, Settings, histogram_codes
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.total_correlation.estimators import correlation, gaussian
from gdm_repr.boundary.isolation import isolated

_SINGULAR = 1e-9  # smallest eigenvalue of a correlation matrix that counts as full rank
UDR_PENALTY = 0.1  # of the lasso in UDR, for variables of variance 1


@isolated
def gaussian_tc(
    z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator
) -> Values:
    """Return the total correlation in nats of a Gaussian with the latents' correlation.

    Infinite where a latent is a linear function of others; constant latents are left out. Not free
    of bias, to be comparable: `total_correlation` subtracts it.
    """
    x = z[:, z.var(0) > 0]
    blocks = list(np.arange(x.shape[1])[:, None])
    if len(blocks) > 1 and float(np.linalg.eigvalsh(correlation(x))[0]) < _SINGULAR:
        return {"gaussian_tc": math.inf}
    return {"gaussian_tc": gaussian(x, blocks, rng)}


@isolated
def wasserstein(
    z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator
) -> Values:
    """Return the Wasserstein correlation, and its share of the latents' total variance.

    With S the covariance and D its diagonal: the squared Wasserstein-2 distance of N(0, S) and
    N(0, D), tr S + tr D - 2 tr (D^1/2 S D^1/2)^1/2, in squared units of z.
    """
    S = np.atleast_2d(np.cov(z.T))
    std = np.sqrt(np.diag(S))
    eigenvalues = np.linalg.eigvalsh(S * np.outer(std, std))
    total = float(np.trace(S))
    distance = 2 * total - 2 * float(np.sqrt(np.maximum(eigenvalues, 0)).sum())
    return {
        "wasserstein": distance,
        "wasserstein_normalised": distance / total if total else 0.0,
    }


@isolated
def mutual_information_score(
    z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator
) -> Values:
    """Return the mean mutual information of pairs of latents in nats, each in equal-width bins."""
    codes = histogram_codes(z, settings.bins)
    total = 0.0
    for i in range(1, z.shape[1]):
        total += float(mutual_information(codes[:, :i], codes[:, i]).sum())
    return {"mutual_information": 2 * total / (z.shape[1] * (z.shape[1] - 1))}


@isolated
def relative_strength(R: Floats) -> float:
    """Return the mean over rows and columns of max^2 / sum, of similarities R >= 0 (d, d').

    1 if each latent of one model is like one of the other's, to the full, and like no other.
    """

    def mean(axis: int) -> float:
        total = R.sum(axis)
        share = np.divide(R.max(axis) ** 2, total, out=np.zeros_like(total), where=total > 0)
        return float(share.mean())

    return (mean(0) + mean(1)) / 2


@isolated
def udr(
    models: Sequence[Floats],
    *,
    similarity: str = "lasso",
    active: Sequence[NDArray[np.bool_]] | None = None,
) -> Floats:
    """Return the unsupervised disentanglement ranking (Duan et al. 2020) of each model.

    Models trained with other seeds encode the same images. A model's score is the median over the
    others of `relative_strength`, with similarity "lasso" (absolute coefficients that predict this
    model's latents) or "spearman" (absolute rank correlations).

    Args:
        models: latents of the same n images, each of shape (n, d), two or more; d may differ.
        similarity: "lasso" or "spearman".
        active: latents of each model that are looked at, (d,) each; for a VAE those of an average
            KL above .01. None: all, as suits latents whose prior is all they have in common.

    Returns:
        Scores in [0, 1] (lasso: about), shape (models,).

    Raises:
        ValueError: for less than two models, other numbers of images, or an unknown similarity.
    """
    if len(models) < 2 or len({len(z) for z in models}) != 1:
        raise ValueError(
            f"models: shapes {[z.shape for z in models]} must be two or more of the same images"
        )
    if similarity not in ("lasso", "spearman"):
        raise ValueError(f"similarity: {similarity!r} must be 'lasso' or 'spearman'")
    masks = [np.ones(z.shape[1], bool) for z in models] if active is None else active
    x = [_prepare(z, mask, similarity) for z, mask in zip(models, masks, strict=True)]
    scores = np.empty(len(x))
    for i, mine in enumerate(x):
        pairs = [
            relative_strength(_similarity(other, mine, similarity))
            for j, other in enumerate(x)
            if j != i
        ]
        scores[i] = np.median(pairs)
    return scores


def _prepare(z: Floats, mask: NDArray[np.bool_], similarity: str) -> Floats:
    """Return the columns in use, or their ranks, of mean 0 and variance 1 (0 if constant)."""
    x = z[:, mask] if similarity == "lasso" else stats.rankdata(z[:, mask], axis=0)
    std = x.std(0)
    prepared: Floats = (x - x.mean(0)) / np.where(std > 0, std, 1)
    return prepared


def _similarity(other: Floats, mine: Floats, similarity: str) -> Floats:
    if similarity == "spearman":
        R: Floats = abs(other.T @ mine) / len(mine)
        return R
    from sklearn.linear_model import Lasso

    coefficients = Lasso(alpha=UDR_PENALTY).fit(other, mine).coef_
    weights: Floats = np.abs(coefficients).reshape(mine.shape[1], -1).T
    return weights
