"""How far samples are from real images."""

from gdm_repr.analysis.sample_quality.measure import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
