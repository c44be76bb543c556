"""Laws of u(x_t, A): closed forms around the network, conditioning, and what strict hides."""

import itertools
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from gdm_repr.axes import STD_FLOOR, Axes, principal_axes
from gdm_repr.basis import Basis, build_basis
from gdm_repr.config import DenoiserConfig
from gdm_repr.coordinates import Flow
from gdm_repr.denoiser import Denoiser
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.models import build_network
from gdm_repr.ode import Integrator, Plan
from gdm_repr.oracle import gaussian_oracle
from gdm_repr.process import PROCESSES

SHAPE = (2, 3, 4)
C, D = 2, 12

Conditioning = Literal["concat", "embed"]
CONDITIONINGS: tuple[Conditioning, ...] = ("concat", "embed")
Preconditioning = Literal["spectral", "principal", "none"]
PRECONDITIONINGS: tuple[Preconditioning, ...] = ("spectral", "principal", "none")


@dataclass(frozen=True)
class Parts:
    """What a denoiser is built from."""

    grouping: Grouping
    basis: Basis
    mean: Tensor
    std: Tensor


def parts(per_channel: bool = False) -> Parts:
    grouping = build_grouping("bands", SHAPE, cuts=[2, 6], per_channel=per_channel)
    generator = torch.Generator().manual_seed(0)
    mean = 0.3 * torch.randn(C, D, generator=generator)
    std = torch.randn(C, D, generator=generator).exp()
    return Parts(
        grouping.with_order((*grouping.order[1:], 0)), build_basis("dct", (3, 4)), mean, std
    )


def build(config: DenoiserConfig, process: str = "linear", scale: float = 0.3) -> Denoiser:
    """Build a denoiser around a random MLP whose last layer has std ``scale``."""
    p = parts()
    torch.manual_seed(0)
    network = build_network(
        {"name": "mlp", "width": 16, "depth": 1},
        shape=SHAPE[1:],
        **Denoiser.network_inputs(config, C, p.grouping.k),
    )
    output = network.get_submodule("output")
    assert isinstance(output, nn.Linear)
    with torch.no_grad():
        output.weight.normal_().mul_(scale)
    process_, axes = PROCESSES[process], None
    if config.preconditioning == "principal":
        data = torch.randn(50, C, D, generator=torch.Generator().manual_seed(5)) @ torch.rand(D, D)
        axes = Axes(p.grouping, p.std, *principal_axes(p.grouping, p.mean, p.std, [data])).float()
    return Denoiser(network, p.basis, p.grouping, process_, config, p.mean, p.std, axes)


