"""Which latents move which data: ``python -m gdm_repr.analysis.leakage`` (Prop. 3.3).

See :mod:`gdm_repr.analysis.leakage.matrix` for the matrix and
:mod:`gdm_repr.analysis.leakage.noise_dependence` for what one evaluation of u looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdm_repr.analysis.cost import Cost
from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.leakage.matrix import WAYS, LeakageMatrix, measure_leakage
from gdm_repr.analysis.leakage.noise_dependence import NoiseDependence, noise_dependence
from gdm_repr.analysis.leakage.options import LeakageConfig
from gdm_repr.analysis.subject import Subject
from gdm_repr.coordinates import Flow
from gdm_repr.generation import Generation
from gdm_repr.oracle import gaussian_oracle
from gdm_repr.progress import progress

ORACLE_ELEMENTS = 512  # at most; a Gaussian of more takes a while and many images
ORACLE_IMAGES = 4096
JACOBIAN = 2.5  # times as long as decoding takes decoding with derivatives
ORACLE_FLOPS = 1e8  # of an evaluation of the Gaussian
START = 22.0  # seconds: the first derivative loads much of torch


@dataclass(frozen=True, eq=False)
class Leakage(Found):
    """What was measured, of the model and, where it is small enough, of the images' Gaussian.

    Attributes:
        matrices: by whose and way, as ``model redraw``.
        dependence: on noise, by whose.
    """

    matrices: Mapping[str, LeakageMatrix]
    dependence: Mapping[str, list[NoiseDependence]]


def check(config: LeakageConfig, subject: Subject) -> None:
    """Refuse more images than there are, and images that are away."""
    subject.rows(config.images, seed=config.seed)
    subject.require_images()


def cost(config: LeakageConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    n, k = config.images, subject.model.grouping.k
    small = subject.model.shape[0] * subject.model.grouping.d <= ORACLE_ELEMENTS
    parts, d = -(-n // config.batch_size), subject.model.shape[0] * subject.model.grouping.d
    passes = (k + 2) * (1 + JACOBIAN)
    return Cost(
        decoded=n * passes,
        batches=parts * passes,
        evaluations=6 * (k - 1) * n,
        flops=small * passes * parts * sum(subject.plan.steps) * (ORACLE_FLOPS + 40 * d**3),
        seconds=START,
    )


def measure(config: LeakageConfig, subject: Subject, journal: Journal) -> Leakage:
    """Measure what the journal does not have, of the model and of the Gaussian.

    Raises:
        ValueError: for more images than the store has, or a network without the derivative.
    """
    n, model = config.images, subject.model
    rows = subject.rows(n, seed=config.seed)
    settings: dict[str, Any] = {"seed": config.seed, "batch_size": config.batch_size}
    flows: dict[str, tuple[Flow, Tensor]] = {"model": (model.flow, subject.z(rows))}
    if model.shape[0] * model.grouping.d <= ORACLE_ELEMENTS:
        z = model.noise(n, seed=first_latent(config.seed)).double().cpu()
        flows["Gaussian"] = (_gaussian(subject, config.seed), z)
    matrices, dependence = {}, {}
    units = [(who, way) for who in flows for way in WAYS]
    each = n * (model.grouping.k + 1)
    with progress(each * len(units), desc="leakage") as bar:
        for who, way in units:
            key = f"{who} {way}"
            if key in journal:
                bar.update(each)
            flow, z = flows[who]
            generation = Generation(flow, subject.plan, strict=False)
            own = {"way": way, "advance": bar.update, **settings}
            matrices[key] = journal.once(key, LeakageMatrix, measure_leakage, generation, z, **own)

    def depends(flow: Flow) -> list[NoiseDependence]:
        x_bar = model.to_basis(subject.images(rows)).to(flow.mean)
        return noise_dependence(flow, x_bar, **settings)

    for who, (flow, _) in flows.items():
        dependence[who] = journal.once(who, list[NoiseDependence], depends, flow)
    return Leakage(config, subject, matrices, dependence)


def _gaussian(subject: Subject, seed: int) -> Flow:
    """Return the exact flow of the Gaussian that has the images' mean and covariance."""
    model = subject.model
    rows = subject.rows(min(len(subject.store), ORACLE_IMAGES), seed=seed + 1)
    x_bar = model.to_basis(subject.images(rows)).double().cpu().flatten(1)
    mean = x_bar.mean(0)
    S = torch.cov(x_bar.T)
    S += 1e-6 * S.diagonal().mean() * torch.eye(len(S), dtype=S.dtype)  # constant elements
    process, shape = model.flow.process, tuple(model.flow.mean.shape)
    oracle = gaussian_oracle(mean, S, model.grouping, process)
    return Flow(
        oracle, model.grouping, process, mean.reshape(shape), S.diagonal().sqrt().reshape(shape)
    )
