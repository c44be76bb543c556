"""Whether u looks at groups that are already noise: Prop. 3.3 of one evaluation of u.

While group g moves, at s = 1 - a_g, the groups made later are noise only (a = 0). With two
independent draws z, z' of that noise,

    D^2 = E || u(x_t; z) - u(x_t; z') ||^2 / E || u(x_t; z) - alpha' mu ||^2,

alpha' mu being the mean of u. D is 0 for the optimal u and for strict models, and sqrt(2) where u
is made of that noise alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdm_repr.analysis.draws import example_noise
from gdm_repr.analysis.intervals.bootstrap import root_mean_square
from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.leakage.matrix import batches, check_examples
from gdm_repr.boundary.isolation import isolated
from gdm_repr.coordinates import Flow


@dataclass(frozen=True)
class NoiseDependence:
    """How far u depends on groups already turned to noise while one group moves.

    Attributes:
        group: name of the moving group.
        s: 1 - a of the moving group, 0 at data and 1 at noise.
        moving: D on the moving group, the only elements whose u the ODE uses there.
        undiffused: D on all elements with a > 0.
        n: number of examples.
        seed: of the noise and of the bootstrap.
    """

    group: str
    s: float
    moving: Estimate
    undiffused: Estimate
    n: int
    seed: int


@isolated
@torch.no_grad()
def noise_dependence(
    flow: Flow,
    x: Tensor,
    *,
    s: Sequence[float] = (0.1, 0.5, 0.9),
    seed: int = 0,
    batch_size: int = 64,
) -> list[NoiseDependence]:
    """Measure D for every moving group with noise behind it; see the module's docstring.

    The control is the same on an oracle's flow, where D is 0 to rounding.

    Args:
        flow: the vector field.
        x: data in the basis's coordinates, (n, C, d), n at least 2.
        s: levels of the moving group, each between 0 and 1.
        seed: example e's noise follows from (seed, e) alone.
        batch_size: examples at a time; it does not change the result.

    Returns:
        One row a moving group and level, in the generation order; none for the group generated
        last, which moves while all others are data.

    Raises:
        ValueError: for levels outside (0, 1), data of another shape, or fewer than 2 examples.
    """
    for level in s:
        if not 0 < level < 1:
            raise ValueError(f"s={level}: must lie between 0 (data) and 1 (noise)")
    check_examples(flow, "x", x)
    grouping, process, n = flow.grouping, flow.process, len(x)
    index = torch.from_numpy(grouping.index).to(x.device)
    result = []
    for rank, group in enumerate(grouping.order[:-1]):
        own = (index == group).expand(x.shape[1:])
        made = torch.isin(index, torch.tensor(grouping.order[: rank + 1], device=x.device))
        wheres = (own, made.expand(x.shape[1:]))  # the moving group, and everything with a > 0
        for level in s:
            A = torch.zeros(1, grouping.k, dtype=x.dtype, device=x.device)
            A[0, list(grouping.order[:rank])] = 1
            A[0, group] = 1 - level
            elements = A[:, index]
            mean = process.coefficients(elements).dalpha_dA * flow.mean
            changed, size = np.empty((2, n, len(wheres)))
            for rows in batches(n, batch_size):
                z = example_noise(x, rows, seed, 1)
                other = torch.where(made, z, example_noise(x, rows, seed, 2))
                u, u_other = (flow.u(process.x_t(x[rows], e, elements), A) for e in (z, other))
                for values, into in ((u_other - u, changed), (u - mean, size)):
                    parts = [values[:, where].double().square().mean(1) for where in wheres]
                    into[rows] = torch.stack(parts, 1).cpu().numpy()
            estimates = np.stack(root_mean_square(changed, size, seed), 1).tolist()
            moving, undiffused = (Estimate(*row) for row in estimates)
            result.append(
                NoiseDependence(grouping.names[group], level, moving, undiffused, n, seed)
            )
    return result
