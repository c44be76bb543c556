"""Encode and decode on data whose u is known in closed form: what is measured is the solver."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

from gdm_repr.coordinates import COORDINATES, Flow
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.ode import Integrator, Plan, Solution, decode, encode
from gdm_repr.oracle import MixtureOracle, block_whitening, gaussian_oracle
from gdm_repr.process import PROCESSES
from gdm_repr.solvers import SOLVERS
from gdm_repr.steps import even_steps, split_steps, step_doubling_error

STEPPED = [name for name in SOLVERS if name != "dopri5"]
ONE_STEP = [name for name, solver in SOLVERS.items() if solver.step is not None]
# generated 1, 2, 0; group 0 scattered; element 0 is generated last
GROUPS = Grouping(np.array([[0, 1, 0, 2]]), (1, 2, 0), ("a", "b", "c"))
D = 4


def covariance(scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(D, D, generator=generator, dtype=torch.float64)
    return scale * (0.3 * root @ root.T / D + 0.4 * torch.eye(D, dtype=torch.float64))


MEAN = torch.tensor([0.3, -0.2, 0.5, 0.0], dtype=torch.float64)


def gaussian(grouping: Grouping = GROUPS, process: str = "linear") -> Flow:
    S = covariance()
    oracle = gaussian_oracle(MEAN, S, grouping, PROCESSES[process])
    shape = (-1, grouping.d)
    return Flow(
        oracle,
        grouping,
        PROCESSES[process],
        MEAN.reshape(shape),
        S.diagonal().sqrt().reshape(shape),
    )


def mixture(process: str = "linear") -> tuple[Flow, MixtureOracle]:
    """Return two overlapping components, so that u is smooth but not linear."""
    means = torch.tensor([[0.6, -0.5, 0.4, 0.3], [-0.4, 0.3, -0.3, -0.2]], dtype=torch.float64)
    covariances = torch.stack([covariance(0.7), covariance(0.4).flip(0, 1)])
    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    oracle = MixtureOracle(weights, means, covariances, GROUPS, PROCESSES[process])
    mean = weights @ means
    deviation = means - mean
    variance = weights @ (covariances.diagonal(dim1=1, dim2=2) + deviation**2)
    return Flow(oracle, GROUPS, PROCESSES[process], mean[None], variance.sqrt()[None]), oracle


def data(oracle: MixtureOracle, n: int = 16, seed: int = 1) -> Tensor:
    return oracle.sample(n, torch.Generator().manual_seed(seed)).reshape(n, -1, oracle.grouping.d)


@lru_cache
def reference(process: str, coordinate: str) -> tuple[Flow, Tensor, Tensor]:
    """Return the mixture's flow, data, and latents far more exact than those tested."""
    flow, oracle = mixture(process)
    x = data(oracle)
    return flow, x, encode(flow, x, Plan("rk4", coordinate, (300,) * 3)).y


def gaussian_data(n: int = 16, grouping: Grouping = GROUPS) -> Tensor:
    return data(gaussian_oracle(MEAN, covariance(), grouping), n)


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def slope(steps: tuple[int, ...], errors: list[float]) -> float:
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


# --- the exact encoder ---------------------------------------------------------------------------


GAUSSIAN_GROUPS = {
    "three": GROUPS,
    "turned": GROUPS.with_order((0, 1, 2)),
    "one": build_grouping("single", (1, 1, D)),
    "elementwise": build_grouping("elementwise", (1, 1, D), order=[2, 0, 3, 1]),
    "channels": build_grouping("elementwise", (2, 1, 2)),
    "channels-apart": build_grouping("single", (2, 1, 2), per_channel=True),
}


