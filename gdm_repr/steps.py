"""How many steps: even, or split over the groups by a measured error; and that error."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from gdm_repr.boundary.arguments import count
from gdm_repr.boundary.isolation import isolated
from gdm_repr.coordinates import Flow
from gdm_repr.ode import Plan, encode
from gdm_repr.solvers import SOLVERS


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
