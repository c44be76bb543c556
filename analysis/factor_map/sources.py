"""What the factor map predicts factors from: a source's table of columns for each fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.columns.layout import Layout, layout
from gdm_repr.analysis.columns.sources import raw_coefficients, stored_latents
from gdm_repr.analysis.factor_map.cells import LATENTS, PCA, RAW
from gdm_repr.boundary.isolation import isolated

if TYPE_CHECKING:
    from gdm_repr.analysis.columns.baselines import Baseline
    from gdm_repr.analysis.subject import Subject


@isolated
def tables(
    source: str,
    subject: Subject,
    rows: Sequence[int],
    columns: Layout,
    fold: NDArray[np.int64],
    baselines: Sequence[Baseline],
    *,
    seed: int,
) -> list[NDArray[Any]]:
    """Return a source's columns (n, D) for each fold; the same table unless it is fitted.

    Args:
        source: latents, raw coefficients, principal components, or a baseline's name.
        subject: model, store and images.
        rows: n rows of the store.
        columns: of latents and of all that has the same elements.
        fold: of each image, (n,).
        baselines: other models.
        seed: of the principal components' solver.
    """
    folds = int(fold.max()) + 1
    if source == LATENTS:
        return [stored_latents(subject.store, rows, columns)] * folds
    if source == RAW:
        return [raw_coefficients(subject, rows, columns)] * folds
    if source == PCA:
        return _components(subject, rows, columns, fold, folds, seed)
    baseline = next(each for each in baselines if each.name == source)
    if baseline.length:
        return [baseline.take(subject, rows)] * folds
    return [stored_latents(*baseline.latents(subject, rows), columns)] * folds


def _components(
    subject: Subject,
    rows: Sequence[int],
    columns: Layout,
    fold: NDArray[np.int64],
    folds: int,
    seed: int,
) -> list[NDArray[Any]]:
    """Return scores of principal components fitted to the other folds, for each fold.

    The basis is orthogonal, so that components of all its coefficients are those of the pixels.
    """
    from sklearn.decomposition import PCA as Components

    channels = subject.model.shape[0]
    whole = layout(subject.model.grouping, channels, channels * subject.model.grouping.d)
    x = raw_coefficients(subject, rows, whole)
    made = []
    for number in range(folds):
        fitted = x[fold != number]
        # n images have n - 1 components; one more would be rounding, blown up in other images
        most = min(len(columns.columns), len(fitted) - 1, fitted.shape[1])
        pca = Components(most, random_state=seed).fit(fitted)
        made.append(pca.transform(x).astype(np.float32))
    return made