@pytest.mark.parametrize("name", GAUSSIAN_GROUPS)
@pytest.mark.parametrize("coordinate", COORDINATES)
def test_gaussian_encode_is_block_whitening(name: str, coordinate: str) -> None:
    """Fixes sign, direction, order of the groups and their boundaries."""
    grouping = GAUSSIAN_GROUPS[name]
    x = gaussian_data(grouping=grouping)
    steps = 120 if coordinate == "whitened" else 250
    plan = Plan("rk4", coordinate, (steps,) * grouping.k)
    exact = block_whitening(x.flatten(1), MEAN, covariance(), grouping).reshape(x.shape)
    z = encode(gaussian(grouping), x, plan).y
    assert (z - exact).abs().max() < 1e-9
    assert (decode(gaussian(grouping), exact, plan).y - x).abs().max() < 1e-9


def test_whitened_steps_do_not_depend_on_the_interpolation() -> None:
    plan, x = Plan("heun", "whitened", (5, 5, 5)), gaussian_data()
    linear, preserving = (encode(gaussian(process=name), x, plan).y for name in PROCESSES)
    assert torch.allclose(linear, preserving, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_whitened_step_is_exact_for_independent_gaussians(solver: str, process: str) -> None:
    std = torch.tensor([1e-3, 0.1, 1.0, 5.0], dtype=torch.float64)
    oracle = gaussian_oracle(MEAN, torch.diag(std**2), GROUPS, PROCESSES[process])
    flow = Flow(oracle, GROUPS, PROCESSES[process], MEAN[None], std[None])
    x = data(oracle)
    plan = Plan(solver, "whitened", (1, 1, 1))
    assert torch.allclose(encode(flow, x, plan).y, (x - MEAN) / std, atol=1e-9)
    assert torch.allclose(decode(flow, (x - MEAN) / std, plan).y, x, atol=1e-9)


# --- order of convergence, across group boundaries -----------------------------------------------


@pytest.mark.parametrize(
    ("process", "coordinate"),
    [("linear", "uniform"), ("variance-preserving", "uniform"), ("linear", "whitened")],
)
def test_solvers_converge_at_their_order(process: str, coordinate: str) -> None:
    """On a mixture: on one Gaussian the midpoint rule in the paper's steps is of order 3."""
    flow, x, z = reference(process, coordinate)
    # so early is the linear case still far from its asymptote
    counts = (
        (16, 32, 64, 128) if (process, coordinate) == ("linear", "uniform") else (8, 16, 32, 64)
    )
    for solver in STEPPED:
        plans = [Plan(solver, coordinate, (n,) * 3) for n in counts]
        encoding = slope(counts, [rms(encode(flow, x, plan).y - z) for plan in plans])
        assert encoding == pytest.approx(SOLVERS[solver].order, abs=0.2), (solver, encoding)


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_decoding_converges_at_the_same_order(coordinate: str) -> None:
    flow, x, z = reference("variance-preserving", coordinate)
    counts = (32, 64, 128)  # with fewer steps ab3 is better than its order
    for solver in STEPPED:
        plans = [Plan(solver, coordinate, (n,) * 3) for n in counts]
        decoding = slope(counts, [rms(decode(flow, z, plan).y - x) for plan in plans])
        assert decoding == pytest.approx(SOLVERS[solver].order, abs=0.2), (solver, decoding)


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_adaptive_steps_keep_their_tolerance(coordinate: str) -> None:
    x = gaussian_data()
    exact = block_whitening(x[:, 0], MEAN, covariance(), GROUPS)[:, None]
    errors, evaluations = [], []
    for tolerance in (1e-3, 1e-6, 1e-9):
        plan = Plan("dopri5", coordinate, (1, 1, 1), tolerance=tolerance)
        solution = encode(gaussian(), x, plan)
        back = decode(gaussian(), solution.y, plan).y
        errors.append(max(rms(solution.y - exact), rms(back - x)))
        evaluations.append(solution.evaluations)
        assert errors[-1] < 30 * tolerance  # a tolerance holds for each step, and errors add up
    assert evaluations == sorted(evaluations)


@pytest.mark.parametrize("solver", STEPPED)
def test_a_solver_starts_anew_at_each_group(solver: str) -> None:
    """Run as one clock across the boundary, ab2 would use a slope of the group before."""
    flow, oracle = mixture()
    plan, x = Plan(solver, "whitened", (3, 4, 5)), data(oracle)
    whole = encode(flow, x, plan).y
    state = Integrator(flow, plan).coordinate.enter(x)
    for group in GROUPS.diffusion_order:
        state = Integrator(flow, plan).run(state, encoding=True, groups=[group])
    assert torch.equal(state, whole)


@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("solver", STEPPED)
def test_only_the_moving_group_changes(solver: str, coordinate: str) -> None:
    flow, oracle = mixture()
    integrator = Integrator(flow, Plan(solver, coordinate, (2, 2, 2)))
    x = integrator.coordinate.enter(data(oracle))
    for group in range(3):
        moved = integrator.run(x, encoding=True, groups=[group]) != x
        assert torch.equal(moved, torch.from_numpy(GROUPS.mask(group)).expand_as(moved))


@pytest.mark.parametrize(
    ("solver", "cost"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)]
)
def test_evaluations_are_counted(solver: str, cost: int) -> None:
    flow, x = gaussian(), gaussian_data(2)
    assert encode(flow, x, Plan(solver, "uniform", (3, 4, 5))).evaluations == 12 * cost
    # ab2 and ab3 take one a step and one more to start each group
    assert decode(flow, x, Plan("ab3", "uniform", (3, 4, 5))).evaluations == 12 + 3


