"""One image file to integer pixels: decode, orient, composite, then cut or resample to size.

Conventions of this module:

- pixels are arrays (H, W, C) of dtype uint8 (levels 0..255), uint16 (0..65535) or float32 (already
  in [-1, 1], from arrays only); resampling keeps the dtype, so the width of a level stays known;
- C = 1 is gray, 3 is RGB; other numbers are channels without colour, as of microscopes, from TIFF
  files (`gdm_repr.data.tiff`) and arrays, and are never made gray or RGB;
- an animation or a file of many pages is its first frame;
- EXIF orientation is applied, colour profiles are not;
- transparency is composited on `Preprocess.background`; gray stays gray if that colour is gray;
- gray from RGB is ITU-R 601 luma, RGB from gray repeats the one channel;
- 16-bit gray keeps its 16 bits; 16-bit colour, of which Pillow would keep 8 bits, is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gdm_repr.data.tiff import UnusableTiff, channels_size, read_channels

Pixels = NDArray[Any]
"""Pixels (H, W, C): uint8, uint16, or float32 in [-1, 1]."""

# Formats whose decoders do no more than read pixels; of Pillow's others, EPS runs a program.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "JPEG2000", "BMP", "DIB", "GIF", "TIFF", "PPM")
_RARE_FORMATS = ("TGA", "ICO", "PCX", "SGI", "PSD", "DDS", "QOI")
# Raw modes of 16 bits a channel, such as "RGB;16B"; "BGR;16" is 16 bits a pixel and loses nothing.
_SIXTEEN_BITS = re.compile(r";16[BLN]")
# ITU-R 601 weights times 65536: the integers that Pillow uses, so that both agree to the last bit.
_LUMA = (19595, 38470, 7471)
COLOURS = (1, 3)
"""Numbers of channels that are gray or RGB."""

_VERSION = 1  # raise when the same settings begin to give other pixels
_LIMIT_LOCK = threading.Lock()

Positive = Annotated[int, Field(ge=1, le=10**12)]
Side = Annotated[int, Field(ge=1, le=16_384)]  # a square of it is more than max_pixels
Level = Annotated[int, Field(ge=0, le=255)]


def unwrap(value: object) -> object:
    """Take a flag's list of one for its element: ``--steps 48``, ``--time-law uniform``."""
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list):
        return value[0]
    return value


Size = Annotated[Side | tuple[Side, Side] | None, BeforeValidator(unwrap)]


class BadImage(ValueError):
    """An item that can't be used; the message is the short reason written to the quarantine."""


class Preprocess(BaseModel):
    """How an image becomes x; kept in the checkpoint, so that encoding repeats what training saw.

    Attributes:
        size: Height and width of x in pixels; one number for a square. None: the images' own size,
            on which all must agree.
        channels: "rgb" (C = 3) or "gray" (C = 1). None: as the first readable image, of any number
            of channels; gray images among colour ones are then widened to RGB, but colour is never
            reduced to gray unasked.
        fit: "center" scales an image until it just covers `size` (antialiased bicubic, enlarging if
            need be) and cuts out the center. "resize" ignores the aspect ratio. "tile" cuts every
            image, without resampling, into tiles that don't overlap, each an item of its own; what
            is left over at the right and the bottom is dropped.
        background: RGB colour, 0..255, behind transparent pixels.
        dequantize: Spread integer levels uniformly over their width, seeded by item.
        noise: Std of Gaussian noise added to x, seeded by item. Rendered images are so flat that
            no network resolves them; their latents are then far from N(0, I). Noise gives the
            data a scale below which nothing is modelled.
        max_pixels: Files of more pixels are not decoded (decompression bombs). The default is the
            size at which Pillow itself stops.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: Size = None
    channels: Literal["rgb", "gray"] | None = None
    fit: Literal["center", "resize", "tile"] = "center"
    background: tuple[Level, Level, Level] = (255, 255, 255)
    dequantize: bool = False
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_pixels: Positive = 178_956_970

    @model_validator(mode="after")
    def _tile_has_size(self) -> Preprocess:
        if self.fit == "tile" and self.size is None:
            raise ValueError("fit='tile' cuts tiles of `size` pixels; size is None, give one")
        return self

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W) of x, or None for the images' own."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of the settings as canonical JSON; 32 and (32, 32) are equal."""
        settings = {**self.model_dump(mode="json"), "size": self.shape, "version": _VERSION}
        if not self.noise:  # as before there was such an option
            del settings["noise"]
        text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def read_image(file: BinaryIO, preprocess: Preprocess) -> Pixels:
    """Decode one image file to pixels (H, W, C), uint8 or uint16.

    Args:
        file: The file, open for reading in binary mode and seekable.
        preprocess: Gives `background` and `max_pixels`.

    Raises:
        BadImage: The file is no image, has too many pixels, or its values would be changed. A file
            that breaks while it is decoded raises whatever Pillow raises.
    """
    try:
        channels = read_channels(file, preprocess.max_pixels)
    except UnusableTiff as error:
        raise BadImage(str(error)) from None
    if channels is not None:
        return channels
    with _opened(file, preprocess.max_pixels) as image:
        _refuse_lossy(image)
        return _pixels(ImageOps.exif_transpose(image), preprocess.background)


