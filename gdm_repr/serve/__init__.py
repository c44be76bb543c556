"""The service: models that were named at its start, over HTTP."""

from gdm_repr.serve.command import main

__all__ = ["main"]
