"""One list of networks through the same laws, and the closed forms of the moving average."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from gdm_repr.models import (
    NETWORKS,
    AnyNetworkConfig,
    DDPMppConfig,
    MLPConfig,
    build_network,
    network_config,
)
from gdm_repr.models.ema import EMA

SMALL_UNET = {"name": "ddpmpp", "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [8]}

# config, channels in and out, (height, width), number of levels
CASES: dict[str, tuple[dict[str, Any], int, int, tuple[int, int], int]] = {
    "ddpmpp-8x8": (SMALL_UNET, 2, 1, (8, 8), 1),
    "ddpmpp-three-levels": (SMALL_UNET, 6, 3, (8, 8), 3),
    "ddpmpp-16x24": (SMALL_UNET | {"multipliers": [1, 1, 2], "attention": [12]}, 3, 3, (16, 24), 2),
    "ddpmpp-patch": (SMALL_UNET | {"patch": 2, "attention": [4]}, 3, 3, (16, 24), 2),
    "ddpmpp-25x25": (SMALL_UNET | {"multipliers": [1], "attention": []}, 1, 1, (25, 25), 1),
    "mlp-vector": ({"name": "mlp", "width": 32, "depth": 2}, 1, 1, (1, 2), 2),
    "mlp-8x8": ({"name": "mlp", "width": 32, "depth": 2}, 2, 1, (8, 8), 3),
}


def build(case: str) -> nn.Module:
    """Build a case's network with every weight off its special initial value."""
    config, c_in, c_out, shape, levels = CASES[case]
    torch.manual_seed(0)
    net = build_network(config, in_channels=c_in, out_channels=c_out, shape=shape, levels=levels)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.05)
    return net


def inputs(case: str, batch: int = 7) -> tuple[Tensor, Tensor]:
    _, c_in, _, shape, levels = CASES[case]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, c_in, *shape, generator=generator)
    return x, torch.rand(batch, levels, generator=generator)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_network_is_in_the_list() -> None:
    assert {config["name"] for config, *_ in CASES.values()} == set(NETWORKS)


def test_shape_dtype_and_finite(case: str) -> None:
    x, levels = inputs(case)
    y = build(case)(x, levels)
    _, _, c_out, shape, _ = CASES[case]
    assert y.shape == (7, c_out, *shape)
    assert y.dtype == torch.float32
    assert y.isfinite().all()


def test_starts_near_zero(case: str) -> None:
    config, c_in, c_out, shape, m = CASES[case]
    net = build_network(config, in_channels=c_in, out_channels=c_out, shape=shape, levels=m)
    assert net(*inputs(case)).abs().max() < 0.01


def test_every_named_parameter_gets_a_gradient(case: str) -> None:
    net = build(case)
    net(*inputs(case)).square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name


def test_state_dict_round_trip(case: str) -> None:
    net, other = build(case).eval(), build(case).eval()
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(*inputs(case)), other(*inputs(case)))


@torch.no_grad()
def test_independent_of_batch_size(case: str) -> None:
    net = build(case).eval()
    x, levels = inputs(case)
    one_by_one = torch.cat([net(x[i : i + 1], levels[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(net(x, levels), one_by_one, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_deterministic_in_evaluation(case: str) -> None:
    net = build(case).eval()
    assert torch.equal(net(*inputs(case)), net(*inputs(case)))


@torch.no_grad()
def test_every_level_matters(case: str) -> None:
    net = build(case).eval()
    x, levels = inputs(case)
    y = net(x, levels)
    for j in range(levels.shape[1]):
        moved = levels.clone()
        moved[:, j] = 1 - moved[:, j]
        assert (net(x, moved) - y).abs().amax(dim=(1, 2, 3)).min() > 1e-4


@torch.no_grad()
def test_memory_format_does_not_matter(case: str) -> None:
    net = build(case).eval()
    x, levels = inputs(case)
    assert torch.equal(net(x.contiguous(memory_format=torch.channels_last), levels), net(x, levels))


@torch.no_grad()
def test_bfloat16_autocast_is_near_float32(case: str) -> None:
    net = build(case).eval()
    x, levels = inputs(case)
    y = net(x, levels)
    with torch.autocast("cpu", torch.bfloat16):
        y16 = net(x, levels)
    assert y16.dtype == torch.float32
    # bfloat16 keeps 8 bits (4e-3); a few dozen roundings add up to a few of these.
    assert (y16 - y).square().mean().sqrt() < 0.03 * y.square().mean().sqrt()


@torch.no_grad()
def test_autocast_statistics_survive_a_large_offset() -> None:
    net = build("ddpmpp-8x8").eval()
    x, levels = inputs("ddpmpp-8x8")
    with torch.autocast("cpu", torch.bfloat16):
        assert net(1e4 + x, levels).isfinite().all()


@torch.no_grad()
def test_compiles_without_graph_breaks(case: str) -> None:
    net = build(case).eval()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*inputs(case)), net(*inputs(case)))


def test_dropout_acts_in_training_only() -> None:
    net = build("ddpmpp-8x8")
    assert not torch.equal(net(*inputs("ddpmpp-8x8")), net(*inputs("ddpmpp-8x8")))


def test_cifar_setting_has_the_papers_size() -> None:
    with torch.device("meta"):
        net = build_network(
            {"name": "ddpmpp"}, in_channels=6, out_channels=3, shape=(32, 32), levels=1
        )
    assert sum(weight.numel() for weight in net.parameters()) == pytest.approx(55.7e6, abs=0.05e6)


def test_mlp_learns_a_function_of_input_and_level() -> None:
    torch.manual_seed(0)
    net = build_network(
        {"name": "mlp", "width": 64, "depth": 2},
        in_channels=1,
        out_channels=1,
        shape=(1, 2),
        levels=1,
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)

    def relative_error(n: int) -> Tensor:
        x, levels = torch.randn(n, 1, 1, 2), torch.rand(n, 1)
        target = torch.sin(2 * x + 4 * levels[:, :, None, None])
        error: Tensor = (net(x, levels) - target).square().mean() / target.square().mean()
        return error

    for _ in range(300):
        optimizer.zero_grad()
        torch.autograd.backward(relative_error(256))
        optimizer.step()
    assert relative_error(1024) < 0.02


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "unet"}, r"network name 'unet' is unknown; use one of ddpmpp, mlp"),
        ({}, "network name None is unknown"),
        ({"name": "mlp", "heads": 2}, r"'mlp', option 'heads' = 2: .*options are name, width"),
        ({"name": "mlp", "width": 0}, r"option 'width' = 0: .*greater than or equal to 1"),
        ({"name": "ddpmpp", "channels": 10}, r"option 'channels' = 10: .*multiple of 4"),
        ({"name": "ddpmpp", "multipliers": []}, r"option 'multipliers'"),
        ({"name": "ddpmpp", "dropout": 1.0}, r"option 'dropout' = 1.0"),
    ],
)
def test_wrong_options_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        network_config(config)
    assert "\n" not in str(error.value)


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(25, 25\) does not fit 2 .*multiples of 2; use fewer"):
        build_network(SMALL_UNET, in_channels=1, out_channels=1, shape=(25, 25), levels=1)


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="levels = 0 must be at least 1"):
        build_network({"name": "mlp"}, in_channels=1, out_channels=1, shape=(1, 2), levels=0)


