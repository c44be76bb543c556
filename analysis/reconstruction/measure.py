"""How much the first latents keep: ``python -m gdm_repr.analysis.reconstruction`` (Fig. 4b).

Images are rebuilt from their first m latents, the others zero, mean or fresh noise, and compared
with the originals; see :mod:`gdm_repr.analysis.reconstruction.partial` for what the fills mean, and
:mod:`gdm_repr.analysis.reconstruction.linear_code` for the controls, which keep as many values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdm_repr.analysis.cost import DRAWN, Cost, made_anew
from gdm_repr.analysis.features.extractors import Distance
from gdm_repr.analysis.features.perceptual import LPIPS, build_distance, lpips_at_hand
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.intervals.curves import cut_grid
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.reconstruction.linear_code import LinearCode, dct_code, pca_code
from gdm_repr.analysis.reconstruction.options import ReconstructionConfig
from gdm_repr.analysis.reconstruction.partial import (
    SIMILARITIES,
    Decoder,
    Measure,
    feature_distance,
    mean_latent,
    measure_code,
    other_images,
)
from gdm_repr.analysis.reconstruction.similarity import LEAST
from gdm_repr.analysis.reconstruction.summary import MODEL, WAYS, ImageValues, Summary, summarise
from gdm_repr.analysis.runner import check_images
from gdm_repr.analysis.subject import Subject
from gdm_repr.api import choose_device
from gdm_repr.masks import band_ends, first_elements
from gdm_repr.pictures import png_bytes
from gdm_repr.progress import progress

SIMILARITY_FLOPS = 20_000  # of PSNR and SSIM, and of what a control keeps, a number of an image
CHUNK = 8  # images measured together, and kept in the journal together


@dataclass(frozen=True, eq=False)
class Controls:
    """What the model is compared with.

    Attributes:
        pool: images of none of the rows that are rebuilt, (N, C, H, W).
        codes: ``pca`` and ``dct``, fitted to them.
    """

    pool: Tensor
    codes: Mapping[str, LinearCode]


@dataclass(frozen=True, eq=False)
class OneImage:
    """Of one image, what :class:`ImageValues` is of many."""

    ways: dict[str, dict[str, Floats]]
    float16: dict[str, float]
    png: int


@dataclass(frozen=True, eq=False)
class Reconstruction(Found):
    """What was measured.

    Attributes:
        rows: of the store, one for each image that was rebuilt.
        ends: how many latents are made when each band is done.
        decoder: rebuilds from latents.
        controls: what the model is compared with.
        measured: every image's values.
        summary: of them.
        fingerprints: of the distances.
    """

    rows: Sequence[int]
    ends: Mapping[str, int]
    decoder: Decoder
    controls: Controls
    measured: ImageValues
    summary: Summary
    fingerprints: Sequence[Mapping[str, Any]]


def check(config: ReconstructionConfig, subject: Subject) -> None:
    """Refuse features that can't be had, too few images, and images that are away."""
    choose_rows(len(subject.store), config)
    subject.require_images()
    config.distances()


