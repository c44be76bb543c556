"""What users hand to a model: taken as meant, or refused by an error that names it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gdm_repr import GDM
from gdm_repr.boundary.image_batch import REACH, check_range, image_batch, latent_batch
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data

RGB = (3, 4, 6)


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> GDM:
    path = tmp_path_factory.mktemp("images") / "m.safetensors"
    network = {"name": "ddpmpp", "channels": 4, "multipliers": [1], "blocks": 1}
    grouping = {"name": "bands", "cuts": [5, 9]}
    return GDM.from_pretrained(
        make_model(path, RGB, grouping=grouping, network=network), device="cpu"
    )


def images(n: int = 2) -> Tensor:
    return torch.rand((n, *RGB), generator=torch.Generator().manual_seed(1)) * 2 - 1


def picture(mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.numpy(),
        lambda x: x.numpy().astype(">f4"),
        lambda x: x.numpy()[::-1][::-1],
        lambda x: x.double(),
        lambda x: x.numpy().astype(np.longdouble),
        lambda x: list(x),
        lambda x: tuple(x.numpy()),
        lambda x: x.tolist(),
        lambda x: x.clone().requires_grad_(),
    ],
)
def test_forms_of_the_same_images(model: GDM, form: Callable[[Tensor], Any]) -> None:
    x, plan = images(), model.plan(3)
    z = model.encode(x, plan).z
    assert torch.equal(model.encode(form(x), plan).z, z)
    assert torch.equal(model.to_basis(form(x)), model.to_basis(x))
    assert torch.equal(model.decode(form(z), plan), model.decode(z, plan))
    assert model.plan(6, split_on=form(x)).steps == model.plan(6, split_on=x).steps


def test_a_read_only_array_is_taken_without_a_warning(model: GDM) -> None:
    x = images().numpy()
    x.flags.writeable = False
    with warnings.catch_warnings(action="error"):
        model.encode(x, model.plan(3))


def test_pil_images_are_what_the_data_path_makes_of_their_files(tmp_path: Path) -> None:
    kinds = ["RGB", "L", "RGBA", "P", "1", "LA"]
    for i, mode in enumerate(kinds):
        picture(mode).save(tmp_path / f"{i}.png")
    batch = open_data(tmp_path, Preprocess(channels="rgb")).batch(range(len(kinds)))
    opened = [Image.open(tmp_path / f"{i}.png") for i in range(len(kinds))]
    assert torch.equal(image_batch(opened, RGB), batch.x)
    gray = open_data(tmp_path, Preprocess(channels="gray")).batch([0]).x
    assert torch.equal(image_batch(opened[0], (1, 4, 6)), gray)


@pytest.mark.parametrize("empty", [lambda: images(0), lambda: images(0).numpy(), list])
def test_no_images_give_no_latents(model: GDM, empty: Callable[[], Any]) -> None:
    for solver in ("ab3", "dopri5", "euler"):
        plan = model.plan(3, solver=solver, inverse=solver == "euler")
        e = model.encode(empty(), plan, latent_error=solver != "dopri5", round_trip=True)
        assert e.z.shape == (0, 3, 24) and e.converged.shape == (0,)
        assert e.round_trip_error is not None and e.round_trip_error.shape == (0,)
        assert e.reconstruction is not None and e.reconstruction.shape == (0, *RGB)
        assert model.decode(e.z, plan).shape == (0, *RGB)
    assert model.to_basis(empty()).shape == (0, 3, 24)
    with pytest.raises(ValueError, match="split_on: holds no images"):
        model.plan(3, split_on=empty())


@pytest.mark.parametrize(
    ("x", "rule"),
    [
        (images().to(torch.uint8), r"dtype torch.uint8.*x / 127.5 - 1"),
        (np.zeros((1, *RGB), np.int64), r"dtype torch.int64.*x / 127.5 - 1"),
        (np.zeros((1, *RGB), bool), "dtype torch.bool"),
        (np.zeros((1, *RGB), complex), "dtype torch.complex"),
        (np.zeros((1, *RGB), object), "ndarray"),
        (images()[0], r"shape \(3, 4, 6\); must be \(B, 3, 4, 6\)"),
        (images().movedim(1, 3), r"shape \(2, 4, 6, 3\); .*move the channels to the front"),
        (images() * torch.nan, "not finite"),
        (images().to("meta"), "meta tensor"),
        (images().to_sparse(), "sparse"),
        ([images()[0], images()[0, :, :2]], r"x\[1\]"),
        (picture(size=(4, 6)), r"x\[0\]: 6x4 px.*must be 4x6.*resize"),
        ([picture(), images()[0]], r"x\[1\]: is a Tensor"),
        (picture("F"), r"x\[0\]: can't be used \(float pixels"),
        ("x.png", "str"),
        (None, "NoneType"),
        (3, "shape"),
        ([None], "list"),
        (images() * 0 + 200, r"from 200 to 200.*x / 127.5 - 1"),
        ((images() + 1) * 8, r"must be in \[-1, 1\]"),
        (images() - 11, r"must be in \[-1, 1\]"),
    ],
)
def test_what_are_no_images(model: GDM, x: Any, rule: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=rf"^x.*{rule}|^{rule}"):
        model.encode(x, model.plan(3))


def test_noise_and_samples_are_in_reach(model: GDM) -> None:
    noise = torch.randn((100, *RGB), generator=torch.Generator().manual_seed(0))
    assert float(noise.abs().max()) < 6 < REACH
    assert model.encode(noise, model.plan(3)).z.shape == (100, 3, 24)
    model.encode(images() * 2 * REACH, model.plan(3), check=False)


def test_a_batch_in_0_1_gets_one_warning_that_points_at_the_caller(model: GDM) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.encode(images() / 2 + 0.5, model.plan(3), round_trip=True, latent_error=True)
    assert [(w.category, Path(w.filename).name) for w in told] == [
        (UserWarning, Path(__file__).name)
    ]
    assert "x * 2 - 1" in str(told[0].message)


@pytest.mark.parametrize("x", [images(), torch.zeros(2, *RGB), torch.ones(2, *RGB), images(0)])
def test_no_other_batch_gets_one(x: Tensor) -> None:
    with warnings.catch_warnings(action="error"):
        check_range(x)
        check_range(torch.cat([torch.zeros(1, *RGB), torch.ones(1, *RGB)]))


def test_commands_do_not_warn_of_bright_images(
    make_model: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from gdm_repr import encode

    model = make_model(tmp_path / "m.safetensors", RGB)
    values = np.random.default_rng(0).integers(130, 250, (3, *RGB[1:], 3), np.uint8)
    np.save(tmp_path / "bright.npy", values)
    argv = ["--checkpoint", str(model), "--data", str(tmp_path / "bright.npy"), "--steps", "3"]
    with warnings.catch_warnings(action="error", category=UserWarning):
        assert encode.main([*argv, "--out", str(tmp_path / "z"), "--no-track"]) == 0
    assert "[0, 1]" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "z", [np.zeros((1, 3, 24), bool), np.full((1, 3, 24), 1e300), np.zeros((3, 24)), "z", [None]]
)
def test_what_are_no_latents(model: GDM, z: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=r"^z"):
        model.decode(z)
    assert latent_batch(np.zeros((1, 3, 24), int), (3, 24)).shape == (1, 3, 24)


def test_counts_and_seeds(model: GDM) -> None:
    plan = model.plan(np.int64(6))
    assert plan.steps == (2, 2, 2) == model.plan(np.array([2, 2, 2])).steps
    one = model.sample(1, seed=3, plan=plan)
    assert torch.equal(model.sample(np.int64(1), seed=np.int64(3), plan=plan), one)
    model.noise(1, seed=2**64 - 1)
    for n, seed, name in (
        (1, 2**64, "seed"),
        (2, 2**64 - 1, "seed"),
        (1, -1, "seed"),
        (1, 1.0, "seed"),
        (1, True, "seed"),
        (1, "1", "seed"),
        (0, 0, "n"),
        (True, 0, "n"),
        (2.0, 0, "n"),
    ):
        with pytest.raises(ValueError, match=rf"^{name}="):
            model.sample(n, seed=seed, plan=plan)  # type: ignore[arg-type]
    for steps in (3.0, True, "12", [1, 1, 1.0], None):
        with pytest.raises(ValueError, match=r"^steps"):
            model.plan(steps)  # type: ignore[arg-type]
