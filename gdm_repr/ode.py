"""Encode and decode: one ODE, integrated group by group, forwards or backwards (Eqs. 5, 9, 13, 17).

A :class:`Plan` names a solver (:mod:`gdm_repr.solvers`), a coordinate (:mod:`gdm_repr.coordinates`)
and each group's number of steps. No step crosses a group's boundary. Encoding runs the groups in
diffusion order, decoding in generation order with the clock reversed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gdm_repr.boundary.arguments import count, integers
from gdm_repr.boundary.isolation import isolated
from gdm_repr.config import DEFAULT_SOLVER
from gdm_repr.coordinates import COORDINATES, Flow
from gdm_repr.solvers import SOLVERS, Field, Step


@dataclass(frozen=True)
class Plan:
    """How to integrate.

    Attributes:
        solver: a key of :data:`gdm_repr.solvers.SOLVERS`.
        coordinate: a key of :data:`gdm_repr.coordinates.COORDINATES`.
        steps: number of steps of each group, by group number.
        tolerance: relative and absolute tolerance of dopri5, and of the fixed point.
        inverse: encode by inverting the decoder's own steps exactly (one-step solvers only).
        max_iterations: fixed-point iterations a step before it is flagged as failed.
    """

    solver: str = DEFAULT_SOLVER
    coordinate: str = "whitened"
    steps: tuple[int, ...] = (16,)
    tolerance: float = 1e-5
    inverse: bool = False
    max_iterations: int = 50

    def __post_init__(self) -> None:
        """Refuse unknown names and impossible combinations."""
        for name, value, table in (
            ("solver", self.solver, SOLVERS),
            ("coordinate", self.coordinate, COORDINATES),
        ):
            if value not in table:
                raise ValueError(f"{name}={value!r}: unknown; choose from {', '.join(table)}")
        object.__setattr__(self, "steps", integers(self.steps, "steps"))
        if min(self.steps, default=0) < 1:
            raise ValueError(f"steps={list(self.steps)}: every group needs at least one step")
        count(self.max_iterations, "max_iterations", least=0)
        number = isinstance(self.tolerance, int | float) and not isinstance(self.tolerance, bool)
        if not number or not 0 < self.tolerance < math.inf or self.max_iterations < 1:
            raise ValueError(
                f"tolerance={self.tolerance}, max_iterations={self.max_iterations}: must be "
                "positive, such as 1e-5 and 50"
            )
        if self.inverse and SOLVERS[self.solver].step is None:
            one_step = [name for name, solver in SOLVERS.items() if solver.step is not None]
            raise ValueError(
                f"inverse=True: {self.solver!r} is no one-step method, so its decoder cannot be "
                f"inverted step by step; choose from {', '.join(one_step)}"
            )


@dataclass(frozen=True, eq=False)
class Solution:
    """Result of an integration.

    Attributes:
        y: latents or data, shape (B, C, d).
        evaluations: calls of u.
        iterations: fixed-point iterations of each step, empty when none were needed.
        converged: whether every fixed point of an example converged, bool (B,).
    """

    y: Tensor
    evaluations: int
    iterations: tuple[int, ...]
    converged: Tensor


class Integrator:
    """The one loop: groups in turn, each over its clock. Counts evaluations and iterations."""

    @isolated
    def __init__(self, flow: Flow, plan: Plan) -> None:
        """Match the plan to the flow.

        Raises:
            ValueError: if the plan has not one step count per group.
        """
        if len(plan.steps) != flow.grouping.k:
            raise ValueError(
                f"steps={list(plan.steps)}: {len(plan.steps)} counts for {flow.grouping.k} groups; "
                "give one per group"
            )
        self.flow, self.plan = flow, plan
        self.coordinate = COORDINATES[plan.coordinate](flow)
        self.evaluations = 0
        self.iterations: list[int] = []

    def field(self, group: int) -> Field:
        """Return dy/dtau while ``group`` moves: zero for all other elements."""
        grouping = self.flow.grouping
        diffused = grouping.diffusion_order[: grouping.diffusion_order.index(group)]
        index = torch.from_numpy(grouping.index).to(self.flow.mean.device)

        def velocity(y: Tensor, tau: Tensor) -> Tensor:
            self.evaluations += 1
            A = torch.ones(1, grouping.k, dtype=torch.float64)
            A[0, list(diffused)] = 0
            A[0, group] = self.coordinate.level(group, tau.double().cpu())
            A = A.to(y.device, y.dtype)
            dy = self.coordinate.velocity(y, A[:, index], A, group)
            return torch.where(index == group, dy, torch.zeros_like(dy))

        return velocity

    @isolated
    def run(self, y: Tensor, *, encoding: bool, groups: Sequence[int] | None = None) -> Tensor:
        """Carry a state from data to noise or back.

        Args:
            y: state in the plan's coordinate, shape (B, C, d).
            encoding: direction.
            groups: the groups to pass, in order; all of them when None. Decoding a part of the
                generation order lets edits share the groups generated before.
        """
        order = self.flow.grouping.diffusion_order if encoding else self.flow.grouping.order
        solver = SOLVERS[self.plan.solver]
        self.converged = torch.ones(len(y), dtype=torch.bool, device=y.device)
        for group in order if groups is None else groups:
            f = self.field(group)
            clock = self.coordinate.clock(group, self.plan.steps[group])
            if not encoding:
                clock = clock.flip(0)
            if solver.group is not None:
                y = solver.group(f, y, clock, self.plan.tolerance)
                continue
            assert solver.step is not None
            for t0, t1 in pairwise(clock):
                if encoding and self.plan.inverse:
                    y = self._invert(solver.step, f, y, t0, t1)
                else:
                    y = solver.step(f, y, t0, t1)
        return y

    def _invert(self, step: Step, f: Field, y0: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
        """Find y1 whose decoding step gives y0, by the fixed point y1 <- y1 + (y0 - step(y1)).

        An example that has converged is left alone, so that it does not depend on its batch.
        """
        y1, iteration = step(f, y0, t0, t1), 0
        while iteration < self.plan.max_iterations:
            iteration += 1
            gap = y0 - step(f, y1, t1, t0)
            open_ = ~(gap.flatten(1).abs().amax(1) <= self.plan.tolerance)  # open if NaN, too
            if not bool(open_.any()):
                break
            y1 = torch.where(open_[:, None, None], y1 + gap, y1)
        self.iterations.append(iteration)
        self.converged &= ~open_
        return y1

    def solution(self, y: Tensor) -> Solution:
        """Bundle a result with the counts so far."""
        return Solution(y, self.evaluations, tuple(self.iterations), self.converged)


@isolated
@torch.no_grad()
def encode(flow: Flow, x: Tensor, plan: Plan) -> Solution:
    """Solve the ODE from data to latents.

    Args:
        flow: the vector field.
        x: data in the basis's coordinates, shape (B, C, d).
        plan: solver, coordinate and steps.

    Returns:
        Latents z ~ N(0, I) in the basis's coordinates.
    """
    integrator = Integrator(flow, plan)
    return integrator.solution(integrator.run(integrator.coordinate.enter(x), encoding=True))


@isolated
@torch.no_grad()
def decode(flow: Flow, z: Tensor, plan: Plan) -> Solution:
    """Solve the ODE from latents to data; arguments as :func:`encode`'s."""
    integrator = Integrator(flow, plan)
    y = integrator.run(z, encoding=False)
    return integrator.solution(integrator.coordinate.leave(y))


