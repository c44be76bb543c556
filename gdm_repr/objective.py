"""Training losses: Eq. (8), Eq. (7), and the moving group alone.

All are weighted squared errors of u, mean over the batch and over C*d elements:

    eq8      1                     every element, the paper's choice
    eq7      A'(t)^2               the velocity v = A'(t) u: only the moving group, by its speed
    active   d / |S_j| / scale^2   only the moving group, each example and each group alike; scale
                                   is the denoiser's output scale, so that with spectral
                                   preconditioning the network regresses a target of unit variance
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gdm_repr.boundary.isolation import isolated
from gdm_repr.denoiser import Denoiser
from gdm_repr.schedule import ScheduleOutput

Weight = Callable[[Denoiser, ScheduleOutput], Tensor]


def _eq8(denoiser: Denoiser, at: ScheduleOutput) -> Tensor:
    return torch.ones(1, 1, 1, device=at.A.device)


def _eq7(denoiser: Denoiser, at: ScheduleOutput) -> Tensor:
    return denoiser.expand(at.dA_dt) ** 2


def _active(denoiser: Denoiser, at: ScheduleOutput) -> Tensor:
    share = torch.bincount(denoiser.index.flatten(), minlength=denoiser.grouping.k)
    moving = denoiser.index == at.active[:, None, None]
    scale = torch.as_tensor(denoiser.output_scale(at.A))
    return moving * (denoiser.index.numel() / share[at.active])[:, None, None] / scale**2


LOSSES: dict[str, Weight] = {"eq8": _eq8, "eq7": _eq7, "active": _active}


@isolated
def loss(name: str, denoiser: Denoiser, x: Tensor, z: Tensor, at: ScheduleOutput) -> Tensor:
    """Return the loss of each example, shape (B,).

    Args:
        name: a key of :data:`LOSSES`.
        denoiser: u(x_t, A).
        x: data in the basis's coordinates, shape (B, C, d).
        z: noise, same shape.
        at: the schedule at the examples' times, levels (B, k).
    """
    A = denoiser.expand(at.A)
    x_t = denoiser.process.x_t(x, z, A)  # Eq. (11)
    error: Tensor = denoiser.process.u(x, z, A) - denoiser(x_t, at.A)  # Eqs. (8), (12)
    error = denoiser.axes.forward(error)  # rotated within groups, which ``active`` alone sees
    return (LOSSES[name](denoiser, at) * error**2).mean(dim=(1, 2))
