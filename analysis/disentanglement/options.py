"""Options of the analysis ``disentanglement``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from gdm_repr.analysis.options import AnalysisConfig, Dials, Needs, check_names
from gdm_repr.config import MANY, Words
from gdm_repr.edit.options import Places

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

LEAST = 50  # images that a score needs
BY_TIME = ("mig", "gaussian_tc", "modularity_explicitness", "sap")  # the last takes by far longest


class DisentanglementConfig(AnalysisConfig):
    """Score how well latents separate the factors that are known of the images.

    Each band and all of them together, beside the images' own coefficients; every score with an
    interval, what unrelated factors would give, and the number of latents. Slow ones can be named:
    dci_linear, dci_forest, dci_boosted, factor_vae, beta_vae, irs, mutual_information, wasserstein.

    Example:
      python -m gdm_repr.analysis.disentanglement --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/disentanglement
    """  # noqa: E501

    of_labels = True
    dials: ClassVar[Dials] = {
        "images": (200, 2000),
        "scores": (2, len(BY_TIME)),
        "permutations": (4, 19),
        "resamples": (5, 20),
    }

    factors: Words = Field((), description="Labels that are factors; all that can be by default.")
    continuous: Words = Field((), description="Whole-number factors that are amounts, not classes.")
    circular: Words = Field(
        (), description="Labels that come round, as angle=360; those of scenes are known."
    )
    scores: Words = Field(
        ("mig", "sap", "modularity_explicitness", "gaussian_tc"),
        min_length=1,
        description="Of gdm_repr.analysis.disentanglement.scores.SCORES, joined by commas.",
    )
    baseline: Places = Field(
        (),
        description="Other models, NAME=PATH, joined by commas: latents of the same images, or "
        ".npz of codes (n, D) and ids.",
    )
    images: int = Field(2000, ge=LEAST, le=MANY, description="Images at most, chosen at random.")
    permutations: int = Field(19, ge=1, le=MANY, description="Draws of the null.")
    resamples: int = Field(20, ge=5, le=MANY, description="Half-samples that an interval is from.")

    def check(self) -> None:
        """Refuse unknown names."""
        from gdm_repr.analysis.disentanglement.scores import SCORES

        super().check()
        check_names("scores", self.scores, SCORES)

    def named(self, turned: dict[str, Any], subject: Subject) -> dict[str, Any]:
        """Name scores; the slowest are left out first."""
        scores = {"scores": BY_TIME[: turned["scores"]]} if "scores" in turned else {}
        return turned | scores

    def needs(self) -> Needs:
        """Half-samples of fewer say little."""
        return Needs(LEAST, f"scores are of {LEAST} or more")
