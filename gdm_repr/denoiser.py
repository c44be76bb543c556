"""The denoiser: network + conditioning + preconditioning = the callable u(x_t, A) (Eq. 8, A.1).

State lives in the basis's coordinates, x_t of shape (B, C, d); the network sees pixels, unless
``inputs: coefficients`` shows it the coefficients (to see what that costs, Fig. 10). Per element n
with data mean mu and std s, at level A with coefficients alpha and sigma,

    R^2 = alpha^2 s^2 + sigma^2,   cos(theta) = alpha s / R,   sin(theta) = sigma / R,
    w = (x_t - alpha mu) / R,      of unit variance at every level.

``spectral`` preconditioning adds the closed-form u of N(mu, s^2) outside the network and scales the
network's output F by the std of what is left, W s / R, which is s / sqrt(a^2 s^2 + (1-a)^2) when
linear:

    u = alpha' mu + (alpha' s cos(theta) + sigma' sin(theta)) w + (W s / R) F(w, A)

so F's target is sin(theta) (x - mu) / s - cos(theta) z: unit variance, uncorrelated with w, and
exactly minus the velocity dw/dtheta of the whitened :mod:`gdm_repr.coordinates`. ``principal`` is
the same along each group's principal axes (:mod:`gdm_repr.axes`): the closed form is that of
N(mu, S_j) with the group's full covariance. ``none`` is the paper's u = F(x_t, A).

A ``strict`` denoiser hides elements with a = 0 from the network, so that u cannot depend on groups
that are not generated yet: Prop. 3.3 and the block-triangular dz/dx hold by construction. Such an
element's noise is known, z = x_t, and is added outside the network under ``none``, too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gdm_repr.axes import STD_FLOOR, Axes
from gdm_repr.basis import Basis
from gdm_repr.boundary.isolation import isolated
from gdm_repr.config import DenoiserConfig
from gdm_repr.grouping import Grouping
from gdm_repr.process import Process, Whitening, whitening


class Denoiser(nn.Module):
    """u(x_t, A) for one basis, grouping and process.

    Args:
        network: maps (B, C_in, H, W) and levels (B, m) to (B, C, H, W).
        basis: U.
        grouping: the groups; levels are one per group.
        process: the interpolation.
        config: conditioning, preconditioning, strictness.
        mean: data mean of every element in the basis, shape (C, d).
        std: data std of every element in the basis, shape (C, d); floored at 1e-3.
        axes: along which ``principal`` whitens; the elements when None.
    """

    @isolated
    def __init__(
        self,
        network: nn.Module,
        basis: Basis,
        grouping: Grouping,
        process: Process,
        config: DenoiserConfig,
        mean: Tensor,
        std: Tensor,
        axes: Axes | None = None,
    ) -> None:
        """Keep the parts; statistics become buffers."""
        super().__init__()
        self.network, self.basis, self.grouping = network, basis, grouping
        self.process, self.config = process, config
        self.autocast: torch.dtype | None = None
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float().clamp(min=STD_FLOOR))
        self.register_buffer("index", torch.from_numpy(grouping.index), persistent=False)
        self.axes = Axes(grouping, self.std) if axes is None else axes
        self.mean: Tensor
        self.std: Tensor
        self.index: Tensor

    @staticmethod
    def network_inputs(config: DenoiserConfig, channels: int, k: int) -> dict[str, int]:
        """Return the network's channel counts and number of levels for a configuration."""
        concat = config.conditioning == "concat"
        return {
            "in_channels": channels * (2 if concat else 1),
            "out_channels": channels,
            "levels": 1 if concat else k,
        }

    def expand(self, A: Tensor) -> Tensor:
        """Spread levels (B, k) over elements: (B, 1 or C, d)."""
        return A[:, self.index]

    @isolated
    def forward(self, x_t: Tensor, A: Tensor) -> Tensor:
        """Return u(x_t, A).

        Args:
            x_t: state in the basis's coordinates, shape (B, C, d).
            A: level of each group, shape (B, k) or (1, k).

        Returns:
            u, shape (B, C, d), in x_t's dtype.
        """
        A = A.to(x_t.dtype)
        if self.config.preconditioning == "none":
            u = self.residual(x_t, A)
            if not self.config.strict:
                return u
            # an element hidden from the network is its own noise: E[z | x_t] = x_t
            elements = self.expand(A)
            return u + (elements == 0) * self.process.coefficients(elements).dsigma_dA * x_t
        axes, w = self.axes, self.whitened(A)
        w_t = (axes.forward(x_t) - w.alpha_mean) / w.R
        linear = w.dalpha_dA * axes.std * w.cos + w.dsigma_dA * w.sin
        F = axes.forward(self.residual(axes.inverse(w_t), A))
        return axes.inverse(
            w.dalpha_dA * axes.forward(self.mean) + linear * w_t + self.output_scale(A) * F
        )

    @isolated
    def whitened(self, A: Tensor) -> Whitening:
        """Return the scales along every axis at levels A of shape (B, k)."""
        return whitening(self.process, self.axes.forward(self.mean), self.axes.std, self.expand(A))

    @isolated
    def output_scale(self, A: Tensor) -> Tensor | float:
        """Return the std of u's residual along the axes, W s / R, (B, C, d); 1 for ``none``."""
        if self.config.preconditioning == "none":
            return 1.0
        return self.process.W * self.axes.std / self.whitened(A).R

    def told(self, A: Tensor) -> Tensor:
        """Return the levels the network is told, in [0, 1], shape (B, k).

        A itself without preconditioning. With it each group's angle, 1 - 2 theta / pi: the target
        bends on that scale, however small the group's std is, so that slow embeddings serve.
        """
        if self.config.preconditioning == "none":
            return A
        c = self.process.coefficients(A)
        return torch.atan2(c.alpha * self.axes.scale.to(A.dtype), c.sigma) * (2 / math.pi)

    @isolated
    def residual(self, state: Tensor, A: Tensor) -> Tensor:
        """Run the network on a state in the basis's coordinates: (B, C, d) to the same shape."""
        if not len(state):  # of which convolutions make an error
            return state
        A = A.to(state.dtype).expand(len(state), -1)
        if self.config.strict:
            state = state * (self.expand(A) > 0)
        in_pixels = self.config.inputs == "pixels"
        shown = self.basis.inverse(state) if in_pixels else self.basis.layout(state)
        levels = self.told(A)
        if self.config.conditioning == "concat":
            grid = self.basis.layout(self.expand(levels).expand_as(state))
            shown, levels = torch.cat([shown, grid], dim=1), levels.mean(dim=1, keepdim=True)
        with torch.autocast(
            state.device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None
        ):
            out: Any = self.network(shown.float(), levels.float())
        out = out.to(state.dtype)
        return self.basis.forward(out) if in_pixels else self.basis.elements(out)
