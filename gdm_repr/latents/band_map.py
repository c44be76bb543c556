"""A map of a store: its images on a plane, by the latents of one band.

The band's m numbers are taken as they are, or by their first principal components where they are
many. Of these, PCA's first two are one map and t-SNE (van der Maaten and Hinton 2008; openTSNE,
Policar et al. 2024) makes another, on which near neighbours stay near.

t-SNE is fitted to some rows. Every other row is placed among these by its own nearest ones and
moves none of them, so that the map of a million images takes the memory of a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from gdm_repr.boundary.arguments import count
from gdm_repr.boundary.arguments import seed as checked_seed
from gdm_repr.boundary.isolation import isolated
from gdm_repr.latents.bands import ALL, band_masks, band_parts, read_parts
from gdm_repr.latents.store import Floats, Ints, LatentStore
from gdm_repr.progress import tick

LEAST = 5  # images: fewer have no neighbourhoods
FIT_ROWS = 100_000
MOST_NUMBERS = 100  # of a band that are compared as they are; else so many principal components
PCA_ROWS = 10_000  # that principal components are found in
NEIGHBOURS = 10  # that are kept of each row
PERPLEXITY, PLACED_PERPLEXITY = 30, 5  # of the rows that are fitted, and of those that are placed
EARLY, LATE, PLACED = 250, 500, 100  # iterations: exaggerated, plain, and of a row that is placed
_CHUNK = 25  # iterations between two signs of progress
_ROWS = 1024  # whose neighbours are looked for at a time
_SMALL = 1e-4  # std of the map that t-SNE begins with
PACKAGE = "openTSNE"


@dataclass(frozen=True, eq=False)
class Placed:
    """Some rows of a store on its map.

    Attributes:
        xy: places on the map, float32 (n, 2): t-SNE's, or PCA's where openTSNE is not installed.
        pca: first two principal components, float32 (n, 2).
        neighbours: rows of the store that are nearest in the band, among those that the map is
            fitted to, nearest first, int64 (n, k).
        distances: to these, RMS over the numbers that are compared, float32 (n, k).
    """

    xy: Floats
    pca: Floats
    neighbours: Ints
    distances: Floats


class BandMap:
    """A map by the latents of a band: `fit` makes it, `place` says where rows lie.

    Attributes:
        store: the store.
        band: the band's name.
        fitted: rows that the map is fitted to, in order, int64 (f,).
        components: how many principal components are compared; None where all numbers are.
        tsne: whether the map is t-SNE's; else it is PCA's.
    """

    @isolated
    def __init__(
        self, store: LatentStore, band: str = ALL, *, fit_rows: int = FIT_ROWS, seed: int = 0
    ) -> None:
        """Choose the rows that the map is fitted to; `fit` reads them.

        Args:
            store: at least 5 images' latents.
            band: as in :func:`gdm_repr.masks.band_mask`, or ``all``.
            fit_rows: how many rows; all if the store has fewer.
            seed: of their choice.

        Raises:
            ValueError: for an unknown or empty band, or fewer than 5 images.
        """
        if len(store) < LEAST:
            raise ValueError(
                f"latents {str(store.path)!r} hold {len(store)} images; a map takes {LEAST}: "
                "encode more"
            )
        self.store, self.band = store, band
        mask = band_masks(store, [band])[band]
        self._parts, width = band_parts(store, mask), int(mask.sum())
        rng = np.random.default_rng(checked_seed(seed))
        n = min(count(fit_rows, "fit_rows", LEAST), len(store))
        self.fitted: Ints = np.sort(rng.choice(len(store), n, replace=False)).astype(np.int64)
        self._pca_rows = np.sort(rng.choice(self.fitted, min(PCA_ROWS, n), replace=False))
        kept = min(MOST_NUMBERS, len(self._pca_rows))
        self.components = kept if width > MOST_NUMBERS else None
        self._seed, self._k = seed, min(NEIGHBOURS, n - 1)
        self.tsne = find_spec(PACKAGE) is not None
        self._embedding: Any = None

    @property
    def iterations(self) -> int:
        """How many iterations `fit` takes."""
        return EARLY + LATE if self.tsne else 0

    @isolated
    def fit(self, done: Callable[[int], object] = lambda n: None) -> None:
        """Find the principal components, the fitted rows' neighbours, and t-SNE.

        Args:
            done: called with the number of iterations that were made, now and then.
        """
        rows = read_parts(self.store, self._parts, self._pca_rows)
        axes = self.components or min(2, rows.shape[1])
        pca = PCA(axes, random_state=self._seed % 2**32).fit(rows)
        self._mean = pca.mean_.astype(np.float32)
        self._axes: Floats = pca.components_.astype(np.float32)
        parts, first_two = [], []  # never the band's numbers of all rows, which may be many
        for run in self.store.runs():
            centred = self._read(self._within(run))
            parts.append(self._compared(centred))
            first_two.append(self._first_two(centred))
        compared, self._pca = np.concatenate(parts), np.concatenate(first_two)
        self._index = NearestNeighbors(algorithm="brute").fit(compared)
        perplexity = min(PERPLEXITY, (len(compared) - 1) / 3)
        k = min(3 * PERPLEXITY, len(compared) - 1) if self.tsne else self._k
        found = [
            self._nearest(compared[start : start + _ROWS], k, own=start)
            for start in range(0, len(compared), _ROWS)
        ]
        neighbours, distances = (np.concatenate(each) for each in zip(*found, strict=True))
        if self.tsne:
            self._embedding = _fit_tsne(self._pca, neighbours, distances, perplexity, done)
            self._xy: Floats = np.asarray(self._embedding, dtype=np.float32)
        self._neighbours: Ints = neighbours[:, : self._k].copy()
        self._distances: Floats = distances[:, : self._k].astype(np.float32)

    @isolated
    def place(self, rows: slice) -> Placed:
        """Say where rows of the store lie, after `fit`.

        Args:
            rows: from start to stop.

        Raises:
            ValueError: if the store has no such row, or a shard is damaged.
        """
        here = np.arange(len(self.store))[rows]
        at = np.searchsorted(self.fitted, here)
        known = self.fitted[np.minimum(at, len(self.fitted) - 1)] == here
        at = at[known]
        n = len(here)
        xy, pca = np.empty((n, 2), np.float32), np.empty((n, 2), np.float32)
        near = np.empty((n, self._k), np.int64)
        distances = np.empty((n, self._k), np.float32)
        pca[known], near[known], distances[known] = (
            self._pca[at],
            self._neighbours[at],
            self._distances[at],
        )
        if self.tsne:
            xy[known] = self._xy[at]
        if not known.all():
            values = self._read(here[~known])
            pca[~known] = self._first_two(values)
            k = min(3 * PLACED_PERPLEXITY, len(self.fitted) - 1)
            found, apart = self._nearest(self._compared(values), max(k, self._k))
            near[~known], distances[~known] = found[:, : self._k], apart[:, : self._k]
            if self.tsne:
                xy[~known] = _place_tsne(self._embedding, found, apart)
        if not self.tsne:
            xy = pca.copy()
        scale = np.float32(np.sqrt(self._index.n_features_in_))
        return Placed(xy, pca, self.fitted[near], distances / scale)

    def _within(self, run: slice) -> Ints:
        """Return the fitted rows of a run of rows."""
        first, last = np.searchsorted(self.fitted, [run.start, run.stop])
        within: Ints = self.fitted[first:last]
        return within

    def _read(self, rows: Ints) -> Floats:
        """Return the band's numbers of rows, less their mean, (n, m)."""
        tick()
        centred: Floats = read_parts(self.store, self._parts, rows) - self._mean
        return centred

    def _compared(self, centred: Floats) -> Floats:
        return centred if self.components is None else centred @ self._axes.T

    def _first_two(self, centred: Floats) -> Floats:
        two = np.zeros((len(centred), 2), np.float32)
        two[:, : len(self._axes[:2])] = centred @ self._axes[:2].T
        return two

    def _nearest(
        self, compared: Floats, k: int, own: int | None = None
    ) -> tuple[Ints, NDArray[np.float64]]:
        """Return the k nearest fitted rows of some rows, by their places among these.

        ``own`` is the place of the first of them, if they are fitted themselves.
        """
        tick()
        distances, found = self._index.kneighbors(compared, k + (own is not None))
        if own is None:
            return found.astype(np.int64), distances.astype(np.float64)
        others = found != np.arange(own, own + len(found))[:, None]
        others[others.all(1), -1] = False  # among many of the same place the row itself is lost
        shape = (len(found), k)
        return (
            found[others].reshape(shape).astype(np.int64),
            distances[others].reshape(shape).astype(np.float64),
        )


