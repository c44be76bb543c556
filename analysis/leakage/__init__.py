"""Which latent groups move which data groups (Prop. 3.3)."""

from gdm_repr.analysis.leakage.report import ANALYSIS, main

__all__ = ["ANALYSIS", "main"]
