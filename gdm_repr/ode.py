"""Encode and decode: one ODE, integrated group by group, forwards or backwards (Eqs. 5, 9, 13, 17).

A :class:`Plan` names a solver (:mod:`gdm_repr.solvers`), a coordinate (:mod:`gdm_repr.coordinates`)
and each group's number of steps. No step crosses a group's boundary. Encoding runs the groups in
diffusion order, decoding in generation order with the clock reversed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gdm_repr.boundary.arguments import count, integers
from gdm_repr.boundary.isolation import isolated
from gdm_repr.config import DEFAULT_SOLVER
from gdm_repr.coordinates import COORDINATES, Flow
from gdm_repr.progress import tick
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
            tick()
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
def encode(flow: Flow, x: Tensor, plan: Plan, *, grad: bool = False) -> Solution:
    """Solve the ODE from data to latents.

    Args:
        flow: the vector field.
        x: data in the basis's coordinates, shape (B, C, d).
        plan: solver, coordinate and steps.
        grad: record every evaluation, so that gradients pass; otherwise nothing is recorded.

    Returns:
        Latents z ~ N(0, I) in the basis's coordinates.
    """
    with torch.set_grad_enabled(grad):
        integrator = Integrator(flow, plan)
        return integrator.solution(integrator.run(integrator.coordinate.enter(x), encoding=True))


@isolated
def decode(flow: Flow, z: Tensor, plan: Plan, *, grad: bool = False) -> Solution:
    """Solve the ODE from latents to data; arguments as :func:`encode`'s."""
    with torch.set_grad_enabled(grad):
        integrator = Integrator(flow, plan)
        y = integrator.run(z, encoding=False)
        return integrator.solution(integrator.coordinate.leave(y))
