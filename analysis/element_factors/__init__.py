"""Which single elements hold which known factor."""

from collections.abc import Sequence

from gdm_repr.analysis.element_factors.options import ElementFactorsConfig
from gdm_repr.analysis.runner import Analysis, run_analysis

ANALYSIS = Analysis("element_factors", ElementFactorsConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse element_factors``."""
    return run_analysis(ANALYSIS, argv)
