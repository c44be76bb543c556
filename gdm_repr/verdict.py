"""What a model and its latents are worth, in plain sentences; and the thresholds that decide.

The measure is the denoising loss of each band beside that of the best Gaussian on the same images
and noise (:mod:`gdm_repr.analysis.sample_quality.denoising_loss`). The Gaussian has the data's own
mean and variances and needs no training, so a model that does not beat it has learned nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.boundary.isolation import isolated

if TYPE_CHECKING:
    from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
    from gdm_repr.denoiser import Denoiser
    from gdm_repr.latents.summary import BandSummary

IMAGES, LEVELS = 64, 4  # that the loss is measured on, and times of each


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


def judge_latents(bands: Sequence[BandSummary]) -> list[str]:
    """Say which bands' latents are near N(0, 1), which samples are drawn from; the worst first.

    A distance counts from where its standard error, or the null of as many values, excludes less.
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
        return ["All bands are near N(0, 1), from which samples are drawn."]
    return [*lines, "Train longer, or see whether these images are like those of training."]
