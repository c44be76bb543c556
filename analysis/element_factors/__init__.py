"""Which single elements hold which known factor."""

from gdm_repr.analysis.element_factors.measure import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
