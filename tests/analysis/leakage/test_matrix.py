"""Leakage of a decoder that is known, and of networks that may or may not look at noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.leakage.figures import draw_leakage
from gdm_repr.analysis.leakage.matrix import WAYS, LeakageMatrix, measure_leakage
from gdm_repr.analysis.leakage.noise_dependence import noise_dependence
from gdm_repr.coordinates import Flow
from gdm_repr.generation import Generation
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.ode import Plan, decode
from gdm_repr.oracle import block_whitening, gaussian_oracle
from gdm_repr.process import PROCESSES

SHAPE = (2, 1, 4)
GROUPINGS = {
    "in order": build_grouping("bands", SHAPE, cuts=[1, 3]),
    "another order": build_grouping("bands", SHAPE, cuts=[1, 3], order=[2, 0, 1]),
    "per channel": build_grouping("bands", SHAPE, cuts=[2], per_channel=True, order=[2, 1, 3, 0]),
    "single": build_grouping("single", SHAPE),
}
FACTOR = {"redraw": 2**0.5, "jacobian": 1.0}  # z' - z has variance 2, v has 1
Make = Callable[..., Path]


def gaussian(grouping: Grouping) -> tuple[Flow, Tensor]:
    """The flow of N(mean, S) over 2 x 4 elements, and S."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    S = root @ root.T / 8 + 0.2 * torch.eye(8, dtype=torch.float64)
    mean = torch.randn(8, generator=generator, dtype=torch.float64)
    oracle = gaussian_oracle(mean, S, grouping)
    std = S.diagonal().sqrt().reshape(2, 4)
    return Flow(oracle, grouping, PROCESSES["linear"], mean.reshape(2, 4), std), S


def plan(grouping: Grouping, steps: int = 1, solver: str = "ab2") -> Plan:
    return Plan(solver, "whitened", (steps,) * grouping.k)


def latents(n: int, shape: tuple[int, int] = (2, 4), seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def members(grouping: Grouping) -> list[Tensor]:
    index = torch.from_numpy(grouping.index).expand(2, -1).reshape(-1)
    return [index == group for group in grouping.order]


def root_mean_squares(L: Tensor, S: Tensor, grouping: Grouping) -> np.ndarray:
    """sqrt(||dx_i/dz_j||_F^2 / sum of variances of group i) of x = L z, by hand."""
    own = members(grouping)
    rows = [[L[i][:, j].square().sum() / S.diagonal()[i].sum() for j in own] for i in own]
    return torch.tensor(rows).sqrt().numpy()


def linear_part(flow: Flow, steps: Plan) -> Tensor:
    """L of x = mean + L z, from unit vectors."""
    unit = torch.eye(8, dtype=torch.float64).reshape(8, 2, 4)
    zero = torch.zeros(1, 2, 4, dtype=torch.float64)
    return (decode(flow, unit, steps).y - decode(flow, zero, steps).y).reshape(8, 8).T


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GROUPINGS)
def test_the_oracle_has_its_analytic_jacobian(name: str, way: str) -> None:
    """Within 4 standard errors of 500 examples, for every entry and for the control."""
    grouping = GROUPINGS[name]
    flow, S = gaussian(grouping)
    generation = Generation(flow, plan(grouping), strict=False)
    result = measure_leakage(generation, latents(500), way=way, batch_size=500)
    L = linear_part(flow, generation.plan)
    exact = root_mean_squares(L, S, grouping) * FACTOR[way]
    error = (result.high - result.low) / 3.92
    assert (np.abs(result.value - exact) <= 4 * error + 1e-12).all()
    assert (error < 0.08).all()
    assert result.value[result.forbidden].max(initial=0) < 1e-12
    assert result.names == tuple(grouping.names[group] for group in grouping.order)
    whole = np.sqrt((exact**2).sum(1))
    for estimate, expected in zip(result.control, whole, strict=True):
        assert abs(estimate.value - expected) < 4 * (estimate.high - estimate.low) / 3.92


@pytest.mark.parametrize("name", GROUPINGS)
def test_each_change_is_the_oracles(name: str) -> None:
    """Element by element: x = mean + L z changes by L (z' - z); along v its derivative is L v."""
    grouping = GROUPINGS[name]
    flow, _ = gaussian(grouping)
    steps = plan(grouping)
    L = linear_part(flow, steps)
    z, other = latents(3), latents(3, seed=2)
    x = decode(flow, z, steps).y
    for own in members(grouping):
        mask = own.reshape(2, 4)
        for way, step in (("redraw", other - z), ("jacobian", other)):
            change = WAYS[way](lambda z: decode(flow, z, steps).y, z, x, mask, other)
            expected = torch.where(mask, step, 0.0).reshape(3, 8) @ L.T
            assert torch.allclose(change.reshape(3, 8), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["another order", "per channel"])
