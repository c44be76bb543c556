"""Each loss against its definition, its minimum, and the gradient it gives."""

import math

import pytest
import torch
from torch import Tensor, nn

from gdm_repr.basis import build_basis
from gdm_repr.config import DenoiserConfig
from gdm_repr.denoiser import Denoiser
from gdm_repr.grouping import build_grouping
from gdm_repr.models import build_network
from gdm_repr.objective import LOSSES, loss
from gdm_repr.process import PROCESSES
from gdm_repr.schedule import ScheduleOutput, draw_times, group_weights, schedule_from_order

C, D, K = 2, 12, 3
CUTS, SIZES = [2, 6], (2, 4, 6)


def build(
    config: DenoiserConfig, process: str = "linear", scale: float = 0.3, per_channel: bool = False
) -> Denoiser:
    grouping = build_grouping("bands", (C, 3, 4), cuts=CUTS, per_channel=per_channel)
    generator = torch.Generator().manual_seed(0)
    mean = 0.3 * torch.randn(C, D, generator=generator)
    std = (0.5 * torch.randn(C, D, generator=generator)).exp()
    torch.manual_seed(1)
    network = build_network(
        {"name": "mlp", "width": 16, "depth": 1},
        shape=(3, 4),
        **Denoiser.network_inputs(config, C, grouping.k),
    )
    output = network.get_submodule("output")
    assert isinstance(output, nn.Linear)
    with torch.no_grad():
        output.weight.normal_().mul_(scale)
    basis = build_basis("dct", (3, 4))
    return Denoiser(network, basis, grouping, PROCESSES[process], config, mean, std)


def draw(denoiser: Denoiser, n: int, seed: int = 0) -> tuple[Tensor, Tensor, ScheduleOutput]:
    """Return independent Gaussian data, noise and levels."""
    generator = torch.Generator().manual_seed(seed)
    e = torch.randn(n, C, D, generator=generator)
    z = torch.randn(n, C, D, generator=generator)
    schedule = schedule_from_order(denoiser.grouping.order)
    at = schedule.at(draw_times(group_weights("groups", schedule), schedule, n, generator))
    levels = ScheduleOutput(at.A.float(), at.dA_dt.float(), at.active)
    return denoiser.mean + denoiser.std * e, z, levels


CONFIGS = [
    DenoiserConfig(conditioning="embed", preconditioning="spectral", strict=True),
    DenoiserConfig(conditioning="concat", preconditioning="spectral", strict=False),
    DenoiserConfig(conditioning="embed", preconditioning="none", strict=True),
    DenoiserConfig(conditioning="concat", preconditioning="none", strict=False),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_losses_are_their_definitions(
    config: DenoiserConfig, process: str, per_channel: bool
) -> None:
    denoiser = build(config, process, per_channel=per_channel)
    x, z, at = draw(denoiser, 9)
    index = torch.from_numpy(denoiser.grouping.index).expand(C, D)
    for example in range(9):
        A, dA_dt = at.A[example][index], at.dA_dt[example][index]
        c = denoiser.process.coefficients(A)
        x_t = c.alpha * x[example] + c.sigma * z[example]
        u = c.dalpha_dA * x[example] + c.dsigma_dA * z[example]
        error = u - denoiser(x_t[None], at.A[example : example + 1])[0]
        moving = index == at.active[example]
        scale = torch.as_tensor(denoiser.output_scale(at.A[example : example + 1]))
        unit = (error / scale).reshape(C, D)
        expected = {
            "eq8": error.square().mean(),  # Eq. (8)
            "eq7": (dA_dt * error).square().mean(),  # Eq. (7), v = A' u
            "active": unit[moving].square().mean(),
        }
        # the active group's mean counts by its share, so that groups of one size weigh the same
        assert expected.keys() == LOSSES.keys()
        for name, value in expected.items():
            each = loss(name, denoiser, x, z, at)
            assert each.shape == (9,)
            assert each[example].item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("process", PROCESSES)
def test_loss_is_least_at_the_conditional_expectation(name: str, process: str) -> None:
    """Spectral with a zero network is E[u | x_t] of this data: no direction leads further down."""
    denoiser = build(DenoiserConfig(), process, scale=0)
    weights = list(denoiser.network.get_submodule("output").parameters())
    assert all((weight == 0).all() for weight in weights)
    x, z, at = draw(denoiser, 4000)
    generator = torch.Generator().manual_seed(7)

    def losses_at(step: list[Tensor], sign: int) -> Tensor:
        for weight, change in zip(weights, step, strict=True):
            weight.copy_(sign * change)
        return loss(name, denoiser, x, z, at)

    with torch.no_grad():
        least = loss(name, denoiser, x, z, at)
        for _ in range(6):
            step = [torch.randn(w.shape, generator=generator) for w in weights]
            up, down = losses_at(step, 1), losses_at(step, -1)
            slope = (up - down) / 4  # exact: the loss is quadratic in the last layer
            assert slope.mean().abs() < 4.5 * slope.std() / math.sqrt(len(slope))
            assert (up + down).mean() > 2 * least.mean()


def test_active_loss_of_the_best_linear_model_is_one() -> None:
    """Its target has unit variance and a zero network explains nothing of it."""
    denoiser = build(DenoiserConfig(), scale=0)
    x, z, at = draw(denoiser, 4000)
    each = loss("active", denoiser, x, z, at).detach()
    for group in range(K):
        own = each[at.active == group]
        assert abs(float(own.mean()) - 1) < 4.5 * float(own.std()) / math.sqrt(len(own))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_parameter_gets_a_gradient(name: str, config: DenoiserConfig) -> None:
    denoiser = build(config)
    loss(name, denoiser, *draw(denoiser, 16)).mean().backward()  # type: ignore[no-untyped-call]
    for parameter_name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name
