"""Estimators of total correlation, one function each, and the registry ``ESTIMATORS``.

Blocks b_1..b_m are disjoint sets of the d columns of Z (n, d). With H the differential entropy,

    TC = sum_i H(Z_{b_i}) - H(Z) = KL(p(z) || p(z_{b_1}) ... p(z_{b_m}))   [nats].

A monotone map of a column leaves TC as it is, so "copula", "knn" and "classifier" work on normal
scores, where marginals carry no information. None of the four is right everywhere:

- gaussian: right for jointly Gaussian Z, at any d < n / 4. For other Z it is the Gaussian part
  alone: a lower bound if the blocks' marginals are Gaussian, else no bound. Bias exact, subtracted.
- copula: right for Gaussian copulas with any marginals. Else a lower bound if every block is one
  column. Bias as above, to O(1/n).
- knn: right for any smooth Z of few columns. Bias 0 for independent blocks; else that of a Gaussian
  with the same correlation is subtracted, and what is left is low: 10 % at d = 4, 25 % at d = 6 and
  30 % at d = 8 for n of 2,000, 3,200 and 12,800 and strongly non-Gaussian pairs. Between two blocks
  of two columns the 95 % interval of `total_correlation` held the truth in 96, 98, 94 and 98 of 100
  draws (Gaussian, n of 2,000 and 800; two mixtures, n = 2,000), between blocks of three in 27 of 30
  (Gaussian, n = 3,200). Not for d > 8.
- classifier: a lower bound in expectation at any d, found at 24 to 97 % of the truth (13 cases, d
  of 2 to 90, two draws each). Bias unknown and negative; about -0.02 for independent blocks (d = 3,
  n = 500). At 5 % its permutation test rejected 14 of 400 draws of these, 3.5 % [1.9, 5.8], and 19
  of 477 others, 4.0 % [2.4, 6.2] (19 permutations each; `benchmarks/correlation.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma, logsumexp, ndtri

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.boundary.isolation import isolated

__all__ = ["ESTIMATORS", "Estimator", "correlation", "normal_scores", "permuted"]

Blocks = Sequence[NDArray[np.int64]]

NEIGHBOURS = 5  # k of the nearest-neighbour estimator
SURROGATES = 8  # Gaussian samples that its bias is measured on
FOLDS = 3  # of the classifier's cross-fitting
PAIRS = 32  # of columns whose sum and difference the classifier sees


@dataclass(frozen=True)
class Estimator:
    """A way to estimate total correlation.

    Attributes:
        prepare: maps Z (n, d) column by column; commutes with permuting a column.
        raw: estimate in nats from prepared samples.
        bias: what to subtract from `raw`, and its standard error, from prepared samples and n.
        independent: closed form of E[raw] for independent blocks from n and the blocks' sizes, or
            nan.
        order: the bias left falls as n^-order with d columns.
        needed: the fewest samples accepted for d columns.
    """

    prepare: Callable[[Floats, np.random.Generator], Floats]
    raw: Callable[[Floats, Blocks, np.random.Generator], float]
    bias: Callable[[Floats, Blocks, int, np.random.Generator], tuple[float, float]]
    independent: Callable[[int, Sequence[int]], float]
    order: Callable[[int], float]
    needed: Callable[[int], int]


@isolated
def normal_scores(z: Floats, rng: np.random.Generator) -> Floats:
    """Replace each value by Phi^-1(rank / (n + 1)) in its column; ties are broken at random.

    Random ties dither what was stored in float16: average ranks would leave distances of 0.
    """
    n, d = z.shape
    table = ndtri(np.arange(1, n + 1) / (n + 1))
    scores = np.empty((d, n))
    for column, out in zip(z.T, scores, strict=True):
        shuffled = rng.permutation(n)
        out[shuffled[np.argsort(column[shuffled])]] = table
    return scores.T


@isolated
def correlation(z: Floats) -> Floats:
    """Return the correlation of the columns of z (n, d); five times faster than np.corrcoef."""
    centred = z - z.mean(0)
    S = centred.T @ centred
    std = np.sqrt(np.diag(S))
    R: Floats = S / np.outer(std, std)
    return R


@isolated
def permuted(z: Floats, blocks: Blocks, rng: np.random.Generator) -> Floats:
    """Permute the rows of every block on its own: blocks become independent of each other."""
    rows = z.T
    out = np.empty_like(rows)
    for block in blocks:
        out[block] = rows[block][:, rng.permutation(len(z))]
    return out.T


@isolated
def gaussian(z: Floats, blocks: Blocks, rng: np.random.Generator) -> float:
    """Return TC = 1/2 [sum_b logdet R_bb - logdet R] with R the sample correlation."""
    return _gaussian_tc(correlation(z), blocks)


def _gaussian_tc(R: Floats, blocks: Blocks) -> float:
    # of a single column it is log 1
    within = sum(_logdet(R[np.ix_(block, block)]) for block in blocks if len(block) > 1)
    return 0.5 * (within - _logdet(R))


def _logdet(R: Floats) -> float:
    return float(np.linalg.slogdet(R)[1])


def wishart_bias(n: int, sizes: Sequence[int]) -> float:
    """Return E[raw] - TC of `gaussian` for Gaussian samples of any correlation, in nats.

    For a Wishart matrix, E logdet S = logdet Sigma + g(d) with nu = n - 1 and
    g(d) = sum_{i=0}^{d-1} psi((nu - i) / 2) - d log(nu / 2), so the bias is
    1/2 [sum_b g(d_b) - g(d)], about d (d - 1) / (4 n) for single columns.
    Chosen over shrinkage because that makes the bias depend on the truth: with Ledoit and Wolf's,
    its bias taken from Gaussian samples of the shrunk R, the 95 % interval of `total_correlation`
    held the truth in none of 10 draws at d = 90, n = 5,000, all correlations .02.
    """
    nu = n - 1

    def g(d: int) -> float:
        return float(digamma((nu - np.arange(d)) / 2).sum()) - d * math.log(nu / 2)

    return 0.5 * (sum(g(size) for size in sizes) - g(sum(sizes)))


@isolated
def nearest_neighbour(z: Floats, blocks: Blocks, rng: np.random.Generator) -> float:
    """Return the multi-information of Kraskov, Stoegbauer, Grassberger (2004), first algorithm.

    TC = psi(k) + (m - 1) psi(n) - < sum_b psi(n_b + 1) >, where n_b counts the samples that are
    nearer in block b than the k-th neighbour in all columns is, in the maximum norm.
    """
    n, k = len(z), NEIGHBOURS
    radius = cKDTree(z).query(z, k + 1, p=np.inf)[0][:, -1]
    radius *= 1 - 1e-10  # or rounding x + radius would count the k-th neighbour itself
    total = np.zeros(n)
    for block in blocks:  # every count includes the sample itself, hence is n_b + 1
        if len(block) == 1:
            x = z[:, block[0]]
            ordered = np.sort(x)
            count = np.searchsorted(ordered, x + radius, "right")
            count -= np.searchsorted(ordered, x - radius, "left")
        else:
            tree = cKDTree(z[:, block])
            count = tree.query_ball_point(z[:, block], radius, p=np.inf, return_length=True)
        total += digamma(np.maximum(count, 1))
    return float(digamma(k) + (len(blocks) - 1) * digamma(n) - total.mean())


@isolated
def surrogate_bias(
    z: Floats, blocks: Blocks, n: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Measure the bias of `nearest_neighbour` where TC is known: n Gaussian samples with Z's R.

    What strong correlation and many columns cost is much the same for Z and for them.
    """
    R = correlation(z)
    root = np.linalg.cholesky(R)
    errors = [
        nearest_neighbour(
            normal_scores(rng.standard_normal((n, len(R))) @ root.T, rng), blocks, rng
        )
        - _gaussian_tc(R, blocks)
        for _ in range(SURROGATES)
    ]
    return float(np.mean(errors)), float(np.std(errors, ddof=1) / math.sqrt(SURROGATES))


