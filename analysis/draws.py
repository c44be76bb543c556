"""Fresh noise for an analysis: which latents, from which seeds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gdm_repr.boundary.isolation import isolated

SEED_GAP = 1_000_000_000  # between two seeds' latents: a GDM makes latent i from its seed + i


@isolated
def fresh_noise(shape: tuple[int, int], seed: int, anchor: int, draws: range) -> Tensor:
    """Return noise (D, C, d) of an anchor's draws, each from (seed, anchor, draw) alone."""
    rows = [np.random.default_rng([seed, anchor, draw]).standard_normal(shape) for draw in draws]
    return torch.from_numpy(np.stack(rows)).float()


def first_latent(seed: int) -> int:
    """Return what the first latent of an analysis is made from; seeds' latents never meet.

    Two runs that shared latents would agree too well, and intervals over seeds be too narrow.

    >>> first_latent(0), first_latent(2)
    (0, 2000000000)
    """
    return seed * SEED_GAP


def example_noise(like: Tensor, rows: slice, seed: int, stream: int) -> Tensor:
    """Return noise of like's rows, each from (seed, example, stream).

    Streams count from 1: to numpy [seed, example, 0] is [seed, example], which may have made z.
    """
    shape, draw = (like.shape[1], like.shape[2]), range(stream, stream + 1)
    noise = [fresh_noise(shape, seed, row, draw) for row in range(rows.start, rows.stop)]
    return torch.cat(noise).to(like.device, like.dtype)