def cost(config: ReconstructionConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    kept, n, pixels = _kept(config, subject), config.images, math.prod(subject.model.shape)
    made = made_anew(subject, [first_elements(subject.model.grouping, m) for m in kept])
    model = len(MODEL) - 1 + config.draws  # fills, and draws of noise
    compared = n * (model + len(WAYS) - len(MODEL) - 1 + config.draws) * len(kept)
    fit = min(config.fit, len(subject.store))
    return Cost(
        decoded=n * (2 + model * made),
        featured=compared,
        flops=compared * pixels * SIMILARITY_FLOPS + 20 * fit * pixels * min(fit, pixels),
        seconds=DRAWN,
    )


def _kept(config: ReconstructionConfig, subject: Subject) -> list[int]:
    """Return how many of the first latents are kept."""
    grouping = subject.model.grouping
    return sorted({*cut_grid(grouping.index.size, config.cuts), *band_ends(grouping).values()})


def choose_rows(total: int, config: ReconstructionConfig) -> tuple[list[int], list[int]]:
    """Choose rows that are rebuilt, and others that the controls are made of.

    Raises:
        ValueError: if there are too few.
    """
    if config.fit < config.others:
        raise ValueError(f"--fit {config.fit}: --draws {config.draws} needs as many; use more")
    check_images("reconstruction", config, total)
    rng = np.random.default_rng(config.seed)
    mixed = rng.permutation(total)[: config.images + config.fit].tolist()
    return mixed[: config.images], sorted(mixed[config.images :])


def _decoder(config: ReconstructionConfig, subject: Subject, kept: Sequence[int]) -> Decoder:
    """Say what is rebuilt, and by what; the mean latent is read from the whole store."""
    mean = mean_latent(batch.z for batch in subject.store.iter_batches(config.batch_size))
    return Decoder(
        subject.generation,
        subject.model.basis,
        [first_elements(subject.model.grouping, m) for m in kept],
        {"zero": torch.zeros_like(mean), "mean": mean},
        config.draws,
        config.seed,
        config.batch_size,
    )


def _distances(config: ReconstructionConfig) -> dict[str, Distance]:
    """Build the distances asked for, and LPIPS besides where its weights are at hand.

    Raises:
        ValueError: for unknown names, or weights that are not there.
    """
    distances = config.distances()
    more = None if distances.keys() & LPIPS.keys() else lpips_at_hand()
    if more:
        distances[more] = build_distance(more, device=choose_device(config.device))
    return distances


def measure(config: ReconstructionConfig, subject: Subject, journal: Journal) -> Reconstruction:
    """Rebuild images from their first latents and compare them with the originals.

    Raises:
        ValueError: for features that can't be had, or more images or draws than there are.
    """
    distances = _distances(config)  # first: weights may be missing
    ends, kept = band_ends(subject.model.grouping), _kept(config, subject)
    rows, others = choose_rows(len(subject.store), config)
    pool = subject.images(others).to(subject.model.device)
    controls = Controls(pool, {"pca": pca_code(pool, seed=config.seed), "dct": dct_code(pool)})
    decoder = _decoder(config, subject, kept)
    measured = _values(subject, journal, decoder, controls, rows, kept, distances)
    summary = summarise(measured, seed=config.seed)
    prints = [distance.fingerprint() for distance in distances.values()]
    return Reconstruction(config, subject, rows, ends, decoder, controls, measured, summary, prints)


def _values(
    subject: Subject,
    journal: Journal,
    decoder: Decoder,
    controls: Controls,
    rows: Sequence[int],
    kept: Sequence[int],
    distances: Mapping[str, Distance],
) -> ImageValues:
    """Measure the images that the journal does not have."""
    measures = {"psnr": SIMILARITIES["psnr"]}
    if min(subject.model.shape[1:]) >= LEAST:
        measures["ssim"] = SIMILARITIES["ssim"]
    measures |= {name: feature_distance(distance) for name, distance in distances.items()}
    values = [
        int(np.broadcast_to(mask, subject.model.shape[:1] + mask.shape[1:]).sum())
        for mask in decoder.kept
    ]
    # Chunks are the same whatever was measured before, and so is every bit of the result. Which
    # measures there are depends on the weights found, so it is part of the key.
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    keys = [f"images {chunk[0]} .. {chunk[-1]}: {', '.join(measures)}" for chunk in chunks]
    units: list[OneImage] = []
    given = (subject, decoder, controls, measures, values)
    with progress(len(rows), desc="reconstruction") as bar:
        for key, chunk in zip(keys, chunks, strict=True):
            units += journal.once(key, list[OneImage], _chunk, *given, chunk)
            bar.update(len(chunk))
    by_way = {
        way: {name: np.array([unit.ways[way][name] for unit in units]) for name in measures}
        for way in WAYS
    }
    float16 = {name: np.array([unit.float16[name] for unit in units]) for name in measures}
    png = np.array([float(unit.png) for unit in units])
    return ImageValues(tuple(kept), tuple(values), by_way, float16, png, decoder.draws)


def _chunk(
    subject: Subject,
    decoder: Decoder,
    controls: Controls,
    measures: Mapping[str, Measure],
    values: Sequence[int],
    rows: Sequence[int],
) -> list[OneImage]:
    """Measure some images."""
    x, z = subject.images(rows), subject.z(rows)
    sizes = [png_bytes(image) for image in x.numpy()]
    x = x.to(z.device)
    ways = decoder.measure(measures, x, z, rows)
    ways |= {name: measure_code(code, measures, x, values) for name, code in controls.codes.items()}
    rests = other_images(controls.pool, rows, decoder.draws, decoder.seed)
    ways["dct_other"] = measure_code(controls.codes["dct"], measures, x, values, rests)
    y = decoder.whole(z.half().to(z.dtype))
    float16 = {name: measure(x)(y)[0] for name, measure in measures.items()}
    return [
        OneImage(
            {
                way: {name: value[i].numpy() for name, value in by_measure.items()}
                for way, by_measure in ways.items()
            },
            {name: float(value[i]) for name, value in float16.items()},
            sizes[i],
        )
        for i in range(len(rows))
    ]
