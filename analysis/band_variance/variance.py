"""How much an image still varies when some of its latents are fixed (Sec. 4.2, Fig. 4a).

For an anchor z_a and a set K of kept latents, draw the others afresh and decode:

    V_a(K) = E || phi(x) - E phi(x) ||^2,   x = decode(z),   z_K = (z_a)_K,   z_n ~ N(0, 1) off K,

estimated without bias from D draws, with the mean over anchors, and shown relative to the *free*
variance V(empty set). K is the first m latents of the generation order (the paper's curve), every
band but one, or one band alone. Draw i of anchor a is the same noise for every K, so that the
difference between two K is not hidden by noise, and the result depends on the seed alone.

**Control.** The same with the images' own coefficients instead of latents: x keeps the anchor
image's coefficients in K and takes the others from another image. A thumbnail keeps low frequencies
too; what the latents do beyond it is the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gdm_repr.analysis.draws import fresh_noise
from gdm_repr.basis import Basis
from gdm_repr.boundary.isolation import isolated
from gdm_repr.edit.operations import vary
from gdm_repr.generation import Generation
from gdm_repr.masks import Mask, shared_groups

Features = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [-1, 1] to features (B, F)."""


class Welford:
    """Running mean and summed squared deviation of vectors (Welford 1962, Chan et al. 1983)."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.n, self.mean, self.square = 0, torch.zeros(()), 0.0

    @isolated
    def add(self, values: Tensor) -> None:
        """Take in vectors (B, F)."""
        values = values.double()
        n, mean = len(values), values.mean(0)
        square = float((values - mean).square().sum())
        shift = mean - self.mean
        total = self.n + n
        self.square += square + float(shift.square().sum()) * self.n * n / total
        self.mean = self.mean + shift * n / total
        self.n = total

    def variance(self) -> float:
        """Return the unbiased variance, summed over the vector's components."""
        return self.square / (self.n - 1)


@isolated
def anchor_variances(
    generation: Generation,
    basis: Basis,
    features: Sequence[Features],
    z: Tensor,
    kept: Sequence[Mask],
    *,
    anchor: int,
    draws: int,
    seed: int,
    batch_size: int = 64,
    advance: Callable[[int], object] = lambda images: None,
) -> list[list[float]]:
    """Return V_a(K) of one anchor for every phi and K; memory does not grow with the draws.

    Args:
        generation: decodes, sharing the groups that lie in K where the model allows it.
        basis: turns decoded coefficients to pixels.
        features: every phi; the images are decoded once for all.
        z: the anchor's latents, (1, C, d).
        kept: the sets K, each bool (1 or C, d).
        anchor: the anchor's number, which seeds its draws.
        draws: D, at least 2.
        seed: of the draws.
        batch_size: images decoded together; it does not change the result.
        advance: told how many images were decoded, for a progress bar.

    Raises:
        ValueError: if there are fewer than 2 draws.
    """
    if draws < 2:
        raise ValueError(f"draws={draws}: a variance needs at least 2 draws an anchor")
    grouping = generation.flow.grouping
    states = generation.states(z)
    shared = [min(shared_groups(grouping, keep), len(states) - 1) for keep in kept]
    running = [[Welford() for _ in kept] for _ in features]
    for start in range(0, draws, batch_size):
        part = range(start, min(start + batch_size, draws))
        noise = fresh_noise((z.shape[1], z.shape[2]), seed, anchor, part).to(z.device)
        together = max(1, batch_size // len(part))  # sets that are decoded at once
        for done in sorted(set(shared)):
            alike = [number for number in range(len(kept)) if shared[number] == done]
            for first in range(0, len(alike), together):
                numbers = alike[first : first + together]
                latents = torch.cat([vary(z, ~kept[number], noise)[0] for number in numbers])
                data = generation.finish(states[done].expand_as(latents), latents, done)
                x = basis.inverse(data)
                for phi, row in zip(features, running, strict=True):
                    values = torch.split(phi(x), len(part))
                    for number, value in zip(numbers, values, strict=True):
                        row[number].add(value)
                advance(len(x))
    return [[welford.variance() for welford in row] for row in running]


@isolated
def control_variances(
    features: Sequence[Features],
    basis: Basis,
    x_bar: Tensor,
    pool: Tensor,
    kept: Sequence[Mask],
    *,
    anchor: int,
    draws: int,
    seed: int,
    batch_size: int = 64,
) -> list[list[float]]:
    """Return the control's V_a(K): the anchor's coefficients in K, other images' elsewhere.

    Args:
        features: every phi.
        basis: turns coefficients to pixels.
        x_bar: coefficients of the anchor image, (1, C, d).
        pool: coefficients of other images, (N, C, d).
        kept: the sets K.
        anchor: the anchor's number.
        draws: D, at least 2 and at most N.
        seed: of the draws.
        batch_size: images at a time.

    Raises:
        ValueError: if there are fewer than 2 draws or not so many other images.
    """
    if not 2 <= draws <= len(pool):
        raise ValueError(f"draws={draws}: must be between 2 and {len(pool)}, the images to draw")
    stream = [seed, anchor, 0, 1]  # none of fresh_noise's
    chosen = np.random.default_rng(stream).choice(len(pool), draws, replace=False)
    running = [[Welford() for _ in kept] for _ in features]
    for start in range(0, draws, batch_size):
        other = pool[torch.from_numpy(chosen[start : start + batch_size])].to(x_bar.device)
        for number, keep in enumerate(kept):
            mixed = torch.where(torch.from_numpy(keep).to(x_bar.device), x_bar, other)
            x = basis.inverse(mixed)
            for phi, row in zip(features, running, strict=True):
                row[number].add(phi(x))
    return [[welford.variance() for welford in row] for row in running]


def around(place: float, kept: Sequence[int]) -> tuple[int, int]:
    """Return the measured numbers between which a place was read on a straight line.

    >>> around(125.0, [0, 90, 160]), around(90.0, [0, 90, 160])
    ((90, 160), (90, 90))
    """
    m = np.asarray(kept)
    return int(m[m <= place][-1]), int(m[m >= place][0])
