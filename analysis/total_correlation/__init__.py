"""Whether latents are independent of each other (Sec. 4.4)."""

from collections.abc import Sequence

from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.analysis.total_correlation.options import TotalCorrelationConfig

ANALYSIS = Analysis("total_correlation", TotalCorrelationConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse total_correlation``."""
    return run_analysis(ANALYSIS, argv)
