"""Which latent groups move which data groups (Prop. 3.3)."""

from collections.abc import Sequence

from gdm_repr.analysis.leakage.options import LeakageConfig
from gdm_repr.analysis.runner import Analysis, run_analysis

ANALYSIS = Analysis("leakage", LeakageConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse leakage``."""
    return run_analysis(ANALYSIS, argv)
