"""What the first m latents keep of an image (Sec. 4.2, Fig. 4b).

An image is rebuilt from latents of which only the first m of the generation order are its own. The
others come from a *fill*:

    zero     z_n = 0, the mode of N(0, 1), which gives one central picture. It is the mean of all
             that agree with the kept latents if data are Gaussian, and only then.
    mean     the data set's mean latent, which is 0 but for what the model has not learned.
    noise    z_n ~ N(0, 1) afresh: a typical picture, whose details are not the image's. Even of
             a perfect model its squared error is twice that of the best guess (3 dB): x and x' are
             then two draws from p(x | kept), and E||x - x'||^2 is twice its variance.

The controls keep as many values of a linear code
(:mod:`gdm_repr.analysis.reconstruction.linear_code`). Reconstructions are clipped to [-1, 1], as
they would be saved, before they are compared. The noise depends on the seed, the image's number and
the draw alone; memory grows with none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.analysis.draws import fresh_noise
from gdm_repr.analysis.features.extractors import Distance, Extractor
from gdm_repr.analysis.reconstruction.linear_code import LinearCode
from gdm_repr.analysis.reconstruction.similarity import psnr, ssim
from gdm_repr.basis import Basis
from gdm_repr.boundary.isolation import isolated
from gdm_repr.generation import Generation
from gdm_repr.masks import Mask, shared_groups

NOISE = "noise"

Comparison = Callable[[Tensor], Tensor]
"""Reconstructions (J*B, C, H, W), J blocks of the same B originals, to values (J, B)."""
Measure = Callable[[Tensor], Comparison]
"""Originals (B, C, H, W) to what compares reconstructions with them."""
Job = tuple[str, int, int]  # fill, draw, number of the kept set
Values = dict[str, dict[str, Tensor]]
"""By way of reconstruction, then by measure: (B, M), a column a kept set, float64."""


@dataclass(frozen=True, eq=False)
class Decoder:
    """Rebuilds images from latents, sharing the groups that are the image's own.

    Attributes:
        generation: decodes.
        basis: turns decoded coefficients to pixels.
        kept: M sets of latents that stay the image's, each bool (1 or C, d).
        fills: latents (C, d) for the others, by name; ``noise`` is drawn instead.
        draws: D, draws of the noise, an image.
        seed: of the draws.
        batch_size: reconstructions decoded together; it does not change them.
    """

    generation: Generation
    basis: Basis
    kept: Sequence[Mask]
    fills: Mapping[str, Tensor]
    draws: int
    seed: int
    batch_size: int = 256

    @isolated
    def measure(
        self, measures: Mapping[str, Measure], x: Tensor, z: Tensor, items: Sequence[int]
    ) -> Values:
        """Return the distances of all reconstructions of B images; of noise, the mean over draws.

        Args:
            measures: by name.
            x: the images, (B, C, H, W) in [-1, 1].
            z: their latents, (B, C, d).
            items: their numbers, which seed their draws.
        """
        compare = {name: measure(x) for name, measure in measures.items()}
        jobs = [(fill, 0, i) for fill in self.fills for i in range(len(self.kept))]
        jobs += [(NOISE, draw, i) for draw in range(self.draws) for i in range(len(self.kept))]
        sums = _zeros([*self.fills, NOISE], measures, len(x), len(self.kept))
        for part, y in self._rebuild(z, items, jobs):
            for name, comparison in compare.items():
                for (fill, _, i), value in zip(part, comparison(y), strict=True):
                    weight = 1 / self.draws if fill == NOISE else 1.0
                    sums[fill][name][:, i] += weight * value.double().cpu()
        return sums

    @isolated
    def images(self, z: Tensor, items: Sequence[int], fill: str) -> Tensor:
        """Return the reconstructions (M, B, C, H, W), in [-1, 1]; of noise, the first draw."""
        jobs = [(fill, 0, i) for i in range(len(self.kept))]
        images: dict[int, Tensor] = {}
        for part, y in self._rebuild(z, items, jobs):
            images |= {
                i: block for (_, _, i), block in zip(part, torch.split(y, len(z)), strict=True)
            }
        return torch.stack([images[i] for i in range(len(self.kept))])

    @isolated
    def whole(self, z: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] of latents (B, C, d) that are kept as they are."""
        return self._finished(z, z, 0)

    def _rebuild(
        self, z: Tensor, items: Sequence[int], jobs: Sequence[Job]
    ) -> Iterator[tuple[list[Job], Tensor]]:
        """Yield jobs (fill, draw, set), and their reconstructions (J*B, C, H, W) in [-1, 1]."""
        grouping, size = self.generation.flow.grouping, len(z)
        states = self.generation.states(z, self.batch_size)
        shared = [min(shared_groups(grouping, keep), len(states) - 1) for keep in self.kept]
        together = max(1, self.batch_size // size)
        for done in sorted(set(shared)):
            alike = [job for job in jobs if shared[job[2]] == done]
            for first in range(0, len(alike), together):
                part = alike[first : first + together]
                latents = torch.cat([self._filled(z, items, *job) for job in part])
                yield part, self._finished(states[done].repeat(len(part), 1, 1), latents, done)

    def _finished(self, state: Tensor, latents: Tensor, done: int) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] of latents whose first groups are made."""
        data = self.generation.finish(state, latents, done, self.batch_size)
        return self.basis.inverse(data).clamp(-1, 1)

    def _filled(self, z: Tensor, items: Sequence[int], fill: str, draw: int, i: int) -> Tensor:
        """Return latents (B, C, d) that are the image's on set i and the fill elsewhere."""
        if fill == NOISE:
            shape = (z.shape[1], z.shape[2])
            others = torch.cat(
                [fresh_noise(shape, self.seed, item, range(draw, draw + 1)) for item in items]
            ).to(z)
        else:
            others = self.fills[fill].to(z).expand_as(z)
        return torch.where(torch.from_numpy(self.kept[i]).to(z.device), z, others)


