"""Scores from the mutual information of single latents and factors.

Latents are put into equal-width bins, factors are codes, and I(z_i; v_j) is that of the counts, in
nats. It is above 0 by about (bins - 1)(K - 1) / (2 n) for independent variables: compare with the
null.
"""

from __future__ import annotations

import numpy as np

from gdm_repr.analysis.disentanglement.input import Factors, Ints, Settings, histogram_codes
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.boundary.isolation import isolated

Values = dict[str, float]


@isolated
def mutual_information(codes: Ints, other: Ints) -> Floats:
    """Return I(codes_i; other) in nats of every column i of codes (n, d) and other (n,)."""
    n, d = codes.shape
    rows, columns = int(codes.max()) + 1, int(other.max()) + 1
    cell = (np.arange(d) * rows + codes) * columns + other[:, None]
    counts = np.bincount(cell.ravel(), minlength=d * rows * columns)
    p = counts.reshape(d, rows, columns) / n
    information: Floats = (
        entropy(p.sum(2)) + entropy(p.sum(1)) - entropy(p.reshape(d, rows * columns))
    )
    return np.maximum(information, 0)


def entropy(p: Floats) -> Floats:
    """Return -sum p log p over the last axis, in nats."""
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    h: Floats = -(p * logs).sum(-1)
    return h


def factor_entropy(codes: Ints) -> float:
    """Return the entropy of codes (n,) in nats."""
    return float(entropy(np.bincount(codes) / len(codes)))


@isolated
def information_matrix(z: Floats, factors: Factors, settings: Settings) -> Floats:
    """Return I(z_i; v_j) in nats, shape (d, f), each from the images that have factor j."""
    codes = histogram_codes(z, settings.bins)
    columns = []
    for j in range(len(factors.names)):
        known = factors.known(j)
        columns.append(mutual_information(codes[known], factors.codes[known, j]))
    return np.stack(columns, axis=1)


@isolated
def mig(z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator) -> Values:
    """Return the mutual information gap, and JEMMIG.

    MIG (Chen et al. 2018): the mean over factors of [I(z_1; v) - I(z_2; v)] / H(v), with z_1 and
    z_2 the latents that know most. It is 1 if one latent knows the factor and no other does.
    JEMMIG (Do, Tran 2020): the mean of 1 - [H(z_1, v) - I(z_1; v) + I(z_2; v)] / [H(v) + log bins],
    which also asks that z_1 knows nothing but v.
    """
    codes = histogram_codes(z, settings.bins)
    information = information_matrix(z, factors, settings)
    gaps, joint = [], []
    for j in range(len(factors.names)):
        known = factors.known(j)
        h = factor_entropy(factors.codes[known, j])
        second, first = np.argsort(information[:, j], kind="stable")[-2:]
        gap = float(information[first, j] - information[second, j])
        h_joint = factor_entropy(codes[known, first]) + h - float(information[first, j])
        gaps.append(gap / h if h > 0 else 0.0)
        joint.append(1 - (h_joint - gap) / (h + float(np.log(settings.bins))))
    return {"mig": float(np.mean(gaps)), "jemmig": float(np.mean(joint))}


@isolated
def modularity(information: Floats) -> float:
    """Return the modularity of Ridgeway and Mozer (2018), from I(z_i; v_j) of shape (d, f).

    The mean over latents of 1 - sum_{j not best} I_ij^2 / [(f - 1) I_i,best^2]; 0 for a latent that
    knows nothing. Noise is far from 0: compare with the null.
    """
    squared = information**2
    best = squared.max(1)
    rest = squared.sum(1) - best
    share = np.divide(rest, best * (squared.shape[1] - 1), out=np.ones_like(best), where=best > 0)
    return float(np.mean(1 - share))
