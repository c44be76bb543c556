"""Scores from predictors of the factors: DCI, SAP, modularity and explicitness.

A part of the images is fitted on, the rest tested on. R_ij >= 0 is how much latent i matters for
predicting factor j.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import stats

from gdm_repr.analysis.disentanglement.information import Values, information_matrix, modularity
from gdm_repr.analysis.disentanglement.input import Factors, Ints, Settings, split_rows
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.boundary.isolation import isolated
from gdm_repr.progress import tick

_TOLERANCE = 1e-9  # of the lasso: at the library's 1e-4 the order of latents would show


@isolated
def disentanglement(R: Floats) -> float:
    """Return D of an importance matrix R (d, f): does a latent matter for one factor only?

    D = sum_i w_i [1 - H_f(R_i. / sum_j R_ij)], H_f the entropy to the base f, w_i the share of
    latent i in all importance (Eastwood, Williams 2018). 0 if nothing matters.
    """
    total = R.sum(1)
    if not total.sum():
        return 0.0
    some = total > 0
    single = 1 - stats.entropy(R[some], base=R.shape[1], axis=1)
    return float(np.average(single, weights=total[some]))


@isolated
def completeness(R: Floats) -> float:
    """Return C of an importance matrix R (d, f): is a factor in one latent only?

    The same as `disentanglement` with latents and factors exchanged.
    """
    return disentanglement(R.T)


def boosted_importance(
    z: Floats, codes: Ints, z_test: Floats, codes_test: Ints, trees: int, rng: np.random.Generator
) -> tuple[Floats, float]:
    """Return the importance (d,) of each latent to boosted trees, and their accuracy on test."""
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(
        n_estimators=trees, random_state=int(rng.integers(2**31))
    ).fit(z, codes)
    importance: Floats = abs(model.feature_importances_)
    return importance, float(np.mean(model.predict(z_test) == codes_test))


def forest_importance(
    z: Floats, codes: Ints, z_test: Floats, codes_test: Ints, trees: int, rng: np.random.Generator
) -> tuple[Floats, float]:
    """Return the importance (d,) of each latent to a random forest, and its accuracy on test."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        n_estimators=trees,
        max_features=None,  # a split that must use a latent of no use makes it seem to matter
        random_state=int(rng.integers(2**31)),
    ).fit(z, codes)
    importance: Floats = model.feature_importances_
    return importance, float(np.mean(model.predict(z_test) == codes_test))


def lasso_importance(
    z: Floats, y: Floats, z_test: Floats, y_test: Floats, penalty: float
) -> tuple[Floats, float]:
    """Return the importance (d,) of each latent to a lasso, and its R^2 on test.

    Args:
        z: latents, shape (n, d), of variance 1.
        y: targets of one factor, shape (n, m): see `_targets`.
        z_test: latents to test on.
        y_test: targets to test on.
        penalty: of the absolute coefficients, for targets of variance 1.

    Targets count by their variance.
    """
    from sklearn.linear_model import Lasso

    mean, std = y.mean(0), y.std(0)
    varies = std > 0
    mean, std, y, y_test = mean[varies], std[varies], y[:, varies], y_test[:, varies]
    model = Lasso(alpha=penalty, tol=_TOLERANCE).fit(z, (y - mean) / std)
    coefficients = np.abs(model.coef_).reshape(len(std), -1)
    importance: Floats = std**2 @ coefficients / (std**2).sum()
    wrong = y_test - (model.predict(z_test).reshape(y_test.shape) * std + mean)
    spread = y_test - y_test.mean(0)
    return importance, float(1 - (wrong**2).sum() / (spread**2).sum())


def _targets(factors: Factors, factor: int) -> Floats:
    """Return what a linear predictor predicts, (n, m): a value, cosine and sine, or indicators."""
    values, codes = factors.values[:, factor], factors.codes[:, factor]
    kind = factors.kinds[factor]
    if kind == "continuous":
        return values[:, None]
    if kind == "circular":
        return np.stack([np.cos(values), np.sin(values)], axis=1)
    indicators: Floats = np.eye(int(codes.max()) + 1)[codes]  # missing rows are left out by callers
    return indicators


def _dci(name: str, R: Floats, informed: list[float]) -> Values:
    found = {f"{name}_completeness": completeness(R)} if len(R) > 1 else {}
    if R.shape[1] > 1:  # with one factor every latent is about that one
        found[f"{name}_disentanglement"] = disentanglement(R)
    return {**found, f"{name}_informativeness": float(np.mean(informed))}


