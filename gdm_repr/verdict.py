"""What a model and its latents are worth, in plain sentences; and the thresholds that decide.

The measure is the denoising loss of each band beside that of the best Gaussian on the same images
and noise (:mod:`gdm_repr.analysis.sample_quality.denoising_loss`). The Gaussian has the data's own
mean and variances and needs no training, so a model that does not beat it has learned nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

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


LATENT_STD = Threshold(0.1, "a sample's noise is then a tenth wider or narrower than latents are")
LATENT_KS = Threshold(0.05, "one value in twenty lies where N(0, 1) has none")
THRESHOLDS = {
    "worse than a Gaussian": Threshold(1.0, "the Gaussian reaches 1 without any training"),
    "learned": Threshold(0.9, "the shipped model's bands have 0.47 to 0.66 on images it never saw"),
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


def judge(bands: Sequence[GroupLoss]) -> list[str]:
    """Say which bands were learned, worst news first, and what to do.

    A band is worse, or better, where the interval of its loss excludes the Gaussian's.
    """
    worse, open_, little, good = [], [], [], []
    for band in bands:
        control = band.control.value
        share = band.mean.value / control
        text = f"{band.group} is at {share:.2f}"
        if band.mean.low > THRESHOLDS["worse than a Gaussian"].value * control:
            worse.append(text)
        elif band.mean.high >= THRESHOLDS["worse than a Gaussian"].value * control:
            open_.append(text)
        elif share > THRESHOLDS["learned"].value:
            little.append(text)
        else:
            good.append(text)
    longer = "Train longer (more --images), with another rate (--lr), or widen the network."
    said = [
        (worse, "worse than a Gaussian"),
        (open_, "not clearly better than a Gaussian"),
        (little, "better than a Gaussian, and not by much"),
        (good, "learned"),
    ]
    lines = [f"{', '.join(found)}: {word}." for found, word in said if found]
    if worse or open_ or little:
        lines.append(longer)
    n = bands[0].n
    lines.append(f"1 is the error of the best Gaussian on the same {n} training images and noise.")
    return lines


def judge_latents(bands: Sequence[BandSummary]) -> list[str]:
    """Say which bands' latents are near N(0, 1), which samples are drawn from; the worst first.

    A distance counts from where its standard error, or the null of as many values, excludes less.
    """
    far: list[tuple[float, str]] = []
    for band in bands:
        off = abs(band.std - 1)
        if off - 2 * band.std_se > LATENT_STD.value:
            far.append((off, f"{band.band} is not near N(0, 1): its std is {band.std:.2f}."))
        elif band.ks - band.ks_null > LATENT_KS.value:
            text = f"{band.band} is not near N(0, 1): its Kolmogorov-Smirnov distance is "
            far.append((band.ks, f"{text}{band.ks:.2f}."))
    lines = [text for _, text in sorted(far, reverse=True)]
    if not far:
        return ["All bands are near N(0, 1), from which samples are drawn."]
    return [*lines, "Train longer, or see whether these images are like those of training."]
