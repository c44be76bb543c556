"""How much an image still varies when some of its latents are fixed (Sec. 4.2, Fig. 4a)."""

from collections.abc import Sequence

from gdm_repr.analysis.band_variance.options import BandVarianceConfig
from gdm_repr.analysis.runner import Analysis, run_analysis

ANALYSIS = Analysis("band_variance", BandVarianceConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse band_variance``."""
    return run_analysis(ANALYSIS, argv)
