"""How long work takes here, by a short trial of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdm_repr.api import GDM
    from gdm_repr.ode import Plan

TRIAL = 1.0  # seconds that a call is repeated for
TIMES = 20  # at most
MOST_TIMED = 64  # images at once
LONGEST = 5.0  # seconds that they may take, if each takes what one alone does


def shortest(call: Callable[[], object]) -> float:
    """Return the shortest time of a call in seconds, made 2 to 20 times in about a second.

    The first is slow: memory is taken and kernels are made. Others may be slow where something
    else is computed beside, as by the sender of an earlier command.
    """
    times: list[float] = []
    while len(times) < 2 or (len(times) < TIMES and sum(times) < TRIAL):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


@dataclass(frozen=True)
class Speed:
    """How fast the ODE is solved by a plan.

    Attributes:
        evaluations: of the network, that the plan takes. Dopri5 chooses its own steps: those of one
            image are counted.
        call: seconds of an evaluation, however few images.
        image: seconds that it takes more for each image.
    """

    evaluations: float
    call: float
    image: float

    def seconds(self, images: int, batch_size: int) -> float:
        """Return what images take in batches."""
        batches = math.ceil(images / batch_size)
        return self.evaluations * (batches * self.call + images * self.image)


def measure_speed(model: GDM, plan: Plan, most: int = MOST_TIMED) -> Speed:
    """Time the ODE of one image, and of some, at one and two steps a group."""
    from gdm_repr.ode import decode

    own_steps = plan.solver == "dopri5"
    tried, k = replace(plan, solver="euler") if own_steps else plan, model.grouping.k
    z = model.noise(max(2, most))

    def solve(n: int, steps: int) -> int:
        solved = decode(model.flow, z[:n], replace(tried, steps=(steps,) * k))
        solved.y.sum().item()
        return solved.evaluations

    def time_images(n: int) -> float:
        """Return the seconds of an evaluation of n images."""
        return sum(shortest(partial(solve, n, steps)) for steps in (1, 2)) / sum(counts)

    counts = [solve(1, steps) for steps in (1, 2)]
    alone = time_images(1)
    # where one image takes long, some more tell as much as all
    n = max(2, min(most, int(LONGEST / (alone * sum(counts)))))
    image = max(0.0, time_images(n) - alone) / (n - 1)
    more = (counts[1] - counts[0]) / k  # evaluations of a step
    evaluations = counts[0] + more * (sum(plan.steps) - k)
    if own_steps:
        evaluations = decode(model.flow, z[:1], plan).evaluations
    return Speed(evaluations, max(0.0, alone - image), image)
