"""What single elements do, ranked and shown (Sec. 4.4, Fig. 6)."""

from gdm_repr.analysis.traversal.measure import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
