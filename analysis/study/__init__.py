"""Train and score choices, and say which is better."""

from gdm_repr.analysis.study.command import main

__all__ = ["main"]