@isolated
def step_doubling_error(flow: Flow, x: Tensor, plan: Plan, z: Tensor) -> Tensor:
    """Estimate the discretisation error of latents by doubling every group's steps.

    For a solver of order p the error of z is about (z_2 - z) 2^p / (2^p - 1), z_2 being the finer
    solution (Richardson). It measures the solver, not the network. Costs twice an encoding.

    Returns:
        The estimated error of each element, shape (B, C, d).

    Raises:
        ValueError: if the solver chooses its own steps, so that there are none to double.
    """
    _needs_steps("the latent error", plan)
    fine = encode(flow, x, replace(plan, steps=tuple(2 * n for n in plan.steps)))
    gain = 2.0 ** SOLVERS[plan.solver].order
    return (fine.y - z) * (gain / (gain - 1))


def _needs_steps(what: str, plan: Plan) -> None:
    if plan.solver == "dopri5":
        raise ValueError(
            f"solver='dopri5': chooses its own steps, so {what} can't be measured by doubling "
            f"them; choose from {', '.join(name for name in SOLVERS if name != 'dopri5')}"
        )


def even_steps(total: int, k: int) -> tuple[int, ...]:
    """Spread a total number of steps evenly over k groups, the first ones taking the remainder.

    Raises:
        ValueError: if there are fewer steps than groups.
    """
    if count(total, "steps", least=0) < k:
        raise ValueError(f"steps={total}: fewer than the {k} groups; every group needs one step")
    return tuple(total // k + (j < total % k) for j in range(k))


@isolated
def split_steps(flow: Flow, x: Tensor, plan: Plan, total: int) -> tuple[int, ...]:
    """Split a total number of steps over the groups so that the measured latent error is least.

    Group j's error is measured on x as the change of z when its steps alone are doubled, E_j at n_j
    steps. With E_j ~ c_j n_j^-p the sum of squares is least for n_j ~ (c_j^2)^(1 / (2p + 1)).

    Args:
        flow: the vector field.
        x: a small batch of data in the basis's coordinates, shape (B, C, d).
        plan: solver and coordinate; its steps are not used.
        total: number of steps to split, at least one a group.

    Returns:
        Steps of each group, by group number, of sum ``total``.

    Raises:
        ValueError: if there are fewer steps than groups, or the solver chooses its own.
    """
    _needs_steps("a split of the steps", plan)
    k, p = flow.grouping.k, SOLVERS[plan.solver].order
    even_steps(total, k)
    base = even_steps(max(total, 2 * k), k)
    coarse = encode(flow, x, replace(plan, steps=base)).y
    share = []
    for group in range(k):
        steps = tuple(n * (2 if j == group else 1) for j, n in enumerate(base))
        error = (encode(flow, x, replace(plan, steps=steps)).y - coarse).double().square().sum()
        share.append(max(float(error) * base[group] ** (2 * p), 1e-30) ** (1 / (2 * p + 1)))
    exact = [1 + (total - k) * s / sum(share) for s in share]
    steps_ = [int(n) for n in exact]
    for group in sorted(range(k), key=lambda j: steps_[j] - exact[j])[: total - sum(steps_)]:
        steps_[group] += 1
    return tuple(steps_)
