"""Weights: found, checked by what their name promises, read without pickle, and told apart."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gdm_repr.analysis.features.pretrained import (
    Published,
    Weights,
    find_weights,
    load_weights,
    read_state,
)


def state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(2, 3, generator=generator),
        "bias": torch.randn(2, generator=generator),
    }


def write(path: Path, name: str = "own.pth") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    torch.save(state(), path / name)
    return path / name


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_published_files_are_looked_for_in_the_torch_cache(cache: Path) -> None:
    published = Published.at("https://example.org/models/tiny.pth")
    with pytest.raises(ValueError) as error:
        find_weights(published, None)
    for part in ("tiny.pth", str(cache), "https://example.org/models/tiny.pth", "weights=FILE"):
        assert part in str(error.value)
    path = write(cache, "tiny.pth")
    assert find_weights(published, None) == Weights(path, sha256(path), published=False)


def test_a_name_that_ends_in_a_hash_is_a_promise(tmp_path: Path) -> None:
    own = write(tmp_path)
    right = own.rename(tmp_path / f"own-{sha256(own)[:8]}.pth")
    published = Published(right.name, "nowhere", tmp_path)
    assert find_weights(published, None).published
    renamed = tmp_path / "renamed.pth"
    renamed.write_bytes(right.read_bytes())
    assert find_weights(published, renamed).published
    other = Published("other-01234567.pth", "nowhere", tmp_path)
    assert not find_weights(other, right).published
    wrong = right.rename(tmp_path / "own-01234567.pth")
    for file in (wrong, None):
        with pytest.raises(ValueError, match="not with 01234567 as its name says"):
            find_weights(Published(wrong.name, "nowhere", tmp_path), file)


def test_files_are_fetched_on_demand_only(cache: Path, tmp_path: Path) -> None:
    """A file: URL goes the way of a https: one."""
    own = write(tmp_path)
    origin = own.rename(tmp_path / f"own-{sha256(own)[:8]}.pth")
    published = Published.at(origin.as_uri())
    with pytest.raises(ValueError, match="fetch it from file:"):
        find_weights(published, None)
    assert not cache.exists()
    weights = find_weights(published, None, download=True)
    assert weights.path == cache / origin.name and weights.published
    in_package = Published("x.pth", "the package x", tmp_path)
    with pytest.raises(ValueError, match="fetch it from the package x"):
        find_weights(in_package, None, download=True)


def test_a_missing_own_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.pth.*no such file"):
        find_weights(Published("x.pth", "nowhere", tmp_path), tmp_path / "nothing.pth")


def test_both_formats_hold_the_same(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "own.safetensors")
    for path in (write(tmp_path), tmp_path / "own.safetensors"):
        network = nn.Linear(3, 2)
        load_weights(network, read_state(path), path)
        assert torch.equal(network.weight, state()["weight"])


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half a zip"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="no readable file of tensors"):
        read_state(tmp_path / name)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "module.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Path("/"), protocol=2))
    for name in ("module.pth", "plain.pth"):
        with pytest.raises(ValueError, match="no readable file of tensors"):
            read_state(tmp_path / name)
    torch.save({"state_dict": state(), "epoch": 3}, tmp_path / "training.pth")
    with pytest.raises(ValueError, match=r"save model\.state_dict\(\) alone"):
        read_state(tmp_path / "training.pth")


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 of another shape, as weight; use weights of Linear"):
        load_weights(nn.Linear(4, 2), state(), tmp_path)
    with pytest.raises(ValueError, match=r"2 missing, as 0\.bias; 2 unknown, as bias"):
        load_weights(nn.Sequential(nn.Linear(3, 2)), state(), tmp_path)
