"""Scores that hold one factor fixed and look at what varies: FactorVAE, BetaVAE, IRS.

They were made for a simulator, which can draw any number of images with one factor fixed and all
others at random. From a fixed set of images we choose those that share the factor's value (its bin,
if it is not discrete). That differs in two ways: other factors vary as they do in the data, so that
factors that go together there can't be told apart; and images are drawn again and again, so that
the interval, from half the images, is wider than the votes alone would say.
"""

from __future__ import annotations

import warnings

import numpy as np

from gdm_repr.analysis.disentanglement.information import Values
from gdm_repr.analysis.disentanglement.input import MISSING, Factors, Ints, Settings
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.boundary.isolation import isolated

SHARED = 5  # images that must share a value for it to be fixed
_NUMBERS_AT_ONCE = 2**21  # latents gathered in one piece


class _Sharing:
    """Draws images that share a factor's value.

    Values that too few images have are never fixed: the same images would be drawn too often.
    """

    def __init__(self, factors: Factors) -> None:
        self._order, self._start, self._size, self._usable = [], [], [], []
        for codes in factors.codes.T:
            order = np.argsort(codes, kind="stable")
            place = codes[order]
            self._order.append(order)
            self._start.append(np.searchsorted(place, codes, "left"))
            self._size.append(np.searchsorted(place, codes, "right") - self._start[-1])
            often = self._size[-1] >= SHARED
            self._usable.append(np.flatnonzero(often & (codes != MISSING)))
            if not len(self._usable[-1]):
                name = factors.names[len(self._usable) - 1]
                raise ValueError(
                    f"factors: no value of {name!r} is shared by {SHARED} images; use fewer "
                    "bins, more images, or leave the factor out"
                )

    def anchors(self, factor: int, shape: tuple[int, ...], rng: np.random.Generator) -> Ints:
        """Draw images by chance, whose value of the factor others will share."""
        chosen: Ints = rng.choice(self._usable[factor], shape)
        return chosen

    def sharing(self, factor: int, anchors: Ints, size: int, rng: np.random.Generator) -> Ints:
        """Draw `size` images (n, size) that share the factor with each of anchors (n,)."""
        start, count = self._start[factor][anchors], self._size[factor][anchors]
        within = rng.integers(0, count[:, None], (len(anchors), size))
        chosen: Ints = self._order[factor][start[:, None] + within]
        return chosen

    def partners(self, factor: int, anchors: Ints, rng: np.random.Generator) -> Ints:
        """Draw another image that shares the factor, for each of anchors of any shape."""
        start, count = self._start[factor][anchors], self._size[factor][anchors]
        order = self._order[factor]
        within = rng.integers(0, count - 1)
        chosen: Ints = order[start + within]
        return np.where(chosen == anchors, order[start + count - 1], chosen)


@isolated
def factor_vae(z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator) -> Values:
    """Return the score of Kim and Mnih (2018).

    A vote: of images that share factor j, the latent of least variance relative to that over all
    images. The score is how well a majority vote per latent tells j, on other votes. Chance is the
    most that 1 / f and luck give: see the null.
    """
    sharing, f = _Sharing(factors), len(factors.names)
    variance = z.var(0, ddof=1)
    active = np.flatnonzero((np.sqrt(variance) >= settings.prune) & (variance > 0))
    if not len(active):
        return {"factor_vae": 0.0}
    x = z[:, active] / np.sqrt(variance[active])
    x -= x.mean(0)
    step = max(1, _NUMBERS_AT_ONCE // (settings.batch * x.shape[1]))

    def votes(count: int) -> Ints:
        found = np.zeros((f, x.shape[1]), np.int64)
        for j, mine in enumerate(rng.multinomial(count, np.full(f, 1 / f))):
            for first in range(0, mine, step):
                anchors = sharing.anchors(j, (min(step, mine - first),), rng)
                rows = sharing.sharing(j, anchors, settings.batch, rng)
                least = x[rows].var(1, ddof=1).argmin(1)
                found[j] += np.bincount(least, minlength=x.shape[1])
        return found

    majority = votes(settings.votes).argmax(0)
    tested = votes(settings.test_votes)
    right = tested[majority, np.arange(x.shape[1])].sum()
    return {"factor_vae": float(right / tested.sum())}


@isolated
def beta_vae(z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator) -> Values:
    """Return the score of Higgins et al. (2017).

    A point: the mean of |z - z'| over pairs of images that share factor j. The score is how well a
    logistic regression tells j, on other points.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    sharing, f = _Sharing(factors), len(factors.names)
    step = max(1, _NUMBERS_AT_ONCE // (settings.batch * z.shape[1]))

    def points(count: int) -> tuple[Floats, Ints]:
        drawn, labels = [], []
        for j, mine in enumerate(rng.multinomial(count, np.full(f, 1 / f))):
            for first in range(0, mine, step):
                shape = (min(step, mine - first), settings.batch)
                anchors = sharing.anchors(j, shape, rng)
                difference = z[anchors] - z[sharing.partners(j, anchors, rng)]
                drawn.append(np.abs(difference).mean(1))
                labels.append(np.full(shape[0], j))
        return np.concatenate(drawn), np.concatenate(labels)

    x, y = points(settings.votes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 steps, as in published figures
        model = LogisticRegression().fit(x, y)
    x, y = points(settings.test_votes)
    return {"beta_vae": float(np.mean(model.predict(x) == y))}


@isolated
def irs(z: Floats, factors: Factors, settings: Settings, rng: np.random.Generator) -> Values:
    """Return the interventional robustness score of Suter et al. (2019).

    Where images share a value of factor j, latent i deviates from its mean there by at most
    (a quantile) D; R_ij = 1 - <D>_values / (its largest deviation from its mean over all images).
    The score is the mean over latents of max_j R_ij, weighted by the largest deviation. Noise is
    far from 0, and values that few images have push it up: compare with the null.
    """
    x = z[:, z.var(0) > 0]
    if not x.shape[1]:
        return {"irs": 0.0}
    largest = abs(x - x.mean(0)).max(0)
    R = np.empty((x.shape[1], len(factors.names)))
    for j, codes in enumerate(factors.codes.T):
        deviations = []
        for code in np.unique(codes[codes != MISSING]):
            inside = x[codes == code]
            deviations.append(np.quantile(abs(inside - inside.mean(0)), settings.quantile, axis=0))
        R[:, j] = 1 - np.mean(deviations, axis=0) / largest
    return {"irs": float(np.average(R.max(1), weights=largest))}
