"""The sets of n images that sample quality compares, and their features, kept block by block.

    samples    drawn from the model; image i depends on (seed, i) alone
    real       images of the store, to which all others are compared
    other      other images of the store, as many: the floor
    gaussian   a Gaussian of the mean and covariance of images of the store that are not in ``real``
    noise      N(0, 1) in every pixel

All are clipped to [-1, 1], as pictures are. Arrays are ``.npy`` files of 64 rows in a folder; the
journal holds their digests, so that a run that was stopped goes on, and a file that was changed is
made again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.features.extractors import Extractor
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.subject import Subject
from gdm_repr.boundary.isolation import isolated
from gdm_repr.files import safe_name
from gdm_repr.ode import decode

SETS = ("samples", "real", "other", "gaussian", "noise")
BLOCK = 64  # images of a file: what a kill can lose
FIT = 4096  # images for the Gaussian, at most

Images = NDArray[np.float32]


class Blocks:
    """Arrays by key, each made once."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        """Keep arrays in a folder, and their digests in a journal."""
        self.folder, self.journal = folder, journal
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str, make: Callable[[], tuple[Images, dict[str, Any]]]) -> Images:
        """Return an array, made with facts for the journal unless it is there."""
        path = self.folder / f"{safe_name(key).replace('/', '%2F')}.npy"
        if key in self.journal and path.exists():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == self.journal[key]["sha256"]:
                found: Images = np.load(path, allow_pickle=False)
                return found
        array, facts = make()
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, array)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        temporary.replace(path)
        self.journal.add(key, {"sha256": digest, **facts})
        return array


@dataclass(frozen=True)
class Halves:
    """Rows of the store.

    Attributes:
        real: n rows.
        other: n other rows.
        fit: rows, none of them in ``real``, that the Gaussian is made of.
    """

    real: tuple[int, ...]
    other: tuple[int, ...]
    fit: tuple[int, ...]


def choose_halves(total: int, n: int, seed: int) -> Halves:
    """Choose rows of a store of ``total`` images at random.

    Raises:
        ValueError: if there are fewer than 2n, or n is no number of images.
    """
    if 2 * n > total or n < 1:
        raise ValueError(
            f"--n {n}: the store holds {total} images, and the scores need two sets of {n}; use at "
            f"most {total // 2}, or encode more"
        )
    mixed = np.random.default_rng(seed).permutation(total).tolist()
    rest = mixed[n:]
    return Halves(tuple(mixed[:n]), tuple(rest[:n]), tuple(sorted(rest[:FIT])))


class ImageSets:
    """Makes the sets and their features, a block at a time."""

    @isolated
    def __init__(
        self,
        subject: Subject,
        blocks: Blocks,
        halves: Halves,
        *,
        seed: int,
        batch_size: int,
        advance: Callable[[int], object],
    ) -> None:
        """Keep what is needed; ``advance`` is told of finished images and features."""
        self.subject, self.blocks, self.halves = subject, blocks, halves
        self.seed, self.batch_size, self.advance = seed, batch_size, advance
        self.n = len(halves.real)
        self.parts = [range(s, min(s + BLOCK, self.n)) for s in range(0, self.n, BLOCK)]
        self._gaussian: tuple[Tensor, Tensor] | None = None

    @isolated
    def images(self, name: str) -> Tensor:
        """Return a set's images, (n, C, H, W) in [-1, 1] on the CPU."""
        made = []
        for part in self.parts:
            key = f"{name} {part.start}"
            if name in ("real", "other"):  # they lie in the data already
                rows = getattr(self.halves, name)[part.start : part.stop]
                made.append(_clipped(self.subject.images(rows)))
            else:
                made.append(self.blocks.get(key, self._maker(name, part)))
            self.advance(len(part))
        return torch.from_numpy(np.concatenate(made))

    @isolated
    def features(self, extractor: Extractor, name: str, images: Tensor) -> NDArray[np.float64]:
        """Return a set's features, (n, F)."""
        made = []
        for part in self.parts:
            x = images[part.start : part.stop]
            key = f"{extractor.name} of {name} {part.start}"
            if extractor.weights is None:  # at once computed
                made.append(extractor(x).numpy())
            else:
                made.append(
                    self.blocks.get(key, lambda x=x: (extractor(x).numpy(), {}))  # type: ignore[misc]
                )
            self.advance(len(part))
        return np.concatenate(made).astype(np.float64)

    @isolated
    def cost(self) -> list[tuple[int, float, int]]:
        """Return images, seconds and evaluations of every block of samples."""
        entries = [(part, self.blocks.journal[f"samples {part.start}"]) for part in self.parts]
        return [(len(part), e["seconds"], e["evaluations"]) for part, e in entries]

    def _maker(self, name: str, part: range) -> Callable[[], tuple[Images, dict[str, Any]]]:
        make = {"samples": self._samples, "gaussian": self._of_gaussian, "noise": self._noise}[name]
        return lambda: make(part)

    def _samples(self, part: range) -> tuple[Images, dict[str, Any]]:
        model, started, made, evaluations = self.subject.model, time.perf_counter(), [], 0
        for start in range(part.start, part.stop, self.batch_size):
            n = min(self.batch_size, part.stop - start)
            z = model.noise(n, seed=first_latent(self.seed) + start)
            solution = decode(model.flow, z, self.subject.plan)
            made.append(model.basis.inverse(solution.y).cpu())
            evaluations = solution.evaluations
        x = torch.cat(made)
        if not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"samples {part.start} to {part.stop - 1} are not finite; encode with more --steps"
            )
        seconds = time.perf_counter() - started
        return _clipped(x), {"seconds": seconds, "evaluations": evaluations}

    def _of_gaussian(self, part: range) -> tuple[Images, dict[str, Any]]:
        """Draw m + sum_i g_i (x_i - m) / sqrt(N - 1), g ~ N(0, I): the mean and covariance."""
        model = self.subject.model
        if self._gaussian is None:
            pool = self.subject.images(self.halves.fit)
            x_bar = model.to_basis(pool).cpu().double().flatten(1)
            mean = x_bar.mean(0)
            self._gaussian = mean, (x_bar - mean) / (len(x_bar) - 1) ** 0.5
        mean, root = self._gaussian
        g = self._normal(part, (len(root),), 1)
        x_bar = (mean + g @ root).reshape(len(part), model.shape[0], -1)
        return _clipped(model.basis.inverse(x_bar.float().to(model.device)).cpu()), {}

    def _noise(self, part: range) -> tuple[Images, dict[str, Any]]:
        return _clipped(self._normal(part, self.subject.model.shape, 2).float()), {}

    def _normal(self, part: range, shape: Sequence[int], stream: int) -> Tensor:
        # a longer seed than any of the denoising loss's, so that none of its streams is met
        seeds = ([self.seed, i, 0, stream] for i in part)
        rows = [np.random.default_rng(each).standard_normal(tuple(shape)) for each in seeds]
        return torch.from_numpy(np.stack(rows))


def _clipped(x: Tensor) -> Images:
    images: Images = x.clamp(-1, 1).numpy().astype(np.float32)
    return images