def _fit_tsne(
    start: Floats,
    neighbours: Ints,
    distances: NDArray[np.float64],
    perplexity: float,
    done: Callable[[int], object],
) -> Any:  # noqa: ANN401
    """Return t-SNE's embedding of rows, from PCA's map on."""
    from openTSNE import TSNEEmbedding, affinity

    jobs = _threads()
    P = affinity.joint_probabilities_nn(neighbours, distances, [perplexity], n_jobs=jobs)
    # openTSNE's own beginning: PCA made small; images that are all alike must not stay on one point
    noise = np.random.default_rng(0).standard_normal(start.shape)
    begin = _SMALL * (start / (start[:, 0].std() or 1) + 0.01 * noise)
    embedding = TSNEEmbedding(begin, affinity.PrecomputedAffinities(P), n_jobs=jobs)
    for iterations, how in (
        (EARLY, {"exaggeration": 12, "momentum": 0.5}),
        (LATE, {"exaggeration": 1, "momentum": 0.8}),
    ):
        for _ in range(iterations // _CHUNK):
            embedding.optimize(_CHUNK, inplace=True, learning_rate="auto", **how)
            done(_CHUNK)
    embedding.prepare_interpolation_grid()
    return embedding


def _place_tsne(
    embedding: Any,  # noqa: ANN401
    neighbours: Ints,
    distances: NDArray[np.float64],
) -> Floats:
    """Place rows among those that are fitted, each by its own nearest ones (n, k)."""
    from openTSNE import PartialTSNEEmbedding, affinity, initialization

    P = affinity.joint_probabilities_nn(
        neighbours,
        distances,
        [min(PLACED_PERPLEXITY, neighbours.shape[1] / 3)],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(embedding),
        n_jobs=_threads(),
    )
    how = {**embedding.gradient_descent_params, "negative_gradient_method": "fft"}
    placed = PartialTSNEEmbedding(
        initialization.median(embedding, neighbours), embedding, P=P, **how
    )
    # openTSNE's own settings for rows that are added to a map
    placed.optimize(
        PLACED,
        inplace=True,
        learning_rate=0.1,
        exaggeration=1.5,
        momentum=0.8,
        max_grad_norm=0.25,
    )
    return np.asarray(placed, dtype=np.float32)


def _threads() -> int:
    import torch

    return torch.get_num_threads()