def _dci_trees(
    name: str, z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator
) -> Values:
    importance, trees = {
        "dci_boosted": (boosted_importance, settings.trees),
        "dci_forest": (forest_importance, settings.forest),
    }[name]
    train, test = split_rows(len(z), settings, rng)
    found = []
    for j in range(len(factors.names)):
        fit, check = (rows[factors.known(j)[rows]] for rows in (train, test))
        codes = factors.codes[:, j]
        found.append(importance(z[fit], codes[fit], z[check], codes[check], trees, rng))
    return _dci(name, np.stack([R for R, _ in found], axis=1), [score for _, score in found])


@isolated
def dci_boosted(
    z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator
) -> Values:
    """Return DCI (Eastwood, Williams 2018) with the boosted trees of Locatello et al. (2019).

    Informativeness is the mean accuracy on test images. Trees predict codes: bins of factors that
    are not discrete.
    """
    return _dci_trees("dci_boosted", z, factors, settings, rng)


@isolated
def dci_forest(z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator) -> Values:
    """Return DCI with random forests (Eastwood, Williams 2018), of trees that are not pruned.

    Ten times as fast as boosted trees, but other numbers: do not compare the two.
    """
    return _dci_trees("dci_forest", z, factors, settings, rng)


@isolated
def dci_linear(z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator) -> Values:
    """Return DCI with a lasso (Eastwood, Williams 2018).

    A continuous factor is predicted as its value, a circular one as cosine and sine, a discrete one
    as indicators of its classes: name whole numbers that are amounts as continuous. Informativeness
    is the mean R^2 on test images. Noise is far from 0, because the few coefficients that pass the
    penalty are often of one factor each: D of .57 and .76 for four factors, 2,000 images and six
    latents of noise. Compare with the null.
    """
    train, test = split_rows(len(z), settings, rng)
    x, x_test = standardised(z[train], z[test])
    found = []
    for j in range(len(factors.names)):
        known, y = factors.known(j), _targets(factors, j)
        fit, check = known[train], known[test]
        found.append(
            lasso_importance(x[fit], y[train[fit]], x_test[check], y[test[check]], settings.penalty)
        )
    return _dci("dci_linear", np.stack([R for R, _ in found], 1), [score for _, score in found])


def standardised(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Return latents less their mean over their std of `train`; constant ones become 0."""
    mean, std = train.mean(0), train.std(0)
    std = np.where(std > 0, std, 1.0)
    return (train - mean) / std, (test - mean) / std


@isolated
def sap(z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator) -> Values:
    """Return the separated attribute predictability (Kumar et al. 2018).

    The mean over factors of how much better the best latent predicts it than the second best.
    A continuous factor: squared correlation, on the images to fit on. Others: accuracy of a linear
    classifier of that latent alone, so that a perfect code falls short of 1 by what chance gets.
    """
    from sklearn.svm import LinearSVC

    train, test = split_rows(len(z), settings, rng)
    gaps = []
    for j, kind in enumerate(factors.kinds):
        known = factors.known(j)
        fit, check = train[known[train]], test[known[test]]
        if kind == "continuous":
            found = _squared_correlation(z[fit], factors.values[fit, j])
        else:
            codes = factors.codes[:, j]
            found = np.empty(z.shape[1])
            for i in range(z.shape[1]):
                model = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
                model.fit(z[fit, i : i + 1], codes[fit])
                tick()
                found[i] = np.mean(model.predict(z[check, i : i + 1]) == codes[check])
        second, first = np.sort(found)[-2:]
        gaps.append(float(first - second))
    return {"sap": float(np.mean(gaps))}


def _squared_correlation(z: Floats, y: Floats) -> Floats:
    x, y = z - z.mean(0), y - y.mean()
    scale = (x**2).sum(0) * (y**2).sum()
    squared: Floats = np.divide((y @ x) ** 2, scale, out=np.zeros_like(scale), where=scale > 0)
    return squared


@isolated
def modularity_explicitness(
    z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator
) -> Values:
    """Return modularity and explicitness (Ridgeway, Mozer 2018).

    Explicitness is the mean area under the ROC curve of logistic regressions, .5 for chance, over
    a factor's classes and over factors, on test images.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    train, test = split_rows(len(z), settings, rng)
    x, x_test = standardised(z[train], z[test])
    areas = []
    for j in range(len(factors.names)):
        known, codes = factors.known(j), factors.codes[:, j]
        y, y_test = codes[train][known[train]], codes[test][known[test]]
        with warnings.catch_warnings():
            # 100 steps, as in published figures
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression().fit(x[known[train]], y)
        p = model.predict_proba(x_test[known[test]])
        areas.append(
            np.mean(
                [
                    roc_auc_score(y_test == label, p[:, k])
                    for k, label in enumerate(model.classes_)
                    if 0 < np.sum(y_test == label) < len(y_test)
                ]
            )
        )
    found = {"explicitness": float(np.mean(areas))}
    if len(factors.names) > 1:
        information = information_matrix(z[train], factors.take(train), settings)
        found["modularity"] = modularity(information)
    return found
