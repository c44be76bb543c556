"""Options of the analysis ``order_search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from gdm_repr.analysis.options import Dials, FeatureConfig, Needs
from gdm_repr.config import MANY, Held

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

LEAST = 8  # samples of an order: its halves are scored, too


class OrderSearchConfig(FeatureConfig):
    """Score random orders of generation, search for a good one, and see what predicts it.

    The model must be trained on random orders (orders: random), and the store holds real images.
    Random orders, the same for every seed, are drawn from common latents and scored by the Frechet
    distance of the first feature. Each search has candidates and latents of its own, and what it
    finds is scored as the random orders are. A run that was stopped goes on when it is started
    again.

    Example:
      python -m gdm_repr.analysis.order_search --checkpoint runs/orders --latents runs/orders/latents --features pixels --out runs/orders/search
    """  # noqa: E501

    dials: ClassVar[Dials] = {"n": (32, 256), "orders": (20, 100), "first": (8, 40)}

    orders: int = Field(100, ge=10, le=MANY, description="Random orders to score.")
    n: int = Field(
        256, ge=LEAST, le=MANY, description="Samples of each, and real images to compare with."
    )
    searches: Held = Field(5, description="Searches, each with a seed of its own.")
    candidates: int = Field(
        64, ge=2, le=MANY, description="Random orders that a search learns from."
    )
    first: int = Field(40, ge=2, le=MANY, description="Samples of each of these.")
    checked: Held = Field(10, description="Orders, thought best then, that it scores.")
    groups: int = Field(
        20, ge=2, le=MANY, description="Groups of images that the intervals leave out."
    )
    strips: Held = Field(4, description="Images generated in the best and the worst order.")

    def named(self, turned: dict[str, Any], subject: Subject) -> dict[str, Any]:
        """Draw no more samples than half of the images."""
        half = len(subject.store) // 2
        return turned | {name: min(turned[name], half) for name in ("n",) if name in turned}

    def needs(self) -> Needs:
        """Two sets of images."""
        return Needs(2 * LEAST, f"two sets of {LEAST}")
