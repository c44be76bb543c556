"""Partial generation: latents that agree in early groups share what is generated from them.

The sampler makes groups in the generation order, and in a strict model (or an oracle, Prop. 3.3)
what is made of the first r groups depends on their latents alone. So data whose latents differ only
in later groups have one *state* after r groups, and only the rest is integrated for each. Where the
network sees groups that are still noise, nothing can be shared, and everything is generated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gdm_repr.boundary.isolation import isolated
from gdm_repr.coordinates import Flow
from gdm_repr.ode import Integrator, Plan


class Generation:
    """Generates data from latents, from any number of finished groups on.

    Attributes:
        groups: groups generated so far, one for each example, counted over all calls: the cost.
    """

    def __init__(self, flow: Flow, plan: Plan, *, strict: bool) -> None:
        """Keep the flow.

        Args:
            flow: the vector field.
            plan: solver, coordinate and steps.
            strict: whether u is known not to depend on groups that are still noise.
        """
        self.flow, self.plan, self.strict, self.groups = flow, plan, strict, 0
        self._index = torch.from_numpy(flow.grouping.index)

    @isolated
    @torch.no_grad()
    def states(self, z: Tensor, batch_size: int | None = None) -> list[Tensor]:
        """Return the states of latents (B, C, d) after 0, 1, .., k groups; only z when not strict.

        The last one is the data, in the plan's coordinate. ``batch_size`` are made at a time.
        """
        parts = [[part] for part in torch.split(z, batch_size or max(1, len(z)))]
        for states in parts:
            for group in self.flow.grouping.order if self.strict else ():
                states.append(self._run(states[-1], [group]))
        return [torch.cat(state) for state in zip(*parts, strict=True)]

    def generate(self, z: Tensor, batch_size: int | None = None) -> tuple[list[Tensor], Tensor]:
        """Return the states of latents, and data (B, C, d) in the basis's coordinates."""
        states = self.states(z, batch_size)
        return states, self.finish(states[-1], z, len(states) - 1, batch_size)

    @isolated
    @torch.no_grad()
    def finish(self, state: Tensor, z: Tensor, done: int, batch_size: int | None = None) -> Tensor:
        """Generate the remaining groups from other latents.

        Args:
            state: from :meth:`states`, after ``done`` groups, (B, C, d).
            z: latents whose first ``done`` groups are those of the state, (B, C, d).
            done: groups in the state; not more than were really shared.
            batch_size: how many are made at a time; all when None.

        Returns:
            Data in the basis's coordinates, (B, C, d).
        """
        if batch_size is not None:
            pairs = zip(torch.split(state, batch_size), torch.split(z, batch_size), strict=True)
            return torch.cat([self.finish(each, part, done) for each, part in pairs])
        order = self.flow.grouping.order
        left = order[done if self.strict else 0 :]
        if self.strict:
            rest = torch.isin(self._index, torch.tensor(left, dtype=torch.int64)).to(z.device)
            z = torch.where(rest, z, state)
        y = self._run(z, left) if left else z
        return Integrator(self.flow, self.plan).coordinate.leave(y)

    @isolated
    def decode(self, z: Tensor) -> Tensor:
        """Generate everything: latents (B, C, d) to data in the basis's coordinates."""
        return self.finish(z, z, 0)

    def _run(self, y: Tensor, groups: Sequence[int]) -> Tensor:
        self.groups += len(y) * len(groups)
        return Integrator(self.flow, self.plan).run(y, encoding=False, groups=groups)
