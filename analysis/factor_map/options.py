"""Options of the analysis ``factor_map``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from gdm_repr.analysis.columns.names import PCA, RAW
from gdm_repr.analysis.options import AnalysisConfig, Dials, Needs, check_names
from gdm_repr.config import MANY, Held, Words
from gdm_repr.edit.options import Places

CONTROLS = {"raw": RAW, "pca": PCA}


class FactorMapConfig(AnalysisConfig):
    """Measure how much of each factor each band predicts, beside controls.

    A factor is a label of the store: R^2, or balanced accuracy above chance, of probes on images
    they were not fitted to; for each band, for the first bands, and for all latents. Of 3,000
    images with 12 factors, linear and kernel take a minute on one core, trees hours.

    Example:
      python -m gdm_repr.analysis.factor_map --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/factor_map
      python -m gdm_repr.analysis.factor_map --checkpoint runs/scenes --latents runs/scenes/latents --factors shape,hue --baseline k1=runs/scenes-k1/latents,vae=runs/scenes-vae/codes.npz --out runs/scenes/factor_map
    """  # noqa: E501

    of_labels = True
    dials: ClassVar[Dials] = {"images": (300, 5000), "columns": (64, 256)}

    factors: Words = Field((), description="Labels to predict, joined by commas; all by default.")
    circular: Words = Field(
        (), description="Labels that come round, as angle=360; those of scenes are known."
    )
    images: int = Field(5000, ge=8, le=MANY, description="Images at most, chosen at random.")
    columns: Held = Field(
        256, description="Columns (elements times channels) of a band at most; its lowest."
    )
    folds: int = Field(5, ge=2, le=50, description="Parts of which each is predicted by the rest.")
    probes: Words = Field(
        ("linear", "kernel"),
        min_length=1,
        description="linear; kernel, knn (nonlinear); trees (slow). The first is the main one.",
    )
    controls: Words = Field(tuple(CONTROLS), description="raw and pca, joined by commas; or none.")
    baseline: Places = Field(
        (),
        description="Other models, NAME=PATH, joined by commas: latents of the same images, such "
        "as by one with k = 1, or .npz of codes (n, D) and ids.",
    )
    permutations: int = Field(
        19, ge=9, le=MANY, description="Draws of the null; 9 at most for trees."
    )
    resamples: int = Field(
        400, ge=40, le=MANY, description="Draws of images that an interval is from."
    )

    def check(self) -> None:
        """Refuse unknown names."""
        from gdm_repr.analysis.factors.probes import PROBES

        super().check()
        check_names("probes", self.probes, PROBES)
        check_names("controls", self.controls, (*CONTROLS, "none"))

    def needs(self) -> Needs:
        """Each of two classes needs an image a fold."""
        return Needs(2 * self.folds, f"a factor needs {self.folds} images, the folds, of 2 classes")
