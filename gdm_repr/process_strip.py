"""How images come about: the state x_t at even steps of generation (Figs. 1b, 2, 13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gdm_repr.api import GDM
from gdm_repr.boundary.isolation import isolated
from gdm_repr.ode import Plan, decode
from gdm_repr.pictures import LabelledSheet, label_sheet

MOVES = 1e-6  # a level nearer than this to 0 or 1 is that of a group that stands still


@dataclass(frozen=True, eq=False)
class Strip:
    """States of the generation of n images.

    Attributes:
        x: in pixels, (frames, n, C, H, W), not clipped.
        made: the same with the data's mean in place of groups that are noise still.
        labels: of the frames: the share of all evaluations, and below it the group in the making.
    """

    x: Tensor
    made: Tensor
    labels: tuple[str, ...]


@isolated
def process_frames(model: GDM, z: Tensor, plan: Plan, frames: int) -> Strip:
    """Return states of the generation of some images.

    The states are those at which the network is asked, evenly chosen, the noise first; the last
    frame is the image. A group not yet generated is its noise, one that is done its data.

    Args:
        model: the model.
        z: latents (n, C, d).
        plan: by which they are decoded.
        frames: how many, at least 2.

    Raises:
        ValueError: for fewer than 2 frames.
    """
    if frames < 2:
        raise ValueError(f"frames={frames}: must be at least 2, the noise and the image")
    seen: list[Tensor] = []
    levels: list[Tensor] = []

    def u(x_t: Tensor, A: Tensor) -> Tensor:
        seen.append(x_t)
        levels.append(A[0].cpu())
        return model.flow.u(x_t, A)

    z = z.to(model.device, torch.float32)
    x = decode(replace(model.flow, u=u), z, plan).y
    chosen = np.linspace(0, len(seen), frames).round().astype(int)
    states = [*seen, x]
    names = {0: "noise", len(seen): "image"}
    labels = [
        names.get(i) or f"{100 * i / len(seen):.0f} %\n{_in_the_making(model, levels[i])}"
        for i in chosen
    ]
    levels.append(torch.ones_like(levels[0]))  # of the image
    index, mean = model.denoiser.index, model.flow.mean
    whole = [states[i] for i in chosen]
    made = [
        torch.where((levels[i].to(index.device) > MOVES)[index], states[i], mean) for i in chosen
    ]
    x, so_far = (
        torch.stack([model.basis.inverse(each) for each in part]) for part in (whole, made)
    )
    return Strip(x, so_far, tuple(labels))


def process_sheet(
    model: GDM, z: Tensor, plan: Plan, frames: int, rows: Sequence[str]
) -> LabelledSheet:
    """Draw the frames of each image in a row, from noise to the image, and below what is made.

    The noise of fine bands hides the coarse ones that are there already; the second row has them
    alone.

    Args:
        model: as for :func:`process_frames`.
        z: see there.
        plan: see there.
        frames: see there.
        rows: a label for each image.
    """
    strip = process_frames(model, z, plan, frames)
    pictures = torch.stack([strip.x, strip.made], 2).flatten(1, 2)  # two rows an image
    labels = [label for row in rows for label in (row, "made so far")]
    return label_sheet(list(np.moveaxis(pictures.cpu().numpy(), 0, 1)), labels, strip.labels)


def _in_the_making(model: GDM, levels: Tensor) -> str:
    """Name the group that moves at these levels (k,), or else the one that was done last."""
    order, names = model.grouping.order, model.grouping.names
    done = [j for j in order if levels[j] > 1 - MOVES]
    moving = [j for j in order if MOVES <= levels[j] <= 1 - MOVES]
    return names[moving[0]] if moving else f"{names[done[-1]]} done" if done else ""
