"""Analyses of a trained model and its latents; imports as ``gdm_repr.analysis``."""
