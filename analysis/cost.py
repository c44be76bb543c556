"""What an analysis will take: counts of what it does, times what each took here in a trial.

An analysis's own ``cost(config, subject)`` counts, in its ``measure.py``. :func:`measure_rates`
tries each kind of work for about a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gdm_repr.masks import Mask, shared_groups
from gdm_repr.ode import decode

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import Extractor
    from gdm_repr.analysis.subject import Subject

BATCH = 64  # images of a trial at most
LONG = 2.0  # seconds of a trial that is not repeated with more images
REPEATS = 4  # of a trial, where it is short
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
    seconds: float = 2.5


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

    def make(n: int) -> object:
        return decode(model.flow, z[:n], subject.plan).y.sum().item()

    one, each = seconds_each(make, 1), seconds_each(make, len(z))
    batch = max(0.0, one - each)  # what a batch takes, however small
    decoded = max(0.0, each - batch / len(z))
    evaluations = decode(model.flow, z[:1], subject.plan).evaluations
    pixels = model.basis.inverse(z).clamp(-1, 1)
    featured = sum(
        seconds_each(lambda n, phi=phi: phi(pixels[:n]).sum().item(), len(z))  # type: ignore[misc]
        for phi in extractors
    )
    square = np.random.default_rng(0).standard_normal((SIDE, SIDE))
    flop = seconds_each(lambda n: [square @ square for _ in range(n)], 16) / (2 * SIDE**3)
    return Rates(batch, decoded, each / evaluations, featured, flop)


def seconds_each(work: Callable[[int], object], most: int) -> float:
    """Return the seconds that work takes for one, done for 1, 4, 16, .. until it takes long.

    Of a small network, 64 images take hardly longer than one.
    """
    n = 1
    work(n)  # memory is taken, and kernels are made
    while True:
        took = _shortest(work, n)
        if n >= most or took > LONG:
            return took / n
        n = min(most, 4 * n)


def _shortest(work: Callable[[int], object], n: int) -> float:
    """Return the shortest of some times: the sender of an earlier command may be busy beside."""
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < LONG:
        began = time.perf_counter()
        work(n)
        times.append(time.perf_counter() - began)
    return min(times)


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
