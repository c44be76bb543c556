"""Options of the analysis ``traversal``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from gdm_repr.analysis.options import Dials, FeatureConfig, Needs
from gdm_repr.config import MANY, Numbers, Words

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

LEAST = 6  # anchors: of fewer, no p of Wilcoxon's test is below .02


class TraversalConfig(FeatureConfig):
    """Traverse single elements of a band and rank them by what they do to images (Fig. 6).

    An element is set to values over a range, on encoded images or samples, and the path that the
    image takes is measured. It is compared with random directions of the same band, and with the
    same moves of the images' own coefficients. A run that was stopped goes on when it is started
    again.

    Example:
      python -m gdm_repr.analysis.traversal --checkpoint runs/digits --latents runs/digits/latents --features pixels --out runs/digits/traversal
      python -m gdm_repr.analysis.traversal --checkpoint runs/faces --latents runs/faces/latents --elements 0-9 --values -3:3:9 --out runs/faces/traversal
    """  # noqa: E501

    dials: ClassVar[Dials] = {"anchors": (LEAST, 64), "elements": (4, 1024), "directions": (4, 12)}

    band: str | None = Field(
        None,
        description="By name, number or indices 0-29; + joins several. The band of --elements, or "
        "the first one generated, by default.",
    )
    elements: Words = Field(
        (),
        description="Index in all channels, 7, or in one, 7:1, or 0-5; all of the band by default.",
    )
    anchors: int = Field(
        16, ge=LEAST, le=MANY, description="Images that the effects are measured on."
    )
    source: Literal["both", "images", "samples"] = Field(
        "both",
        description="Anchors: encoded images, or latents drawn from N(0, I). Both: sheets of both, "
        "effects on images.",
    )
    values: Numbers = Field(
        (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
        min_length=3,
        description="In units of the latents' std, rising: -3:3:7 (7 steps), or -2,0,2.",
    )
    directions: int = Field(12, ge=2, le=MANY, description="Random directions to compare with.")

    def named(self, turned: dict[str, Any], subject: Subject) -> dict[str, Any]:
        """Name elements: the first of the band, or all of it."""
        if "elements" not in turned:
            return turned
        from gdm_repr.analysis.traversal.directions import choose_pool

        grouping, channels = subject.model.grouping, subject.model.shape[0]
        names = choose_pool(grouping, channels, band=self.band).elements
        some = names[: turned["elements"]]
        return turned | {"elements": () if len(some) == len(names) else some}

    def needs(self) -> Needs:
        """Six anchors are needed for a test, two images for the unit."""
        if self.source == "samples":
            return Needs(2, "the unit is the distance of two images")
        return Needs(LEAST, f"a test of effects over images takes {LEAST}")

    def most(self) -> Mapping[str, tuple[int, int]]:
        """Anchors are images of the store, unless samples."""
        return {} if self.source == "samples" else {"--anchors": (self.anchors, 0)}

    @field_validator("values")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise(values)):
            raise ValueError("values must rise, such as -3:3:7")
        return values
