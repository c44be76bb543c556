"""Edits of latents: mix, vary, set and interpolate (Sec. 4.3, 4.5; Figs. 3, 7, 8, 9).

z are latents (B, C, d) in the basis's order, ~ N(0, I). An edit changes z on a set of elements M, a
mask (C, d), and leaves it alone elsewhere. What is generated before the first group that M touches
stays the original's: in a strict model exactly, and it is not made again. In any other it is, and
:func:`effects` measures how far it moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdm_repr.boundary.isolation import isolated
from gdm_repr.generation import Generation
from gdm_repr.grouping import Grouping, rms_by_group
from gdm_repr.masks import Mask, group_elements, untouched_groups


@isolated
def mix(z: Tensor, reference: Tensor, changed: Mask) -> Tensor:
    """Replace elements by the reference's (Fig. 7): (B, C, d) and (B, C, d) to (B, C, d)."""
    return torch.where(_on(z, changed), reference, z)


@isolated
def vary(z: Tensor, changed: Mask, noise: Tensor) -> Tensor:
    """Draw elements afresh (Fig. 9): (B, C, d) and noise (n, C, d) to (B, n, C, d)."""
    return torch.where(_on(z, changed), noise[None], z[:, None])


@isolated
def set_element(z: Tensor, element: Mask, value: float, *, shift: bool = False) -> Tensor:
    """Set an element to a value, or shift it by one, in units of N(0, 1)'s std (Fig. 8)."""
    return torch.where(_on(z, element), z + value if shift else torch.full_like(z, value), z)


@isolated
def linear(z0: Tensor, z1: Tensor, t: float) -> Tensor:
    """Return (1 - t) z0 + t z1 of vectors (B, n)."""
    return (1 - t) * z0 + t * z1


@isolated
def spherical(z0: Tensor, z1: Tensor, t: float) -> Tensor:
    """Return (sin((1 - t) w) z0 + sin(t w) z1) / sin(w), w the angle between vectors (B, n).

    Between equal norms it keeps the norm, as typical latents share theirs. Vectors of one
    direction, or of opposite ones (so all of a single number), have no arc; they move on the line.
    """
    a, b = z0.double(), z1.double()
    cos = torch.nn.functional.cosine_similarity(a, b, dim=1)[:, None].clamp(-1, 1)
    w = torch.arccos(cos)
    arc = (torch.sin((1 - t) * w) * a + torch.sin(t * w) * b) / torch.sin(w)
    return torch.where(cos.abs() > 1 - 1e-9, linear(a, b, t), arc).to(z0.dtype)


PATHS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "linear": linear,
    "spherical": spherical,
}


@isolated
def interpolate(
    z0: Tensor, z1: Tensor, changed: Mask, t: Sequence[float], path: str = "spherical"
) -> Tensor:
    """Go from z0 to z1 on some elements, the others z0's (Fig. 3).

    Args:
        z0: latents at t = 0, (B, C, d).
        z1: latents at t = 1, (B, C, d).
        changed: the elements that move, as one vector.
        t: n places in [0, 1].
        path: a key of :data:`PATHS`.

    Returns:
        Latents (B, n, C, d).

    Raises:
        ValueError: for an unknown path.
    """
    if path not in PATHS:
        raise ValueError(f"path={path!r}: unknown; choose from {', '.join(PATHS)}")
    on = _on(z0, changed)
    steps = []
    for place in t:
        z = z0.clone()
        z[:, on] = PATHS[path](z0[:, on], z1[:, on], place)
        steps.append(z)
    return torch.stack(steps, dim=1)


def _on(z: Tensor, mask: Mask) -> Tensor:
    return torch.from_numpy(mask).to(z.device)


@dataclass(frozen=True, eq=False)
class Edit:
    """One edited latent.

    Attributes:
        name: of the band or element that was edited.
        of: number of the original.
        z: the latent, (C, d).
        changed: where it may differ from the original's, bool (C, d).
    """

    name: str
    of: int
    z: Tensor
    changed: Mask


@dataclass(frozen=True)
class Effect:
    """What the edits of one name did to the decoded coefficients.

    Attributes:
        name: of the band or element.
        n: number of edits.
        kept: number of groups generated before the first one touched.
        early: largest change of a coefficient in those groups; NaN where there are none.
        rms: RMS change of each group's coefficients over all edits, by group number.
    """

    name: str
    n: int
    kept: int
    early: float
    rms: tuple[float, ...]


@isolated
def decode_edits(
    generation: Generation, states: Sequence[Tensor], edits: Sequence[Edit], batch_size: int
) -> Tensor:
    """Generate edits, each from the last state it shares with its original.

    Args:
        generation: the model.
        states: of the originals, from :meth:`Generation.states`.
        edits: E of them.
        batch_size: how many at a time.

    Returns:
        Data in the basis's coordinates, (E, C, d).
    """
    grouping = generation.flow.grouping
    done = [min(untouched_groups(grouping, edit.changed), len(states) - 1) for edit in edits]
    out = torch.stack([edit.z for edit in edits])
    for shared in sorted(set(done)):
        rows = [i for i, r in enumerate(done) if r == shared]
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            state = states[shared][[edits[i].of for i in part]]
            out[part] = generation.finish(state, out[part], shared)
    return out


@isolated
def effects(
    grouping: Grouping, data: Tensor, edits: Sequence[Edit], edited: Tensor
) -> Iterator[Effect]:
    """Measure what each name's edits changed, against the unedited reconstructions.

    Args:
        grouping: the groups.
        data: the originals' reconstructions in the basis's coordinates, (B, C, d).
        edits: E of them.
        edited: what they decode to, (E, C, d).
    """
    for name in dict.fromkeys(edit.name for edit in edits):
        rows = [i for i, edit in enumerate(edits) if edit.name == name]
        change = edited[rows] - data[[edits[i].of for i in rows]]
        kept = untouched_groups(grouping, edits[rows[0]].changed)
        before = np.broadcast_to(
            group_elements(grouping, grouping.order[:kept]), tuple(change.shape[1:])
        )
        early = float(change[:, _on(change, before.copy())].abs().max()) if kept else math.nan
        rms = rms_by_group(change, grouping).square().mean(0).sqrt()
        yield Effect(name, len(rows), kept, early, tuple(rms.tolist()))
