"""The Python API: encode, decode and sample as documented, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gdm_repr import GDM
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.grouping import build_grouping, rms_by_group

RGB = (3, 4, 6)


@pytest.fixture(scope="module")
def model(trained: Path) -> GDM:
    return GDM.from_pretrained(trained, device="cpu")


@pytest.fixture(scope="module")
def x() -> Tensor:
    return open_data("digits", Preprocess(dequantize=True)).batch(range(0, 160, 10)).x


@pytest.fixture
def colour(make_model: Callable[..., Path], tmp_path: Path) -> GDM:
    """A model of 4x6 colour images in three bands, generated out of order."""
    grouping = {"name": "bands", "cuts": [5, 9], "order": [1, 2, 0]}
    return GDM.from_pretrained(make_model(tmp_path / "m.safetensors", RGB, grouping=grouping))


def images(n: int, shape: tuple[int, int, int] = RGB) -> Tensor:
    return torch.rand((n, *shape), generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_file_and_folder_give_the_same_model(trained: Path, x: Tensor) -> None:
    first, second = (
        GDM.from_pretrained(name).encode(x[:2]).z
        for name in (trained, str(trained / "model.safetensors"))
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["absent", "absent/", "runs/absent.safetensors", "user/absent"])
def test_an_unknown_name_is_an_error_that_repeats_it(name: str) -> None:
    with pytest.raises(ValueError, match=r"^checkpoint 'absent|absent.*no such file"):
        GDM.from_pretrained(name)


def test_shapes_and_errors_of_an_encoding(colour: GDM) -> None:
    e = colour.encode(images(5), latent_error=True, round_trip=True)
    assert (e.z.shape, e.z.dtype) == ((5, 3, 24), torch.float32)
    assert e.converged.tolist() == [True] * 5
    for name in ("latent_error", "round_trip_error"):
        total, groups = getattr(e, name), getattr(e, f"{name}_by_group")
        assert (total.shape, groups.shape) == ((5,), (5, 3))
        sizes = torch.tensor(colour.grouping.sizes())
        torch.testing.assert_close(total**2, (groups**2 * sizes).sum(1) / 24)
    assert e.reconstruction is not None
    assert e.reconstruction.shape == (5, *RGB)
    plain = colour.encode(images(5))
    assert torch.equal(plain.z, e.z)
    assert plain.latent_error is plain.round_trip_error is plain.reconstruction is None


def test_errors_are_those_recomputed(colour: GDM) -> None:
    x = images(4)
    plan = colour.plan((4, 5, 6), solver="heun")
    e = colour.encode(x, plan, latent_error=True, round_trip=True)
    back = colour.decode(e.z, plan)
    assert e.reconstruction is not None and e.round_trip_error is not None
    torch.testing.assert_close(e.reconstruction, back)
    rmse = (back - x).square().mean((1, 2, 3)).sqrt()  # U is orthogonal: the same in pixels
    torch.testing.assert_close(e.round_trip_error, rmse)
    finer = colour.encode(x, colour.plan((8, 10, 12), solver="heun")).z
    richardson = (finer - e.z) * 4 / 3  # order 2
    assert e.latent_error is not None
    torch.testing.assert_close(e.latent_error, richardson.square().mean((1, 2)).sqrt())


@pytest.mark.parametrize(
    ("solver", "evaluations"),
    [("euler", 12), ("midpoint", 24), ("heun", 24), ("rk4", 48), ("ab2", 15), ("ab3", 15)],
)
def test_evaluations_are_counted(colour: GDM, solver: str, evaluations: int) -> None:
    assert colour.encode(images(1), colour.plan(12, solver=solver)).evaluations == evaluations


def test_decode_inverts_encode_in_the_limit(model: GDM, x: Tensor) -> None:
    errors = []
    for steps in (24, 96):
        plan = model.plan(steps, solver="rk4")
        errors.append(float((model.decode(model.encode(x, plan).z, plan) - x).abs().max()))
    assert errors[1] < 1e-4
    assert errors[1] < errors[0]


def test_the_exact_inverse_is_exact_at_any_step(model: GDM, x: Tensor) -> None:
    plan = model.plan(24, solver="euler", inverse=True)
    e = model.encode(x, plan)
    assert bool(e.converged.all())
    torch.testing.assert_close(model.decode(e.z, plan), x, atol=1e-4, rtol=0)
    explicit = model.plan(24, solver="euler")
    assert float((model.decode(model.encode(x, explicit).z, explicit) - x).abs().max()) > 1e-3


def test_a_failed_inverse_is_flagged(colour: GDM) -> None:
    e = colour.encode(images(3), colour.plan(3, solver="euler", inverse=True, tolerance=1e-12))
    assert not bool(e.converged.any())  # float32 cannot hold that tolerance


def test_batches_change_nothing(model: GDM, x: Tensor) -> None:
    whole = model.encode(x, latent_error=True, round_trip=True)
    for size in (1, 7):
        parts = [
            model.encode(part, latent_error=True, round_trip=True) for part in torch.split(x, size)
        ]
        for name in ("z", "latent_error", "round_trip_error", "reconstruction"):
            joined = torch.cat([getattr(part, name) for part in parts])
            torch.testing.assert_close(joined, getattr(whole, name), atol=1e-4, rtol=0)


@pytest.mark.parametrize("solver", ["ab2", "dopri5", "inverse"])
def test_no_images_give_no_latents(colour: GDM, solver: str) -> None:
    inverse = solver == "inverse"
    plan = colour.plan(6, solver="euler" if inverse else solver, inverse=inverse)
    e = colour.encode(images(0), plan, latent_error=solver != "dopri5", round_trip=True)
    assert e.z.shape == (0, 3, 24)
    assert e.round_trip_error is not None
    assert e.round_trip_error.shape == (0,)


def test_z_is_in_the_basis_order(make_model: Callable[..., Path], tmp_path: Path) -> None:
    """With no network, latents of one group are its whitened coefficients, one by one."""
    path = make_model(tmp_path / "m.safetensors", RGB)
    m = GDM.from_pretrained(path)
    for weight in m.denoiser.network.parameters():
        weight.zero_()
    x = images(6)
    coefficients = m.basis.forward(x)
    expected = (coefficients - m.denoiser.mean) / m.denoiser.std
    torch.testing.assert_close(m.encode(x, m.plan(1)).z, expected, atol=1e-5, rtol=1e-5)
    constant = torch.full((1, *RGB), 0.5)
    only_first = m.basis.forward(constant)[0]
    assert float(only_first[:, 1:].abs().max()) < 1e-6  # DCT: a constant image is index 0
    assert m.basis.positions[0].tolist() == [0, 0]


@pytest.mark.parametrize("group", [0, 1, 2])
def test_a_latent_moves_no_group_generated_before_it(colour: GDM, group: int) -> None:
    z = colour.noise(3)
    other = z.clone()
    own = torch.from_numpy(colour.grouping.index[0] == group)
    other[:, :, own] += 0.5
    first, second = (colour.basis.forward(colour.decode(latents)) for latents in (z, other))
    order = colour.grouping.order
    before = np.isin(colour.grouping.index[0], order[: order.index(group)])
    torch.testing.assert_close(first[:, :, before], second[:, :, before], atol=1e-5, rtol=0)
    assert float((first - second)[:, :, own].abs().max()) > 1e-2


def test_samples_depend_on_seed_plus_number_alone(model: GDM) -> None:
    whole = model.sample(8, seed=3)
    assert whole.shape == (8, 1, 8, 8)
    one_by_one = torch.cat([model.sample(1, seed=3 + i) for i in range(8)])
    torch.testing.assert_close(one_by_one, whole, atol=1e-4, rtol=0)
    assert torch.equal(model.noise(8, seed=3)[2:], model.noise(6, seed=5))
    torch.testing.assert_close(whole, model.decode(model.noise(8, seed=3)))
    before = torch.get_rng_state()
    model.noise(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_is_standard_normal(model: GDM) -> None:
    z = model.noise(400).double()
    n = z.numel()
    assert abs(float(z.mean())) < 4 / n**0.5
    assert abs(float(z.square().mean()) - 1) < 4 * (2 / n) ** 0.5


def test_plans(model: GDM, x: Tensor) -> None:
    plan = model.plan()
    assert (plan.solver, plan.coordinate, plan.steps) == ("ab3", "whitened", (24, 24, 24))
    assert model.plan(7).steps == (3, 2, 2)
    assert model.plan((1, 2, 3)).steps == (1, 2, 3)
    split = model.plan(24, split_on=x).steps
    assert (sum(split), len(split), min(split) >= 1) == (24, 3, True)
    even = model.encode(x, model.plan(24), latent_error=True).latent_error
    best = model.encode(x, model.plan(24, split_on=x), latent_error=True).latent_error
    assert even is not None and best is not None
    assert float(best.square().mean()) < 1.2 * float(even.square().mean())


@pytest.mark.parametrize(
    ("steps", "options", "says"),
    [
        (2, {}, "fewer than the 3 groups"),
        ((4, 4), {}, "2 counts for 3 groups"),
        ((4,), {}, "1 counts for 3 groups"),
        ((4, 0, 4), {}, "at least one step"),
        (9, {"solver": "leapfrog"}, "choose from euler"),
        (9, {"coordinate": "log"}, "choose from uniform, whitened"),
        (9, {"inverse": True}, "no one-step method"),
        (9, {"tolerance": 0.0}, "must be positive"),
        (9, {"solver": "dopri5", "split_on": torch.zeros(1, 1, 8, 8)}, "chooses its own steps"),
        (9, {"split_on": torch.zeros(1, 3, 8, 8)}, "must be (B, 1, 8, 8)"),
    ],
)
def test_impossible_plans_are_refused(
    model: GDM, steps: int | tuple[int, ...], options: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError) as error:
        model.plan(steps, **options)  # type: ignore[arg-type]
    assert says in str(error.value)


def test_impossible_images_and_latents_are_refused(model: GDM) -> None:
    for x, says in [
        (torch.zeros(2, 8, 8), "must be (B, 1, 8, 8)"),
        (torch.zeros(2, 3, 8, 8), "must be (B, 1, 8, 8)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "must be floats in [-1, 1]"),
        (torch.full((2, 1, 8, 8), torch.nan), "not finite"),
    ]:
        with pytest.raises(ValueError) as error:
            model.encode(x)
        assert says in str(error.value)
    for z, says in [
        (torch.zeros(2, 64), "must be (B, 1, 64)"),
        (torch.zeros(2, 1, 8, 8), "must be (B, 1, 64)"),
        (torch.full((2, 1, 64), torch.inf), "not finite"),
    ]:
        with pytest.raises(ValueError) as error:
            model.decode(z)
        assert says in str(error.value)
    with pytest.raises(ValueError, match="n=0"):
        model.sample(0)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device here; use auto or cpu"):
            GDM(model.checkpoint, device="cuda")


def test_float64_images_are_taken(model: GDM, x: Tensor) -> None:
    torch.testing.assert_close(model.encode(x.double()).z, model.encode(x).z)


def test_errors_by_group_are_root_mean_squares() -> None:
    grouping = build_grouping("bands", (2, 1, 4), cuts=[1])
    error = torch.tensor([[[3.0, 1, 1, 1], [4.0, 1, 1, 1]]])
    torch.testing.assert_close(rms_by_group(error, grouping), torch.tensor([[12.5**0.5, 1.0]]))
    by_channel = build_grouping("single", (2, 1, 4), per_channel=True)
    expected = torch.tensor([[3**0.5, 19**0.5 / 2]])
    torch.testing.assert_close(rms_by_group(error, by_channel), expected)


def test_bfloat16_is_near_float32(trained: Path, model: GDM, x: Tensor) -> None:
    fast = GDM.from_pretrained(trained, device="cpu", precision="bf16")
    z = fast.encode(x).z
    assert z.dtype == torch.float32
    torch.testing.assert_close(z, model.encode(x).z, atol=0.1, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.1)])
@pytest.mark.parametrize("network", [None, "ddpmpp"])
def test_cuda_agrees_with_the_cpu(
    trained: Path,
    make_model: Callable[..., Path],
    tmp_path: Path,
    x: Tensor,
    network: str | None,
    precision: str,
    tolerance: float,
) -> None:
    path = trained
    if network is not None:
        parts = {"name": network, "channels": 8, "multipliers": (1, 2), "blocks": 1}
        path = make_model(tmp_path / "m.safetensors", (1, 8, 8), network=parts)
    cpu = GDM.from_pretrained(path, device="cpu")
    gpu = GDM.from_pretrained(path, device="auto", precision=precision)
    assert gpu.device.type == "cuda"
    z, z_gpu = cpu.encode(x).z, gpu.encode(x).z
    assert z_gpu.dtype == torch.float32
    torch.testing.assert_close(z_gpu.cpu(), z, atol=tolerance, rtol=0)
    torch.testing.assert_close(gpu.decode(z).cpu(), cpu.decode(z), atol=tolerance, rtol=0)
    torch.testing.assert_close(gpu.noise(2).cpu(), cpu.noise(2))


def test_another_order_is_that_of_a_model_built_with_it(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    def build(name: str, order: list[int], orders: str) -> GDM:
        grouping = {"name": "bands", "cuts": [5, 9], "order": order}
        return GDM.from_pretrained(make_model(tmp_path / name, RGB, orders, grouping=grouping))

    one, x = build("one.safetensors", [1, 2, 0], "random"), images(3)
    turned = one.with_order([0, 1, 2])
    assert torch.equal(turned.encode(x).z, build("two.safetensors", [0, 1, 2], "fixed").encode(x).z)
    assert turned.grouping.order == turned.denoiser.grouping.order == (0, 1, 2)
    assert one.grouping.order == (1, 2, 0)  # as it was
    assert one.with_order(None) is one


@pytest.mark.parametrize(
    ("order", "words"), [([0, 1, 2], "trained on orders='fixed'"), ([0, 1, 1], "no permutation")]
)
def test_an_order_that_was_not_trained_is_refused(
    colour: GDM, order: list[int], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        colour.with_order(order)


@pytest.mark.parametrize("surroundings", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_gradients_pass_through_encode_and_decode_on_request(
    colour: GDM, surroundings: Callable[[], AbstractContextManager[Any]]
) -> None:
    plan, x = colour.plan(6), images(2)
    step = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    leaf = x.clone().requires_grad_()
    with surroundings():
        e = colour.encode(leaf, plan, grad=True, round_trip=True)
        back = colour.decode(e, plan, grad=True)
    assert e.reconstruction is not None and not e.reconstruction.requires_grad
    assert torch.equal(back, e.reconstruction)
    functions: list[tuple[Tensor, Callable[[Tensor], Tensor]]] = [
        (e.z, lambda x: colour.encode(x, plan).z),
        (back, lambda x: colour.decode(colour.encode(x, plan), plan)),
    ]
    for found, function in functions:
        (gradient,) = torch.autograd.grad(found.square().sum(), leaf, retain_graph=True)
        ends = [function(x + h * step).double().square().sum() for h in (1e-3, -1e-3)]
        expected = float(ends[0] - ends[1]) / 2e-3
        assert float((gradient * step).sum()) == pytest.approx(expected, rel=1e-2)
    assert not colour.encode(leaf, plan).z.requires_grad
    assert not colour.decode(e.z, plan).requires_grad
    assert all(weight.grad is None for weight in colour.denoiser.parameters())
