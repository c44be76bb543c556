"""Solvers: how one step, or one group, of dy/dtau = f(y, tau) is taken.

A one-step method is a function (f, y, tau_0, tau_1) -> y at tau_1. A method that remembers, or
chooses its own steps, takes a whole group's clock at once, so it starts anew at every boundary.
Either is one row of :data:`SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]  # (y, tau) -> dy/dtau
Step = Callable[[Field, Tensor, Tensor, Tensor], Tensor]  # (f, y, tau_0, tau_1) -> y at tau_1


def euler(f: Field, y: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
    """One evaluation a step, order 1: the paper's solver."""
    return y + (t1 - t0) * f(y, t0)


def midpoint(f: Field, y: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
    """Two evaluations a step, order 2."""
    h = t1 - t0
    return y + h * f(y + h / 2 * f(y, t0), t0 + h / 2)


def heun(f: Field, y: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
    """Two evaluations a step, order 2."""
    h = t1 - t0
    first = f(y, t0)
    return y + h / 2 * (first + f(y + h * first, t1))


def rk4(f: Field, y: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
    """Four evaluations a step, order 4 (the classical Runge-Kutta method)."""
    h = t1 - t0
    k1 = f(y, t0)
    k2 = f(y + h / 2 * k1, t0 + h / 2)
    k3 = f(y + h / 2 * k2, t0 + h / 2)
    k4 = f(y + h * k3, t1)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def ab2(f: Field, y: Tensor, clock: Tensor, tolerance: float) -> Tensor:
    """Adams-Bashforth of order 2, one evaluation a step, started by a midpoint step."""
    previous: Tensor | None = None
    for t0, t1 in pairwise(clock):
        slope = f(y, t0)
        if previous is None:
            y = y + (t1 - t0) * f(y + (t1 - t0) / 2 * slope, (t0 + t1) / 2)
        else:
            y = y + (t1 - t0) * (1.5 * slope - 0.5 * previous)
        previous = slope
    return y


def ab3(f: Field, y: Tensor, clock: Tensor, tolerance: float) -> Tensor:
    """Adams-Bashforth of order 3 with even steps, one evaluation a step, started as ab2 is."""
    slopes: list[Tensor] = []  # the last ones, newest first
    for t0, t1 in pairwise(clock):
        h = t1 - t0
        slopes = [f(y, t0), *slopes[:2]]
        if len(slopes) == 1:  # these two steps' local errors, O(h^3), are made once a group
            y = y + h * f(y + h / 2 * slopes[0], t0 + h / 2)
        elif len(slopes) == 2:
            y = y + h / 2 * (3 * slopes[0] - slopes[1])
        else:
            y = y + h / 12 * (23 * slopes[0] - 16 * slopes[1] + 5 * slopes[2])
    return y


def dopri5(f: Field, y: Tensor, clock: Tensor, tolerance: float) -> Tensor:
    """Adaptive Dormand-Prince 5(4) by torchdiffeq over the whole group; ``steps`` is not used.

    The step follows the example with the largest error, so results depend on the batch within the
    tolerance.
    """
    from torchdiffeq import odeint

    if not len(y):
        return y  # a batch of which no image could be read
    ends = torch.stack([clock[0], clock[-1]]).to(y.device)

    def worst(error: Tensor) -> Tensor:
        return error.flatten(1).square().mean(1).sqrt().max() if error.ndim > 1 else error.abs()

    path: Tensor = odeint(
        lambda tau, y: f(y, tau),
        y,
        ends,
        rtol=tolerance,
        atol=tolerance,
        method="dopri5",
        # without step_t it would step past the boundary and interpolate back
        options={"norm": worst, "step_t": ends[1:]},
    )
    return path[-1]


@dataclass(frozen=True)
class Solver:
    """One row of :data:`SOLVERS`: either a step, or a whole group at once."""

    order: int
    step: Step | None = None
    group: Callable[[Field, Tensor, Tensor, float], Tensor] | None = None


SOLVERS: dict[str, Solver] = {
    "euler": Solver(1, step=euler),
    "midpoint": Solver(2, step=midpoint),
    "heun": Solver(2, step=heun),
    "rk4": Solver(4, step=rk4),
    "ab2": Solver(2, group=ab2),
    "ab3": Solver(3, group=ab3),
    "dopri5": Solver(5, group=dopri5),
}
