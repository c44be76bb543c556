"""Feature extractors phi(x), and distances between images in their features."""

from typing import TYPE_CHECKING

from gdm_repr.faces import hand_on

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import build_extractor

__all__ = [
    "build_extractor",
]

__getattr__, __dir__ = hand_on(
    __name__,
    {
        "build_extractor": ".extractors",
    },
)
