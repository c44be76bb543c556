"""Options of the analysis ``total_correlation``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from gdm_repr.analysis.columns.names import ENCODED_NOISE, FRESH_NOISE, PCA, RAW
from gdm_repr.analysis.options import AnalysisConfig, Dials, Needs, check_names
from gdm_repr.command import UserPath
from gdm_repr.config import MANY, Held, Words

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

CONTROLS = {"noise": FRESH_NOISE, "encoded-noise": ENCODED_NOISE, "raw": RAW, "pca": PCA}
LEAST = 8  # images; that estimators need more is told of each


class TotalCorrelationConfig(AnalysisConfig):
    """Measure how much latents tell of each other, within bands and between them (Sec. 4.4).

    Total correlation in nats by several estimators, each with an interval and the null of
    independent latents; the same for controls; and whether each element is N(0, 1).

    Example:
      python -m gdm_repr.analysis.total_correlation --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/total_correlation
      python -m gdm_repr.analysis.total_correlation --checkpoint runs/digits --latents runs/digits/latents --elements 0,1,2:0 --baseline runs/digits-k1/latents --out runs/digits/against-k1
    """  # noqa: E501

    dials: ClassVar[Dials] = {"images": (500, 5000), "columns": (64, 256), "noise": (60, 800)}

    images: int = Field(
        5000, ge=LEAST, le=MANY, description="Latents measured at most, chosen at random."
    )
    columns: Held = Field(
        256, description="Columns (elements times channels) of a band at most; its lowest."
    )
    elements: Words = Field(
        (), description="Elements to measure together, as 0,1,2:0: an index, or index:channel."
    )
    first: int | None = Field(
        None,
        ge=0,
        le=MANY,
        description="First columns for knn; as many as samples allow, 8 at most.",
    )
    estimators: Words = Field(
        ("gaussian", "copula", "knn"),
        min_length=1,
        description="gaussian, copula, knn, classifier (slow); the first is told and drawn first.",
    )
    controls: Words = Field(
        tuple(CONTROLS), description="noise, encoded-noise, raw and pca, joined by commas; or none."
    )
    noise: Held = Field(800, description="Noise to decode and encode again, at most.")
    baseline: UserPath | None = Field(
        None, description="Latents of the same images by another model, such as one with k = 1."
    )
    permutations: int = Field(99, ge=19, le=MANY, description="Draws of the null.")
    resamples: int = Field(50, ge=10, le=MANY, description="Half-samples that an interval is from.")

    def check(self) -> None:
        """Refuse unknown names."""
        from gdm_repr.analysis.total_correlation.estimators import ESTIMATORS

        super().check()
        check_names("estimators", self.estimators, ESTIMATORS)
        check_names("controls", self.controls, (*CONTROLS, "none"))

    def named(self, turned: dict[str, Any], subject: Subject) -> dict[str, Any]:
        """Take no more columns than the first estimator measures on so many images."""
        if "columns" not in turned:
            return turned
        from gdm_repr.analysis.total_correlation.estimators import ESTIMATORS

        grouping, channels = subject.model.grouping, subject.model.shape[0]
        sizes = [size * (1 if grouping.per_channel else channels) for size in grouping.sizes()]
        needed = ESTIMATORS[self.estimators[0]].needed
        images = min(turned.get("images", self.images), len(subject.store))
        columns = turned["columns"]
        while columns > 1 and needed(sum(min(size, columns) for size in sizes)) > images:
            columns -= 1
        return turned | {"columns": columns}

    def needs(self) -> Needs:
        """The test of normality takes some."""
        return Needs(LEAST, f"a test of normality takes {LEAST}")
