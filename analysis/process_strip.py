"""How images come about: the state x_t at even steps of generation (Figs. 1b, 2, 13)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gdm_repr.api import GDM
from gdm_repr.ode import Plan, decode


def process_frames(model: GDM, z: Tensor, plan: Plan, frames: int) -> Tensor:
    """Return states of the generation of some images, in pixels.

    The states are those at which the network is asked, evenly chosen, the noise first; the last
    frame is the image. A group not yet generated is its noise, one that is done its data.

    Args:
        model: the model.
        z: latents (n, C, d).
        plan: by which they are decoded.
        frames: how many, at least 2.

    Returns:
        (frames, n, C, H, W), not clipped.

    Raises:
        ValueError: for fewer than 2 frames.
    """
    if frames < 2:
        raise ValueError(f"frames={frames}: must be at least 2, the noise and the image")
    seen: list[Tensor] = []

    def u(x_t: Tensor, A: Tensor) -> Tensor:
        seen.append(x_t)
        return model.flow.u(x_t, A)

    z = z.to(model.device, torch.float32)
    x = decode(replace(model.flow, u=u), z, plan).y
    chosen = np.linspace(0, len(seen), frames).round().astype(int)
    states = [*seen, x]
    return torch.stack([model.basis.inverse(states[i]) for i in chosen])
