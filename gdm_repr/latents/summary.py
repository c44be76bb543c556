"""What encoding a data set showed, band by band: moments, distance to N(0, 1), and errors.

Computed in one pass over a latent store; four numbers an image and band are kept, never all of z.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gdm_repr.boundary.isolation import isolated
from gdm_repr.latents.store import LatentStore
from gdm_repr.tracking.keys import (
    BAND_KS,
    BAND_KURTOSIS,
    BAND_MEAN,
    BAND_STD,
    LATENT_RMSE,
    ROUND_TRIP_RMSE,
    band_metric,
)

BINS = 4096  # of N(0, 1)'s probability: the KS distance is exact to 1 / BINS
KS_95 = 1.358  # asymptotic 95 % point of sqrt(n) D_n (Kolmogorov 1933)


@dataclass(frozen=True)
class BandSummary:
    """Latents of one band over n images. ``_se`` is a standard error over images.

    Attributes:
        band: name of the band.
        n: number of images.
        elements: values an image.
        mean: of all values; 0 is right.
        std: of all values; 1 is right.
        kurtosis: fourth moment over squared variance; 3 is right.
        ks: Kolmogorov-Smirnov distance of all values, pooled, to N(0, 1).
        ks_null: what 95 % of samples of that many independent N(0, 1) values stay below.
        round_trip_rmse: RMS of decode(encode(x)) - x over the band's elements, nan if not measured.
        latent_rmse: estimated RMS error of z by the solver, nan if not measured.
    """

    band: str
    n: int
    elements: int
    mean: float
    mean_se: float
    std: float
    std_se: float
    kurtosis: float
    kurtosis_se: float
    ks: float
    ks_null: float
    round_trip_rmse: float
    latent_rmse: float


@isolated
def summarise(store: LatentStore, batch_size: int = 4096) -> list[BandSummary]:
    """Summarise every band of a store; see :class:`BandSummary`.

    Raises:
        ValueError: if the store holds no image.
    """
    n = len(store)
    if n == 0:
        raise ValueError(
            "latents: the store holds no image; see its quarantine.jsonl for the reasons"
        )
    return [
        _summarise_band(store, number, batch_size) for number in range(len(store.manifest.bands))
    ]


@dataclass(frozen=True, eq=False)
class ElementSummary:
    """Latents of one band over n images, element by element.

    Attributes:
        band: name of the band.
        n: number of images.
        elements: the elements' numbers in the basis, (S,); over C * d where channels are apart.
        std: of each, (C, S), or (1, S) where channels are apart.
    """

    band: str
    n: int
    elements: NDArray[np.int64]
    std: NDArray[np.float64]


@isolated
def summarise_elements(store: LatentStore, batch_size: int = 4096) -> list[ElementSummary]:
    """Return the std of every element of a store, band by band; of one image it is nan."""
    n, found = len(store), []
    for band in store.manifest.bands:
        parts = [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
        pilot = store.band(band.name, slice(0, 1)).astype(np.float64)
        total = square = np.zeros_like(pilot[0])
        for rows in parts:
            off = store.band(band.name, rows) - pilot
            total, square = total + off.sum(0), square + (off**2).sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            std = np.sqrt(np.maximum(square - total**2 / n, 0) / (n - 1))
        found.append(ElementSummary(band.name, n, store.elements(band.name), std))
    return found


def _summarise_band(store: LatentStore, number: int, batch_size: int) -> BandSummary:
    band, n = store.manifest.bands[number], len(store)
    moments, counts = np.empty((n, 4)), np.zeros(BINS, np.int64)
    pilot = 0.0
    for start in range(0, n, batch_size):
        rows = slice(start, min(start + batch_size, n))
        z = store.band(band.name, rows).reshape(rows.stop - start, -1).astype(np.float64)
        if start == 0:  # about a value near the mean, moments lose no digits to its size
            pilot = float(np.float32(z.mean()))
        moments[rows] = np.stack([((z - pilot) ** power).mean(1) for power in range(1, 5)], axis=1)
        counts += np.bincount(
            (ndtr(z.ravel()) * BINS).astype(np.int64).clip(0, BINS - 1), minlength=BINS
        )
        elements = z.shape[1]
    estimate, influence = _shape(moments)
    estimate[0] += pilot
    # delta method over images, whose values need not be independent of each other
    error = influence.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(3, np.nan)
    cumulative = np.cumsum(counts) / counts.sum()
    ks = float(np.abs(cumulative - np.arange(1, BINS + 1) / BINS).max())
    return BandSummary(
        band=band.name,
        n=n,
        elements=elements,
        mean=float(estimate[0]),
        mean_se=float(error[0]),
        std=float(estimate[1]),
        std_se=float(error[1]),
        kurtosis=float(estimate[2]),
        kurtosis_se=float(error[2]),
        ks=ks,
        ks_null=KS_95 / np.sqrt(n * elements),
        round_trip_rmse=_rms(store, "round_trip_error_by_group", number),
        latent_rmse=_rms(store, "latent_error_by_group", number),
    )


def _shape(moments: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, std and kurtosis from each image's first four moments, (n, 4), about any value.

    Returns:
        The three, (3,), of all values together; and what each image adds to them, (n, 3): their
        differentials with respect to the moments, in closed form. Of values that are all one the
        kurtosis is not defined, nan, and the last two differentials are 0.
    """
    m1, m2, m3, m4 = moments.mean(0)
    d1, d2, d3, d4 = (moments - [m1, m2, m3, m4]).T
    variance = max(m2 - m1**2, 0.0)
    if variance == 0:
        nothing = np.zeros_like(d1)
        return np.array([m1, 0, np.nan]), np.stack([d1, nothing, nothing], axis=1)
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    d_variance = d2 - 2 * m1 * d1
    d_fourth = d4 - 4 * (m1 * d3 + m3 * d1) + 6 * m1 * (m1 * d2 + 2 * m2 * d1) - 12 * m1**3 * d1
    std, kurtosis = np.sqrt(variance), fourth / variance**2
    d_kurtosis = (d_fourth - 2 * kurtosis * variance * d_variance) / variance**2
    shape = np.array([m1, std, kurtosis])
    return shape, np.stack([d1, d_variance / (2 * std), d_kurtosis], axis=1)