@isolated
def measure_code(
    code: LinearCode,
    measures: Mapping[str, Measure],
    x: Tensor,
    values: Sequence[int],
    rests: Iterable[Tensor | None] = (None,),
) -> dict[str, Tensor]:
    """Return the distances of a control's reconstructions of B images, the mean over ``rests``.

    Args:
        code: the control.
        measures: by name.
        x: the images, (B, C, H, W) in [-1, 1].
        values: M numbers of values that are kept; NaN stands where the code has fewer.
        rests: where the others are from, each as in :meth:`LinearCode.keep`; read one at a time.

    Returns:
        (B, M) by measure, float64.
    """
    compare = {name: measure(x) for name, measure in measures.items()}
    sums = _zeros([code.name], measures, len(x), len(values))[code.name]
    count = 0
    for rest in rests:
        count += 1
        for i, v in enumerate(values):
            if v > code.size:
                continue
            y = code.keep(x, v, rest).clamp(-1, 1)
            for name, comparison in compare.items():
                sums[name][:, i] += comparison(y)[0].double().cpu()
    for i, v in enumerate(values):
        for each in sums.values():
            each[:, i] = each[:, i] / count if v <= code.size else torch.nan
    return sums


@isolated
def other_images(pool: Tensor, items: Sequence[int], draws: int, seed: int) -> Iterator[Tensor]:
    """Yield D sets of images from a pool (N, C, H, W), one for each item: (B, C, H, W).

    An item's are different, and depend on the seed and its number alone.

    Raises:
        ValueError: if the pool has fewer than D.
    """
    if draws > len(pool):
        raise ValueError(f"draws={draws}: there are {len(pool)} other images only; draw fewer")
    chosen = np.stack(
        [
            # a longer seed than any of fresh_noise's, so that none of its streams is met
            np.random.default_rng([seed, item, 0, 1]).choice(len(pool), draws, replace=False)
            for item in items
        ],
        axis=1,
    )
    for rows in chosen:
        yield pool[torch.from_numpy(rows).to(pool.device)]


@isolated
def mean_latent(batches: Iterable[NDArray[np.float32]]) -> Tensor:
    """Return the mean (C, d) of latents that come in batches (n, C, d), float32."""
    total: NDArray[np.float64] | float = 0.0
    n = 0
    for z in batches:
        total = total + z.sum(0, dtype=np.float64)
        n += len(z)
    return torch.from_numpy(np.asarray(total / n)).float()


@isolated
def against(measure: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    """Make a measure of a function of images a and b, both (B, C, H, W), to (B,)."""

    def bind(x: Tensor) -> Comparison:
        def compare(y: Tensor) -> Tensor:
            blocks = len(y) // len(x)
            return measure(x.repeat(blocks, 1, 1, 1), y).reshape(blocks, len(x))

        return compare

    return bind


@isolated
def feature_distance(distance: Distance) -> Measure:
    """Make a measure of a distance; an extractor sees each original once."""
    if not isinstance(distance, Extractor):
        return against(distance.distance)
    extractor = distance

    def bind(x: Tensor) -> Comparison:
        original = extractor(x)

        def compare(y: Tensor) -> Tensor:
            features = extractor(y).reshape(-1, *original.shape)
            return (features - original).square().sum(2)

        return compare

    return bind


SIMILARITIES: dict[str, Measure] = {"psnr": against(psnr), "ssim": against(ssim)}
"""Measures of likeness, larger for better reconstructions."""


def _zeros(ways: Iterable[str], measures: Iterable[str], size: int, sets: int) -> Values:
    names = list(measures)
    return {
        way: {name: torch.zeros(size, sets, dtype=torch.float64) for name in names} for way in ways
    }
