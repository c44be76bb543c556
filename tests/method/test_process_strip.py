"""How images come about: frames begin with noise, end with the image, and keep finished groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gdm_repr import GDM
from gdm_repr.process_strip import process_frames, process_sheet


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> GDM:
    grouping = {"name": "bottom-to-top", "k": 2}
    parts = {"basis": {"name": "identity"}, "grouping": grouping}
    return GDM.from_pretrained(make_model(tmp_path / "m.safetensors", (1, 4, 4), **parts))


@pytest.mark.parametrize("solver", ["euler", "ab3"])
@pytest.mark.parametrize("frames", [2, 3, 50])
def test_from_noise_to_image(model: GDM, frames: int, solver: str) -> None:
    plan, z = model.plan(12, solver=solver), model.noise(3)
    strip = process_frames(model, z, plan, frames).x
    assert strip.shape == (frames, 3, 1, 4, 4)
    torch.testing.assert_close(strip[0], model.basis.inverse(z), atol=1e-5, rtol=0)
    assert torch.equal(strip[-1], model.decode(z, plan))


def test_groups_follow_each_other(model: GDM) -> None:
    """The bottom is made first: half way it is done, and the top is its noise."""
    plan, z = model.plan(12, solver="euler"), model.noise(2)
    first, half, last = process_frames(model, z, plan, 3).x
    torch.testing.assert_close(half[..., :2, :], first[..., :2, :], atol=1e-5, rtol=0)
    torch.testing.assert_close(half[..., 2:, :], last[..., 2:, :], atol=1e-5, rtol=0)


def test_what_is_made_so_far_has_no_noise_of_groups_to_come(model: GDM) -> None:
    plan, z = model.plan(12, solver="euler"), model.noise(2)
    strip = process_frames(model, z, plan, 3)
    mean = model.basis.inverse(model.flow.mean[None])[0]
    first, half, last = strip.made
    torch.testing.assert_close(first, mean.expand_as(first))
    torch.testing.assert_close(half[..., 2:, :], strip.x[1][..., 2:, :])
    torch.testing.assert_close(half[..., :2, :], mean[..., :2, :].expand_as(half[..., :2, :]))
    torch.testing.assert_close(last, strip.x[-1])


@pytest.mark.parametrize("coordinate", ["uniform", "whitened"])
def test_frames_name_the_group_in_the_making(model: GDM, coordinate: str) -> None:
    plan = model.plan(8, solver="euler", coordinate=coordinate)  # four evaluations a group
    first, second = model.grouping.names
    assert process_frames(model, model.noise(1), plan, 9).labels == (
        "noise",
        *(f"{share} %\n{first}" for share in (12, 25, 38)),
        f"50 %\n{first} done",
        *(f"{share} %\n{second}" for share in (62, 75, 88)),
        "image",
    )


def test_labels_follow_the_order(make_model: Callable[..., Path], tmp_path: Path) -> None:
    grouping = {"name": "blocks", "rows": 1, "cols": 3}
    parts = {"basis": {"name": "identity"}, "grouping": grouping, "orders": "random"}
    path = make_model(tmp_path / "m.safetensors", (1, 3, 3), **parts)
    model = GDM.from_pretrained(path).with_order([2, 0, 1])
    strip = process_frames(model, model.noise(1), model.plan(3, solver="euler"), 4)
    names = model.grouping.names
    assert strip.labels == ("noise", f"33 %\n{names[2]} done", f"67 %\n{names[0]} done", "image")


def test_sheet_has_two_rows_an_image_and_a_column_a_frame(model: GDM) -> None:
    plan, z = model.plan(12), model.noise(2)
    wide = process_sheet(model, z, plan, 6, ["a", "b"])
    narrow = process_sheet(model, z, plan, 2, ["a", "b"])
    one = process_sheet(model, z[:1], plan, 6, ["a"])
    assert wide.pixels.shape[1] - wide.margin == 6 * wide.column
    assert narrow.pixels.shape[1] - narrow.margin == 2 * narrow.column
    assert wide.pixels.shape[0] - one.pixels.shape[0] > 4 * 24 - 1  # a row of 4x4 images


def test_one_frame_is_refused(model: GDM) -> None:
    with pytest.raises(ValueError, match=r"frames=1: must be at least 2"):
        process_frames(model, model.noise(1), model.plan(), 1)
