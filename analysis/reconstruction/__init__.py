"""How much of an image its first latents keep (Sec. 4.2, Fig. 4b)."""

from gdm_repr.analysis.reconstruction.measure import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
