"""The forward process x_t(x, z, A), its regression target u, and conversions (Eqs. 1, 2, 6, 11).

Both interpolations are written x_t = alpha x + sigma z with coefficients that depend on the level A
alone, and u is the velocity along A:

    u = dx_t/dA = alpha' x + sigma' z,        dx_t = A'(t) u dt        (Eq. 9)

For the linear interpolation alpha = A, sigma = 1 - A, so u = x - z (Eq. 8). For the
variance-preserving one alpha = sin(pi A / 2), sigma = cos(pi A / 2), so alpha^2 + sigma^2 = 1
(Eq. 1). In both, W = alpha' sigma - alpha sigma' is constant, so x and z follow from (x_t, u) at
every level, ends included.

All functions act elementwise; tensors broadcast, usually (B, C, d) against levels (B, 1, d).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Coefficients:
    """alpha, sigma and their derivatives with respect to the level A, all of A's shape."""

    alpha: Tensor
    sigma: Tensor
    dalpha_dA: Tensor
    dsigma_dA: Tensor


@dataclass(frozen=True)
class Process:
    """An interpolation between data and noise.

    Attributes:
        name: key in :data:`PROCESSES`.
        coefficients: level A in [0, 1] to :class:`Coefficients`.
        level: p, q >= 0 to the level A at which alpha : sigma = p : q.
        W: the constant alpha' sigma - alpha sigma'.
    """

    name: str
    coefficients: Callable[[Tensor], Coefficients]
    level: Callable[[Tensor, Tensor], Tensor]
    W: float

    def x_t(self, x: Tensor, z: Tensor, A: Tensor) -> Tensor:
        """Return alpha x + sigma z (Eqs. 1, 2, 6, 11)."""
        c = self.coefficients(A)
        return c.alpha * x + c.sigma * z

    def u(self, x: Tensor, z: Tensor, A: Tensor) -> Tensor:
        """Return the target u = alpha' x + sigma' z; x - z when linear (Eq. 8)."""
        c = self.coefficients(A)
        return c.dalpha_dA * x + c.dsigma_dA * z

    def x_from_u(self, u: Tensor, x_t: Tensor, A: Tensor) -> Tensor:
        """Return the x that (x_t, u) imply."""
        c = self.coefficients(A)
        return (c.sigma * u - c.dsigma_dA * x_t) / self.W

    def z_from_u(self, u: Tensor, x_t: Tensor, A: Tensor) -> Tensor:
        """Return the z that (x_t, u) imply."""
        c = self.coefficients(A)
        return (c.dalpha_dA * x_t - c.alpha * u) / self.W


def _linear(A: Tensor) -> Coefficients:
    one = torch.ones_like(A)
    return Coefficients(A, 1 - A, one, -one)


def _variance_preserving(A: Tensor) -> Coefficients:
    quarter = math.pi / 2
    sin, cos = torch.sin(quarter * A), torch.cos(quarter * A)
    return Coefficients(sin, cos, quarter * cos, -quarter * sin)


def _linear_level(p: Tensor, q: Tensor) -> Tensor:
    return p / (p + q)


def _variance_preserving_level(p: Tensor, q: Tensor) -> Tensor:
    return torch.atan2(p, q) * (2 / math.pi)


PROCESSES: dict[str, Process] = {
    "linear": Process("linear", _linear, _linear_level, 1.0),
    "variance-preserving": Process(
        "variance-preserving", _variance_preserving, _variance_preserving_level, math.pi / 2
    ),
}


@dataclass(frozen=True)
class Whitening:
    """Scales that give every element unit variance at its level; all (B or 1, C, d).

    With data mean mu and std s: R^2 = alpha^2 s^2 + sigma^2, cos = alpha s / R, sin = sigma / R, so
    that w = (x_t - alpha mu) / R = cos (x - mu) / s + sin z has mean 0 and variance 1.
    """

    alpha_mean: Tensor
    R: Tensor
    cos: Tensor
    sin: Tensor
    dalpha_dA: Tensor
    dsigma_dA: Tensor


def whitening(process: Process, mean: Tensor, std: Tensor, A: Tensor) -> Whitening:
    """Return the whitening scales at levels A (B, C or 1, d), for mean and std of shape (C, d)."""
    c = process.coefficients(A)
    R = torch.sqrt((c.alpha * std) ** 2 + c.sigma**2)
    return Whitening(c.alpha * mean, R, c.alpha * std / R, c.sigma / R, c.dalpha_dA, c.dsigma_dA)