# --- round trip and exact inverse ----------------------------------------------------------------


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("coordinate", COORDINATES)
def test_decode_undoes_encode(process: str, coordinate: str) -> None:
    flow, oracle = mixture(process)
    x, plan = data(oracle), Plan("rk4", coordinate, (100,) * 3)
    solution = encode(flow, x, plan)
    assert (decode(flow, solution.y, plan).y - x).abs().max() < 1e-8
    assert solution.converged.all()
    assert solution.iterations == ()


@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("solver", ONE_STEP)
def test_exact_inverse_makes_the_round_trip_exact(solver: str, coordinate: str) -> None:
    flow, oracle = mixture()
    x = data(oracle)
    plan = Plan(solver, coordinate, (8, 8, 8), tolerance=1e-12, inverse=True, max_iterations=200)
    plain = Plan(solver, coordinate, (8, 8, 8))
    solution = encode(flow, x, plan)
    back = decode(flow, solution.y, plan).y
    assert solution.converged.all()
    assert (back - x).abs().max() < 1e-10
    assert rms(decode(flow, encode(flow, x, plain).y, plain).y - x) > 1e3 * rms(back - x)
    assert len(solution.iterations) == 24
    assert all(1 <= n <= 200 for n in solution.iterations)
    assert solution.evaluations >= sum(solution.iterations)


def test_a_looser_tolerance_takes_fewer_iterations() -> None:
    flow, oracle = mixture()
    x = data(oracle)
    plans = [Plan("euler", "whitened", (8, 8, 8), 10.0**-p, inverse=True) for p in (2, 6, 10)]
    counts = [sum(encode(flow, x, plan).iterations) for plan in plans]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_fixed_point_that_fails_is_flagged() -> None:
    flow, oracle = mixture()
    x = data(oracle)
    few = Plan("euler", "uniform", (8, 8, 8), 1e-12, inverse=True, max_iterations=2)
    solution = encode(flow, x, few)
    assert not solution.converged.any()
    assert solution.iterations == (2,) * 24

    steep = replace(flow, u=lambda x_t, A: 100 * x_t)
    huge = Plan("euler", "uniform", (1, 1, 1), 1e-9, inverse=True, max_iterations=500)
    solution = encode(steep, x, huge)
    assert not solution.y.isfinite().any()
    assert not solution.converged.any()


