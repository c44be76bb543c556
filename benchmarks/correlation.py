"""How often each estimator of total correlation is right: its test's level and its interval.

    python benchmarks/correlation.py

For every estimator of ``gdm_repr.analysis.total_correlation.estimate``, on data drawn anew each
time:

    level     share of draws of independent columns that its permutation test rejects at 5 %, with
              the exact (Clopper-Pearson) 95 % interval
    interval  share of draws whose 95 % interval holds the known truth; for the classifier, whose
              value bounds it from below: share whose lower end lies below the truth, and the
              value over the truth, from least to most

The truth is -1/2 log det R for Gaussian columns of correlation R. `cross` is half N(0, R(r)) and
half N(0, R(-r)), which no correlation shows, integrated on a grid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.total_correlation.estimate import total_correlation
from gdm_repr.analysis.total_correlation.estimators import ESTIMATORS, permuted

PERMUTATIONS = 19  # rejected where the estimate is above all of them: 1 of 20 by chance
SHAPES = {"gaussian": (70, 3), "copula": (70, 3), "knn": (200, 2), "classifier": (500, 3)}


@dataclass(frozen=True)
class Case:
    """Data of known total correlation."""

    name: str
    n: int
    draw: Callable[[np.random.Generator], Floats]
    truth: float
    gaussian: bool = True


def rejects(name: str, z: Floats, seed: int) -> bool:
    """Tell what ``total_correlation`` with 19 permutations would, but stop when it is settled."""
    method, blocks = ESTIMATORS[name], list(np.arange(z.shape[1])[:, None])

    def rng(kind: int, index: int = 0) -> np.random.Generator:
        return np.random.default_rng([seed, kind, index])

    prepared = method.prepare(z, rng(0))
    raw = method.raw(prepared, blocks, rng(1))
    for index in range(PERMUTATIONS):
        own = rng(5, index)
        if method.raw(permuted(prepared, blocks, own), blocks, own) >= raw:
            return False
    return True


def measure_level(name: str, draws: int) -> None:
    """Print how often independent columns are rejected."""
    shape = SHAPES[name]
    rejected = sum(
        rejects(name, np.random.default_rng([1, seed]).standard_normal(shape), seed)
        for seed in range(draws)
    )
    low, high = stats.binomtest(rejected, draws).proportion_ci(method="exact")
    print(
        f"level     {name:<10} n={shape[0]} d={shape[1]}  {rejected} of {draws}: "
        f"{100 * rejected / draws:.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
        flush=True,
    )


def normal(name: str, n: int, R: Floats) -> Case:
    """Return Gaussian columns of correlation R."""
    root = np.linalg.cholesky(R)
    truth = -0.5 * float(np.linalg.slogdet(R)[1])
    return Case(name, n, lambda rng: rng.standard_normal((n, len(R))) @ root.T, truth)


def cross(n: int, pairs: int, r: float) -> Case:
    """Return independent pairs, each half N(0, R(r)) and half N(0, R(-r))."""
    x = np.linspace(-9, 9, 1201)
    a, b = np.meshgrid(x, x)
    p = sum(
        stats.multivariate_normal([0, 0], [[1, s * r], [s * r, 1]]).pdf(np.stack([a, b], -1)) / 2
        for s in (1, -1)
    )
    q, support = np.outer(stats.norm.pdf(x), stats.norm.pdf(x)), p > 1e-200
    tc = float((p[support] * np.log(p[support] / q[support])).sum()) * (x[1] - x[0]) ** 2

    def draw(rng: np.random.Generator) -> Floats:
        s = rng.choice([-1.0, 1.0], (n, pairs))
        u, v = rng.standard_normal((2, n, pairs))
        return np.stack([u, s * r * u + np.sqrt(1 - r * r) * v], axis=-1).reshape(n, 2 * pairs)

    return Case(f"cross {r}", n, draw, pairs * tc, gaussian=False)


def cases() -> list[Case]:
    """Return the data, 2 to 90 columns and 500 to 20,000 samples."""

    def equal(d: int, r: float) -> Floats:
        return (1 - r) * np.eye(d) + r

    def chain(d: int, r: float) -> Floats:
        R: Floats = r ** abs(np.subtract.outer(np.arange(d), np.arange(d))).astype(float)
        return R

    return [
        normal("equal .5", 500, equal(2, 0.5)),
        normal("equal .9", 2000, equal(2, 0.9)),
        normal("equal .3", 20_000, equal(2, 0.3)),
        normal("chain .7", 1000, chain(3, 0.7)),
        normal("equal .4", 3000, equal(4, 0.4)),
        normal("equal .6", 2000, equal(5, 0.6)),
        normal("chain .5", 4000, chain(6, 0.5)),
        normal("chain .7", 1000, chain(10, 0.7)),
        normal("equal .3", 2000, equal(20, 0.3)),
        normal("chain .5", 1797, chain(64, 0.5)),
        normal("equal .02", 5000, equal(90, 0.02)),
        normal("chain .4", 1500, chain(90, 0.4)),
        cross(1000, 1, 0.8),
        cross(2000, 1, 0.6),
        cross(2000, 2, 0.8),
    ]


def measure_intervals(name: str, draws: int) -> None:
    """Print how often intervals hold the truth, for the cases that the estimator is meant for."""
    bound = name == "classifier"
    for case in cases():
        z = case.draw(np.random.default_rng(0))
        n, d = z.shape
        meant = (case.gaussian or name in ("knn", "classifier")) and (name != "knn" or d <= 8)
        if n < ESTIMATORS[name].needed(d) or not meant:
            continue
        found = [
            total_correlation(
                case.draw(np.random.default_rng([2, seed])),
                estimator=name,
                permutations=PERMUTATIONS,
                resamples=10 if bound else 40,
                seed=seed,
            )
            for seed in range(draws)
        ]
        held = sum(tc.low < case.truth and (bound or case.truth < tc.high) for tc in found)
        shares = [tc.value / case.truth for tc in found]
        print(
            f"interval  {name:<10} n={n} d={d} {case.name}: TC {case.truth:.3f}, {held} of "
            f"{draws}; value / truth {min(shares):.2f} to {max(shares):.2f}",
            flush=True,
        )


def chosen(names: str) -> Iterable[str]:
    """Return the estimators named, joined by commas."""
    return [name for name in ESTIMATORS if name in names.split(",")]


def main() -> int:
    """Measure the estimators asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--estimators", default=",".join(ESTIMATORS))
    parser.add_argument("--draws", type=int, default=400, help="for the level")
    parser.add_argument("--repeats", type=int, default=20, help="for the intervals, of each case")
    parser.add_argument("--quick", action="store_true", help="few draws, fast estimators")
    options = parser.parse_args()
    if options.quick:
        options.draws, options.repeats, options.estimators = 40, 2, "gaussian,copula"
    for name in chosen(options.estimators):
        measure_level(name, options.draws)
        if options.repeats:
            measure_intervals(name, options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
