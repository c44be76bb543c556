"""Principal axes: rotations within groups, whitening by a group's full covariance."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gdm_repr import train
from gdm_repr.axes import Axes, principal_axes
from gdm_repr.basis import build_basis
from gdm_repr.checkpoint import load_checkpoint
from gdm_repr.config import DenoiserConfig
from gdm_repr.coordinates import Flow
from gdm_repr.denoiser import Denoiser
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.ode import Plan, decode, encode
from gdm_repr.oracle import block_whitening, gaussian_oracle
from gdm_repr.process import PROCESSES

SHAPE, C, D = (2, 3, 4), 2, 12


class Silent(nn.Module):
    """A network that says nothing: what is left is the closed form."""

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        return torch.zeros_like(x)


def gaussian(per_channel: bool) -> tuple[Grouping, Tensor, Tensor]:
    """Make groups that are independent of each other and correlated inside: mean, covariance."""
    grouping = build_grouping("bands", SHAPE, cuts=[3, 7], per_channel=per_channel)
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(C * D, C * D, generator=generator, dtype=torch.float64)
    S = root @ root.T / (C * D) + 0.05 * torch.eye(C * D, dtype=torch.float64)
    index = torch.from_numpy(np.broadcast_to(grouping.index, (C, D)).reshape(-1).copy())
    mean = 0.3 * torch.randn(C * D, generator=generator, dtype=torch.float64)
    return grouping, mean.view(C, D), S * (index[:, None] == index)


def exact_axes(grouping: Grouping, mean: Tensor, S: Tensor) -> Axes:
    """Return the axes of a covariance, from data that have exactly that one."""
    root = torch.linalg.cholesky(S) * (C * D) ** 0.5
    data = torch.cat([mean.flatten() + root.T, mean.flatten() - root.T]).view(-1, C, D)
    std = S.diagonal().sqrt().view(C, D)
    return Axes(grouping, std, *principal_axes(grouping, mean, std, [data[:7], data[7:]]))


@pytest.mark.parametrize("per_channel", [False, True])
def test_axes_turn_within_groups_and_hold_their_variances(per_channel: bool) -> None:
    grouping, mean, S = gaussian(per_channel)
    axes = exact_axes(grouping, mean, S)
    y = torch.randn(5, C, D, dtype=torch.float64)
    turned = axes(y)
    assert torch.allclose(axes.inverse(turned), y)
    for group in range(grouping.k):
        own = torch.from_numpy(np.broadcast_to(grouping.mask(group), (C, D)).copy())
        assert torch.allclose(axes(y * own), turned * own)
        V, places = axes.rotation(group), own.flatten().nonzero()[:, 0]
        block = S[places][:, places]
        assert torch.allclose(V @ torch.diag(axes.std[own] ** 2) @ V.T, block)
        volume = torch.logdet(block) / (2 * len(places))
        assert float(axes.scale[group].log()) == pytest.approx(float(volume))


def test_large_groups_keep_their_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gdm_repr.axes.LARGEST", 8)
    grouping, mean, S = gaussian(False)  # of 6, 8 and 10 numbers
    axes = exact_axes(grouping, mean, S)
    assert axes.groups == (0, 1)
    last = torch.from_numpy(np.broadcast_to(grouping.mask(2), (C, D)).copy())
    y = torch.randn(1, C, D, dtype=torch.float64)
    assert torch.equal(axes(y) * last, y * last)
    assert torch.allclose(axes.std[last], S.diagonal().sqrt().view(C, D)[last])


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_silent_network_is_the_oracle_and_one_step_encodes_exactly(
    process: str, per_channel: bool
) -> None:
    grouping, mean, S = gaussian(per_channel)
    axes, basis = exact_axes(grouping, mean, S), build_basis("dct", SHAPE[1:])
    config = DenoiserConfig(preconditioning="principal")
    std = S.diagonal().sqrt().view(C, D)
    denoiser = Denoiser(Silent(), basis, grouping, PROCESSES[process], config, mean, std, axes)
    denoiser.mean, denoiser.std = mean, std  # float64, as nowhere outside of tests
    oracle = gaussian_oracle(mean.flatten(), S, grouping, PROCESSES[process])
    x_t = torch.randn(4, C, D, dtype=torch.float64)
    order = list(grouping.order)
    for moving, level in enumerate([1.0, 0.3, 0.01]):  # what comes later is noise
        A = torch.ones(1, grouping.k, dtype=torch.float64)
        A[0, order[moving]], A[0, order[moving + 1 :]] = level, 0
        assert torch.allclose(denoiser(x_t, A), oracle(x_t, A))
    flow = Flow(denoiser, grouping, denoiser.process, mean, std, axes)
    x = oracle.sample(16, torch.Generator().manual_seed(1)).double().view(-1, C, D)
    plan = Plan("euler", "whitened", (1,) * grouping.k)
    z = encode(flow, x, plan).y
    exact = block_whitening(x.flatten(1), mean.flatten(), S, grouping)
    assert torch.allclose(z, exact.view(z.shape))
    assert torch.allclose(decode(flow, z, plan).y, x)


def test_they_are_trained_with_saved_and_resumed(tmp_path: Path) -> None:
    network = '{"name": "mlp", "width": 16, "depth": 1}'
    words = ["--data", "digits", "--limit", "200", "--model.denoiser.preconditioning", "principal"]
    words += ["--model.grouping", '{"name": "bands", "cuts": [6, 22]}', "--model.network", network]
    words += ["--batch-size", "50", "--warmup", "0", "--no-track"]
    for out, parts in (("whole", (200,)), ("halves", (100, 200))):
        for images in parts:
            argv = [*words, "--images", str(images), "--out", str(tmp_path / out), "--resume"]
            assert train.main(argv) == 0
    whole, halves = (
        load_checkpoint(tmp_path / out / "model.safetensors").denoiser
        for out in ("whole", "halves")
    )
    assert whole.axes.groups == (0, 1, 2)
    x_t, A = torch.randn(3, 1, 64), torch.rand(3, 3)
    assert torch.equal(whole(x_t, A), halves(x_t, A))
    V = whole.axes.rotation(1)
    assert torch.allclose(V.T @ V, torch.eye(16), atol=1e-5)