@isolated
def classifier(z: Floats, blocks: Blocks, rng: np.random.Generator) -> float:
    """Return a held-out Donsker-Varadhan bound, TC >= E_p[T] - log E_q[exp T].

    p is Z, q is Z with blocks permuted, T the log-odds of boosted trees that tell p from q, fitted
    on the other folds. Since p and q have the same marginals, no split of a single column helps at
    first; so the trees also see the log-ratio of the Gaussian fit, and sums and differences of the
    pairs of columns that depend most.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    folds = np.array_split(rng.permutation(len(z)), FOLDS)
    total = 0.0
    for number, held_out in enumerate(folds):
        p = z[np.concatenate(folds[:number] + folds[number + 1 :])]
        test, q = z[held_out], permuted(p, blocks, rng)
        pairs = _dependent_pairs(p, blocks)
        # rows that a Gaussian was fitted to look likelier to it than new ones: fit it on other rows
        odd, even = slice(0, None, 2), slice(1, None, 2)
        fitted_on = [(odd, _log_ratio(p[even], blocks)), (even, _log_ratio(p[odd], blocks))]
        rows = [
            _features(x[half], log_ratio, pairs) for x in (p, q) for half, log_ratio in fitted_on
        ]
        trees = HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=8,
            early_stopping=True,
            validation_fraction=0.2,
            n_iter_no_change=5,
            random_state=int(rng.integers(2**31)),
        )
        with threadpool_limits(1):  # trees this small spend a second thread on waiting
            trees.fit(np.concatenate(rows), np.repeat([1, 0], len(p)))
        log_ratio = _log_ratio(p, blocks)
        T_p = trees.decision_function(_features(test, log_ratio, pairs))
        reference = np.concatenate([permuted(test, blocks, rng) for _ in range(4)])
        T_q = trees.decision_function(_features(reference, log_ratio, pairs))
        total += len(test) * float(T_p.mean() - logsumexp(T_q) + math.log(len(T_q)))
    return total / len(z)


def _log_ratio(p: Floats, blocks: Blocks) -> Floats:
    """Return M such that x^T M x / 2 is log N(x; 0, R) / prod_b N(x_b; 0, R_bb), but a constant.

    R is shrunk (Ledoit, Wolf 2004), since p has few rows; z M z is all that trees need of it.
    """
    from sklearn.covariance import ledoit_wolf

    R = ledoit_wolf(p)[0]
    M: Floats = -np.linalg.inv(R)
    for block in blocks:
        inside = np.ix_(block, block)
        M[inside] += np.linalg.inv(R[inside])
    return M


def _dependent_pairs(p: Floats, blocks: Blocks) -> NDArray[np.int64]:
    """Return the columns (2, <= PAIRS) of different blocks that depend most, in z or in z^2."""
    apart = np.ones((p.shape[1], p.shape[1]), bool)
    for block in blocks:
        apart[np.ix_(block, block)] = False
    dependence = np.maximum(abs(correlation(p)), abs(correlation(p**2)))
    pairs = np.stack(np.nonzero(np.triu(apart, 1)))
    return pairs[:, np.argsort(-dependence[pairs[0], pairs[1]], kind="stable")[:PAIRS]]


def _features(x: Floats, log_ratio: Floats, pairs: NDArray[np.int64]) -> Floats:
    first, second = x[:, pairs[0]], x[:, pairs[1]]
    return np.column_stack([x, ((x @ log_ratio) * x).sum(1), first + second, first - second])


def _sizes(blocks: Blocks) -> list[int]:
    return [len(block) for block in blocks]


_WISHART = (
    lambda z, blocks, n, rng: (wishart_bias(n, _sizes(blocks)), 0.0),
    wishart_bias,
    lambda d: 1.0,
    lambda d: 50 + 4 * d,  # half-samples keep twice as many rows as columns
)

ESTIMATORS: dict[str, Estimator] = {
    "gaussian": Estimator(lambda z, rng: z, gaussian, *_WISHART),
    "copula": Estimator(normal_scores, gaussian, *_WISHART),
    "knn": Estimator(
        normal_scores,
        nearest_neighbour,
        surrogate_bias,
        lambda n, sizes: 0.0,  # Kraskov et al.'s conjecture, which holds within our simulations
        lambda d: 2 / d,  # the neighbourhood's radius, squared
        lambda d: 50 * 2**d,
    ),
    "classifier": Estimator(
        normal_scores,
        classifier,
        lambda z, blocks, n, rng: (0.0, 0.0),
        lambda n, sizes: math.nan,
        lambda d: 0.5,
        lambda d: 300 + 10 * d,
    ),
}
"""The estimators by name."""
