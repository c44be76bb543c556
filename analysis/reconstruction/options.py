"""Options of the analysis ``reconstruction``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from gdm_repr.analysis.options import Dials, FeatureConfig, Needs
from gdm_repr.config import MANY, Held


class ReconstructionConfig(FeatureConfig):
    """Rebuild images from their first m latents and compare them with the originals (Fig. 4b).

    The others are zero, the data set's mean, or fresh noise. PSNR and SSIM are always measured,
    LPIPS where its weights are found, or as one of --features. The controls keep as many values of
    the DCT and of a PCA. A run that was stopped goes on when it is started again.

    Example:
      python -m gdm_repr.analysis.reconstruction --checkpoint runs/digits --latents runs/digits/latents --features pixels --out runs/digits/reconstruction
    """  # noqa: E501

    dials: ClassVar[Dials] = {"images": (8, 256), "cuts": (6, 12), "fit": (200, 1000)}

    images: int = Field(64, ge=2, le=MANY, description="Images that are rebuilt, chosen at random.")
    draws: Held = Field(2, description="Draws of the noise, for each image.")
    cuts: int = Field(
        12, ge=3, le=MANY, description="About how many values of m, denser where m is small."
    )
    fit: int = Field(
        1000,
        ge=2,
        le=MANY,
        description="Other images: the PCA is fitted on them, and the DCT's rest is theirs.",
    )
    shown: Held = Field(3, description="Images on the sheet.")

    @property
    def others(self) -> int:
        """Images that the controls are made of, at least: a PCA takes two, a draw one each."""
        return max(2, self.draws)

    def needs(self) -> Needs:
        """Two images are rebuilt, and others make the controls."""
        return Needs(2 + self.others, f"2 to rebuild, and {self.others} others for the controls")

    def most(self) -> Mapping[str, tuple[int, int]]:
        """Images that are rebuilt leave some for the controls."""
        return {"--images": (self.images, self.others)}
