"""How images come about: frames begin with noise, end with the image, and keep finished groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gdm_repr import GDM
from gdm_repr.analysis.process_strip import process_frames


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> GDM:
    grouping = {"name": "bottom-to-top", "k": 2}
    parts = {"basis": {"name": "identity"}, "grouping": grouping}
    return GDM.from_pretrained(make_model(tmp_path / "m.safetensors", (1, 4, 4), **parts))


@pytest.mark.parametrize("solver", ["euler", "ab3"])
@pytest.mark.parametrize("frames", [2, 3, 50])
def test_from_noise_to_image(model: GDM, frames: int, solver: str) -> None:
    plan, z = model.plan(12, solver=solver), model.noise(3)
    strip = process_frames(model, z, plan, frames)
    assert strip.shape == (frames, 3, 1, 4, 4)
    torch.testing.assert_close(strip[0], model.basis.inverse(z), atol=1e-5, rtol=0)
    assert torch.equal(strip[-1], model.decode(z, plan))


def test_groups_follow_each_other(model: GDM) -> None:
    """The bottom is made first: half way it is done, and the top is its noise."""
    plan, z = model.plan(12, solver="euler"), model.noise(2)
    first, half, last = process_frames(model, z, plan, 3)
    torch.testing.assert_close(half[..., :2, :], first[..., :2, :], atol=1e-5, rtol=0)
    torch.testing.assert_close(half[..., 2:, :], last[..., 2:, :], atol=1e-5, rtol=0)


def test_one_frame_is_refused(model: GDM) -> None:
    with pytest.raises(ValueError, match=r"frames=1: must be at least 2"):
        process_frames(model, model.noise(1), model.plan(), 1)
