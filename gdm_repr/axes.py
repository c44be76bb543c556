"""Axes along which a group's numbers are uncorrelated: principal axes within a group, or none.

Whitening by every element's own std leaves correlations: a gradient across the image has many
coefficients that go together, the channels of a coefficient do, too. Inside a group A is one
number, so any rotation V_j of its C |S_j| numbers commutes with A, and the group may be whitened
along its principal axes instead,

    w = V R^-1 V^T (x_t - alpha mu),   R^2 = alpha^2 s^2 + sigma^2 with s the stds along the axes,

which is again the elements' own coordinates (w = z at A = 0) and turns a Gaussian group of any
covariance into white noise. Rotations never mix groups. The method sees the axes through three
calls: :meth:`Axes.forward`, :meth:`Axes.inverse` and the stds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from gdm_repr.boundary.isolation import isolated
from gdm_repr.grouping import Grouping, Shape

LARGEST = 1024  # numbers of a group that still gets axes: the rotation has their square
STD_FLOOR = 1e-3  # elements that never vary (a digit's corner pixel) still need a scale


class Axes(nn.Module):
    """Rotations within groups and the stds along them.

    Args:
        grouping: the groups.
        std: data std of every element, positive, shape (C, d).
        rotations: orthogonal V of some groups by number, shape (D, D), columns are axes; the
            group's D numbers in the order of (C, d), flattened. Other groups keep their elements.
        along: std along every axis, shape (C, d), in the places of the group's numbers; needed
            with rotations.

    Attributes:
        std: std along every axis, or of every element of a group without axes, shape (C, d).
        scale: one std for each group, shape (k,): the rms; of a group with axes the geometric
            mean, since its stds may differ a hundredfold.
    """

    std: Tensor
    scale: Tensor

    @isolated
    def __init__(
        self,
        grouping: Grouping,
        std: Tensor,
        rotations: Mapping[int, Tensor] | None = None,
        along: Tensor | None = None,
    ) -> None:
        """Keep rotations and stds."""
        super().__init__()
        self.groups = tuple(sorted(rotations or {}))
        index = np.broadcast_to(grouping.index, tuple(std.shape)).ravel()
        chosen = std if along is None else along
        # Not in the state: they are the data's, and a checkpoint keeps them beside mean and std.
        self.register_buffer("std", chosen, persistent=False)
        for group in self.groups:
            assert rotations is not None
            places = torch.from_numpy(np.flatnonzero(index == group)).to(std.device)
            self.register_buffer(f"places_{group}", places, persistent=False)
            # laid out as a file gives it back: products of another layout round otherwise
            rotation = rotations[group].contiguous()
            self.register_buffer(f"rotation_{group}", rotation, persistent=False)
        flat = chosen.double().cpu().numpy().ravel()
        scale = [
            math.exp(np.log(flat[index == j]).mean())
            if j in self.groups
            else math.sqrt((flat[index == j] ** 2).mean())
            for j in range(grouping.k)
        ]
        scales = torch.tensor(scale, dtype=torch.float64, device=std.device)
        self.register_buffer("scale", scales, persistent=False)

    def rotation(self, group: int) -> Tensor:
        """Return V of a group that has axes, shape (D, D)."""
        V: Tensor = getattr(self, f"rotation_{group}")
        return V

    @isolated
    def forward(self, y: Tensor) -> Tensor:
        """Return the coordinates of y (.., C, d) along the axes, V^T y."""
        return self._turned(y, inverse=False)

    @isolated
    def inverse(self, y: Tensor) -> Tensor:
        """Undo :meth:`forward`: V y."""
        return self._turned(y, inverse=True)

    def _turned(self, y: Tensor, *, inverse: bool) -> Tensor:
        if not self.groups:
            return y
        flat = y.flatten(-2)
        out = flat.clone()
        for group in self.groups:
            places, V = getattr(self, f"places_{group}"), self.rotation(group).to(y.dtype)
            out[..., places] = flat[..., places] @ (V.mT if inverse else V)
        return out.view(y.shape)


def axes_sizes(grouping: Grouping, shape: Shape) -> dict[int, int]:
    """Count the numbers of every group that gets axes, for images (C, H, W): up to 1,024."""
    index = np.broadcast_to(grouping.index, (shape[0], shape[1] * shape[2]))
    sizes = np.bincount(index.ravel(), minlength=grouping.k)
    return {group: int(size) for group, size in enumerate(sizes) if size <= LARGEST}


@isolated
def principal_axes(
    grouping: Grouping, mean: Tensor, std: Tensor, batches: Iterable[Tensor]
) -> tuple[dict[int, Tensor], Tensor]:
    """Find each group's principal axes; groups of over 1,024 numbers keep their elements.

    Args:
        grouping: the groups.
        mean: data mean of every element, shape (C, d).
        std: data std of every element, shape (C, d).
        batches: data in the basis's coordinates, each (B, C, d).

    Returns:
        Rotations by group and stds along the axes (C, d), as :class:`Axes` takes them.
    """
    index = np.broadcast_to(grouping.index, tuple(std.shape)).ravel()
    places = {j: np.flatnonzero(index == j) for j in range(grouping.k)}
    sums = {
        j: torch.zeros(len(p), len(p), dtype=torch.float64)
        for j, p in places.items()
        if len(p) <= LARGEST
    }
    count = 0
    for batch in batches:
        centred = (batch.double() - mean).flatten(1)
        count += len(centred)
        for j, total in sums.items():
            own = centred[:, places[j]]
            total += own.mT @ own
    rotations, along = {}, std.double().flatten().clone()
    for j, total in sums.items():
        variances, rotations[j] = torch.linalg.eigh(total / count)
        along[places[j]] = variances.clamp(min=STD_FLOOR**2).sqrt()
    return rotations, along.view(std.shape)
