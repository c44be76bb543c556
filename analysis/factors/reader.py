"""Reads known factors off images: a regression from images to factors, fitted to labelled ones.

Images are described by *patches*: small windows, whitened, are compared with windows taken from the
images themselves, and how much they agree is averaged over 4x4 places (Coates, Lee and Ng 2011); or
by any extractor of :mod:`gdm_repr.analysis.features`. On these features stands a kernel ridge
regression, which needs no held-out images: what it reads of each image when fitted to all others
has a closed form,

    y_i - r_i = alpha_i / ((K + lambda n)^-1)_ii,    alpha = (K + lambda n)^-1 y,

and its R^2 says how well a factor can be read. A regression says something of any image: so an
image that is farther from its nearest labelled one than 95 % of these are from theirs is called
*strange*, and its readings are not to be believed. Targets are those of
:mod:`gdm_repr.analysis.factors.labels`, so that a reading is the factor's expected value, cosine
and sine, or share of each class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.analysis.factors.labels import Factor, of_same_images
from gdm_repr.analysis.intervals.bootstrap import r_squared
from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.boundary.isolation import isolated

PATCHES = "patches"
CHUNK = 256  # images at a time, whatever --batch-size is: the fit must not depend on it
_SIDE, _FILTERS, _PLACES, _WINDOWS = 6, 128, 4, 20_000
_LARGEST = 64  # side of the images that patches are taken of; larger ones are averaged down
_QUIET = 0.01  # added to variances of windows, of values in [-1, 1], before whitening
_AGREES = 0.25  # what is left of an agreement
_WIDTHS = (1.0, 4.0)  # of the kernel, in median squared distances
_PENALTIES = 10.0 ** np.arange(-6, 1)  # for each image
_USUAL = 0.95  # of the images fitted to are as near to another one as is usual

Describe = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [-1, 1] to features (B, P)."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read off B images.

    Attributes:
        values: all factors' targets side by side, (B, T).
        strange: which images are unlike those that the reader was fitted to, (B,).
    """

    values: Floats
    strange: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Part:
    """What reads the factors that are known of the same images."""

    rows: NDArray[np.int64]
    norm: float
    alpha: Floats  # one block of targets a width, (widths, m, T)
    mean: Floats
    columns: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reader:
    """A fitted reader.

    Attributes:
        r2: how well each factor is read off images not fitted to, in their order.
        n: images fitted to.
    """

    r2: tuple[Estimate, ...]
    n: int
    _describe: Describe
    _centre: Floats
    _scale: Floats
    _phi: Floats
    _usual: float
    _parts: tuple[_Part, ...]
    _width: int

    @isolated
    def __call__(self, x: Tensor) -> Reading:
        """Read images (B, C, H, W)."""
        phi = (_features(self._describe, x) - self._centre) / self._scale
        far = _distances(phi, self._phi)
        out = np.empty((len(phi), self._width))
        for part in self._parts:
            near = far[:, part.rows] / part.norm
            kernels = [np.exp(-near / width) for width in _WIDTHS]
            read = sum(k @ a for k, a in zip(kernels, part.alpha, strict=True))
            out[:, part.columns] = read + part.mean
        return Reading(out, far.min(1) > self._usual)


@isolated
def fit_reader(describe: Describe, x: Tensor, factors: Sequence[Factor], *, seed: int) -> Reader:
    """Fit a reader to labelled images.

    Kernel width and penalty are chosen for each factor by what is read of images left out.

    Args:
        describe: features of images.
        x: images (m, C, H, W) in [-1, 1].
        factors: of these images.
        seed: of the resamples that intervals of R^2 are from.
    """
    phi = _features(describe, x)
    centre, scale = phi.mean(0), phi.std(0)
    scale = np.maximum(scale, 1e-3 * max(float(scale.max()), 1e-12))
    phi = (phi - centre) / scale
    distances = _distances(phi, phi)
    others = distances + np.diag(np.full(len(phi), np.inf))
    usual = float(np.quantile(others.min(1), _USUAL))
    widths = [factor.targets.shape[1] for factor in factors]
    starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    r2: dict[int, Estimate] = {}
    parts = []
    for group in of_same_images(factors):
        part, found = _fit(distances, [factors[f] for f in group], seed)
        columns = np.concatenate([np.arange(starts[f], starts[f + 1]) for f in group])
        parts.append(_Part(*part, columns))
        r2 |= dict(zip(group, found, strict=True))
    ordered = tuple(r2[f] for f in range(len(factors)))
    return Reader(
        ordered, len(x), describe, centre, scale, phi, usual, tuple(parts), int(starts[-1])
    )


