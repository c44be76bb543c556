"""Denoising loss of each group on images: how well u is predicted, and where on the path.

While group j moves from data (theta = 0) to noise (theta = pi/2), u's error over the group's
elements, in units of what the independent Gaussian of the model's mean mu and std s along its axes
(:mod:`gdm_repr.axes`; the elements, or principal axes) leaves open:

    loss_j(theta) = E mean_{n in S_j} [V^T (u - u*)_n R_n / (W s_n)]^2,    u* = alpha' x + sigma' z,

with W, R and the whitened angle theta of :mod:`gdm_repr.process`. 1 is reached without training,
by that Gaussian; less is structure that the network found. It is the ``active`` loss of
preconditioned models, and compares between models of the same axes. Groups generated before j are
data, those after are noise. Levels are the midpoints of equal steps of theta; each image and level
has noise of its own, by seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from gdm_repr.analysis.draws import fresh_noise
from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.boundary.isolation import isolated
from gdm_repr.coordinates import Flow, WhitenedCoordinate
from gdm_repr.denoiser import Denoiser


@dataclass(frozen=True)
class GroupLoss:
    """Loss of one group over n images, with 95 % intervals over them.

    Attributes:
        group: name.
        n: images.
        mean: over the levels.
        control: the independent Gaussian's, on the same images and noise.
        theta: the levels, angles in (0, pi/2).
        at: the loss at each of them.
    """

    group: str
    n: int
    mean: Estimate
    control: Estimate
    theta: tuple[float, ...]
    at: tuple[Estimate, ...]


@isolated
@torch.no_grad()
def group_loss(
    denoiser: Denoiser,
    x_bar: Tensor,
    group: int,
    *,
    levels: int = 8,
    seed: int = 0,
    batch_size: int = 64,
    advance: Callable[[int], object] = lambda evaluations: None,
) -> GroupLoss:
    """Measure one group's loss.

    Args:
        denoiser: u.
        x_bar: images in the basis's coordinates, (n, C, d), on the denoiser's device.
        group: its number.
        levels: of theta.
        seed: of the noise.
        batch_size: evaluations together; it does not change the result.
        advance: told how many evaluations were made.

    Raises:
        ValueError: for fewer than 2 images or no level.
    """
    n = len(x_bar)
    if n < 2 or levels < 1:
        raise ValueError(f"n={n}, levels={levels}: at least 2 images and 1 level are needed")
    grouping, index = denoiser.grouping, denoiser.index
    theta = (np.arange(levels) + 0.5) * (np.pi / 2 / levels)
    diffused = grouping.diffusion_order[: grouping.diffusion_order.index(group)]
    A = torch.ones(levels, grouping.k, dtype=torch.float64)
    A[:, list(diffused)] = 0
    flow_level = WhitenedCoordinate(_flow(denoiser)).level
    A[:, group] = flow_level(group, torch.from_numpy(theta))
    A = A.to(x_bar.device, x_bar.dtype)
    own = (index == group).expand(x_bar.shape[1:])
    shape = (x_bar.shape[1], x_bar.shape[2])
    losses: list[Tensor] = []
    together = max(1, batch_size // levels)
    for start in range(0, n, together):
        part = range(start, min(start + together, n))
        z = torch.cat([fresh_noise(shape, seed, i, range(levels)) for i in part]).to(x_bar)
        x, A_t = x_bar[part].repeat_interleave(levels, 0), A.repeat(len(part), 1)
        losses.append(_losses(denoiser, x, z, A_t)[:, :, own].mean(2).double().cpu())
        advance(len(x))
    each = torch.cat(losses, 1).reshape(2, n, levels).numpy()
    return GroupLoss(
        grouping.names[group],
        n,
        _over_images(each[0].mean(1)),
        _over_images(each[1].mean(1)),
        tuple(theta.tolist()),
        tuple(_over_images(column) for column in each[0].T),
    )


def _losses(denoiser: Denoiser, x: Tensor, z: Tensor, A: Tensor) -> Tensor:
    """Return squared errors of the model and of the Gaussian, (2, B, C, d)."""
    process, levels = denoiser.process, denoiser.expand(A)
    w = denoiser.whitened(A)
    axes = denoiser.axes
    x_t = process.x_t(x, z, levels)
    error = axes.forward(denoiser(x_t, A) - process.u(x, z, levels))
    model = error * w.R / (process.W * axes.std)
    # u* less its linear guess
    gaussian = w.sin * axes.forward(x - denoiser.mean) / axes.std - w.cos * axes.forward(z)
    return torch.stack([model, gaussian]).square()


def _flow(denoiser: Denoiser) -> Flow:
    mean, std = denoiser.mean, denoiser.std
    return Flow(denoiser, denoiser.grouping, denoiser.process, mean, std, denoiser.axes)


def _over_images(values: NDArray[np.float64]) -> Estimate:
    """Return the mean with its t interval."""
    n, mean = len(values), float(values.mean())
    half = float(student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half)
