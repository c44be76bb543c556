"""Whether latents are independent of each other (Sec. 4.4)."""

from gdm_repr.analysis.total_correlation.report import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
