"""Keys of metrics, as MLflow shows them."""

from __future__ import annotations

from gdm_repr.boundary.names import metric_key

LOSS = "loss"
IMAGES_PER_SECOND = "images_per_second"
ROUND_TRIP_RMSE = "round_trip_rmse"
LATENT_RMSE = "latent_rmse"
BAND_MEAN = "band_mean"
BAND_STD = "band_std"
BAND_KURTOSIS = "band_kurtosis"
BAND_KS = "band_ks"
EARLY_CHANGE = "early_change"
DISENTANGLEMENT = "disentanglement"
BAND_VARIANCE = "band_variance"
BAND_VARIANCE_CURVE = "band_variance_curve"
BAND_VARIANCE_CONTROL = "band_variance_control"
TOTAL_CORRELATION = "total_correlation"
TOTAL_CORRELATION_CONTROL = "total_correlation_control"
NOT_NORMAL = "not_normal"
LEAKAGE = "leakage"
LEAKAGE_FORBIDDEN = "leakage_forbidden"  # the largest where zero is predicted
NOISE_DEPENDENCE = "noise_dependence"
TRAVERSAL_EFFECT = "traversal/effect"
TRAVERSAL_MONOTONICITY = "traversal/monotonicity"
TRAVERSAL_PASSING = "traversal/passing"
TRAVERSAL_PASSING_RANDOM = "traversal/passing_random"
RECONSTRUCTION = "reconstruction"
RECONSTRUCTION_ENOUGH = "reconstruction_enough"
FACTOR_MAP = "factor_map"
FACTOR_MAP_CONTROL = "factor_map_control"
SAMPLE_QUALITY = "sample_quality"
SAMPLE_QUALITY_FLOOR = "sample_quality_floor"  # real images against real ones
DENOISING_LOSS = "denoising_loss"
SECONDS_PER_SAMPLE = "seconds_per_sample"
EVALUATIONS_PER_SAMPLE = "evaluations_per_sample"
ORDER_SCORE = "order_score"  # Frechet distance by order of generation
ORDER_CORRELATION = "order_correlation"
ELEMENT_FACTORS = "element_factors"
ELEMENT_FACTORS_CONTROL = "element_factors_control"
# What MLflow's stores accept; a longer param is cut here and whole in config.json.
MAX_PARAM, MAX_TAG = 6000, 5000


def band_metric(kind: str, band: str) -> str:
    """Key of one band's metric.

    >>> band_metric(BAND_STD, "[0, 29]")
    'band_std/0_29'
    """
    return metric_key(f"{kind}/{band}")