def test_config_as_a_field_of_another_model() -> None:
    class Command(BaseModel):
        network: AnyNetworkConfig

    command = Command.model_validate({"network": {"name": "mlp", "width": 7}})
    assert command.network == MLPConfig(width=7)
    assert Command.model_validate_json(command.model_dump_json()) == command
    assert Command(network=DDPMppConfig()).network == DDPMppConfig()
    with pytest.raises(ValidationError, match="option 'heads'"):
        Command.model_validate({"network": {"name": "mlp", "heads": 2}})


def test_configs_are_importable_without_torch() -> None:
    code = "import sys, gdm_repr.models; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def constant(value: float) -> nn.Linear:
    module = nn.Linear(3, 2)
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(value)
    return module


def test_ema_of_a_constant_is_that_constant() -> None:
    module = constant(0.3)
    ema = EMA(module, half_life=100)
    for nimg in range(0, 500, 50):
        ema.update(nimg, batch=50)
    for name, weight in module.state_dict().items():
        assert torch.equal(ema.state_dict()[name], weight)


@pytest.mark.parametrize("batch", [1, 10, 40])
def test_ema_of_a_step_closes_half_the_gap_each_half_life(batch: int) -> None:
    module = constant(0.0)
    ema = EMA(module, half_life=40, ramp=1.0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(1.0)
    for n in range(1, 5):
        for _ in range(40 // batch):
            ema.update(nimg=1000, batch=batch)
        # float32 lerp over at most 160 steps
        torch.testing.assert_close(
            ema.module.weight, torch.full((2, 3), 1 - 0.5**n), atol=1e-5, rtol=0
        )


def test_ema_half_life_ramps_up_with_the_images_seen() -> None:
    ema = EMA(constant(0.0), half_life=1000, ramp=0.05)
    assert ema.beta(0, 64) == 0
    assert ema.beta(2000, 100) == pytest.approx(0.5)  # .05 * 2000 images
    assert ema.beta(20_000, 1000) == pytest.approx(0.5)
    assert ema.beta(10**9, 1000) == pytest.approx(0.5)


def test_ema_copies_buffers_and_keeps_float32() -> None:
    module = nn.BatchNorm1d(4).to(torch.bfloat16)
    ema = EMA(module)
    module(torch.randn(8, 4, dtype=torch.bfloat16))
    ema.update(10**6, batch=8)
    assert isinstance(ema.module, nn.BatchNorm1d)
    assert ema.module.running_mean is not None and module.running_mean is not None
    assert ema.module.running_mean.dtype == torch.float32
    assert torch.equal(ema.module.running_mean, module.running_mean.float())
    assert ema.module.num_batches_tracked == 1
    assert not any(weight.requires_grad for weight in ema.module.parameters())


def test_resumed_ema_equals_an_unbroken_one() -> None:
    module = build("mlp-vector")
    ema = EMA(module, half_life=200)
    states: list[dict[str, Tensor]] = []
    for step in range(6):
        if step == 3:
            states.append({name: value.clone() for name, value in ema.state_dict().items()})
            resumed = EMA(module, half_life=200)
            resumed.load_state_dict(states[0])
        with torch.no_grad():
            for weight in module.parameters():
                weight.mul_(0.9)
        ema.update(step * 64, batch=64)
        if step >= 3:
            resumed.update(step * 64, batch=64)
    for name, value in ema.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


@pytest.mark.parametrize(("half_life", "ramp"), [(0, 0.05), (100, 0.0)])
def test_ema_refuses_settings_without_a_meaning(half_life: float, ramp: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        EMA(constant(0.0), half_life, ramp)
