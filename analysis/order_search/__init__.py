"""Which order of generation is good (Fig. 5)."""

from collections.abc import Sequence

from gdm_repr.analysis.order_search.options import OrderSearchConfig
from gdm_repr.analysis.runner import Analysis, run_analysis

ANALYSIS = Analysis("order_search", OrderSearchConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse order_search``."""
    return run_analysis(ANALYSIS, argv)
