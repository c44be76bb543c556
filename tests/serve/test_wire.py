"""What comes over the wire is checked before it takes memory."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from gdm_repr.data.images import Preprocess
from gdm_repr.serve.answers import one_line
from gdm_repr.serve.wire import images_of_files

GRAY = Preprocess(size=8, channels="gray", max_pixels=10_000)
LEVELS = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(LEVELS).save(file, kind, **options)
    return file.getvalue()


def png(side: int) -> bytes:
    """A PNG file that says how large it is, and holds nothing."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT")
    packed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "PPM", "WEBP", "JPEG2000", "AVIF"])
def test_formats_that_say_how_large_they_are_are_taken(kind: str) -> None:
    data = saved(kind, **({"lossless": True} if kind == "WEBP" else {}))
    x = images_of_files([data], GRAY)
    assert x.shape == (1, 1, 8, 8)
    if kind != "AVIF":  # which loses a little
        np.testing.assert_allclose((x[0, 0] + 1) * 127.5, LEVELS, atol=1e-3)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (png(50_000), "max_pixels=10000"),
        (png(5_000), "max_pixels=10000"),
        (struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, 45, 22) + png(12_000), "taken"),
        (saved("TIFF"), "are taken here"),
        (saved("TGA"), "are taken here"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "are taken here"),
        (b"", "are taken here"),
        (saved("PNG")[:60], "images[1]"),
    ],
)
def test_others_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        images_of_files([saved("PNG"), data], GRAY)
    assert says in str(caught.value) and "images[1]" in str(caught.value)


def test_an_image_may_come_twice() -> None:
    one, other = saved("PNG"), saved("BMP")
    x = images_of_files([one, other, one], Preprocess(size=8, channels="gray", dequantize=True))
    np.testing.assert_array_equal(x[0], x[2])
    assert not (x[0] == x[1]).all()  # another file has other noise
    with pytest.raises(ValueError, match=r"images\[2\]: image file is truncated"):
        images_of_files([one, one, one[:70]], GRAY)


def test_many_channels_come_as_tiff_where_a_model_has_them() -> None:
    file = io.BytesIO()
    channels = np.stack([LEVELS] * 5)
    tifffile.imwrite(file, channels, photometric="minisblack", metadata={"axes": "CYX"})
    assert images_of_files([file.getvalue()], Preprocess(size=8)).shape == (1, 5, 8, 8)


def test_an_error_is_one_short_line_of_what_can_be_shown() -> None:
    error = {"loc": ("body", "a\ud800"), "input": ["\n" * 10**6] * 10**6, "msg": "must be less"}
    line = one_line(error, 1)
    assert line.startswith("a\\ud800=[") and line.endswith(": must be less")
    assert line.isprintable() and len(line) < 500