class Slice(nn.Module):
    """A network that returns some of its input channels."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        return x[:, self.first : self.first + C]


CONFIGS = [
    DenoiserConfig(conditioning=conditioning, preconditioning=preconditioning, strict=strict)
    for conditioning in CONDITIONINGS
    for preconditioning in PRECONDITIONINGS
    for strict in (True, False)
] + [DenoiserConfig(preconditioning="spectral", strict=True, inputs="coefficients")]
STRICT = [config for config in CONFIGS if config.strict]


def identify(config: DenoiserConfig) -> str:
    strict = "strict" if config.strict else "open"
    return f"{config.conditioning}-{config.preconditioning}-{strict}-{config.inputs}"


def states(n: int = 5, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, C, D, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("config", CONFIGS, ids=identify)
@pytest.mark.parametrize("process", PROCESSES)
def test_shape_dtype_and_levels(config: DenoiserConfig, process: str) -> None:
    denoiser, x_t = build(config, process), states()
    for dtype in (torch.float32, torch.float64):
        u = denoiser(x_t.to(dtype), torch.tensor([[1.0, 0.4, 0.0]], dtype=torch.float64))
        assert u.shape == x_t.shape
        assert u.dtype == dtype
        assert u.isfinite().all()


@pytest.mark.parametrize("config", CONFIGS, ids=identify)
def test_one_level_for_all_equals_one_for_each(config: DenoiserConfig) -> None:
    denoiser, x_t = build(config), states().float()
    A = torch.tensor([[1.0, 0.4, 0.0]])
    assert torch.allclose(denoiser(x_t, A), denoiser(x_t, A.expand(5, 3)), atol=1e-6)
    mixed = torch.tensor([[1.0, 0.4, 0.0], [1, 1, 1], [0, 0, 0], [1, 1, 0.2], [0.9, 0, 0]])
    alone = torch.cat([denoiser(x_t[i : i + 1], mixed[i : i + 1]) for i in range(5)])
    assert torch.allclose(denoiser(x_t, mixed), alone, atol=1e-5)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_without_extras_it_is_the_bare_network(conditioning: Conditioning) -> None:
    config = DenoiserConfig(conditioning=conditioning, preconditioning="none", strict=False)
    denoiser, x_t = build(config), states().float()
    A = torch.tensor([[1.0, 0.4, 0.0]]).expand(5, 3)
    pixels = denoiser.basis.inverse(x_t)
    if conditioning == "concat":
        grid = denoiser.basis.layout(A[:, denoiser.index].expand(5, C, D))
        out = denoiser.network(torch.cat([pixels, grid], 1), A.mean(1, keepdim=True))
    else:
        out = denoiser.network(pixels, A)
    assert torch.equal(denoiser(x_t, A), denoiser.basis.forward(out))


def test_the_network_sees_pixels_and_the_levels_where_elements_lie() -> None:
    config = DenoiserConfig(conditioning="concat", preconditioning="none", strict=False)
    x_t, A = states().float(), torch.tensor([[1.0, 0.4, 0.0]])
    p = parts()

    def seen(first: int) -> Tensor:
        """Return input channels of the network, (B, C, H, W)."""
        denoiser = Denoiser(
            Slice(first), p.basis, p.grouping, PROCESSES["linear"], config, p.mean, p.std
        )
        return p.basis.inverse(denoiser(x_t, A))

    assert torch.allclose(seen(0), p.basis.inverse(x_t), atol=1e-6)
    grid = p.basis.layout(A[:, torch.from_numpy(p.grouping.index)].expand(5, C, D))
    assert torch.allclose(seen(C), grid, atol=1e-6)


def test_the_network_sees_coefficients_where_they_lie_when_asked_to() -> None:
    config = DenoiserConfig(
        conditioning="concat", preconditioning="none", strict=False, inputs="coefficients"
    )
    x_t, A = states().float(), torch.tensor([[1.0, 0.4, 0.0]])
    denoiser = build(config)
    grid = denoiser.basis.layout(torch.cat([x_t, A[:, denoiser.index].expand(5, C, D)], 1))
    out = denoiser.network(grid, A.mean(1, keepdim=True).expand(5, 1))
    assert torch.equal(denoiser.basis.layout(denoiser(x_t, A)), out)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_preconditioned_networks_are_told_unit_scale_numbers(conditioning: Conditioning) -> None:
    denoiser = build(DenoiserConfig(conditioning=conditioning))
    ends = torch.tensor([[1.0, 0.0, 1.0]])
    assert torch.allclose(denoiser.told(ends), ends, atol=1e-6)
    A = torch.linspace(0, 1, 11)[:, None].expand(11, 3)
    assert (denoiser.told(A).diff(dim=0) > 0).all()


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("strict", [True, False])
def test_a_zero_network_is_the_oracle_of_independent_gaussians(process: str, strict: bool) -> None:
    denoiser = build(DenoiserConfig(strict=strict), process, scale=0)
    mean, std = denoiser.mean.double(), denoiser.std.double()
    oracle = gaussian_oracle(
        mean.flatten(), torch.diag(std.flatten() ** 2), denoiser.grouping, PROCESSES[process]
    )
    for level in ([1, 1, 1], [1, 1, 0.3], [0.999, 1, 0], [0.5, 1, 0], [0, 0.01, 0], [0, 0, 0]):
        A = torch.tensor([level], dtype=torch.float64)
        # float32 where the network's zeros pass, nowhere else
        assert torch.allclose(denoiser(states(), A), oracle(states(), A), atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_network_s_target_has_unit_variance(process: str) -> None:
    denoiser = build(DenoiserConfig(), process, scale=0)
    mean, std = denoiser.mean.double(), denoiser.std.double()
    e, z = states(seed=2), states(seed=3)  # x = mean + std e
    A = torch.tensor([[1.0, 0.6, 0.1]], dtype=torch.float64)
    elements = denoiser.expand(A)
    x_t = denoiser.process.x_t(mean + std * e, z, elements)
    u = denoiser.process.u(mean + std * e, z, elements)
    target = (u - denoiser(x_t, A)) / denoiser.output_scale(A)
    w = denoiser.whitened(A)
    assert torch.allclose(target, w.sin * e - w.cos * z, atol=1e-5)
    assert torch.allclose(w.sin**2 + w.cos**2, torch.ones(()).double())
    # with w_t = cos e + sin z it does not correlate: cos sin - sin cos = 0


@pytest.mark.parametrize("config", STRICT, ids=identify)
@pytest.mark.parametrize("process", PROCESSES)
def test_strict_hides_noise(config: DenoiserConfig, process: str) -> None:
    denoiser = build(config, process)
    A = torch.tensor([[1.0, 0.4, 0.0]])
    hidden = denoiser.expand(A)[0].expand(C, D) == 0
    x_t = states().float()
    changed = torch.where(hidden, states(seed=4).float(), x_t)
    before, after = denoiser(x_t, A), denoiser(changed, A)
    assert torch.equal(before[:, ~hidden], after[:, ~hidden])


@pytest.mark.parametrize("config", STRICT, ids=identify)
@pytest.mark.parametrize("process", PROCESSES)
def test_strict_knows_the_noise_it_hides(config: DenoiserConfig, process: str) -> None:
    """u of a hidden element is alpha' E[x] + sigma' x_t: its slope along itself is sigma'."""
    denoiser = build(config, process)
    A = torch.tensor([[1.0, 0.4, 0.0]], dtype=torch.float64)
    elements = denoiser.expand(A)[0].expand(C, D)
    slope = denoiser.process.coefficients(elements).dsigma_dA
    x_t = states()
    step = torch.where(elements == 0, 1.0, 0.0)
    change = denoiser(x_t + step, A) - denoiser(x_t, A)
    assert torch.allclose(change, (slope * step).expand(5, C, D), atol=1e-6)


