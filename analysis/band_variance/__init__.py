"""How much an image still varies when some of its latents are fixed (Sec. 4.2, Fig. 4a)."""

from gdm_repr.analysis.band_variance.report import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
