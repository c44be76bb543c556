"""What an analysis will take: counts of what it does, times what each took here in a trial.

An analysis's own ``cost(config, subject)`` counts, in its ``measure.py``. :func:`measure_rates`
tries each kind of work for about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gdm_repr.masks import Mask, shared_groups
from gdm_repr.timing import measure_speed, shortest

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import Extractor
    from gdm_repr.analysis.subject import Subject

BATCH = 64  # images of a trial at most
LONG = 1.0  # seconds of a trial that is not repeated with more images
DRAWN = 10.0  # seconds of an analysis that draws many pictures: starting, drawing, sending
SIDE = 512  # of the matrices of a trial


@dataclass(frozen=True)
class Cost:
    """Counts of what an analysis does.

    Attributes:
        decoded: images that the model makes; a part of the groups counts by its steps.
        batches: that they are made in; of 64 images where it is not said.
        evaluations: of the network on an image, beside.
        featured: images that are looked at by all features.
        flops: floating-point operations beside, as many as products of matrices take in that time.
        seconds: that are the same on most machines: starting, reading, drawing.
    """

    decoded: float = 0.0
    batches: float = 0.0
    evaluations: float = 0.0
    featured: float = 0.0
    flops: float = 0.0
    seconds: float = 5.0


@dataclass(frozen=True)
class Rates:
    """Seconds of one of each kind of work, as in :class:`Cost`; a batch's beside its images'."""

    batch: float
    decoded: float
    evaluation: float
    featured: float
    flop: float

    def seconds(self, cost: Cost) -> float:
        """Return what a cost takes."""
        return (
            (cost.batches or cost.decoded / BATCH) * self.batch
            + cost.decoded * self.decoded
            + cost.evaluations * self.evaluation
            + cost.featured * self.featured
            + cost.flops * self.flop
            + cost.seconds
        )


def measure_rates(subject: Subject, extractors: Sequence[Extractor], batch_size: int) -> Rates:
    """Try each kind of work: the model's on noise, the features' on random pixels."""
    model = subject.model
    z = model.noise(min(BATCH, batch_size), seed=0)

    speed = measure_speed(model, subject.plan, len(z))
    pixels = model.basis.inverse(z).clamp(-1, 1)
    featured = sum(
        seconds_each(lambda n, phi=phi: phi(pixels[:n]).sum().item(), len(z))  # type: ignore[misc]
        for phi in extractors
    )
    square = np.random.default_rng(0).standard_normal((SIDE, SIDE))
    flop = seconds_each(lambda n: [square @ square for _ in range(n)], 16) / (2 * SIDE**3)
    batch, decoded = speed.evaluations * speed.call, speed.evaluations * speed.image
    return Rates(batch, decoded, speed.image, featured, flop)


def seconds_each(work: Callable[[int], object], most: int) -> float:
    """Return the seconds that work takes for one, done for 1, 4, 16, .. until it takes long."""
    n = 1
    while True:
        took = shortest(partial(work, n))
        if n >= most or took > LONG:
            return took / n
        n = min(most, 4 * n)


def made_anew(subject: Subject, kept: Sequence[Mask]) -> float:
    """Return how many images' work it is to decode one for each set of latents that are kept."""
    return sum(share_left(subject, shared_groups(subject.model.grouping, mask)) for mask in kept)


def share_left(subject: Subject, done: int) -> float:
    """Return the share of an image's steps that is left when some groups are shared."""
    steps = subject.plan.steps
    if not subject.generation.strict:
        return 1.0
    left = subject.model.grouping.order[done:]
    return sum(steps[group] for group in left) / sum(steps)
