"""The service: models and stores that were named at its start, over HTTP."""

from typing import TYPE_CHECKING

from gdm_repr.faces import hand_on
from gdm_repr.serve.command import main

if TYPE_CHECKING:
    from gdm_repr.serve.notebook import Explorer, explore

__all__ = ["Explorer", "explore", "main"]

__getattr__, __dir__ = hand_on(__name__, {"Explorer": ".notebook", "explore": ".notebook"})
