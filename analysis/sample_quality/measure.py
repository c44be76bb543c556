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
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gdm_repr.analysis.intervals.estimate import number
from gdm_repr.analysis.intervals.jackknife import Score
from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
from gdm_repr.analysis.sample_quality.options import DEFAULT_N, SampleQualityConfig, kept
from gdm_repr.latents.summary import BandSummary

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.analysis.features.extractors import Extractor
    from gdm_repr.analysis.intervals.jackknife import Measure, Score
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
    from gdm_repr.analysis.sample_quality.image_sets import ImageSets

    pass
    from gdm_repr.analysis.subject import Subject

Scores = Mapping[str, Mapping[str, Mapping[str, Score]]]
"""By feature, score and set."""


SCORED = ("samples", "gaussian", "noise")


def check(config: SampleQualityConfig, subject: Subject) -> None:
    """Refuse features that can't be had, too few images, and images that are away."""
    from gdm_repr.analysis.sample_quality.image_sets import choose_halves

    n = config.n or min(DEFAULT_N, len(subject.store) // 2)
    choose_halves(len(subject.store), n, config.seed)
    check_neighbours(config, n)
    config.require_features(subject)
    subject.require_images()


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


@dataclass(frozen=True, eq=False)
class Found:
    """What was measured.

    Attributes:
        n: images in each set.
        scores: by feature, score and set.
        losses: of each group.
        latents: of each band of the store.
        cost: (images, seconds, evaluations of u an image) of each block of samples.
        images: the sets.
    """

    n: int
    scores: Scores
    losses: Sequence[GroupLoss]
    latents: Sequence[BandSummary]
    cost: Sequence[tuple[int, float, int]]
    images: Mapping[str, Tensor]

    @property
    def seconds(self) -> float:
        """Seconds an image."""
        return sum(each[1] for each in self.cost) / self.n

    @property
    def spread(self) -> str:
        """The fastest and the slowest block, in seconds an image."""
        each = [seconds / images for images, seconds, _ in self.cost]
        return f"{number(min(each), 2)} to {number(max(each), 2)}"

    @property
    def sliced(self) -> dict[str, Mapping[str, Score]]:
        """The sliced Wasserstein distances by set, by what they are of."""
        every = {name: by.get("sliced_wasserstein") for name, by in self.scores.items()}
        return {name: by for name, by in every.items() if by is not None}
