"""How well latents separate known factors."""

from collections.abc import Sequence

from gdm_repr.analysis.disentanglement.options import DisentanglementConfig
from gdm_repr.analysis.runner import Analysis, run_analysis

ANALYSIS = Analysis("disentanglement", DisentanglementConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse disentanglement``."""
    return run_analysis(ANALYSIS, argv)
