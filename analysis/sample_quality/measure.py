"""How far samples are from real images: ``python -m gdm_repr.analysis.sample_quality``.

Scores, each beside the same score between real images and real ones, at the same n:
:mod:`gdm_repr.analysis.sample_quality.frechet`,
:mod:`gdm_repr.analysis.sample_quality.kernel_distance` (KID),
:mod:`gdm_repr.analysis.sample_quality.neighbour_scores` (precision, recall, density, coverage) in
features, :mod:`gdm_repr.analysis.sample_quality.sliced_distance` in pixels and bands; the denoising
loss of each group (:mod:`gdm_repr.analysis.sample_quality.denoising_loss`), and what the store says
of round trip and latents. :mod:`gdm_repr.analysis.intervals.jackknife` tells what the intervals
are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdm_repr.analysis.cost import Cost
from gdm_repr.analysis.features.extractors import Extractor
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.intervals.jackknife import Measure, Score, compare
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss, group_loss
from gdm_repr.analysis.sample_quality.frechet import FRECHET
from gdm_repr.analysis.sample_quality.image_sets import (
    SETS,
    Blocks,
    Halves,
    ImageSets,
    choose_halves,
)
from gdm_repr.analysis.sample_quality.kernel_distance import KID
from gdm_repr.analysis.sample_quality.neighbour_scores import neighbours
from gdm_repr.analysis.sample_quality.options import DEFAULT_N, SampleQualityConfig, kept
from gdm_repr.analysis.sample_quality.sliced_distance import sliced
from gdm_repr.analysis.subject import Subject
from gdm_repr.latents.summary import BandSummary, summarise
from gdm_repr.progress import progress

Scores = Mapping[str, Mapping[str, Mapping[str, Score]]]
"""By feature, score and set."""

SCORED = ("samples", "gaussian", "noise")
SCORE_FLOPS = 40  # of the scores of two sets of n images, times n^3: singular values


def check(config: SampleQualityConfig, subject: Subject) -> None:
    """Refuse features that can't be had, too few images, and images that are away."""
    _halves(config, subject)
    config.require_features(subject)
    subject.require_images()


