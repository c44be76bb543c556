"""What the analysis ``leakage`` measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.leakage.options import LeakageConfig

if TYPE_CHECKING:
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.leakage.matrix import Leakage
    from gdm_repr.analysis.leakage.noise_dependence import NoiseDependence
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.coordinates import Flow


ORACLE_ELEMENTS = 512  # at most; a Gaussian of more takes a while and many images
ORACLE_IMAGES = 4096


def check(config: LeakageConfig, subject: Subject) -> None:
    """Refuse more images than there are, and images that are away."""
    subject.rows(config.images, seed=config.seed)
    subject.require_images()


def _measure(
    config: LeakageConfig, subject: Subject, journal: Journal
) -> tuple[dict[str, Leakage], dict[str, list[NoiseDependence]]]:
    """Measure what the journal does not have, of the model and of the Gaussian."""
    from tqdm import tqdm

    from gdm_repr.analysis.leakage.matrix import WAYS, measure_leakage
    from gdm_repr.analysis.leakage.noise_dependence import noise_dependence
    from gdm_repr.generation import Generation

    n, model = config.images, subject.model
    rows = subject.rows(n, seed=config.seed)
    settings: dict[str, Any] = {"seed": config.seed, "batch_size": config.batch_size}
    flows: dict[str, tuple[Flow, Any]] = {"model": (model.flow, subject.z(rows))}
    if model.shape[0] * model.grouping.d <= ORACLE_ELEMENTS:
        z = model.noise(n, seed=first_latent(config.seed)).double().cpu()
        flows["Gaussian"] = (_gaussian(subject, config.seed), z)
    matrices, dependence = {}, {}
    units = [(who, way) for who in flows for way in WAYS]
    each = n * (model.grouping.k + 1)
    with tqdm(total=each * len(units), unit="img", desc="leakage") as bar:
        for who, way in units:
            key = f"{who} {way}"
            if key in journal:
                bar.update(each)
            else:
                flow, z = flows[who]
                generation = Generation(flow, subject.plan, strict=False)
                found = measure_leakage(generation, z, way=way, advance=bar.update, **settings)
                journal.add(key, _plain(found))
            matrices[key] = _leakage(journal[key])
    for who, (flow, _) in flows.items():
        if who not in journal:
            x_bar = model.to_basis(subject.images(rows)).to(flow.mean)
            each_row = noise_dependence(flow, x_bar, **settings)
            journal.add(who, [asdict(row) for row in each_row])
        dependence[who] = [_dependence(row) for row in journal[who]]
    return matrices, dependence


def _gaussian(subject: Subject, seed: int) -> Flow:
    """Return the exact flow of the Gaussian that has the images' mean and covariance."""
    import torch

    from gdm_repr.coordinates import Flow
    from gdm_repr.oracle import gaussian_oracle

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


def _plain(leakage: Leakage) -> dict[str, Any]:
    arrays = {key: getattr(leakage, key).tolist() for key in ("value", "low", "high")}
    return {**asdict(leakage), **arrays}


def _leakage(entry: Mapping[str, Any]) -> Leakage:
    """Read back what :func:`_plain` gave."""
    import numpy as np

    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.analysis.leakage.matrix import Leakage

    arrays = {key: np.array(entry[key]) for key in ("value", "low", "high")}
    control = tuple(Estimate(**estimate) for estimate in entry["control"])
    return Leakage(**{**entry, **arrays, "names": tuple(entry["names"]), "control": control})


def _dependence(entry: Mapping[str, Any]) -> NoiseDependence:
    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.analysis.leakage.noise_dependence import NoiseDependence

    estimates = {key: Estimate(**entry[key]) for key in ("moving", "undiffused")}
    return NoiseDependence(**{**entry, **estimates})
