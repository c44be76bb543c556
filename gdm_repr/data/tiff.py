"""TIFF files of many channels, as microscopes write them, which Pillow can't read or cuts short.

Taken are images of one plane with channels, in one of these forms:

- a channel axis C, as OME-TIFF and ImageJ write it, a page for each channel;
- several samples a pixel that are neither colour nor alpha.

All else is left to Pillow: gray, RGB, RGBA, palettes, and files of many pages without a channel
axis (stacks, time series, scans), of which the first page counts. Files are read by tifffile; what
it packs with LZW or JPEG needs its companion imagecodecs, too.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

MOST_CHANNELS = 64
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MINISBLACK, _ALPHA = 1, (1, 2)  # values of the tags PhotometricInterpretation, ExtraSamples


class UnusableTiff(ValueError):
    """The file holds many channels, but can't be used; the message is the short reason."""


def channels_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return (H, W) of a TIFF file of many channels, from its header; None if it is none."""
    with _opened(file) as series:
        return None if series is None else _size(series)


def read_channels(file: BinaryIO, max_pixels: int) -> NDArray[Any] | None:
    """Return the pixels (H, W, C), uint8 or uint16, of a TIFF file of many channels.

    Args:
        file: The file, open for reading in binary mode and seekable; its position is put back.
        max_pixels: Files of more pixels are not decoded.

    Returns:
        The pixels; None if it is no such file, but one for Pillow.

    Raises:
        UnusableTiff: Its values have no known range, it is too large, or a part lies elsewhere.
    """
    with _opened(file) as series:
        if series is None:
            return None
        height, width = _size(series)
        if height * width > max_pixels:
            raise UnusableTiff(f"more than max_pixels={max_pixels} pixels (a decompression bomb?)")
        channels = math.prod(series.shape) // (height * width)
        if channels > MOST_CHANNELS:
            raise UnusableTiff(f"{channels} channels; at most {MOST_CHANNELS} are read")
        if series.dtype.newbyteorder("=") not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise UnusableTiff(
                f"{series.dtype} values have no known range; save 8 or 16 bits, or floats in "
                "[-1, 1] as .npy"
            )
        if any(page is None for page in series.pages):
            raise UnusableTiff("its other channels lie in other files; save them in one")
        axes, sizes = _axes(series), dict(zip(series.axes, series.shape, strict=True))
        image = series.asarray().reshape([sizes[axis] for axis in axes])
        image = image.astype(series.dtype.newbyteorder("="), copy=False)
        return image.transpose([axes.replace("S", "C").index(axis) for axis in "YXC"])


@contextmanager
def _opened(file: BinaryIO) -> Iterator[TiffPageSeries | None]:
    """Open the first image of a TIFF file; None where it is not of many channels."""
    start = file.tell()
    magic = file.read(4)
    file.seek(start)
    if magic not in _MAGIC:
        yield None
        return
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True  # it writes what it minds to stderr
    try:
        from tifffile import TiffFile

        series = None
        try:
            # other files that this one names are not opened
            tiff = TiffFile(file, _multifile=False)
            series = _channel_series(tiff)
        except Exception:  # on broken bytes it raises anything; Pillow then gives the reason
            series = None
        yield series
    finally:
        logger.disabled = before
        file.seek(start)


def _channel_series(tiff: TiffFile) -> TiffPageSeries | None:
    """Return the first image of a file, if its channels are neither colour nor alpha."""
    series = tiff.series[0]
    axes = _axes(series)
    if sorted(axes) == ["C", "X", "Y"]:
        return series
    if sorted(axes) != ["S", "X", "Y"]:
        return None
    page, samples = tiff.pages[0], series.shape[series.axes.index("S")]
    alpha = any(extra in _ALPHA for extra in getattr(page, "extrasamples", ()))
    gray = getattr(page, "photometric", None) == _MINISBLACK
    return series if samples != 3 and gray and not alpha else None


def _axes(series: TiffPageSeries) -> str:
    """Return the axes of more than one element, such as CYX."""
    return "".join(
        axis for axis, n in zip(series.axes, series.shape, strict=True) if n > 1 or axis in "YX"
    )


def _size(series: TiffPageSeries) -> tuple[int, int]:
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return int(sizes["Y"]), int(sizes["X"])
