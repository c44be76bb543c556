"""Distances by name: LPIPS as its package computes it, and every extractor's."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model

from gdm_repr.analysis.features.extractors import Extractor
from gdm_repr.analysis.features.perceptual import LPIPS, build_distance


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights of the features of each network below LPIPS."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for name, model in LPIPS.items():
        with torch.device("meta"):
            shapes = get_model(model, weights=None).state_dict()
        generator = torch.Generator().manual_seed(0)
        state = {
            key: torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
            if value.ndim == 4
            else torch.zeros(1).expand(value.shape)
            for key, value in shapes.items()
        }
        paths[name] = folder / f"{model}.pth"
        torch.save(state, paths[name])
    return paths


def images(n: int, channels: int = 3, size: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand((2, n, channels, size, size), generator=generator) * 2 - 1
    return a, b


@pytest.mark.parametrize("name", LPIPS)
def test_lpips_is_the_packages(name: str, weights: dict[str, Path]) -> None:
    import lpips

    distance = build_distance(name, weights=weights[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net=name.removeprefix("lpips-"), pnet_rand=True, verbose=False)
    trained = torch.load(weights[name], weights_only=True)
    for key, value in network.net.state_dict().items():
        value.copy_(trained["features." + key.split(".", 1)[1]])
    a, b = images(2)
    with torch.no_grad():
        expected = network(a, b).flatten()
    torch.testing.assert_close(distance.distance(a, b), expected, rtol=1e-5, atol=1e-7)
    assert (expected > 0).all()
    assert torch.equal(distance.distance(a, a), torch.zeros(2))
    torch.testing.assert_close(distance.distance(b, a), expected)


def test_lpips_depends_on_the_images_alone(weights: dict[str, Path]) -> None:
    name = "lpips-squeeze"
    a, b = images(8, 1, 16)
    expected = build_distance(name, weights=weights[name], batch_size=8).distance(a, b)
    assert expected.shape == (8,)
    for batch_size in (1, 3):
        found = build_distance(name, weights=weights[name], batch_size=batch_size)
        torch.testing.assert_close(found.distance(a, b), expected, rtol=1e-5, atol=1e-7)
    larger = build_distance(name, weights=weights[name], input_size=64).distance(a, b)
    torch.testing.assert_close(larger, expected)  # small ones are enlarged to 64


def test_lpips_tells_its_settings(weights: dict[str, Path]) -> None:
    made = [
        build_distance("lpips-squeeze", weights=weights["lpips-squeeze"], input_size=size)
        for size in (None, 64)
    ]
    written = {json.dumps(distance.fingerprint()) for distance in made}
    assert len(written) == 2
    assert made[0].fingerprint()["weights"]["file"] == "squeezenet1_1.pth"


def test_every_extractor_is_a_distance() -> None:
    distance = build_distance("dct", input_size=8)
    assert isinstance(distance, Extractor)
    a, b = images(2, 1, 16)
    assert torch.equal(distance.distance(a, b), distance.distance(b, a))


def test_bad_options_are_told(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79\.pth is not in"):
        build_distance("lpips-alex")
    with pytest.raises(ValueError, match="layers: no option of 'lpips-alex'"):
        build_distance("lpips-alex", layers=["features.0"])
    with pytest.raises(ValueError, match="input_size=32: must be 'own' or at least 63"):
        build_distance("lpips-alex", input_size=32)
    with pytest.raises(ValueError, match="not this network's"):
        build_distance("lpips-alex", weights=weights["lpips-vgg"])
    with pytest.raises(ValueError, match="'lpips-resnet': unknown"):
        build_distance("lpips-resnet")
