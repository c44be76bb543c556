"""One provider of tables of columns to measure: latents, and what they are compared with.

- latents: what a store holds;
- raw coefficients: the images in the model's basis; how dependent they were before;
- principal components of the images: what a linear map to uncorrelated numbers leaves;
- fresh noise: what the estimators give where everything is independent;
- noise decoded and encoded again: what the model's two directions add of their own;
- other models of the same images (:mod:`gdm_repr.analysis.columns.baselines`).

All tables are float32, (n, D), read a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.columns.baselines import Baseline
from gdm_repr.analysis.columns.layout import layout
from gdm_repr.analysis.columns.names import LATENTS, RAW
from gdm_repr.analysis.draws import first_latent
from gdm_repr.boundary.isolation import isolated
from gdm_repr.boundary.npy_file import write_array
from gdm_repr.progress import progress

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.subject import Subject

Columns = NDArray[np.float32]  # (n, D)

CHUNK = 256  # items in memory at a time, and of which a killed run may lose the work


def chunks(total: int) -> Iterator[range]:
    """Cut 0 .. total - 1 into chunks."""
    for start in range(0, total, CHUNK):
        yield range(start, min(start + CHUNK, total))


@dataclass(frozen=True, eq=False)
class Sources:
    """Where tables of columns come from.

    Attributes:
        subject: model, store and images.
        rows: n rows of the store.
        take: makes columns (m, D) of latents or coefficients (m, C, d).
        baselines: other models.
    """

    subject: Subject
    rows: Sequence[int]
    take: Callable[[NDArray[Any]], NDArray[Any]]
    baselines: Sequence[Baseline] = ()

    @isolated
    def table(self, name: str) -> Columns:
        """Read latents, raw coefficients, or what another model makes of the images, by its name.

        Raises:
            ValueError: if the images are not at hand.
        """
        if name == LATENTS:
            return _whole(self.rows, lambda rows: self.take(self.subject.store.z(rows)))
        if name == RAW:
            to_basis = self.subject.model.to_basis
            return _whole(
                self.rows, lambda rows: self.take(_array(to_basis(self.subject.images(rows))))
            )
        baseline = next(each for each in self.baselines if each.name == name)
        if baseline.length:
            return baseline.take(self.subject, self.rows)
        store, theirs = baseline.latents(self.subject, self.rows)
        return _whole(theirs, lambda rows: self.take(store.z(rows)))

    @isolated
    def fresh_noise(self, seed: int) -> Columns:
        """Draw latents from N(0, I), n of them; number i depends on seed and i alone."""
        draw = self.subject.model.noise
        first = first_latent(seed)
        return _whole(
            range(first, first + len(self.rows)),
            lambda seeds: self.take(_array(draw(len(seeds), seed=seeds[0]))),
        )

    @isolated
    def encoded_noise(
        self, n: int, seed: int, *, batch_size: int, folder: Path, journal: Journal
    ) -> Columns:
        """Decode noise to images and encode these again; number i depends on seed and i alone.

        Finished chunks are kept as ``.npy`` in a folder and are not made again.
        """
        import torch

        model, plan = self.subject.model, self.subject.plan
        tables = []
        folder.mkdir(parents=True, exist_ok=True)
        with progress(n, desc="total_correlation: noise decoded and encoded") as bar:
            for part in chunks(n):
                key, file = f"encoded noise {part.start} {part.stop}", folder / f"{part.start}.npy"
                if key not in journal or not file.exists():
                    noise = model.noise(len(part), seed=first_latent(seed) + part.start)
                    z = [
                        model.encode(model.decode(batch, plan), plan, check=False).z
                        for batch in torch.split(noise, batch_size)
                    ]
                    write_array(file, self.take(_array(torch.cat(z))))
                    journal.add(key, len(part))
                tables.append(np.load(file, allow_pickle=False))
                bar.update(len(part))
        return np.concatenate(tables)

    @isolated
    def half_components(self, most: int, seed: int) -> Columns:
        """Return scores of the images' principal components, largest first, (n // 2, <= most).

        The components are those of one half of the images, the scores those of the other: scores of
        the images that components were fitted to have no correlation by construction, which no null
        allows for.

        Raises:
            ValueError: if the images are not at hand.
        """
        mixed = np.random.default_rng(seed).permutation(len(self.rows))
        half = len(self.rows) // 2
        fitted, scored = (
            _whole(
                sorted(self.rows[i] for i in part),
                lambda rows: _array(self.subject.images(rows).flatten(1)),
            )
            for part in (mixed[half:], mixed[:half])
        )
        return _components(fitted, scored, min(most, *fitted.shape), seed)

    @isolated
    def fold_components(self, most: int, fold: NDArray[np.int64], seed: int) -> list[Columns]:
        """Return scores (n, <= most) of components fitted to the other folds, for each fold (n,).

        The basis is orthogonal, so that components of all its coefficients are those of the pixels.
        """
        grouping, channels = self.subject.model.grouping, self.subject.model.shape[0]
        every = layout(grouping, channels, channels * grouping.d)
        x = replace(self, take=every.take).table(RAW)
        # n images have n - 1 components; one more would be rounding, blown up in other images
        others = [x[fold != number] for number in range(int(fold.max()) + 1)]
        return [_components(o, x, min(most, len(o) - 1, o.shape[1]), seed) for o in others]


def _whole(items: Sequence[int], read: Callable[[Sequence[int]], NDArray[Any]]) -> Columns:
    return np.concatenate([read([items[i] for i in part]) for part in chunks(len(items))])


def _components(fitted: Columns, scored: Columns, count: int, seed: int) -> Columns:
    from sklearn.decomposition import PCA as Components

    pca = Components(count, random_state=seed).fit(fitted)
    scores: Columns = pca.transform(scored).astype(np.float32)
    return scores


def _array(x: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = x.cpu().numpy()
    return array
