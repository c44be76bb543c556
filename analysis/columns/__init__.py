"""Latents, coefficients and codes as tables of columns."""
