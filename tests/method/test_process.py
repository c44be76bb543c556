"""Laws of both interpolations: conversions, the target u as a derivative, and whitening."""

import math

import pytest
import torch
from torch import Tensor

from gdm_repr.process import PROCESSES, Process, whitening
from gdm_repr.schedule import schedule_from_order


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


X, Z = normal(0, 6, 3, 5), normal(1, 6, 3, 5)
# a level for each example, both ends among them
LEVELS = torch.tensor([0, 1e-3, 0.2, 0.5, 0.9, 1], dtype=torch.float64)[:, None, None]


@pytest.fixture(params=PROCESSES)
def process(request: pytest.FixtureRequest) -> Process:
    return PROCESSES[request.param]


def test_names_are_the_keys() -> None:
    assert all(process.name == name for name, process in PROCESSES.items())


def test_noise_at_level_0_and_data_at_level_1(process: Process) -> None:
    assert torch.allclose(process.x_t(X, Z, torch.zeros(())), Z, atol=1e-15)
    assert torch.allclose(process.x_t(X, Z, torch.ones(())), X, atol=1e-7)
    ends = process.coefficients(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(ends.alpha, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(ends.sigma, torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_linear_is_equation_6() -> None:
    linear = PROCESSES["linear"]
    assert torch.equal(linear.x_t(X, Z, LEVELS), LEVELS * X + (1 - LEVELS) * Z)
    assert torch.equal(linear.u(X, Z, LEVELS), X - Z)  # the target of Eq. (8)


def test_variance_preserving_is_equation_1() -> None:
    preserving = PROCESSES["variance-preserving"]
    alpha = preserving.coefficients(LEVELS).alpha
    assert torch.allclose(
        preserving.x_t(X, Z, LEVELS), alpha * X + (1 - alpha**2).clamp(min=0).sqrt() * Z
    )


def test_u_is_the_derivative_along_the_level(process: Process) -> None:
    A = LEVELS.expand_as(X).clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(process.x_t(X, Z, A).sum(), A)
    assert torch.allclose(slope, process.u(X, Z, A), atol=1e-14)


def test_coefficients_hold_their_own_derivatives(process: Process) -> None:
    A = LEVELS.clone().requires_grad_(True)
    c = process.coefficients(A)
    for value, derivative in ((c.alpha, c.dalpha_dA), (c.sigma, c.dsigma_dA)):
        (slope,) = torch.autograd.grad(value.sum(), A, retain_graph=True)
        assert torch.allclose(slope, derivative, atol=1e-14)


def test_velocity_in_t_is_equation_9(process: Process) -> None:
    schedule = schedule_from_order([1, 0])
    t = torch.tensor([0.1, 0.3, 0.7, 0.9], dtype=torch.float64, requires_grad=True)
    x, z = normal(2, 4, 2), normal(3, 4, 2)
    at = schedule.at(t)
    u = process.u(x, z, at.A)
    (v,) = torch.autograd.grad(process.x_t(x, z, at.A).sum(), t)
    assert torch.allclose((at.dA_dt * u).sum(1), v)


def test_W_is_constant(process: Process) -> None:
    c = process.coefficients(torch.linspace(0, 1, 101, dtype=torch.float64))
    W = c.dalpha_dA * c.sigma - c.alpha * c.dsigma_dA
    assert torch.allclose(W, torch.full_like(W, process.W), atol=1e-15)


def test_x_and_z_follow_from_u_at_every_level(process: Process) -> None:
    x_t, u = process.x_t(X, Z, LEVELS), process.u(X, Z, LEVELS)
    assert torch.allclose(process.x_from_u(u, x_t, LEVELS), X, atol=1e-13)
    assert torch.allclose(process.z_from_u(u, x_t, LEVELS), Z, atol=1e-13)


def test_level_inverts_the_ratio(process: Process) -> None:
    p = torch.tensor([0.0, 1e-6, 0.3, 1.0, 2.0, 7.0], dtype=torch.float64)
    q = torch.tensor([1.0, 3.0, 0.2, 1.0, 1e-6, 0.0], dtype=torch.float64)
    c = process.coefficients(process.level(p, q))
    assert torch.allclose(c.alpha * q, c.sigma * p, atol=1e-15)
    A = torch.linspace(0, 1, 11, dtype=torch.float64)
    c = process.coefficients(A)
    assert torch.allclose(process.level(c.alpha, c.sigma), A, atol=1e-15)


def test_whitening_gives_unit_variance_at_every_level(process: Process) -> None:
    mean, std = normal(4, 3, 5), normal(5, 3, 5).exp()
    w = whitening(process, mean, std, LEVELS)
    c = process.coefficients(LEVELS)
    # x = mean + std e with e and z independent and standard: alpha std e + sigma z is left of x_t
    assert torch.allclose(
        (c.alpha * std / w.R) ** 2 + (c.sigma / w.R) ** 2, torch.ones(()).double()
    )
    assert torch.allclose(w.cos**2 + w.sin**2, torch.ones(()).double())
    x_t = process.x_t(mean + std * X, Z, LEVELS)
    assert torch.allclose((x_t - w.alpha_mean) / w.R, w.cos * X + w.sin * Z, atol=1e-14)


def test_whitening_is_where_both_interpolations_meet() -> None:
    mean, std = normal(4, 1, 5), normal(5, 1, 5).exp()
    angle = torch.tensor(0.3 * math.pi / 2, dtype=torch.float64)
    both = []
    for process in PROCESSES.values():
        A = process.level(angle.cos(), std * angle.sin())
        w = whitening(process, mean, std, A)
        both.append((process.x_t(mean + std * X, Z, A) - w.alpha_mean) / w.R)
    assert torch.allclose(both[0], both[1], atol=1e-13)
    assert torch.allclose(both[0], angle.cos() * X + angle.sin() * Z, atol=1e-13)
