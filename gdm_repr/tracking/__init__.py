"""Runs: recorded in their own folders, sent to MLflow, read back from it."""

from gdm_repr.tracking.run import Run, main, start

__all__ = ["Run", "main", "start"]