def pil_pixels(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> Pixels:
    """Turn an image that Pillow holds into pixels (H, W, C), uint8 or uint16, as `read_image` does.

    Raises:
        BadImage: Its values have no known range.
    """
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "float pixels"
        raise BadImage(f"{kind} have no known range; give an array of floats in [-1, 1]")
    return _pixels(ImageOps.exif_transpose(image), background)


def image_size(file: BinaryIO, preprocess: Preprocess) -> tuple[int, int]:
    """Return (H, W) of an image file, EXIF applied, from its header; raises as `read_image`."""
    if (size := channels_size(file)) is not None:
        return size
    with _opened(file, preprocess.max_pixels) as image:
        # The base class's method: a PNG's own decodes the whole image to look behind it.
        sideways = Image.Image.getexif(image).get(0x0112, 1) in (5, 6, 7, 8)
        if sideways and image.format != "TIFF":  # of which Pillow gives the turned size already
            return image.width, image.height
        return image.height, image.width


def fit_pixels(
    pixels: Pixels, preprocess: Preprocess, levels: int, cell: tuple[int, int] = (0, 0)
) -> Pixels:
    """Bring pixels (H, W, C) to the size asked for, by the rule `preprocess.fit`.

    Args:
        pixels: Decoded image.
        preprocess: Gives `size` and `fit`.
        levels: Highest level of integer pixels, 0 for floats; resampling can't leave the range.
        cell: Row and column of the tile; used by "tile" only.

    Returns:
        Pixels (h, w, C) of the same dtype.

    Raises:
        BadImage: The image does not hold the tile.
    """
    shape = preprocess.shape
    height, width = pixels.shape[:2]
    if shape is None:
        return pixels
    h, w = shape
    if preprocess.fit == "tile":
        row, column = cell
        tile = pixels[max(row, 0) * h : (row + 1) * h, max(column, 0) * w : (column + 1) * w]
        if tile.shape[:2] != shape:
            raise BadImage(f"{height}x{width} px does not hold tile r{row}c{column} of {h}x{w} px")
        return tile
    if (height, width) == shape:
        return pixels
    if preprocess.fit == "resize":
        return _resample(pixels, shape, (0, 0, width, height), levels)
    scale = max(h / height, w / width)
    top = max(0.0, (height - h / scale) / 2)  # not negative by rounding
    left = max(0.0, (width - w / scale) / 2)
    if scale == 1:  # a plain crop: half-pixel offsets would blur what needs no resampling
        return pixels[int(top) : int(top) + h, int(left) : int(left) + w]
    # Resampling only the box: scaling all of a 1 x 100000 image up would fill the memory.
    return _resample(pixels, shape, (left, top, width - left, height - top), levels)


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert pixels (H, W, C) to 1 channel (ITU-R 601 luma) or 3 (repeated), same dtype.

    Raises:
        BadImage: They have or should have another number of channels, which are no colours.
    """
    found = pixels.shape[2]
    if found == channels:
        return pixels
    if {found, channels} != {1, 3}:
        raise BadImage(f"{found} channels where images have {channels}, and neither are colours")
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if pixels.dtype.kind == "f":
        floats: Pixels = (pixels @ (np.array(_LUMA) / 65536)).astype(pixels.dtype)
        return floats[:, :, None]
    luma = (pixels.astype(np.int64) @ np.array(_LUMA) + 0x8000) >> 16
    integers: Pixels = luma.astype(pixels.dtype)
    return integers[:, :, None]


@contextmanager
def _opened(file: BinaryIO, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Open a file with `max_pixels` in force, above Pillow's own limit too."""
    bomb = BadImage(f"more than max_pixels={max_pixels} pixels (a decompression bomb?)")
    Image.init()  # does nothing the second time
    formats = [
        name for name in _FORMATS + _RARE_FORMATS if name in Image.OPEN
    ]  # builds of Pillow differ
    try:
        with _pillow_limit(max_pixels), Image.open(file, formats=formats) as image:
            if image.width * image.height > max_pixels:
                raise bomb
            yield image
    except Image.DecompressionBombError:
        raise bomb from None
    except UnidentifiedImageError:  # its own text names the stream's address
        raise BadImage("not an image that Pillow can read") from None


@contextmanager
def _pillow_limit(max_pixels: int) -> Iterator[None]:
    """Raise Pillow's process-wide limit where the caller's is higher, and put it back."""
    before = Image.MAX_IMAGE_PIXELS
    if before is None or max_pixels <= 2 * before:  # Pillow refuses above twice its limit
        yield
        return
    with _LIMIT_LOCK:
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _refuse_lossy(image: ImageFile.ImageFile) -> None:
    """Refuse files that hold more bits a value than Pillow would hand out."""
    gray16 = image.mode.startswith("I;16")
    raw = [str(tile.args) for tile in image.tile]
    deep_raw = any(_SIXTEEN_BITS.search(args) for args in raw)
    deep_ppm = image.format == "PPM" and any(
        isinstance(tile.args, tuple) and isinstance(tile.args[-1], int) and tile.args[-1] > 255
        for tile in image.tile
    )
    if image.mode == "I":
        if not (deep_raw or deep_ppm):
            raise BadImage("32-bit integers have no known range; save as 8 or 16 bits")
    elif image.mode == "F":
        raise BadImage("float pixels in an image file have no known range; save as .npy")
    elif (deep_raw or deep_ppm) and not gray16:
        raise BadImage("16-bit colour or alpha would lose 8 bits; save as 8 bits or as .npy")


def _pixels(image: Image.Image, background: tuple[int, int, int]) -> Pixels:
    """Pixels (H, W, C) of an image of any mode that was not refused."""
    if image.mode.startswith("I"):
        deep: Pixels = np.asarray(image).astype(np.uint16)
        return deep[:, :, None]
    gray = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        solid = Image.new("RGBA", image.size, (*background, 255))
        solid.alpha_composite(image.convert("RGBA"))
        image = solid
        gray = gray and len(set(background)) == 1
    pixels: Pixels = np.asarray(image.convert("L" if gray else "RGB"))
    return pixels[:, :, None] if gray else pixels


def _resample(
    pixels: Pixels, shape: tuple[int, int], box: tuple[float, float, float, float], levels: int
) -> Pixels:
    """Resample the box (left, top, right, bottom) of pixels to (h, w): bicubic, antialiased."""
    size, bicubic = (shape[1], shape[0]), Image.Resampling.BICUBIC
    low, high = (0, levels) if levels else (-1, 1)
    if pixels.dtype == np.uint8 and pixels.shape[2] in COLOURS:
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        out: Pixels = np.asarray(image.resize(size, bicubic, box)).reshape(*shape, -1)
        return np.minimum(out, np.uint8(high))
    planes = [
        np.asarray(Image.fromarray(plane).resize(size, bicubic, box))
        for plane in np.moveaxis(pixels, 2, 0).astype(np.float32)
    ]
    out = np.stack(planes, axis=2)
    if levels:
        out = np.rint(out)
    return np.clip(out, low, high).astype(pixels.dtype)
