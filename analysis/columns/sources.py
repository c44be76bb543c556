"""Tables of columns to measure: latents, and the controls that they are compared with.

- fresh noise: what the estimators give where everything is independent;
- noise decoded and encoded again: what the model's two directions add of their own;
- the images' coefficients in the model's basis: how dependent they were before;
- principal components of the images: what a linear map to uncorrelated numbers leaves;
- the latents of another model, such as one without groups (k = 1), of the same images.

All tables are float32, (n, D), read a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.columns.layout import Layout
from gdm_repr.analysis.draws import first_latent
from gdm_repr.boundary.isolation import isolated
from gdm_repr.boundary.npy_file import write_array
from gdm_repr.latents.store import LatentStore, open_store

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.subject import Subject

Table = NDArray[np.float32]

CHUNK = 256  # items in memory at a time, and of which a killed run may lose the work


def chunks(total: int) -> Iterator[range]:
    """Cut 0 .. total - 1 into chunks."""
    for start in range(0, total, CHUNK):
        yield range(start, min(start + CHUNK, total))


@isolated
def stored_latents(store: LatentStore, rows: Sequence[int], columns: Layout) -> Table:
    """Read latents of a store's rows."""
    return np.concatenate(
        [columns.take(store.z([rows[i] for i in part])) for part in chunks(len(rows))]
    )


@isolated
def fresh_noise(subject: Subject, n: int, seed: int, columns: Layout) -> Table:
    """Draw latents from N(0, I); number i depends on seed and i alone."""
    first = first_latent(seed)
    return np.concatenate(
        [
            columns.take(_array(subject.model.noise(len(part), seed=first + part.start)))
            for part in chunks(n)
        ]
    )


@isolated
def encoded_noise(
    subject: Subject,
    n: int,
    seed: int,
    columns: Layout,
    *,
    batch_size: int,
    folder: Path,
    journal: Journal,
) -> Table:
    """Decode noise to images and encode these again; number i depends on seed and i alone.

    Finished chunks are kept as ``.npy`` in a folder and are not made again.
    """
    import torch
    from tqdm import tqdm

    model = subject.model
    tables = []
    folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=n, unit="img", desc="decode and encode noise") as bar:
        for part in chunks(n):
            key, file = f"encoded noise {part.start} {part.stop}", folder / f"{part.start}.npy"
            if key not in journal or not file.exists():
                noise = model.noise(len(part), seed=first_latent(seed) + part.start)
                z = [
                    model.encode(model.decode(batch, subject.plan), subject.plan, check=False).z
                    for batch in torch.split(noise, batch_size)
                ]
                write_array(file, columns.take(_array(torch.cat(z))))
                journal.add(key, len(part))
            tables.append(np.load(file, allow_pickle=False))
            bar.update(len(part))
    return np.concatenate(tables)


@isolated
def raw_coefficients(subject: Subject, rows: Sequence[int], columns: Layout) -> Table:
    """Return the images' coefficients in the model's basis.

    Raises:
        ValueError: if the images are not at hand.
    """
    return np.concatenate(
        [
            columns.take(_array(subject.model.to_basis(subject.images([rows[i] for i in part]))))
            for part in chunks(len(rows))
        ]
    )


@isolated
def principal_components(
    subject: Subject, rows: Sequence[int], columns: Layout, seed: int
) -> Table:
    """Return scores of the images' principal components, largest variance first, (n // 2, <= D).

    The components are those of one half of the images, the scores those of the other: scores of
    the images that components were fitted to have no correlation by construction, which no null
    allows for.

    Raises:
        ValueError: if the images are not at hand.
    """
    from sklearn.decomposition import PCA

    mixed = np.random.default_rng(seed).permutation(len(rows))
    half = len(rows) // 2
    fitted, scored = (sorted(rows[i] for i in part) for part in (mixed[half:], mixed[:half]))
    x = _flat_images(subject, fitted)
    pca = PCA(min(len(columns.columns), *x.shape), random_state=seed).fit(x)
    scores: Table = pca.transform(_flat_images(subject, scored)).astype(np.float32)
    return scores


def other_store(path: Path, subject: Subject) -> LatentStore:
    """Open the latents of the same images by another model.

    Raises:
        ValueError: if they are of other images, or of another basis.
    """
    store = open_store(path)
    for key in ("basis", "data"):
        own, other = (s.manifest.fingerprint.get(key) for s in (subject.store, store))
        if own != other:
            raise ValueError(
                f"--baseline {str(path)!r}: its {key} is another than that of --latents; encode "
                "the same data with a model of the same basis"
            )
    return store


def same_images(store: LatentStore, other: LatentStore, rows: Sequence[int]) -> list[int]:
    """Return the rows of another store that hold the same images, where it has them."""
    place = {int(index): row for row, index in enumerate(other.index)}
    wanted = store.index[list(rows)].tolist()
    return [place[index] for index in wanted if index in place]


def _flat_images(subject: Subject, rows: Sequence[int]) -> Table:
    parts = [_array(subject.images([rows[i] for i in part])) for part in chunks(len(rows))]
    x: Table = np.concatenate(parts)
    return x.reshape(len(x), -1)


def _array(x: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = x.cpu().numpy()
    return array
