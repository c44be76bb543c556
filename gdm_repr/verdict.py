"""What a model and its latents are worth, in plain sentences; and the thresholds that decide.

The measure is the denoising loss of each band beside that of the best Gaussian on the same images
and noise (:mod:`gdm_repr.analysis.sample_quality.denoising_loss`). The Gaussian has the data's own
mean and variances and needs no training, so a model that does not beat it has learned nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import chi2
from scipy.stats import t as student
from torch import Tensor

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.boundary.isolation import isolated

if TYPE_CHECKING:
    from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
    from gdm_repr.checkpoint import Checkpoint
    from gdm_repr.denoiser import Denoiser
    from gdm_repr.latents.summary import BandSummary, ElementSummary

IMAGES, LEVELS = 256, 4  # that the loss is measured on, and times of each
AXES_IMAGES = 10  # of training for each number of a band, from which on its axes are known


@dataclass(frozen=True)
class Threshold:
    """A limit of a verdict.

    Attributes:
        value: of the loss over the Gaussian's, or how far from N(0, 1).
        why: what stands behind it.
    """

    value: float
    why: str


THRESHOLDS = {
    "worse": Threshold(1.0, "the best Gaussian reaches 1 without any training"),
    "learned": Threshold(0.9, "the shipped model's bands have 0.47 to 0.66 on images it never saw"),
    "std": Threshold(0.1, "a sample's noise is then a tenth wider or narrower than latents are"),
    "KS": Threshold(0.05, "one value in twenty lies where N(0, 1) has none"),
    "unlike": Threshold(
        1.5, "training's images are at 1, and 64 scenes that the shipped model never saw at 0.9"
    ),
}


@isolated
def measure_bands(denoiser: Denoiser, x: Tensor, *, seed: int = 0) -> list[GroupLoss]:
    """Measure each band's loss on images x (n, C, H, W), in the order of generation.

    Raises:
        ValueError: for fewer than 2 images.
    """
    from gdm_repr.analysis.sample_quality.denoising_loss import group_loss

    x_bar = denoiser.basis.forward(x.to(denoiser.mean.device))
    order = denoiser.grouping.order
    return [group_loss(denoiser, x_bar, group, levels=LEVELS, seed=seed) for group in order]


def judge(measured: Mapping[str, Sequence[GroupLoss]]) -> list[str]:
    """Say which bands were learned, worst news first, and what to do.

    A band is worse, or better, where the interval of its loss excludes the Gaussian's.

    Args:
        measured: the losses by the images they are of, ``held-out`` or ``training``; the first are
            judged, and beside them the second say what was learned by heart.
    """
    (part, bands), *others = measured.items()
    worst, most = THRESHOLDS["worse"].value, THRESHOLDS["learned"].value
    lines: list[tuple[int, str]] = []
    for band in bands:
        share = _share(band)
        if share.low > worst:
            place, word = 0, "worse than a Gaussian"
        elif share.high >= worst:
            place, word = 1, "not clearly better than a Gaussian"
        elif share.value > most:
            place, word = 2, "better than a Gaussian, and not by much"
        else:
            place, word = 3, "learned"
        lines.append((place, f"{band.group} is at {share}: {word}."))
    said = [line for _, line in sorted(lines, key=lambda each: each[0])]
    if min(place for place, _ in lines) < 3:
        said.append("Train longer (more --images), with another rate (--lr), or widen the network.")
    for other, seen in others:
        for band, same in zip(bands, seen, strict=True):
            if _share(band).low > _share(same).high:
                said.append(
                    f"{band.group} is learned by heart in part: on {other} images it is at "
                    f"{_share(same)}."
                )
    of = f"on the same {bands[0].n} {part} images and noise"
    return [*said, f"1 is the error of the best Gaussian {of}; in brackets, 95 % intervals."]


def _share(band: GroupLoss) -> Estimate:
    ends = (band.mean.value, band.mean.low, band.mean.high)
    return Estimate(*(end / band.control.value for end in ends))


def judge_latents(
    bands: Sequence[BandSummary], elements: Sequence[ElementSummary] = ()
) -> list[str]:
    """Say which bands' latents are near N(0, 1), which samples are drawn from; the worst first.

    A distance counts from where its standard error, or the null of as many values, excludes less.

    Args:
        bands: of the store.
        elements: stds of its elements, by band; the worst of all is named.
    """
    far: list[tuple[float, str]] = []
    for band in bands:
        off = abs(band.std - 1)
        if off - 2 * band.std_se > THRESHOLDS["std"].value:
            far.append((off, f"{band.band} is not near N(0, 1): its std is {band.std:.2f}."))
        elif band.ks - band.ks_null > THRESHOLDS["KS"].value:
            text = f"{band.band} is not near N(0, 1): its Kolmogorov-Smirnov distance is "
            far.append((band.ks, f"{text}{band.ks:.2f}."))
    lines = [text for _, text in sorted(far, reverse=True)]
    if not far:
        lines = ["All bands are near N(0, 1), from which samples are drawn."]
    lines += _worst_element(elements)
    if far:
        lines.append("Train longer, or see whether these images are like those of training.")
    return lines


def _worst_element(elements: Sequence[ElementSummary]) -> list[str]:
    """Name the element whose std is farthest from what N(0, 1) allows, if that excludes it."""
    count = sum(each.std.size for each in elements)
    if not count or elements[0].n < 2:
        return []
    n = elements[0].n
    tail = 0.025 / count  # of all elements together, 95 % lie within
    low, high = (float((chi2.ppf(p, n - 1) / (n - 1)) ** 0.5) for p in (tail, 1 - tail))
    # how far beyond an end of what N(0, 1) allows; more than 1 is excluded
    beyond = [np.maximum(each.std / high, low / each.std.clip(1e-6)) for each in elements]
    at = int(np.argmax([each.max() for each in beyond]))
    worst, place = elements[at], int(beyond[at].argmax())
    channel, element = divmod(place, worst.std.shape[1])
    std = float(worst.std[channel, element])
    name = f"element {worst.elements[element]}"
    if worst.std.shape[0] > 1:
        name += f", channel {channel},"
    outside = sum(int((each > 1).sum()) for each in beyond)
    if not outside:
        return ["No element has a std that N(0, 1) excludes."]
    return [
        f"{outside} of {count} elements have a std that N(0, 1) excludes.",
        f"The worst is {name} of {worst.band}: its std is {std:.2f}.",
        f"Of {n} values of N(0, 1) it would lie in [{low:.2f}, {high:.2f}].",
    ]


@isolated
def unlike_training(checkpoint: Checkpoint, x: Tensor) -> Estimate:
    """Return how far images (n, C, H, W) are from training's mean in the coarsest band.

    It is the mean square of the band's numbers, less training's mean, along its principal axes and
    in units of training's stds; 1 for training's own images, whatever their law. Where training saw
    too few images to know axes, the elements' own stds are the units.
    """
    denoiser, items = checkpoint.denoiser, checkpoint.training.get("items")
    grouping = denoiser.grouping
    x_bar = denoiser.basis.forward(x.to(denoiser.mean.device)) - denoiser.mean
    inside = torch.from_numpy(grouping.index == grouping.order[0]).to(x_bar.device)
    inside = inside.expand(denoiser.mean.shape)
    axes, std = denoiser.axes, denoiser.axes.std
    if isinstance(items, int) and items < AXES_IMAGES * int(inside.sum()):
        from gdm_repr.axes import Axes

        axes, std = Axes(grouping, denoiser.std), denoiser.std
    each = (axes.forward(x_bar)[:, inside] / std[inside]).square().mean(1).double().cpu().numpy()
    mean = float(each.mean()) if len(each) else float("nan")
    if len(each) < 2:
        return Estimate(mean, -float("inf"), float("inf"))
    half = float(student.ppf(0.975, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5)
    return Estimate(mean, mean - half, mean + half)


def judge_likeness(found: Estimate) -> list[str]:
    """Say whether images do not look like those of training; nothing where they may."""
    most = THRESHOLDS["unlike"].value
    if found.low <= most and found.high >= 1 / most:
        return []
    side = "farther from" if found.value > 1 else "nearer to"
    return [
        f"These images do not look like those of training: in the coarsest band they are {side} "
        f"their mean, at {found} where training's are at 1 (squared, in stds).",
        "Their latents are not near N(0, 1), and what the model says of them may be wrong.",
    ]
