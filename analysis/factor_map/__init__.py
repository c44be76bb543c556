"""Which band holds which known factor."""

from collections.abc import Sequence

from gdm_repr.analysis.factor_map.options import FactorMapConfig
from gdm_repr.analysis.runner import Analysis, run_analysis

ANALYSIS = Analysis("factor_map", FactorMapConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse factor_map``."""
    return run_analysis(ANALYSIS, argv)
