"""From every image's distances to what a report says of partial reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gdm_repr.analysis.intervals.curves import (
    DistanceCurve,
    distance_curve,
    enough,
    paired_difference,
)
from gdm_repr.analysis.intervals.estimate import Estimate, Floats

LEVEL = 0.1  # of the distance between unrelated images: what is left when latents "suffice"
WAYS = {
    "zero": "latents, rest zero",
    "mean": "latents, rest mean",
    "noise": "latents, rest noise",
    "pca": "PCA",
    "dct": "DCT, rest mean",
    "dct_other": "DCT, rest another image's",
}
"""Ways of reconstruction, as a reader sees them; the first three are the model's."""
MODEL = ("zero", "mean", "noise")
RANDOM = ("noise", "dct_other")  # ways of which several draws are measured
PAIRS = (("zero", "pca"), ("zero", "dct"), ("noise", "dct_other"))
"""Ways that are compared image by image: a model's with a control whose rest is of its kind."""
LIKENESS = ("psnr", "ssim")
"""Measures that are larger for better reconstructions; all others are distances."""


@dataclass(frozen=True, eq=False)
class ImageValues:
    """Values of n images.

    Attributes:
        kept: numbers of latents m, M of them, the first one 0.
        values: how many values that is, over all channels.
        by_way: (n, M) by way and measure; NaN where a control has no so many values.
        float16: (n,) by measure: of all latents, rounded to float16.
        png: bytes of the images as PNG, (n,).
        draws: of the ways that are random.
    """

    kept: tuple[int, ...]
    values: tuple[int, ...]
    by_way: Mapping[str, Mapping[str, Floats]]
    float16: Mapping[str, Floats]
    png: Floats
    draws: int

    def reference(self, measure: str) -> Floats | None:
        """Return the images' distance to unrelated images, (n,); None for a likeness."""
        return None if measure in LIKENESS else self.by_way["dct_other"][measure][:, 0]


@dataclass(frozen=True, eq=False)
class Summary:
    """Means over images with 95 % intervals; distances relative to that of unrelated images.

    Attributes:
        curves: by measure and way.
        gaps: model less control at every m, by measure and pair of ways.
        enough: the m at which a distance falls to :data:`LEVEL`, by distance and way.
        float16: by measure, as the curves' last entry but with latents rounded to float16.
        png: bytes of an image as PNG.
    """

    curves: Mapping[str, Mapping[str, DistanceCurve]]
    gaps: Mapping[str, Mapping[tuple[str, str], tuple[Estimate, ...]]]
    enough: Mapping[str, Mapping[str, Estimate]]
    float16: Mapping[str, Estimate]
    png: Estimate


def summarise(measured: ImageValues, *, seed: int = 0) -> Summary:
    """Summarise the values of n images.

    Args:
        measured: the values.
        seed: of the bootstrap.

    Raises:
        ValueError: if there are fewer than 2 images.
    """
    kept, by_way = measured.kept, measured.by_way
    reference = {name: measured.reference(name) for name in measured.float16}
    last = kept[-1:]

    def draws(way: str) -> int:
        return measured.draws if way in RANDOM else 1

    return Summary(
        curves={
            name: {
                way: distance_curve(by[name], kept, draws(way), reference=one, seed=seed)
                for way, by in by_way.items()
            }
            for name, one in reference.items()
        },
        gaps={
            name: {
                (a, b): tuple(
                    paired_difference(by_way[a][name], by_way[b][name], reference=one, seed=seed)
                )
                for a, b in PAIRS
            }
            for name, one in reference.items()
        },
        enough={
            name: {
                way: enough(by[name], kept, LEVEL, reference=one, seed=seed)
                for way, by in by_way.items()
            }
            for name, one in reference.items()
            if one is not None
        },
        float16={
            name: distance_curve(values[:, None], last, 1, reference=reference[name], seed=seed).at(
                last[0]
            )
            for name, values in measured.float16.items()
        },
        png=distance_curve(measured.png[:, None], (0,), 1, seed=seed).at(0),
    )
