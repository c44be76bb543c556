"""How far samples are from real images."""

from collections.abc import Sequence

from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.analysis.sample_quality.options import SampleQualityConfig

ANALYSIS = Analysis("sample_quality", SampleQualityConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse sample_quality``."""
    return run_analysis(ANALYSIS, argv)
