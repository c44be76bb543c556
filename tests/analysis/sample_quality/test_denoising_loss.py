"""The denoising loss: 1 for a model that knows mean and std only; the same whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gdm_repr.analysis.sample_quality.denoising_loss import group_loss
from gdm_repr.axes import Axes, principal_axes
from gdm_repr.checkpoint import load_checkpoint
from gdm_repr.denoiser import Denoiser

BANDS = {"name": "bands", "cuts": [5]}


class Silent(nn.Module):
    """A network that adds nothing."""

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.fixture
def denoiser(make_model: Callable[..., Path], tmp_path: Path) -> Denoiser:
    parts = {"grouping": BANDS, "denoiser": {"preconditioning": "spectral", "strict": True}}
    return load_checkpoint(make_model(tmp_path / "model.safetensors", (2, 4, 4), **parts)).denoiser


def gaussian_images(denoiser: Denoiser, n: int) -> Tensor:
    g = torch.randn((n, *denoiser.mean.shape), generator=torch.Generator().manual_seed(1))
    return denoiser.mean + denoiser.std * g


def test_without_a_network_it_is_the_independent_gaussian_s(denoiser: Denoiser) -> None:
    denoiser.network = Silent()
    x_bar = gaussian_images(denoiser, 200)
    for group in range(2):
        found = group_loss(denoiser, x_bar, group, levels=4)
        assert found.mean.value == pytest.approx(found.control.value, rel=1e-5)
        assert found.control.low < 1 < found.control.high
        assert found.control.high - found.control.low < 0.15
        assert np.mean([at.value for at in found.at]) == pytest.approx(found.mean.value)
        assert found.theta == pytest.approx([np.pi / 16 * (2 * i + 1) for i in range(4)])
        assert (found.group, found.n) == (denoiser.grouping.names[group], 200)


def test_along_principal_axes_it_is_the_correlated_gaussian_s(denoiser: Denoiser) -> None:
    mean, std = denoiser.mean, denoiser.std
    mix = torch.randn(32, 32, generator=torch.Generator().manual_seed(2)) / 32**0.5
    x_bar = mean + (gaussian_images(denoiser, 300) - mean).flatten(1).mm(mix).view(-1, 2, 16)
    found = principal_axes(denoiser.grouping, mean, std, [x_bar])
    rotations = {group: V.float() for group, V in found[0].items()}
    denoiser.axes = Axes(denoiser.grouping, std, rotations, found[1].float())
    denoiser.network = Silent()
    for group in range(2):
        loss = group_loss(denoiser, x_bar, group, levels=4)
        assert loss.mean.value == pytest.approx(loss.control.value, rel=1e-4)
        assert loss.control.low < 1 < loss.control.high


def test_independent_gaussians_can_t_be_predicted_better(denoiser: Denoiser) -> None:
    """The random network makes it worse, and no batch size changes that."""
    x_bar = gaussian_images(denoiser, 60)
    found = group_loss(denoiser, x_bar, 1, levels=3, batch_size=64)
    assert found.mean.value > found.control.value
    told: list[int] = []
    again = group_loss(denoiser, x_bar, 1, levels=3, batch_size=7, advance=told.append)
    assert again.mean.value == pytest.approx(found.mean.value, rel=1e-5)
    assert sum(told) == 180
    with pytest.raises(ValueError, match="n=1, levels=3: at least 2 images"):
        group_loss(denoiser, x_bar[:1], 1, levels=3)
