"""Names of tables of columns: in options, on pages and in metric keys."""

LATENTS = "latents"
RAW = "raw coefficients"
PCA = "principal components"
FRESH_NOISE = "fresh noise"
ENCODED_NOISE = "noise, decoded and encoded"
OTHER = "other model"  # one baseline that was given no name
