"""What single elements do, ranked and shown (Sec. 4.4, Fig. 6)."""

from collections.abc import Sequence

from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.analysis.traversal.options import TraversalConfig

ANALYSIS = Analysis("traversal", TraversalConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse traversal``."""
    return run_analysis(ANALYSIS, argv)