def test_a_fine_plan_inverts_block_whitening(name: str) -> None:
    """Its leakage is the exact encoder's inverse, and exact Gaussian rows have sum of squares 1."""
    grouping = GROUPINGS[name]
    flow, S = gaussian(grouping)
    zero = torch.zeros(8, dtype=torch.float64)
    W = block_whitening(torch.eye(8, dtype=torch.float64), zero, S, grouping).T  # z = W (x - mean)
    L = torch.linalg.inv(W)
    generation = Generation(flow, plan(grouping, steps=12, solver="rk4"), strict=True)
    assert torch.allclose(linear_part(flow, generation.plan), L, atol=1e-5)
    exact = root_mean_squares(L, S, grouping)
    assert (exact**2).sum(1) == pytest.approx(np.ones(grouping.k), abs=1e-12)
    result = measure_leakage(generation, latents(400), batch_size=400)
    error = (result.high - result.low) / 3.92
    assert (np.abs(result.value - exact * 2**0.5) <= 4 * error + 1e-12).all()
    for estimate in result.control:
        assert abs(estimate.value - 2**0.5) < 4 * (estimate.high - estimate.low) / 3.92


@pytest.mark.parametrize("way", WAYS)
def test_sharing_and_batches_change_nothing(way: str) -> None:
    grouping = GROUPINGS["another order"]
    flow, _ = gaussian(grouping)
    plain = Generation(flow, plan(grouping), strict=False)
    shared = Generation(flow, plan(grouping), strict=True)
    images: list[int] = []
    whole = measure_leakage(plain, latents(5), way=way, seed=4, advance=images.append)
    for generation, batch_size in ((plain, 2), (shared, 3)):
        result = measure_leakage(generation, latents(5), way=way, seed=4, batch_size=batch_size)
        for name in ("value", "low", "high"):
            assert getattr(result, name) == pytest.approx(getattr(whole, name), abs=1e-12)
        assert [e.value for e in result.control] == pytest.approx([e.value for e in whole.control])
        assert result.presumed == generation.strict
        assert (result.largest_forbidden is None) == generation.strict  # presumed, not measured
    k = grouping.k
    assert sum(images) == 5 * (k + 1)
    assert plain.groups == 10 * k * (k + 2)
    assert shared.groups == 5 * (k * (k + 1) // 2 + 2 * k)  # a half, for many groups
    again = measure_leakage(plain, latents(5), way=way, seed=5)
    assert not np.allclose(again.value, whole.value, atol=1e-3)


def test_an_example_does_not_depend_on_the_others() -> None:
    grouping = GROUPINGS["in order"]
    generation = Generation(gaussian(grouping)[0], plan(grouping), strict=True)
    few, many = (measure_leakage(generation, latents(12)[:n]) for n in (6, 12))
    rest = many.value**2 * 12 - few.value**2 * 6
    swapped = latents(12)
    swapped[:6] = latents(6, seed=9)
    other_few, other_many = (measure_leakage(generation, swapped[:n]) for n in (6, 12))
    assert other_many.value**2 * 12 - other_few.value**2 * 6 == pytest.approx(rest, abs=1e-9)


def test_the_noise_is_not_the_noise_of_numpys_latents() -> None:
    """Latents drawn from [seed, example] must really be redrawn."""
    grouping = GROUPINGS["single"]
    generation = Generation(gaussian(grouping)[0], plan(grouping), strict=True)
    rows = [np.random.default_rng([0, i]).standard_normal((2, 4)) for i in range(40)]
    result = measure_leakage(generation, torch.from_numpy(np.stack(rows)), seed=0)
    assert result.value[0, 0] > 1


def test_intervals_cover_the_truth() -> None:
    grouping = GROUPINGS["another order"]
    flow, S = gaussian(grouping)
    generation = Generation(flow, plan(grouping), strict=True)
    exact = root_mean_squares(linear_part(flow, generation.plan), S, grouping) * FACTOR["redraw"]
    missed = 0
    for seed in range(30):
        result = measure_leakage(generation, latents(60, seed=100 + seed), seed=seed)
        missed += int(((exact < result.low) | (exact > result.high))[~result.forbidden].sum())
    assert (
        missed <= 24
    )  # of 180, 9 expected at 95 %; a bootstrap of 60 examples covers a little less


def denoiser_flow(path: Path) -> Flow:
    from gdm_repr.checkpoint import load_checkpoint

    made = load_checkpoint(path).denoiser
    return Flow(made, made.grouping, made.process, made.mean, made.std)


def digits_like(make_model: Make, path: Path, *, strict: bool, **network: object) -> Flow:
    return denoiser_flow(
        make_model(
            path,
            (1, 8, 8),
            grouping={"name": "bands", "cuts": [6, 21], "order": [1, 0, 2]},
            denoiser={"strict": strict},
            **({"network": network} if network else {}),
        )
    )


@pytest.mark.parametrize("strict", [True, False])
def test_only_a_network_that_sees_noise_leaks(
    make_model: Make, tmp_path: Path, strict: bool
) -> None:
    flow = digits_like(make_model, tmp_path / "m.safetensors", strict=strict)
    generation = Generation(flow, Plan(steps=(3, 3, 3)), strict=False)
    z = latents(12, (1, 64)).float()
    for way in WAYS:
        result = measure_leakage(generation, z, way=way)
        worst = result.largest_forbidden
        assert worst is not None
        rows, columns = result.names.index(worst.data), result.names.index(worst.latent)
        assert rows < columns and result.value[rows, columns] == worst.estimate.value
        assert (np.diag(result.value) > 0.1).all()
        if strict:
            assert worst.estimate == Estimate(0, 0, 0)
        else:
            assert worst.estimate.low > 1e-3
            assert worst.estimate.value == result.value[result.forbidden].max()
    rows_of_u = noise_dependence(flow, z, s=(0.2, 0.8))
    assert [(row.group, row.s) for row in rows_of_u] == [
        (result.names[0], 0.2),
        (result.names[0], 0.8),
        (result.names[1], 0.2),
        (result.names[1], 0.8),
    ]
    for row in rows_of_u:
        if strict:
            assert row.moving == row.undiffused == Estimate(0, 0, 0)
        else:
            assert row.moving.low > 1e-3 and row.undiffused.low > 1e-3


def test_the_derivative_goes_through_attention(make_model: Make, tmp_path: Path) -> None:
    flow = digits_like(
        make_model,
        tmp_path / "m.safetensors",
        strict=True,
        name="ddpmpp",
        channels=8,
        multipliers=[1, 2],
        blocks=1,
        attention=[8],
    )
    steps = Plan(steps=(1, 1, 1))
    z, v = (latents(2, (1, 64), seed).float() for seed in (1, 2))
    h = 1e-2

    def generate(z: Tensor) -> Tensor:
        return decode(flow, z, steps).y

    for group in range(3):
        own = torch.from_numpy(flow.grouping.mask(group))
        tangent = WAYS["jacobian"](generate, z, generate(z), own, v)
        shift = h * torch.where(own, v, 0.0)
        difference = (generate(z + shift) - generate(z - shift)) / (2 * h)
        assert (tangent - difference).norm() < 3e-3 * tangent.norm()
        assert not tangent.requires_grad


class OnlyBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.tanh(x)


def test_an_operation_without_forward_derivative_is_named() -> None:
    grouping = GROUPINGS["in order"]
    flow, _ = gaussian(grouping)
    apply = OnlyBackward.apply
    bent = replace(flow, u=lambda x_t, A: apply(x_t))
    generation = Generation(bent, plan(grouping), strict=True)
    with pytest.raises(ValueError, match=r"way='jacobian'.*jvp.*use way='redraw'"):
        measure_leakage(generation, latents(2), way="jacobian")
    measure_leakage(generation, latents(2))


@pytest.mark.parametrize("name", ["in order", "another order", "per channel"])
def test_the_oracles_u_ignores_noise(name: str) -> None:
    """Prop. 3.3, for both interpolations."""
    flow, S = gaussian(GROUPINGS[name])
    x = flow.mean + (latents(20).reshape(20, 8) @ torch.linalg.cholesky(S).T).reshape(20, 2, 4)
    for process in PROCESSES.values():
        oracle = gaussian_oracle(flow.mean.reshape(-1), S, flow.grouping, process)
        rows = noise_dependence(replace(flow, u=oracle, process=process), x)
        assert len(rows) == 3 * (flow.grouping.k - 1)
        for row in rows:
            assert max(row.moving.high, row.undiffused.high) < 1e-12
    assert noise_dependence(gaussian(GROUPINGS["single"])[0], x) == []


def test_dependence_has_its_closed_form() -> None:
    """u = (x - z) + b (mean noise behind): D^2 = 2 b^2 / n / (var x + 1 + b^2 / n) on elements."""
    grouping, b = GROUPINGS["another order"], 0.7
    flow, S = gaussian(grouping)
    x = flow.mean + (latents(1500).reshape(-1, 8) @ torch.linalg.cholesky(S).T).reshape(-1, 2, 4)
    index = torch.from_numpy(grouping.index)

    def u(x_t: Tensor, A: Tensor) -> Tensor:
        behind = (A[0] == 0)[index].expand(2, -1)
        leak = x_t[:, behind].mean(1)[:, None, None]
        return x_t - flow.mean * A[:, index] + flow.mean + b * leak

    rows = noise_dependence(replace(flow, u=u), x, s=(0.3,), batch_size=1500)
    for row, rank in zip(rows, range(2), strict=True):
        own = members(grouping)[: rank + 1]
        behind = int(sum(mask.sum() for mask in members(grouping)[rank + 1 :]))
        level = torch.ones(8, dtype=torch.float64)
        level[own[-1]] = 0.7
        variance = level**2 * S.diagonal() + (1 - level) ** 2 + b**2 / behind
        union = torch.stack(own).any(0)
        for where, estimate in ((own[-1], row.moving), (union, row.undiffused)):
            exact = float((2 * b**2 / behind / variance[where].mean()).sqrt())
            error = (estimate.high - estimate.low) / 3.92
            assert abs(estimate.value - exact) < 4 * error < 0.1
            assert row.n == 1500


def test_dependence_is_independent_of_batches_and_follows_the_seed(
    make_model: Make, tmp_path: Path
) -> None:
    flow = digits_like(make_model, tmp_path / "m.safetensors", strict=False)
    x = latents(7, (1, 64)).float()
    whole, parts, other = (
        noise_dependence(flow, x, s=(0.5,), seed=seed, batch_size=size)
        for seed, size in ((0, 7), (0, 2), (1, 7))
    )
    for a, b, c in zip(whole, parts, other, strict=True):
        assert a.moving.value == pytest.approx(b.moving.value, rel=1e-5)
        assert a.undiffused.high == pytest.approx(b.undiffused.high, rel=1e-5)
        assert a.moving.value != pytest.approx(c.moving.value, rel=1e-3)


def test_what_cannot_be_measured_is_refused() -> None:
    grouping = GROUPINGS["in order"]
    flow, _ = gaussian(grouping)
    generation = Generation(flow, plan(grouping), strict=True)
    with pytest.raises(ValueError, match="way='forward': unknown; choose from redraw, jacobian"):
        measure_leakage(generation, latents(3), way="forward")
    with pytest.raises(ValueError, match=r"z: shape \(3, 4, 2\); must be \(n, 2, 4\)"):
        measure_leakage(generation, latents(3, (4, 2)))
    with pytest.raises(ValueError, match="z: 1 examples; an interval needs at least 2"):
        measure_leakage(generation, latents(1))
    with pytest.raises(ValueError, match=r"x: shape \(2, 4\)"):
        noise_dependence(flow, latents(1)[0])
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"s={level}: must lie between"):
            noise_dependence(flow, latents(3), s=(0.5, level))