def test_failure_is_told_for_each_example() -> None:
    flow, oracle = mixture()
    x = data(oracle)
    plan = Plan("euler", "whitened", (4,) * 3, 1e-4, inverse=True, max_iterations=4)
    together = encode(flow, x, plan)
    assert together.converged.any()
    assert not together.converged.all()
    alone = [encode(flow, example[None], plan) for example in x]
    assert torch.equal(torch.cat([solution.converged for solution in alone]), together.converged)


# --- batches, parts ------------------------------------------------------------------------------


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_results_do_not_depend_on_the_batch(solver: str, inverse: bool) -> None:
    if inverse and solver not in ONE_STEP:
        return
    flow, oracle = mixture()
    x = data(oracle, 7)
    tolerance = 1e-9 if solver == "dopri5" else 1e-5
    plan = Plan(solver, "whitened", (3, 4, 5), tolerance, inverse=inverse)
    together = encode(flow, x, plan).y
    alone = torch.cat([encode(flow, example[None], plan).y for example in x])
    pairs = torch.cat([encode(flow, x[i : i + 2], plan).y for i in range(0, 7, 2)])
    limit = 1e-7 if solver == "dopri5" else 1e-12
    assert (alone - together).abs().max() < limit
    assert (pairs - together).abs().max() < limit


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_edits_share_the_groups_generated_before(coordinate: str) -> None:
    flow, _ = mixture()
    z = torch.randn(3, 1, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    plan = Plan("ab2", coordinate, (6, 6, 6))
    prefix = Integrator(flow, plan).run(z, encoding=False, groups=GROUPS.order[:2])
    other = z.clone()
    last = torch.from_numpy(GROUPS.mask(GROUPS.order[2])).expand_as(z)
    other[last] += 1
    edited = torch.where(last, other, prefix)
    integrator = Integrator(flow, plan)
    y = integrator.run(edited, encoding=False, groups=GROUPS.order[2:])
    shared = integrator.coordinate.leave(y)
    whole = decode(flow, other, plan).y
    assert torch.allclose(shared, whole, atol=1e-12)
    assert integrator.evaluations < 3 * 7  # one group's instead of three
    original = decode(flow, z, plan).y
    assert torch.allclose(whole[~last], original[~last], atol=1e-12)
    assert (whole[last] - original[last]).abs().min() > 1e-3


# --- measured errors and step counts -------------------------------------------------------------


@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("solver", STEPPED)
def test_step_doubling_measures_the_error(solver: str, coordinate: str) -> None:
    flow, x, exact = reference("variance-preserving", coordinate)
    plan = Plan(solver, coordinate, (24, 20, 28))
    z = encode(flow, x, plan).y
    estimate = step_doubling_error(flow, x, plan, z)
    assert estimate.shape == x.shape
    assert rms(estimate) == pytest.approx(rms(z - exact), rel=0.3)
    # and its sign: z plus the estimate is nearer
    assert rms(z + estimate - exact) < 0.5 * rms(z - exact)


def uneven() -> tuple[Flow, Tensor]:
    """Return a case in which one group is hard and the others are all but independent."""
    weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
    means = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]], dtype=torch.float64)
    covariances = torch.diag(torch.tensor([0.02, 1, 0.02, 1], dtype=torch.float64)).expand(2, D, D)
    oracle = MixtureOracle(weights, means, covariances, GROUPS)
    std = torch.tensor([[math.sqrt(1.02), 1, math.sqrt(0.02), 1]], dtype=torch.float64)
    zero = torch.zeros(1, D, dtype=torch.float64)
    return Flow(oracle, GROUPS, PROCESSES["linear"], zero, std), data(oracle, 64)


