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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import Field

from gdm_repr.analysis.options import FeatureConfig, Needs
from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.config import MANY, Held

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.analysis.features.extractors import Extractor
    from gdm_repr.analysis.intervals.jackknife import Measure, Score
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
    from gdm_repr.analysis.sample_quality.image_sets import ImageSets
    from gdm_repr.analysis.sample_quality.report import Scores
    from gdm_repr.analysis.subject import Subject

DEFAULT_N = 500
LEAST = 4  # images of a set: a group less, a covariance needs 2 or more
SCORED = ("samples", "gaussian", "noise")


class SampleQualityConfig(FeatureConfig):
    """Score samples against real images: Frechet distance, KID, precision, recall and others.

    The store should hold images that the model was not trained on, twice as many as are drawn: each
    score stands beside the same between two halves of these. Controls are a Gaussian of their mean
    and covariance, and noise. A run that was stopped goes on when it is started again.

    Example:
      python -m gdm_repr.analysis.sample_quality --checkpoint runs/digits --latents runs/digits/latents --features pixels --out runs/digits/sample_quality
    """  # noqa: E501

    n: int | None = Field(
        None,
        ge=LEAST,
        le=MANY,
        description="Samples, and real images in each half; 500, or half the store.",
    )
    groups: int = Field(
        20, ge=2, le=MANY, description="Groups of images that the intervals leave out."
    )
    directions: Held = Field(256, description="Directions of the sliced Wasserstein distance.")
    precision_neighbours: Held = Field(3, description="k of precision and recall.")
    density_neighbours: Held = Field(5, description="k of density and coverage.")
    loss_images: int = Field(
        256, ge=2, le=MANY, description="Images for the denoising loss, at most."
    )
    levels: Held = Field(8, description="Noise levels of the denoising loss, for each group.")
    shown: Held = Field(12, description="Images in a row of the sheet.")

    def needs(self) -> Needs:
        """Two sets of images, in which neighbours are left when a group is left out."""
        near = max(self.precision_neighbours, self.density_neighbours)
        n = next(n for n in range(LEAST, near * 4 + LEAST) if kept(n, self.groups) > near)
        return Needs(2 * n, f"two sets of {n}, in which each image has {near} neighbours")


def check(config: SampleQualityConfig, subject: Subject) -> None:
    """Refuse features that can't be had, too few images, and images that are away."""
    from gdm_repr.analysis.sample_quality.image_sets import choose_halves

    n = config.n or min(DEFAULT_N, len(subject.store) // 2)
    choose_halves(len(subject.store), n, config.seed)
    check_neighbours(config, n)
    config.require_features(subject)
    subject.require_images()


def analyse(config: SampleQualityConfig, subject: Subject, journal: Journal) -> Report:
    """Measure, and write down what was found.

    Raises:
        ValueError: for features that can't be had, or more images than the store has.
    """
    from tqdm import tqdm

    from gdm_repr.analysis.sample_quality.image_sets import SETS, Blocks, ImageSets, choose_halves
    from gdm_repr.analysis.sample_quality.report import Found, make_report
    from gdm_repr.latents.summary import summarise

    extractors = config.extractors()  # first: weights may be missing
    n = config.n or min(DEFAULT_N, len(subject.store) // 2)
    halves = choose_halves(len(subject.store), n, config.seed)
    check_neighbours(config, n)
    groups = subject.model.grouping.k
    loss_images = min(config.loss_images, n)
    total = n * len(SETS) * (1 + len(extractors)) + groups * loss_images * config.levels
    with tqdm(total=total, unit="img", desc="sample quality") as bar:
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
    found = Found(n, scores, losses, summarise(subject.store), sets.cost(), images)
    return make_report(config, subject, found, halves, list(extractors.values()))


def check_neighbours(config: SampleQualityConfig, n: int) -> None:
    """Refuse numbers of neighbours that are not there when a group is left out.

    Raises:
        ValueError: if there are as many neighbours as images left.
    """
    left = kept(n, config.groups)
    for name in ("precision_neighbours", "density_neighbours"):
        if (k := getattr(config, name)) >= left:
            flag = name.replace("_", "-")
            raise ValueError(
                f"--{flag} {k}: of n={n} images {left} are left without a group, which must be "
                f"more than {k}; use fewer neighbours or more images"
            )


def kept(n: int, groups: int) -> int:
    """Return how many of n images are left without the largest group."""
    return n - -(-n // min(groups, n))


def _scores(
    config: SampleQualityConfig,
    subject: Subject,
    journal: Journal,
    sets: ImageSets,
    images: Mapping[str, Tensor],
    extractors: Mapping[str, Extractor],
) -> Scores:
    """Return scores by name and set, by feature; the journal keeps what is finished."""
    from gdm_repr.analysis.sample_quality.frechet import FRECHET
    from gdm_repr.analysis.sample_quality.kernel_distance import KID
    from gdm_repr.analysis.sample_quality.neighbour_scores import neighbours
    from gdm_repr.analysis.sample_quality.sliced_distance import sliced

    near = neighbours(config.precision_neighbours, config.density_neighbours)
    result: dict[str, dict[str, dict[str, Score]]] = {}
    for name, extractor in extractors.items():
        features = {of: sets.features(extractor, of, x) for of, x in images.items()}
        result[name] = {}
        for measure in (FRECHET, KID, near):
            result[name] |= _compared(config, journal, name, measure, features)
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
    import numpy as np
    import torch

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
    from gdm_repr.analysis.intervals.jackknife import compare

    key = f"{', '.join(measure.names)} in {feature}"
    if key not in journal:
        compared = compare(
            measure,
            values["real"],
            {of: values[of] for of in SCORED},
            values["other"],
            groups=config.groups,
            seed=config.seed,
        )
        plain = {of: {s: asdict(v) for s, v in by.items()} for of, by in compared.items()}
        journal.add(key, plain)
    return {
        score: {of: _score(journal[key][of][score]) for of in SCORED} for score in measure.names
    }


def _score(entry: Mapping[str, Any]) -> Score:
    """Read back what ``asdict`` gave."""
    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.analysis.intervals.jackknife import Score

    nested = {key: Estimate(**value) for key, value in entry.items() if isinstance(value, dict)}
    return Score(**{**entry, **nested})


def _losses(
    config: SampleQualityConfig,
    subject: Subject,
    journal: Journal,
    x: Tensor,
    advance: Callable[[int], object],
) -> list[GroupLoss]:
    """Return the groups' losses, in the order of generation."""
    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss, group_loss

    grouping, losses = subject.model.grouping, []
    for group in grouping.order:
        key = f"denoising loss of {grouping.names[group]}"
        if key in journal:
            advance(len(x) * config.levels)
        else:
            measured = group_loss(
                subject.model.denoiser,
                subject.model.to_basis(x),
                group,
                levels=config.levels,
                seed=config.seed,
                batch_size=config.batch_size,
                advance=advance,
            )
            journal.add(key, asdict(measured))
        entry = journal[key]
        read = {
            "mean": Estimate(**entry["mean"]),
            "control": Estimate(**entry["control"]),
            "theta": tuple(entry["theta"]),
            "at": tuple(Estimate(**each) for each in entry["at"]),
        }
        losses.append(GroupLoss(**{**entry, **read}))
    return losses


ANALYSIS = Analysis("sample_quality", SampleQualityConfig, analyse, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse sample_quality``."""
    return run_analysis(ANALYSIS, argv)