def cost(config: SampleQualityConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    n = len(_halves(config, subject).real)
    levels = min(config.loss_images, n) * config.levels
    scored = (1 + config.groups) * len(SETS) * len(config.features)
    return Cost(
        decoded=n,
        evaluations=levels * subject.model.grouping.k,
        featured=n * len(SETS),
        flops=scored * (SCORE_FLOPS * n**3 + 4 * n**2 * math.prod(subject.model.shape)),
    )


def _halves(config: SampleQualityConfig, subject: Subject) -> Halves:
    """Choose two sets of images, in which neighbours are left when a group is left out.

    Raises:
        ValueError: for too few images, or as many neighbours as images left.
    """
    n = config.n or min(DEFAULT_N, len(subject.store) // 2)
    halves = choose_halves(len(subject.store), n, config.seed)
    left = kept(n, config.groups)
    for name in ("precision_neighbours", "density_neighbours"):
        if (k := getattr(config, name)) >= left:
            flag = name.replace("_", "-")
            raise ValueError(
                f"--{flag} {k}: of n={n} images {left} are left without a group, which must be "
                f"more than {k}; use fewer neighbours or more images"
            )
    return halves


def _scores(
    config: SampleQualityConfig,
    subject: Subject,
    journal: Journal,
    sets: ImageSets,
    images: Mapping[str, Tensor],
    extractors: Mapping[str, Extractor],
) -> Scores:
    """Return scores by name and set, by feature; the journal keeps what is finished."""
    near = neighbours(config.precision_neighbours, config.density_neighbours)
    result: dict[str, dict[str, dict[str, Score]]] = {}
    for name, extractor in extractors.items():
        features = {of: sets.features(extractor, of, x) for of, x in images.items()}
        result[name] = {}
        for each in (FRECHET, KID, near):
            result[name] |= _compared(config, journal, name, each, features)
    slices = sliced(config.directions, config.seed)
    model = subject.model
    x_bar = {of: model.to_basis(x).cpu() for of, x in images.items()}
    index = model.grouping.index
    parts: dict[str, dict[str, Any]] = {
        "all pixels": {of: x.flatten(1).double().numpy() for of, x in images.items()}
    }
    for group in model.grouping.order:
        parts[f"band {model.grouping.names[group]}"] = {
            of: each[:, _elements(index, group, each.shape[1])].double().numpy()
            for of, each in x_bar.items()
        }
    for name, values in parts.items():
        result[name] = _compared(config, journal, name, slices, values)
    return result


def _elements(index: Any, group: int, channels: int) -> Any:  # noqa: ANN401
    """Return which of the (C, d) numbers are a group's, as a mask."""
    own = np.broadcast_to(index == group, (channels, index.shape[1]))
    return torch.from_numpy(own.copy())


def _compared(
    config: SampleQualityConfig,
    journal: Journal,
    feature: str,
    measure: Measure,
    values: Mapping[str, Any],
) -> dict[str, dict[str, Score]]:
    """Return scores by name, then by set."""
    key = f"{', '.join(measure.names)} in {feature}"
    given = (measure, values["real"], {of: values[of] for of in SCORED}, values["other"])
    settings = config.model_dump(include={"groups", "seed"})
    compared = journal.once(key, dict[str, dict[str, Score]], compare, *given, **settings)
    return {score: {of: compared[of][score] for of in SCORED} for score in measure.names}


def _losses(
    config: SampleQualityConfig,
    subject: Subject,
    journal: Journal,
    x: Tensor,
    advance: Callable[[int], object],
) -> list[GroupLoss]:
    """Return the groups' losses, in the order of generation."""
    grouping, losses, x_bar = subject.model.grouping, [], subject.model.to_basis(x)
    settings = config.model_dump(include={"levels", "seed", "batch_size"}) | {"advance": advance}
    for group in grouping.order:
        key = f"denoising loss of {grouping.names[group]}"
        if key in journal:
            advance(len(x) * config.levels)
        given = (subject.model.denoiser, x_bar, group)
        losses.append(journal.once(key, GroupLoss, group_loss, *given, **settings))
    return losses


@dataclass(frozen=True, eq=False)
class SampleQuality(Found):
    """What was measured.

    Attributes:
        halves: rows of the real images.
        extractors: of the features.
        scores: by feature, score and set.
        losses: of each group.
        latents: of each band of the store.
        cost: (images, seconds, evaluations of u an image) of each block of samples.
        images: the sets.
    """

    halves: Halves
    extractors: Sequence[Extractor]
    scores: Scores
    losses: Sequence[GroupLoss]
    latents: Sequence[BandSummary]
    cost: Sequence[tuple[int, float, int]]
    images: Mapping[str, Tensor]

    @property
    def n(self) -> int:
        """Images in each set."""
        return len(self.halves.real)

    @property
    def seconds(self) -> float:
        """Seconds an image."""
        return sum(each[1] for each in self.cost) / self.n

    @property
    def sliced(self) -> dict[str, Mapping[str, Score]]:
        """The sliced Wasserstein distances by set, by what they are of."""
        every = {name: by.get("sliced_wasserstein") for name, by in self.scores.items()}
        return {name: by for name, by in every.items() if by is not None}


def measure(config: SampleQualityConfig, subject: Subject, journal: Journal) -> SampleQuality:
    """Score samples and controls against real images, and the model on them.

    Raises:
        ValueError: for features that can't be had, or more images than the store has.
    """
    extractors = config.extractors()  # first: weights may be missing
    halves = _halves(config, subject)
    n, groups = len(halves.real), subject.model.grouping.k
    loss_images = min(config.loss_images, n)
    total = n * len(SETS) * (1 + len(extractors)) + groups * loss_images * config.levels
    with progress(total, desc="sample_quality") as bar:
        sets = ImageSets(
            subject,
            Blocks(config.out / "blocks", journal),
            halves,
            seed=config.seed,
            batch_size=config.batch_size,
            advance=bar.update,
        )
        images = {name: sets.images(name) for name in SETS}
        scores = _scores(config, subject, journal, sets, images, extractors)
        x = subject.images(halves.real[:loss_images])  # as trained on: not clipped
        losses = _losses(config, subject, journal, x, bar.update)
    used, latents, cost = list(extractors.values()), summarise(subject.store), sets.cost()
    return SampleQuality(config, subject, halves, used, scores, losses, latents, cost, images)
