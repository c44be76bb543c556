"""Options of the analysis ``band_variance``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from gdm_repr.analysis.options import Dials, FeatureConfig, Needs
from gdm_repr.config import MANY


class BandVarianceConfig(FeatureConfig):
    """Measure how much images vary when some of their latents are fixed (Fig. 4a).

    The first m latents, one band or all but one band are fixed and the others drawn afresh. The
    control fixes the images' own coefficients and takes the others from other images. A run that
    was stopped goes on when it is started again.

    Example:
      python -m gdm_repr.analysis.band_variance --checkpoint runs/digits --latents runs/digits/latents --features pixels --out runs/digits/band_variance
    """  # noqa: E501

    dials: ClassVar[Dials] = {"anchors": (4, 64), "draws": (8, 64), "cuts": (6, 20)}

    source: Literal["images", "samples"] = Field(
        "images", description="Anchors: encoded images, or latents drawn from N(0, I)."
    )
    anchors: int = Field(16, ge=2, le=MANY, description="Images whose latents are fixed.")
    draws: int = Field(
        64, ge=2, le=MANY, description="Draws of the other latents, for each anchor."
    )
    cuts: int = Field(
        20, ge=3, le=MANY, description="About how many values of m, denser where m is small."
    )
    pool: int = Field(
        512, ge=3, le=MANY, description="Images that the control takes coefficients from."
    )
    groups: int | None = Field(
        None,
        ge=2,
        le=MANY,
        description="Bands to suggest cuts for; as many as the model has by default.",
    )

    def needs(self) -> Needs:
        """An image's control is drawn from two others."""
        return Needs(3, "each image's control is drawn from two others")

    def most(self) -> Mapping[str, tuple[int, int]]:
        """Anchors are images of the store; so are those of the control of samples."""
        return {"--anchors": (self.anchors, 0)}
