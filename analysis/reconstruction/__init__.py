"""How much of an image its first latents keep (Sec. 4.2, Fig. 4b)."""

from collections.abc import Sequence

from gdm_repr.analysis.reconstruction.options import ReconstructionConfig
from gdm_repr.analysis.runner import Analysis, run_analysis

ANALYSIS = Analysis("reconstruction", ReconstructionConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse reconstruction``."""
    return run_analysis(ANALYSIS, argv)
