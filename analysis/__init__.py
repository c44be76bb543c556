"""Analyses of a trained model and its latents; imports as ``gdm_repr.analysis``.

>>> from gdm_repr.analysis import measure
>>> callable(measure)  # found = measure("band_variance", model, "latents", features="pixels")
True
"""

from typing import TYPE_CHECKING

from gdm_repr.faces import hand_on

if TYPE_CHECKING:
    from gdm_repr.analysis.runner import measure

__all__ = ["measure"]

__getattr__, __dir__ = hand_on(__name__, {"measure": ".runner"})
