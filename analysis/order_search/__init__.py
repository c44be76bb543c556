"""Which order of generation is good (Fig. 5)."""

from gdm_repr.analysis.order_search.measure import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