def test_open_denoisers_see_everything() -> None:
    for config in CONFIGS:
        if not config.strict:
            denoiser, A = build(config), torch.tensor([[1.0, 0.4, 0.0]])
            change = denoiser(states(seed=4).float(), A) - denoiser(states().float(), A)
            assert (change.abs() > 1e-6).all()


@pytest.mark.parametrize("config", STRICT, ids=identify)
@pytest.mark.parametrize("coordinate", ["uniform", "whitened"])
@pytest.mark.parametrize("encoding", [True, False])
def test_jacobian_of_strict_models_is_block_triangular(
    config: DenoiserConfig, coordinate: str, encoding: bool
) -> None:
    denoiser = build(config)
    grouping = denoiser.grouping
    std, axes = denoiser.std, denoiser.axes
    flow = Flow(denoiser, grouping, denoiser.process, denoiser.mean, std, axes)

    def result(state: Tensor) -> Tensor:
        integrator = Integrator(flow, Plan("heun", coordinate, (2, 2, 2)))
        return integrator.run(state, encoding=encoding)

    state = states(1).float()
    jacobian: Tensor = torch.autograd.functional.jacobian(result, state)  # type: ignore[no-untyped-call]
    table = jacobian.reshape(C, D, C, D)
    masks = [torch.from_numpy(grouping.mask(j)[0]) for j in grouping.order]
    for made, moved in itertools.product(range(3), range(3)):
        block = table[:, masks[made]][..., masks[moved]]
        if moved > made:  # generated later: no influence, exactly
            assert (block == 0).all()
        else:
            assert block.abs().max() > 1e-3


def test_elements_that_never_vary_keep_a_scale() -> None:
    p = parts()
    config = DenoiserConfig()
    network = build_network(
        {"name": "mlp", "width": 8, "depth": 1},
        shape=SHAPE[1:],
        **Denoiser.network_inputs(config, C, 3),
    )
    std = p.std.clone()
    std[:, 3] = 0
    denoiser = Denoiser(network, p.basis, p.grouping, PROCESSES["linear"], config, p.mean, std)
    assert denoiser.std.min() == pytest.approx(STD_FLOOR)
    assert denoiser(states().float(), torch.tensor([[1.0, 1.0, 1.0]])).isfinite().all()


def test_groups_may_separate_channels() -> None:
    p = parts(per_channel=True)
    config = DenoiserConfig(preconditioning="none", strict=False)
    denoiser = Denoiser(Slice(0), p.basis, p.grouping, PROCESSES["linear"], config, p.mean, p.std)
    A = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    elements = denoiser.expand(A)
    assert elements.shape == (2, C, D)
    for group in range(6):
        mask = torch.from_numpy(p.grouping.mask(group))
        assert (elements[:, mask] == A[:, group, None]).all()


def test_autocast_changes_precision_only() -> None:
    denoiser, x_t = build(DenoiserConfig()), states().float()
    A = torch.tensor([[1.0, 0.4, 0.0]])
    exact = denoiser(x_t, A)
    denoiser.autocast = torch.bfloat16
    rounded = denoiser(x_t, A)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert torch.allclose(rounded, exact, atol=0.1)


def test_statistics_are_saved_with_the_weights_and_the_groups_are_not() -> None:
    saved = {name for name in build(DenoiserConfig()).state_dict() if "network." not in name}
    assert saved == {"mean", "std"}
