"""Probes: regressions from columns to targets, and their predictions of images not fitted to.

A probe is a function of columns to fit on (n, D), targets to fit on (n, t) and columns to predict
for (m, D), and one row of :data:`PROBES`. It returns predictions (m, t); those of classes are
scores of each, of which only the ratio to the class's frequency is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.boundary.isolation import isolated
from gdm_repr.progress import tick

Fit = Callable[[NDArray[Any], Floats, NDArray[Any], bool], Floats]

_PENALTIES = 10.0 ** np.arange(-4, 3)  # of ridge, for each image fitted to
_LANDMARKS = 300
_ROUNDS, _LEAVES = 50, 15  # of boosting


class Probe(NamedTuple):
    """A probe.

    Attributes:
        fit: from (columns, targets, other columns, whether these are classes) to predictions.
        together: whether all targets are fitted at once, none changing what another gets.
        most_null: refits to permuted labels at most.
        summary: shown by help.
    """

    fit: Fit
    together: bool
    most_null: int
    summary: str


@isolated
def ridge(x: NDArray[Any], y: Floats, other: NDArray[Any]) -> Floats:
    """Predict by ridge regression, each target's penalty by generalised cross-validation.

    With x = U S V^T (centred) and w = S^2 / (S^2 + penalty), the fit is U w U^T y; the penalty is
    that of the least |y - U w U^T y|^2 / (n - 1 - sum w)^2 (Golub, Heath and Wahba 1979). Unlike
    leaving one out, that takes no predictions by each penalty, and permuted labels are many.

    Args:
        x: columns to fit on, (n, D).
        y: targets, (n, t).
        other: columns to predict for, (m, D).

    Returns:
        Predictions, (m, t).
    """
    vectors, along = _ridge_fit(x, y)
    centre = x.mean(0, dtype=np.float64)
    fitted: Floats = y.mean(0) + ((other - centre) @ vectors) @ along
    return fitted


@isolated
def ridge_weights(x: NDArray[Any], y: Floats) -> Floats:
    """Return what :func:`ridge` multiplies columns by, (D, t), of x (n, D) and targets y (n, t)."""
    vectors, along = _ridge_fit(x, y)
    weights: Floats = vectors @ along
    return weights


def _ridge_fit(x: NDArray[Any], y: Floats) -> tuple[Floats, Floats]:
    """Return V (D, rank), and the weights along its columns (rank, t)."""
    x, y = x - x.mean(0, dtype=np.float64), y - y.mean(0)
    wide = x.shape[1] > len(x)  # the smaller of the two matrices of products has the same S^2
    squares, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = squares > squares[-1] * len(squares) * np.finfo(np.float64).eps
    squares, vectors = squares[kept], vectors[:, kept]
    if wide:
        vectors = x.T @ vectors / np.sqrt(squares)
    seen = vectors.T @ (x.T @ y)  # S U^T y, shape (rank, t)
    penalties = len(x) * _PENALTIES
    weights = squares / (squares + penalties[:, None])
    error = (y**2).sum(0) - (weights * (2 - weights)) @ (seen**2 / squares[:, None])
    free = len(x) - 1 - weights.sum(1)
    free[free < 0.5] = np.nan  # as many columns as images: nothing is left to judge by
    chosen = penalties[np.nanargmin(error / np.square(free)[:, None], axis=0)]
    return vectors, seen / (squares[:, None] + chosen)


@isolated
def linear(x: NDArray[Any], y: Floats, other: NDArray[Any], classes: bool) -> Floats:
    """Predict by ridge on standardised columns."""
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(x.astype(np.float64))
    return ridge(scale.transform(x), y, scale.transform(other))


@isolated
def kernel(x: NDArray[Any], y: Floats, other: NDArray[Any], classes: bool) -> Floats:
    """Predict by ridge on standardised columns and on Gaussian kernels about some images."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import StandardScaler

    near = Nystroem(
        gamma=0.5 / x.shape[1], n_components=min(_LANDMARKS, len(x)), random_state=0
    )  # a kernel is 1/e at the usual distance of two images
    both = make_union(StandardScaler(), make_pipeline(StandardScaler(), near, StandardScaler()))
    return ridge(both.fit_transform(x.astype(np.float64)), y, both.transform(other))


@isolated
def neighbours(x: NDArray[Any], y: Floats, other: NDArray[Any], classes: bool) -> Floats:
    """Predict by the mean of the ten nearest images in standardised columns."""
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    nearest = KNeighborsRegressor(min(10, len(x)), algorithm="brute")
    predicted = make_pipeline(StandardScaler(), nearest).fit(x, y).predict(other)
    return np.asarray(predicted, np.float64).reshape(-1, y.shape[1])


@isolated
def trees(x: NDArray[Any], y: Floats, other: NDArray[Any], classes: bool) -> Floats:
    """Predict by gradient boosting on histograms, one model a target, or one for all classes."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    options: dict[str, Any] = {
        "max_iter": _ROUNDS, "max_leaf_nodes": _LEAVES, "early_stopping": False, "random_state": 0
    }  # fmt: skip
    out = np.zeros((len(other), y.shape[1]))
    with threadpool_limits(1):  # models are small: threads would wait for each other
        if classes:
            model = HistGradientBoostingClassifier(**options).fit(x, y.argmax(1))
            out[:, model.classes_] = model.predict_proba(other)
            return out
        for target, column in zip(y.T, out.T, strict=True):
            column[:] = HistGradientBoostingRegressor(**options).fit(x, target).predict(other)
    return out


PROBES = {
    "linear": Probe(linear, True, 99, "ridge"),
    "kernel": Probe(kernel, True, 99, "ridge on Gaussian kernels as well, nonlinear"),
    "knn": Probe(neighbours, True, 99, "ten nearest neighbours"),
    "trees": Probe(trees, False, 9, "gradient boosting, slow"),
}


def fold_of(n: int, folds: int, seed: int) -> NDArray[np.int64]:
    """Return in which of the folds each of n images is predicted, as even as can be."""
    order = np.random.default_rng([seed, 0]).permutation(n)
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % folds
    return fold


@isolated
def out_of_fold(
    probe: Probe,
    tables: Sequence[NDArray[Any]],
    targets: Floats,
    fold: NDArray[np.int64],
    *,
    classes: bool,
) -> Floats:
    """Predict each image by a probe that was fitted to the images of the other folds.

    Args:
        probe: the probe.
        tables: columns (n, D) for each fold, which may be fitted to the images of the others.
        targets: shape (n, t).
        fold: of each image, (n,).
        classes: whether the targets are classes.

    Returns:
        Predictions, shape (n, t).
    """
    predicted = np.empty_like(targets)
    for number, table in enumerate(tables):
        out = fold == number
        if out.any():
            predicted[out] = probe.fit(table[~out], targets[~out], table[out], classes)
            tick()
    return predicted


def over_frequency(predicted: Floats, targets: Floats, fold: NDArray[np.int64]) -> Floats:
    """Divide scores of classes by each class's frequency in the images fitted to.

    The largest is then the best guess where every class counts the same (balanced accuracy).

    Args:
        predicted: shape (n, t).
        targets: 1 for an image's class, otherwise 0, (n, t).
        fold: of each image, (n,).
    """
    divided = np.empty_like(predicted)
    for number in np.unique(fold):
        out = fold == number
        frequency = np.maximum(targets[~out].mean(0), 1 / len(targets))
        divided[out] = predicted[out] / frequency
    return divided
