"""Options of the analysis ``sample_quality``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from gdm_repr.analysis.options import Dials, FeatureConfig, Needs
from gdm_repr.config import MANY, Held

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

DEFAULT_N = 500


LEAST = 4  # images of a set: a group less, a covariance needs 2 or more


class SampleQualityConfig(FeatureConfig):
    """Score samples against real images: Frechet distance, KID, precision, recall and others.

    The store should hold images that the model was not trained on, twice as many as are drawn: each
    score stands beside the same between two halves of these. Controls are a Gaussian of their mean
    and covariance, and noise. A run that was stopped goes on when it is started again.

    Example:
      python -m gdm_repr.analysis.sample_quality --checkpoint runs/digits --latents runs/digits/latents --features pixels --out runs/digits/sample_quality
    """  # noqa: E501

    dials: ClassVar[Dials] = {"n": (50, 500), "loss_images": (32, 256)}

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

    def named(self, turned: dict[str, Any], subject: Subject) -> dict[str, Any]:
        """Draw no more samples than half of the images."""
        half = len(subject.store) // 2
        return turned | {name: min(turned[name], half) for name in ("n",) if name in turned}

    def needs(self) -> Needs:
        """Two sets of images, in which neighbours are left when a group is left out."""
        near = max(self.precision_neighbours, self.density_neighbours)
        n = next(n for n in range(LEAST, near * 4 + LEAST) if kept(n, self.groups) > near)
        return Needs(2 * n, f"two sets of {n}, in which each image has {near} neighbours")


def kept(n: int, groups: int) -> int:
    """Return how many of n images are left without the largest group."""
    return n - -(-n // min(groups, n))
