"""Options of the analysis ``leakage``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from gdm_repr.analysis.options import AnalysisConfig, Dials
from gdm_repr.config import MANY


class LeakageConfig(AnalysisConfig):
    """Measure which latent groups move which data groups (Prop. 3.3).

    Every latent group is drawn afresh, and moved infinitely little, and the change of every data
    group is measured; so is how far the network looks at groups that are still noise. The control
    is the Gaussian that has the images' mean and covariance, for which the answer is known.

    Example:
      python -m gdm_repr.analysis.leakage --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/leakage
    """  # noqa: E501

    dials: ClassVar[Dials] = {"images": (4, 256)}

    images: int = Field(64, ge=2, le=MANY, description="Encoded images whose latents are changed.")

    def most(self) -> Mapping[str, tuple[int, int]]:
        """All are images of the store."""
        return {"--images": (self.images, 0)}
