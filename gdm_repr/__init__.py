"""Groupwise Diffusion Models: hierarchical, invertible representations of images.

Importing this package imports no heavy dependency; `GDM` is loaded on first use.
"""

from typing import TYPE_CHECKING

from gdm_repr.faces import hand_on
from gdm_repr.version import __version__

if TYPE_CHECKING:
    from gdm_repr.api import GDM
    from gdm_repr.serve.notebook import explore

__all__ = ["GDM", "__version__", "explore"]

__getattr__, __dir__ = hand_on(__name__, {"GDM": ".api", "explore": ".serve.notebook"})
