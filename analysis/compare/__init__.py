"""Which choice is better, from stored runs."""

from gdm_repr.analysis.compare.command import main

__all__ = ["main"]
