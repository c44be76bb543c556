"""Edit images through their latents: mix, vary, set, interpolate (Sec. 4.5)."""

from gdm_repr.edit.command import main

__all__ = ["main"]
