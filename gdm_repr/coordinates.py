"""State and clock of the ODE: uniform, the paper's, and whitened.

Only the path of A matters, so each group has a *clock* tau of its own, from tau = 0 (data) to its
end (noise). State y and clock come in two coordinates:

    uniform    y = x_t, tau = 1 - a_j, dy/dtau = -u: the paper's steps, uniform in t.
    whitened   y = w = (x_t - alpha mu) / R (:class:`gdm_repr.process.Whitening`), tau = the angle
               theta of the group's rms std, uniform on [0, pi/2]. With E[x] and E[z] implied by
               (x_t, u),
                   dw/dtheta = cos(theta) E[z] - sin(theta) (E[x] - mu) / s,
               every element by its own std s and angle. For independent Gaussian data the right
               side is 0 and one step is exact: what is left to integrate is structure, not scale.
               With :mod:`gdm_repr.axes` the same holds along these, and y is turned back, so that
               y = z at A = 0 either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_repr.axes import Axes
from gdm_repr.grouping import Grouping, group_std
from gdm_repr.process import Process, whitening


@dataclass(frozen=True, eq=False)
class Flow:
    """The vector field of one model and what it was made for.

    Attributes:
        u: (x_t (B, C, d), A (1, k)) -> u (B, C, d), in the basis's coordinates.
        grouping: the groups and their order.
        process: the interpolation.
        mean: data mean of every element, shape (C, d).
        std: data std of every element, positive, shape (C, d).
        axes: along which whitened coordinates whiten; the elements when None.
    """

    u: Callable[[Tensor, Tensor], Tensor]
    grouping: Grouping
    process: Process
    mean: Tensor
    std: Tensor
    axes: Axes | None = None


class UniformCoordinate:
    """y = x_t and tau = 1 - a_j, the paper's."""

    def __init__(self, flow: Flow) -> None:
        """Keep the flow."""
        self.flow = flow

    def clock(self, group: int, n: int) -> Tensor:
        """Return n + 1 values of tau from data to noise, float64."""
        return torch.linspace(0, 1, n + 1, dtype=torch.float64)

    def level(self, group: int, tau: Tensor) -> Tensor:
        """Return a_j at tau."""
        return 1 - tau

    def enter(self, x: Tensor) -> Tensor:
        """Turn data, at A = I, into a state."""
        return x

    def leave(self, y: Tensor) -> Tensor:
        """Turn a state at A = I into data."""
        return y

    def velocity(self, y: Tensor, elements: Tensor, A: Tensor, group: int) -> Tensor:
        """Return dy/dtau of all elements at levels A (1, k), spread over ``elements``."""
        return -self.flow.u(y, A)


class WhitenedCoordinate(UniformCoordinate):
    """y = w and tau = theta of the group's one std; see the module's docstring."""

    def __init__(self, flow: Flow) -> None:
        """Keep the flow, its axes and each group's one std."""
        super().__init__(flow)
        self.axes = Axes(flow.grouping, flow.std) if flow.axes is None else flow.axes
        self.std = self.axes.std.to(flow.std.dtype)
        self.mean = self.axes.forward(flow.mean)
        # Halfway between rms and geometric mean, where axes make these differ. Wide axes bend late,
        # narrow ones early. Round trip of an early model, 48 steps: .0047, at the ends .0072, .012.
        rms = group_std(flow.grouping, flow.std)
        scale = self.axes.scale.tolist()
        self.group_std = [math.sqrt(r * s) for r, s in zip(rms, scale, strict=True)]

    def clock(self, group: int, n: int) -> Tensor:
        """Return n + 1 angles from 0 (data) to pi/2 (noise), float64."""
        return torch.linspace(0, math.pi / 2, n + 1, dtype=torch.float64)

    def level(self, group: int, tau: Tensor) -> Tensor:
        """Return the a_j at which the group's angle is tau."""
        p, q = torch.cos(tau), self.group_std[group] * torch.sin(tau)
        return self.flow.process.level(p, q).clamp(0, 1)

    def enter(self, x: Tensor) -> Tensor:
        """Standardise data."""
        return self.axes.inverse((self.axes.forward(x) - self.mean) / self.std)

    def leave(self, y: Tensor) -> Tensor:
        """Undo :meth:`enter`."""
        return self.axes.inverse(self.mean + self.std * self.axes.forward(y))

    def velocity(self, y: Tensor, elements: Tensor, A: Tensor, group: int) -> Tensor:
        """Return dw/dtau = dw/dtheta_n dtheta_n/dtau."""
        flow, axes, s, s_j = self.flow, self.axes, self.std, self.group_std[group]
        w = whitening(flow.process, self.mean, s, elements)
        x_t = w.alpha_mean + w.R * axes.forward(y)
        u = axes.forward(flow.u(axes.inverse(x_t), A))
        z = flow.process.z_from_u(u, x_t, elements)
        x = flow.process.x_from_u(u, x_t, elements)
        c = flow.process.coefficients(elements)
        R2_j = (c.alpha * s_j) ** 2 + c.sigma**2
        dw = (w.cos * z - w.sin * (x - self.mean) / s) * (s / s_j * R2_j / w.R**2)
        return axes.inverse(dw)


COORDINATES: dict[str, type[UniformCoordinate]] = {
    "uniform": UniformCoordinate,
    "whitened": WhitenedCoordinate,
}
