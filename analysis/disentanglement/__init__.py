"""How well latents separate known factors."""

from gdm_repr.analysis.disentanglement.measure import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
