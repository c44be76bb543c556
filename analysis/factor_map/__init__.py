"""Which band holds which known factor."""

from gdm_repr.analysis.factor_map.measure import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