@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("solver", ["euler", "ab2", "rk4"])
def test_split_steps_beat_even_ones(solver: str, coordinate: str) -> None:
    flow, x = uneven()
    plan = Plan(solver, coordinate, (1, 1, 1))
    total = 24
    steps = split_steps(flow, x[:32], plan, total)
    assert sum(steps) == total
    assert min(steps) >= 1
    assert steps.index(max(steps)) == 0  # the group with structure
    exact = encode(flow, x, Plan("rk4", "whitened", (200,) * 3)).y
    split, even = (
        rms(encode(flow, x[32:], Plan(solver, coordinate, s)).y - exact[32:])
        for s in (steps, even_steps(total, 3))
    )
    assert split <= even


def test_even_steps() -> None:
    assert even_steps(10, 3) == (4, 3, 3)
    assert even_steps(3, 3) == (1, 1, 1)
    for total, k in itertools.product((7, 8, 9), (1, 2, 5, 7)):
        steps = even_steps(total, k)
        assert sum(steps) == total
        assert len(steps) == k
        assert max(steps) - min(steps) <= 1


# --- refusals ------------------------------------------------------------------------------------


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match=r"solver='rk5': unknown; choose from euler, midpoint"):
        Plan("rk5")
    with pytest.raises(ValueError, match=r"coordinate='log': unknown; choose from uniform, white"):
        Plan(coordinate="log")
    for steps in ((), (0,), (4, -1)):
        with pytest.raises(ValueError, match=r"steps=.*every group needs at least one step"):
            Plan(steps=steps)
    for solver in ("ab2", "dopri5"):
        with pytest.raises(ValueError, match=r"inverse=True.*choose from euler, .*rk4$"):
            Plan(solver, inverse=True)
    with pytest.raises(ValueError, match=r"tolerance=0.*must be positive"):
        Plan(tolerance=0)
    with pytest.raises(ValueError, match=r"max_iterations=0.*must be positive"):
        Plan(max_iterations=0)


def test_steps_must_fit_the_groups() -> None:
    x, flow = gaussian_data(2), gaussian()
    with pytest.raises(ValueError, match=r"steps=\[4, 4\]: 2 counts for 3 groups"):
        encode(flow, x, Plan(steps=(4, 4)))
    with pytest.raises(ValueError, match="steps=2: fewer than the 3 groups"):
        even_steps(2, 3)
    with pytest.raises(ValueError, match="steps=2: fewer than the 3 groups"):
        split_steps(flow, x, Plan(steps=(1, 1, 1)), 2)


def test_a_solver_with_its_own_steps_has_none_to_double() -> None:
    x, flow = gaussian_data(2), gaussian()
    plan = Plan("dopri5", steps=(1, 1, 1))
    with pytest.raises(ValueError, match=r"solver='dopri5'.*latent error.*choose from euler"):
        step_doubling_error(flow, x, plan, x)
    with pytest.raises(ValueError, match=r"solver='dopri5'.*split of the steps"):
        split_steps(flow, x, plan, 9)


@pytest.mark.parametrize("way", [encode, decode])
@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize(
    ("solver", "inverse"),
    [(name, False) for name in SOLVERS] + [("euler", True), ("heun", True)],
)
def test_gradients_are_finite_differences(
    way: Callable[..., Solution], coordinate: str, solver: str, inverse: bool
) -> None:
    flow, oracle = mixture()
    x = data(oracle, 1)
    plan = Plan(solver, coordinate, (2,) * 3, tolerance=1e-9, inverse=inverse, max_iterations=300)
    if solver == "dopri5":  # its steps, too, depend on x
        plan = replace(plan, tolerance=1e-6)
    out, back = (draw(seed) for seed in (3, 4))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(way(flow, leaf, plan, grad=True).y, leaf, out)
    step = 1e-4 * back
    difference = way(flow, x + step, plan).y - way(flow, x - step, plan).y
    expected = (out * difference).sum() / 2e-4
    torch.testing.assert_close((gradient * back).sum(), expected, rtol=1e-4, atol=1e-5)
    assert not way(flow, leaf, plan).y.requires_grad  # nothing is recorded unasked


def draw(seed: int) -> Tensor:
    return torch.randn(1, 1, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
