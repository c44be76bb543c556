"""The beta-VAE baseline: its loss, its sizes, and codes that depend on the seed alone."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from gdm_repr import encode
from gdm_repr.analysis.columns.baselines import read_codes
from gdm_repr.checkpoint import load_tensors
from gdm_repr.latents.store import open_store

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "beta_vae.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("beta_vae_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_any_power_of_two_from_16(script: ModuleType, side: int) -> None:
    model = script.BetaVAE(3, side, 5)
    x = torch.zeros(2, 3, side, side)
    mean, log_variance = model.posterior(x)
    assert mean.shape == log_variance.shape == (2, 5)
    assert model.decode(mean).shape == x.shape


@pytest.mark.parametrize("side", [8, 24, 33])
def test_other_sides_are_refused(script: ModuleType, side: int) -> None:
    with pytest.raises(ValueError, match=f"side {side}: must be square, a power of two"):
        script.BetaVAE(1, side, 2)


def test_the_loss_is_cross_entropy_and_beta_times_kl(script: ModuleType) -> None:
    torch.manual_seed(0)
    model = script.BetaVAE(1, 16, 3).double()
    x, noise = torch.rand(4, 1, 16, 16).double() * 2 - 1, torch.randn(4, 3).double()
    mean, log_variance = model.posterior(x)
    std = log_variance.mul(0.5).exp()
    kl = kl_divergence(Normal(mean, std), Normal(0, 1)).sum(1)
    pixels = Bernoulli(logits=model.decoder(mean + noise * std), validate_args=False)
    log_p = pixels.log_prob((x + 1) / 2)  # type: ignore[no-untyped-call]
    likelihood = log_p.sum((1, 2, 3))
    for beta in (1.0, 4.0):
        expected = (beta * kl - likelihood).mean()
        torch.testing.assert_close(model.loss(x, noise, beta), expected)


def test_codes_of_a_store_depend_on_the_seed_alone(
    script: ModuleType, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model.safetensors", (3, 16, 16))
    argv = ["--checkpoint", str(model), "--data", "scenes:0-24", "--steps", "2", "--no-track"]
    assert encode.main([*argv, "--no-round-trip", "--out", str(tmp_path / "latents")]) == 0
    files = ["--checkpoint", str(model), "--latents", str(tmp_path / "latents")]
    flags = ["--data", "scenes:30-90", "--cpu-minutes", "5", "--steps", "4", "--size", "3"]
    found = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        out = tmp_path / name
        assert script.main([*files, *flags, "--seed", seed, "--out", str(out)]) == 0
        place, codes = read_codes(out / "codes.npz")
        assert list(place) == open_store(tmp_path / "latents").ids
        assert codes.shape == (24, 3)
        found.append(codes)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0
    taken = ["--weights", str(tmp_path / "a" / "beta_vae.safetensors"), "--size", "3"]
    assert (
        script.main([*files, *taken, "--data", "scenes:30-90", "--out", str(tmp_path / "d")]) == 0
    )
    np.testing.assert_array_equal(read_codes(tmp_path / "d" / "codes.npz")[1], found[0])
    weights, facts = load_tensors(tmp_path / "a" / "beta_vae.safetensors")
    assert (facts["steps"], facts["beta"], len(facts["kl"])) == (4, 4.0, 3)
    again = script.BetaVAE(3, 16, 3)
    again.load_state_dict(weights)
