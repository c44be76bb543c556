"""Closed-form u*(x_t, A) = E[u | x_t] for Gaussian and mixture data, and the exact encoder.

For x ~ N(mean, S), z ~ N(0, I) and x_t = alpha x + sigma z, with diagonal alpha and sigma,

    E[x | x_t] = mean + S alpha G r,   E[z | x_t] = sigma G r,
    G = (alpha S alpha + sigma^2)^-1,  r = x_t - alpha mean,

and u* = alpha' E[x | x_t] + sigma' E[z | x_t]. For linear interpolation and zero mean this is
(S A - (I - A)) (A S A + (I - A)^2)^-1 x_t. A mixture weighs its components' u by their posterior.
Oracles are what tests and the self-test stand on: no training, no error but the solver's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_repr.boundary.isolation import isolated
from gdm_repr.grouping import Grouping
from gdm_repr.process import PROCESSES, Process


@dataclass(frozen=True, eq=False)
class MixtureOracle:
    """u* for a mixture of Gaussians over all C*d elements, in the basis's coordinates.

    Attributes:
        weights: (M,) positive, sum 1.
        means: (M, D), D = C*d.
        covariances: (M, D, D), positive definite.
        grouping: the groups; levels are one per group.
        process: the interpolation.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    grouping: Grouping
    process: Process = PROCESSES["linear"]

    @isolated
    def __call__(self, x_t: Tensor, A: Tensor) -> Tensor:
        """Return E[u | x_t].

        Args:
            x_t: state, shape (B, C, d).
            A: level of each group, shape (B, k) or (1, k), equal for the whole batch.

        Returns:
            u, shape (B, C, d).
        """
        if not torch.equal(A, A[:1].expand_as(A)):
            raise ValueError("oracle: A must be equal for the whole batch; call it once per level")
        index = torch.from_numpy(self.grouping.index).to(x_t.device)
        level = A[0][index].expand(x_t.shape[1], -1).reshape(-1).to(x_t.dtype)
        c = self.process.coefficients(level)
        flat = x_t.reshape(len(x_t), -1)
        S, mean = self.covariances, self.means[:, None]
        r = flat - c.alpha * mean  # (M, B, D)
        factor = torch.linalg.cholesky(c.alpha[:, None] * S * c.alpha + torch.diag(c.sigma**2))
        Gr = torch.cholesky_solve(r.mT, factor).mT
        x = mean + (Gr * c.alpha) @ S  # E[x | x_t] of each component
        u = c.dalpha_dA * x + c.dsigma_dA * c.sigma * Gr
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        log_density = -0.5 * ((r * Gr).sum(2) + log_det[:, None])
        posterior = (self.weights.log()[:, None] + log_density).softmax(0)
        expected: Tensor = (posterior[..., None] * u).sum(0)
        return expected.reshape(x_t.shape)

    @isolated
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw data, shape (n, D)."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        roots = torch.linalg.cholesky(self.covariances)
        return self.means[component] + torch.einsum("bij,bj->bi", roots[component], noise)


@isolated
def gaussian_oracle(
    mean: Tensor, S: Tensor, grouping: Grouping, process: Process = PROCESSES["linear"]
) -> MixtureOracle:
    """Return the oracle of N(mean, S), a mixture of one component; mean (D,), S (D, D)."""
    return MixtureOracle(torch.ones(1, dtype=S.dtype), mean[None], S[None], grouping, process)


@isolated
def block_whitening(x: Tensor, mean: Tensor, S: Tensor, grouping: Grouping) -> Tensor:
    """Encode N(mean, S) exactly: block-triangular whitening in generation order.

    z_g = Cov(x_g | earlier)^(-1/2) (x_g - E[x_g | earlier]) with the symmetric root, where
    "earlier" are the groups generated before g, still data while g is diffused. One element a group
    gives the Cholesky (Knothe-Rosenblatt) map; one group gives ZCA whitening.

    Args:
        x: data, shape (B, D).
        mean: shape (D,).
        S: covariance, shape (D, D).
        grouping: groups over the D elements.

    Returns:
        z, shape (B, D).
    """
    channels = S.shape[0] // grouping.d
    labels = torch.from_numpy(grouping.index).expand(channels, -1).reshape(-1)
    centred, z = x - mean, torch.empty_like(x)
    for rank, group in enumerate(grouping.order):
        earlier = torch.isin(labels, torch.tensor(grouping.order[:rank]))
        own = labels == group
        coefficient = torch.linalg.solve(S[earlier][:, earlier], S[earlier][:, own])
        conditional = S[own][:, own] - S[own][:, earlier] @ coefficient
        value, vector = torch.linalg.eigh(conditional)
        residual = centred[:, own] - centred[:, earlier] @ coefficient
        z[:, own] = residual @ (vector / value.sqrt()) @ vector.T
    return z


@isolated
def class_mixture(x: Tensor, labels: Tensor, grouping: Grouping) -> MixtureOracle:
    """Fit one Gaussian to each class of images: real statistics of which u is known.

    Args:
        x: data in the basis's coordinates, shape (n, D), with noise (such as dequantisation's) on
            every element, so that no covariance is singular.
        labels: class of each, shape (n,).
        grouping: the groups over the D elements.

    Raises:
        ValueError: if a class has too few images for its covariance.
    """
    _, component, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    if int(counts.min()) <= x.shape[1]:
        raise ValueError(
            f"labels: a class has {int(counts.min())} images, which leaves a covariance of "
            f"{x.shape[1]} elements singular; use classes of more images or fewer elements"
        )
    parts = [x[component == m].double() for m in range(len(counts))]
    return MixtureOracle(
        counts / counts.sum().double(),
        torch.stack([part.mean(0) for part in parts]),
        torch.stack([torch.cov(part.T, correction=0) for part in parts]),
        grouping,
    )


@isolated
def figure_1a_mixture(grouping: Grouping) -> MixtureOracle:
    """Return a 2-D mixture like Fig. 1(a): four separated Gaussians of unequal weight in [-1, 1].

    The square's edge is at least 4.5 stds away, so that draws outside it can be left out.
    """
    means = torch.tensor([[-4.0, -2.7], [3.3, -3.7], [-2.3, 3.7], [4.0, 3.0]], dtype=torch.float64)
    angles = torch.tensor([0.3, -0.5, 0.9, 0.0], dtype=torch.float64) * math.pi
    rotation = torch.stack(
        [torch.stack([angles.cos(), -angles.sin()]), torch.stack([angles.sin(), angles.cos()])]
    ).permute(2, 0, 1)
    spread = torch.diag(torch.tensor([1.2, 0.7], dtype=torch.float64) ** 2)
    weights = torch.tensor([0.3, 0.3, 0.2, 0.2], dtype=torch.float64)
    covariances = rotation @ spread @ rotation.mT
    return MixtureOracle(weights, means / 10, covariances / 100, grouping)