@pytest.mark.parametrize("name", ["another order", "single"])
@pytest.mark.parametrize("way", WAYS)
def test_the_figure_shows_every_entry(name: str, way: str, tmp_path: Path) -> None:
    grouping = GROUPINGS[name]
    generation = Generation(gaussian(grouping)[0], plan(grouping), strict=False)
    result: LeakageMatrix = measure_leakage(generation, latents(5), way=way)
    figure = draw_leakage(result)
    figure.savefig(tmp_path / "leakage.png")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [*result.names, "all"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*result.names]
    shown = [text.get_text() for text in axes.texts]
    for value in [*result.value.ravel(), *(estimate.value for estimate in result.control)]:
        assert f"{value:.2g}" in shown
    assert len(axes.patches) == (grouping.k > 1)  # the hatched zone
    for i, j in np.argwhere(np.ones((grouping.k, grouping.k))) if axes.patches else ():
        inside = axes.patches[0].get_path().contains_point((j, i))
        assert inside == result.forbidden[i, j]


def test_a_figure_of_many_groups_stays_readable(tmp_path: Path) -> None:
    k = 64
    matrix = np.tril(np.random.default_rng(0).random((k, k)))
    result = LeakageMatrix(
        way="redraw",
        names=tuple(f"g{j}" for j in range(k)),
        value=matrix,
        low=matrix,
        high=matrix,
        control=(Estimate(1.4, 1.3, 1.5),) * k,
        n=9,
        seed=0,
        presumed=True,
    )
    figure = draw_leakage(result)
    figure.savefig(tmp_path / "leakage.png")
    assert len(figure.axes[0].get_xticklabels()) <= 13
    assert "presumed" in figure.axes[0].get_title()