def _rms(store: LatentStore, name: str, band: int) -> float:
    if name not in store.manifest.errors:
        return float("nan")
    errors = store.errors(name).reshape(len(store), -1)[:, band]
    return float(np.sqrt((errors.astype(np.float64) ** 2).mean()))


def as_columns(summary: list[BandSummary]) -> dict[str, list[object]]:
    """Return the summary as named columns."""
    return {f.name: [getattr(row, f.name) for row in summary] for f in fields(BandSummary)}


def as_metrics(summary: list[BandSummary]) -> dict[str, float]:
    """Return the summary as tracked metrics, without what was not measured."""
    found = {
        band_metric(kind, row.band): value
        for row in summary
        for kind, value in (
            (BAND_MEAN, row.mean),
            (BAND_STD, row.std),
            (BAND_KURTOSIS, row.kurtosis),
            (BAND_KS, row.ks),
            (ROUND_TRIP_RMSE, row.round_trip_rmse),
            (LATENT_RMSE, row.latent_rmse),
        )
    }
    return {key: value for key, value in found.items() if not np.isnan(value)}


def as_text(summary: list[BandSummary]) -> str:
    """Return the summary as a table for a terminal."""
    head = f"{'band':>10} {'elements':>8} {'mean':>16} {'std':>15} {'kurtosis':>14}"
    head += f" {'KS (95 % null)':>16} {'round trip':>10} {'latent':>8}"
    lines = [f"n = {summary[0].n} images; +- is a standard error over images", head]
    for row in summary:
        lines.append(
            f"{row.band:>10} {row.elements:>8} {row.mean:+8.4f}+-{row.mean_se:.4f}"
            f" {row.std:7.4f}+-{row.std_se:.4f} {row.kurtosis:7.3f}+-{row.kurtosis_se:.3f}"
            f" {row.ks:7.4f} ({row.ks_null:.4f}) {_number(row.round_trip_rmse):>10}"
            f" {_number(row.latent_rmse):>8}"
        )
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1e}"
