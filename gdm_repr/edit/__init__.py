"""Edit images through their latents: mix, vary, set, interpolate, directions (Sec. 4.5)."""

from gdm_repr.edit.command import main

__all__ = ["main"]
