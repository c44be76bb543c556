"""Closed-form u against its definition as a conditional expectation, and the exact encoder."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.oracle import (
    MixtureOracle,
    block_whitening,
    class_mixture,
    figure_1a_mixture,
    gaussian_oracle,
)
from gdm_repr.process import PROCESSES

D = 4
GROUPS = Grouping(np.array([[1, 0, 2, 0]]), (2, 0, 1), ("a", "b", "c"))


def covariance(n: int = D, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return root @ root.T / n + 0.1 * torch.eye(n, dtype=torch.float64)


def mixture(grouping: Grouping = GROUPS, process: str = "linear") -> MixtureOracle:
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(3, D, generator=generator, dtype=torch.float64)
    covariances = torch.stack([0.5 * covariance(seed=seed) for seed in range(3)])
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return MixtureOracle(weights, means, covariances, grouping, PROCESSES[process])


LEVELS = [[1, 1, 0.6], [0.3, 1, 0], [1, 0.05, 0], [0, 0.95, 0], [0.5, 0.5, 0.5]]


def level(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize("values", [*LEVELS, [1, 1, 1], [0, 0, 0]])
def test_gaussian_u_is_the_known_formula(values: list[float]) -> None:
    S, a = covariance(), level(values)[0][torch.from_numpy(GROUPS.index[0])]
    A, B = torch.diag(a), torch.diag(1 - a)
    x_t = torch.randn(5, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = x_t @ torch.linalg.inv(A @ S @ A + B @ B) @ (S @ A - B).T
    oracle = gaussian_oracle(torch.zeros(D, dtype=torch.float64), S, GROUPS)
    assert torch.allclose(oracle(x_t[:, None], level(values))[:, 0], expected, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("values", LEVELS)
def test_u_is_the_conditional_expectation(process: str, values: list[float]) -> None:
    """E[u | x_t] is what leaves a residual uncorrelated with every function of x_t."""
    oracle, n = mixture(process=process), 100_000
    generator = torch.Generator().manual_seed(3)
    x = oracle.sample(n, generator)
    z = torch.randn(n, D, generator=generator, dtype=torch.float64)
    a = level(values)[0][torch.from_numpy(GROUPS.index[0])]
    x_t = oracle.process.x_t(x, z, a)
    residual = oracle.process.u(x, z, a) - oracle(x_t[:, None], level(values))[:, 0]
    one = torch.ones(n, 1, dtype=torch.float64)
    probes = torch.cat([one, x_t, torch.tanh(2 * x_t), x_t**2, torch.sin(3 * x_t)], dim=1)
    products = residual[:, :, None] * probes[:, None, :]
    standard_error = products.std(0) / math.sqrt(n)
    # 68 means: 4 standard errors each
    assert (products.mean(0).abs() < 4 * standard_error + 1e-12).all()


def test_a_mixture_of_equal_components_is_one_gaussian() -> None:
    S, mean = covariance(), torch.randn(D, dtype=torch.float64, generator=torch.Generator())
    same = MixtureOracle(
        torch.tensor([0.2, 0.8], dtype=torch.float64),
        mean.expand(2, D),
        S.expand(2, D, D),
        GROUPS,
    )
    x_t = same.sample(6, torch.Generator().manual_seed(4))[:, None]
    A = level([1, 0.4, 0])
    assert torch.allclose(same(x_t, A), gaussian_oracle(mean, S, GROUPS)(x_t, A), atol=1e-12)


def test_channels_share_the_groups_or_have_their_own() -> None:
    S, mean = covariance(8), torch.zeros(8, dtype=torch.float64)
    shared = build_grouping("bands", (2, 1, 4), cuts=[1])
    index = np.tile(shared.index, (2, 1))
    separate = Grouping(index, shared.order, shared.names)
    x_t = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    A = level([1, 0.4])
    together = gaussian_oracle(mean, S, shared)(x_t, A)
    assert torch.equal(together, gaussian_oracle(mean, S, separate)(x_t, A))
    flat = x_t.reshape(3, 8)
    assert torch.equal(
        block_whitening(flat, mean, S, shared), block_whitening(flat, mean, S, separate)
    )


def test_levels_must_be_one_for_the_batch() -> None:
    x_t = torch.zeros(2, 1, D, dtype=torch.float64)
    with pytest.raises(ValueError, match="A must be equal for the whole batch"):
        mixture()(x_t, torch.tensor([[1, 0.5, 0], [1, 0.4, 0]], dtype=torch.float64))
    A = level([1, 0.5, 0])
    assert torch.equal(mixture()(x_t, A.expand(2, 3)), mixture()(x_t, A))


def test_samples_have_the_mixture_s_moments() -> None:
    oracle, n = mixture(), 50_000
    x = oracle.sample(n, torch.Generator().manual_seed(6))
    mean = oracle.weights @ oracle.means
    deviation = oracle.means - mean
    second = oracle.covariances + deviation[:, :, None] * deviation[:, None, :]
    S = (oracle.weights[:, None, None] * second).sum(0)
    assert ((x.mean(0) - mean).abs() < 4.5 * x.std(0) / math.sqrt(n)).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    assert ((products.mean(0) - S).abs() < 4.5 * products.std(0) / math.sqrt(n)).all()
    again = oracle.sample(n, torch.Generator().manual_seed(6))
    assert torch.equal(x, again)


def whitening_matrix(S: Tensor, grouping: Grouping) -> Tensor:
    """Return M of z = M x, one unit vector a row of x."""
    eye = torch.eye(len(S), dtype=torch.float64)
    return block_whitening(eye, torch.zeros(len(S), dtype=torch.float64), S, grouping).T


WHITENED = {
    "one": build_grouping("single", (1, 2, 3)),
    "elementwise": build_grouping("elementwise", (1, 2, 3)),
    "shuffled": build_grouping("elementwise", (1, 2, 3), order=[3, 0, 5, 1, 4, 2]),
    "bands": build_grouping("bands", (1, 2, 3), cuts=[2, 3]),
    "reversed": build_grouping("bands", (1, 2, 3), cuts=[2, 3], order=[2, 1, 0]),
    "scattered": build_grouping("cdm", (1, 2, 3), order=[1, 0]),
    "channels": build_grouping("bands", (2, 1, 3), cuts=[1], per_channel=True),
    "shared": build_grouping("bands", (2, 1, 3), cuts=[1]),
}


@pytest.mark.parametrize("name", WHITENED)
def test_latents_of_a_gaussian_are_standard_normal(name: str) -> None:
    S = covariance(6)
    M = whitening_matrix(S, WHITENED[name])
    assert torch.allclose(M @ S @ M.T, torch.eye(6, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("name", WHITENED)
def test_whitening_is_block_triangular_with_symmetric_blocks(name: str) -> None:
    grouping = WHITENED[name]
    M = whitening_matrix(covariance(6), grouping)
    index = torch.from_numpy(grouping.index)
    labels = index.expand(6 // grouping.d, -1).reshape(-1)
    for rank, group in enumerate(grouping.order):
        own = labels == group
        later = torch.isin(labels, torch.tensor(grouping.order[rank + 1 :]))
        assert (M[own][:, later] == 0).all()
        block = M[own][:, own]
        assert torch.allclose(block, block.T, atol=1e-12)
        assert (torch.linalg.eigvalsh(block) > 0).all()


def test_one_element_a_group_is_the_cholesky_map() -> None:
    S = covariance(6)
    inverse = torch.linalg.inv(torch.linalg.cholesky(S))
    assert torch.allclose(whitening_matrix(S, WHITENED["elementwise"]), inverse, atol=1e-12)
    order = torch.tensor(WHITENED["shuffled"].order)
    shuffled = torch.linalg.inv(torch.linalg.cholesky(S[order][:, order]))
    made = whitening_matrix(S, WHITENED["shuffled"])[order][:, order]
    assert torch.allclose(made, shuffled, atol=1e-12)


def test_one_group_is_zca_whitening() -> None:
    S = covariance(6)
    root = torch.from_numpy(linalg.inv(linalg.sqrtm(S.numpy())))
    assert torch.allclose(whitening_matrix(S, WHITENED["one"]), root, atol=1e-12)


@pytest.mark.parametrize("name", WHITENED)
def test_independent_elements_are_standardised(name: str) -> None:
    std = torch.linspace(0.1, 2, 6, dtype=torch.float64)
    mean = torch.linspace(-1, 1, 6, dtype=torch.float64)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    z = block_whitening(x, mean, torch.diag(std**2), WHITENED[name])
    assert torch.allclose(z, (x - mean) / std, atol=1e-12)


def test_the_mixture_of_figure_1a() -> None:
    oracle = figure_1a_mixture(build_grouping("elementwise", (1, 1, 2)))
    assert oracle.weights.sum() == pytest.approx(1)
    assert (torch.linalg.eigvalsh(oracle.covariances) > 0).all()
    gaps = torch.cdist(oracle.means, oracle.means) + torch.diag(torch.full((4,), math.inf))
    largest_std = torch.linalg.eigvalsh(oracle.covariances).max().sqrt()
    assert gaps.min() > 4 * largest_std  # separated


def test_a_mixture_of_classes_has_the_data_s_moments() -> None:
    x = mixture().sample(300, torch.Generator().manual_seed(8))
    labels = torch.arange(300) % 3 * 5  # classes need not be 0, 1, 2
    fitted = class_mixture(x, labels, GROUPS)
    mean = fitted.weights @ fitted.means
    second = fitted.covariances + fitted.means[:, :, None] * fitted.means[:, None, :]
    S = (fitted.weights[:, None, None] * second).sum(0) - mean[:, None] * mean
    assert torch.allclose(mean, x.mean(0), atol=1e-12)
    assert torch.allclose(S, torch.cov(x.T, correction=0), atol=1e-12)
    with pytest.raises(ValueError, match="labels: a class has 4 images"):
        class_mixture(x[:12], labels[:12], GROUPS)
