"""Options of the analysis ``element_factors``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from gdm_repr.analysis.options import AnalysisConfig, Dials, Needs, check_names
from gdm_repr.config import MANY, Held, Words

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

WAYS = ("probe", "traversal")
ANCHORS, FEWEST = 6, 16  # images that are traversed, and others that a reader is fitted to
ELEMENTS, RANDOM = "elements", "random directions"


class ElementFactorsConfig(AnalysisConfig):
    """Measure which single elements of a band hold which factor, and whether each holds just one.

    A factor is a label of the store. By probe: how much of it an element's number tells. By
    traversal: how much of it changes when the element is moved, as a reader sees it that was fitted
    to labelled images. Beside random directions of the band and the images' own coefficients.
    Traversal decodes --anchors times --places images for each element and random direction.

    Example:
      python -m gdm_repr.analysis.element_factors --checkpoint runs/scenes --latents runs/scenes/latents --out runs/scenes/element_factors
      python -m gdm_repr.analysis.element_factors --checkpoint runs/scenes --latents runs/scenes/latents --band 30_99 --columns 60 --ways probe --controls none --out runs/scenes/middle_elements
    """  # noqa: E501

    of_labels = True
    dials: ClassVar[Dials] = {
        "anchors": (ANCHORS, 64),
        "columns": (8, 128),
        "directions": (8, 30),
        "images": (500, 5000),
        "fit": (200, 2000),
    }

    factors: Words = Field((), description="Labels to look at, joined by commas; all by default.")
    circular: Words = Field(
        (), description="Labels that come round, as angle=360; those of scenes are known."
    )
    band: str | None = Field(
        None,
        description="By name, number or indices 0-29; + joins several. The band of --elements, or "
        "the first one generated, by default.",
    )
    elements: Words = Field(
        (),
        description="One channel's number, 7:1, or an index in each channel, 7, or 0-5; all of the "
        "band by default.",
    )
    columns: Held = Field(128, description="Elements (numbers) at most; the lowest of the band.")
    ways: Words = Field(WAYS, min_length=1, description="probe, traversal, joined by commas.")
    controls: Words = Field(("raw",), description="raw: coefficients of the images; or none.")
    images: int = Field(5000, ge=32, le=MANY, description="Images at most, chosen at random.")
    anchors: int = Field(
        32, ge=ANCHORS, le=MANY, description="Of these, images that are traversed."
    )
    fit: int = Field(
        2000, ge=16, le=MANY, description="Of the others, images the reader is fitted to."
    )
    places: int = Field(3, ge=2, le=9, description="Values that an element is set to.")
    reader: str = Field(
        "patches",
        description="What factors are read from: patches, or an extractor such as pixels, dct, "
        "efficientnet-lite0, FAMILY:MODEL:LAYER.",
    )
    readable: float = Field(
        0.5, gt=0, lt=1, description="R^2 below which a factor counts as not readable."
    )
    directions: int = Field(30, ge=2, le=MANY, description="Random directions to compare with.")
    least: float = Field(
        0.01, ge=0, lt=1, description="Share of a factor below which an element does not move it."
    )
    permutations: int = Field(
        199, ge=9, le=MANY, description="Draws of the probe's null, each of all elements."
    )
    resamples: int = Field(
        400, ge=40, le=MANY, description="Draws of images that an interval is from."
    )

    def check(self) -> None:
        """Refuse unknown names."""
        super().check()
        check_names("ways", self.ways, WAYS)
        check_names("controls", self.controls, ("raw", "none"))

    def named(self, turned: dict[str, Any], subject: Subject) -> dict[str, Any]:
        """Leave the reader the images that it needs."""
        left = min(turned.get("images", self.images), len(subject.store)) - FEWEST
        return turned | {
            name: max(ANCHORS, min(turned[name], left)) for name in ("anchors",) if name in turned
        }

    def needs(self) -> Needs:
        """Factors need ten images; traversal moves some, and fits the reader to others."""
        if WAYS[1] in self.ways:
            return Needs(
                ANCHORS + FEWEST, f"{ANCHORS} to traverse, and {FEWEST} others to fit the reader to"
            )
        return Needs(10, "a factor needs 5 images of 2 classes")