@isolated
def fit_patches(x: Tensor, *, device: torch.device, seed: int) -> Describe:
    """Choose windows from images (n, C, H, W), and return what describes images by them."""
    small = _reduce(x)
    n, channels, height, width = small.shape
    side = min(_SIDE, height, width)
    rng = np.random.default_rng([seed, 4])

    def windows(count: int) -> Floats:
        which = rng.integers(n, size=count)[:, None, None, None]
        down = rng.integers(height - side + 1, size=count)[:, None, None, None]
        right = rng.integers(width - side + 1, size=count)[:, None, None, None]
        c, i, j = np.ix_(range(channels), range(side), range(side))
        taken: Floats = small.numpy()[which, c, down + i, right + j].reshape(count, -1)
        return taken.astype(np.float64)

    seen = windows(_WINDOWS)
    mean = seen.mean(0)
    variance, axes = np.linalg.eigh(np.cov((seen - mean).T).reshape(len(mean), -1))
    whiten = axes / np.sqrt(np.maximum(variance, 0) + _QUIET) @ axes.T
    chosen = (windows(_FILTERS) - mean) @ whiten
    chosen /= np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    filters = chosen @ whiten
    weight = torch.from_numpy(filters.reshape(-1, channels, side, side)).float().to(device)
    bias = torch.from_numpy(-filters @ mean).float().to(device)

    def describe(x: Tensor) -> Tensor:
        agree = torch.nn.functional.conv2d(_reduce(x).to(device), weight, bias)
        either = torch.cat([agree, -agree], 1).sub(_AGREES).relu()
        height, width = (min(_PLACES, size) for size in either.shape[2:])
        return torch.nn.functional.adaptive_avg_pool2d(either, (height, width)).flatten(1)

    return describe


def _fit(
    distances: Floats, factors: Sequence[Factor], seed: int
) -> tuple[tuple[NDArray[np.int64], float, Floats, Floats], list[Estimate]]:
    """Return a part of the reader, and how well it reads each factor."""
    rows = factors[0].rows
    distances = distances[np.ix_(rows, rows)]
    m = len(rows)
    y = np.concatenate([factor.targets for factor in factors], axis=1)
    mean = y.mean(0)
    centred = y - mean
    starts = np.concatenate([[0], np.cumsum([f.targets.shape[1] for f in factors])])
    spans = [slice(*ends) for ends in pairwise(starts)]
    norm = max(float(np.median(distances)), 1e-12)
    best = np.full(len(factors), -np.inf)
    alpha = np.zeros((len(_WIDTHS), *y.shape))
    left_out = np.zeros_like(y)
    spread = np.maximum((centred**2).sum(0), np.finfo(float).tiny)
    for place, width in enumerate(_WIDTHS):
        values, vectors = np.linalg.eigh(np.exp(-distances / (norm * width)))
        turned = vectors.T @ centred
        for penalty in _PENALTIES * m:
            inverse = 1 / (np.maximum(values, 0) + penalty)
            a = vectors @ (inverse[:, None] * turned)
            error = a / (vectors**2 @ inverse)[:, None]
            for f, span in enumerate(spans):
                score = 1 - (error[:, span] ** 2).sum() / spread[span].sum()
                if score > best[f]:
                    best[f] = score
                    alpha[:, :, span] = 0
                    alpha[place, :, span] = a[:, span]
                    left_out[:, span] = y[:, span] - error[:, span]
    r2 = [r_squared(left_out[:, span], y[:, span], seed=seed) for span in spans]
    return (rows, norm, alpha, mean), r2


def _features(describe: Describe, x: Tensor) -> Floats:
    with torch.no_grad():
        parts = [describe(part).flatten(1).cpu() for part in torch.split(x, CHUNK)]
    phi: Floats = torch.cat(parts).numpy().astype(np.float64)
    return phi


def _distances(a: Floats, b: Floats) -> Floats:
    """Return squared distances of rows, (len(a), len(b))."""
    squares: Any = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    apart: Floats = np.maximum(squares, 0)
    return apart


def _reduce(x: Tensor) -> Tensor:
    height, width = (min(size, _LARGEST) for size in x.shape[2:])
    if (height, width) == x.shape[2:]:
        return x
    return torch.nn.functional.adaptive_avg_pool2d(x, (height, width))
