"""Decoding: every kind of image file gives the pixels it shows, or is refused with a reason."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydantic import ValidationError

from gdm_repr.data.images import (
    BadImage,
    Preprocess,
    fit_pixels,
    image_size,
    read_image,
    to_channels,
)

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)
PLAIN = Preprocess()


def encoded(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def png(colour_type: int, depth: int, width: int, height: int, raw: bytes) -> io.BytesIO:
    """Write a PNG of any kind by hand: Pillow writes no 16-bit colour and no lying headers."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.fromarray(RGB), "PNG"),
        (Image.fromarray(RGB), "BMP"),
        (Image.fromarray(RGB), "TIFF"),
        (Image.fromarray(RGB), "PPM"),
        (Image.fromarray(GRAY), "PNG"),
        (Image.fromarray(GRAY), "TGA"),
        (Image.fromarray(DEEP), "PNG"),
        (Image.fromarray(DEEP), "TIFF"),
        (Image.fromarray(DEEP), "PPM"),
        (Image.fromarray(DEEP), "JPEG2000"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.mode,
)
def test_lossless_files_give_their_values_back(image: Image.Image, kind: str) -> None:
    pixels = read_image(encoded(image, kind), PLAIN)
    original = np.asarray(image)
    assert pixels.dtype == original.dtype
    np.testing.assert_array_equal(pixels, original.reshape(*original.shape[:2], -1))


def test_one_bit_is_black_and_white() -> None:
    bits = GRAY > 127
    pixels = read_image(encoded(Image.fromarray(bits), "PNG"), PLAIN)
    np.testing.assert_array_equal(pixels[:, :, 0], np.where(bits, 255, 0))


def test_palette_gives_the_palette_s_colours() -> None:
    image = Image.new("P", (9, 6))
    colours = np.array([[250, 0, 10], [0, 99, 20], [7, 8, 9]], np.uint8)
    image.putpalette(colours.flatten().tolist())
    image.putdata((GRAY % 3).flatten().tolist())
    np.testing.assert_array_equal(read_image(encoded(image, "PNG"), PLAIN), colours[GRAY % 3])


def test_transparent_palette_entry_shows_the_background() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([250, 0, 10, 0, 99, 20])
    image.putdata([0, 1])
    file = encoded(image, "PNG", transparency=0)
    preprocess = Preprocess(background=(1, 2, 3))
    assert read_image(file, preprocess).tolist() == [[[1, 2, 3], [0, 99, 20]]]


def test_alpha_is_composited_on_the_background() -> None:
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 102, np.uint8)])
    pixels = read_image(encoded(Image.fromarray(rgba), "PNG"), Preprocess(background=(200, 0, 50)))
    expected = 0.4 * RGB + 0.6 * np.array([200, 0, 50])
    assert np.abs(pixels - expected).max() <= 1  # rounding of one blend


@pytest.mark.parametrize(("background", "channels"), [((40, 40, 40), 1), ((40, 0, 0), 3)])
def test_gray_with_alpha_stays_gray_on_gray(
    background: tuple[int, int, int], channels: int
) -> None:
    image = Image.merge("LA", [Image.new("L", (3, 2), 90), Image.new("L", (3, 2), 0)])
    pixels = read_image(encoded(image, "PNG"), Preprocess(background=background))
    assert pixels.shape == (2, 3, channels)
    assert pixels[0, 0].tolist() == list(background[:channels])


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (4, 4), (255, 0, 0, 0))  # pure cyan
    pixels = read_image(encoded(image, "TIFF"), PLAIN)
    assert pixels[0, 0].tolist() == [0, 255, 255]


def test_jpeg_is_close() -> None:
    smooth = np.indices((16, 16)).sum(0).astype(np.uint8) * 8
    pixels = read_image(encoded(Image.fromarray(smooth), "JPEG", quality=95), PLAIN)
    assert np.abs(pixels[:, :, 0].astype(int) - smooth).max() < 8


@pytest.mark.parametrize("array", [RGB, DEEP], ids=["rgb", "16-bit gray"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied(
    array: npt.NDArray[np.generic], kind: str, orientation: int, turns: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(array), kind, exif=exif)
    expected = np.rot90(array, turns)
    pixels = read_image(file, PLAIN)
    np.testing.assert_array_equal(pixels, expected.reshape(*expected.shape[:2], -1))
    assert image_size(file, PLAIN) == expected.shape[:2]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_header_and_image_agree_on_the_size(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(RGB), kind, exif=exif)
    assert image_size(file, PLAIN) == read_image(file, PLAIN).shape[:2]


def test_animation_is_its_first_frame() -> None:
    frames = [Image.new("L", (4, 4), level) for level in (10, 200)]
    file = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(read_image(file, PLAIN)).tolist() == [10]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (io.BytesIO(b"what?"), "not an image"),
        (io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an image"),
        (png(2, 16, 2, 1, b"\0" + bytes(12)), "16-bit colour"),
        (png(4, 16, 2, 1, b"\0" + bytes(8)), "16-bit colour"),
        (io.BytesIO(b"P6\n2 1\n65535\n" + bytes(12)), "16-bit colour"),
        (encoded(Image.fromarray(GRAY.astype(np.float32)), "TIFF"), "float"),
        (encoded(Image.fromarray(GRAY.astype(np.int32)), "TIFF"), "32-bit"),
        (png(0, 8, 50_000, 50_000, b""), "max_pixels"),
    ],
)
def test_refused(file: io.BytesIO, reason: str) -> None:
    for read in (read_image, image_size)[: 1 if "bit" in reason or reason == "float" else 2]:
        file.seek(0)
        with pytest.raises(BadImage, match=reason):
            read(file, PLAIN)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_max_pixels_binds_at_the_pixel_and_leaves_pillow_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS
    file = encoded(Image.fromarray(GRAY), "PNG")
    assert read_image(file, Preprocess(max_pixels=54)).shape == (6, 9, 1)
    with pytest.raises(BadImage, match="max_pixels=53"):
        read_image(file, Preprocess(max_pixels=53))
    large = png(0, 8, 15_000, 15_000, b"")  # above what Pillow opens by itself
    assert image_size(large, Preprocess(max_pixels=225_000_000)) == (15_000, 15_000)
    with pytest.raises(BadImage, match="max_pixels"):
        image_size(large, Preprocess(max_pixels=224_999_999))
    assert before == Image.MAX_IMAGE_PIXELS


def test_center_keeps_the_aspect_and_the_center() -> None:
    # A vertical edge in the middle stays in the middle; the outer thirds are cut off.
    image = np.zeros((20, 60, 1), np.uint8)
    image[:, 30:] = 255
    image[:, :20] = image[:, 40:] = 99
    out = fit_pixels(image, Preprocess(size=10), 255)
    assert out.shape == (10, 10, 1)
    assert set(out[:, [1, 2, 3]].flatten()) == {0}
    assert set(out[:, [6, 7, 8]].flatten()) == {255}


def test_resize_ignores_the_aspect() -> None:
    image = np.repeat(np.array([[[0], [255]]], np.uint8), 30, axis=1).repeat(10, axis=0)
    out = fit_pixels(image, Preprocess(size=(4, 10), fit="resize"), 255)
    assert out.shape == (4, 10, 1)
    assert set(out[:, :4].flatten()) == {0}
    assert set(out[:, 6:].flatten()) == {255}


@pytest.mark.parametrize("fit", ["center", "resize"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_reduction_is_antialiased(fit: str, dtype: type) -> None:
    # Stripes one pixel wide must become their mean, not one of their two values.
    top = 1 if dtype is np.float32 else 200
    stripes: npt.NDArray[Any] = np.zeros((64, 64, 3), dtype)
    stripes[:, ::2] = top
    levels = 0 if dtype is np.float32 else 255
    out = fit_pixels(stripes, Preprocess.model_validate({"size": 8, "fit": fit}), levels)
    assert out.dtype == dtype
    assert np.abs(out[:, 1:-1].astype(float) / top - 0.5).max() < 0.02


@pytest.mark.parametrize("levels", [16, 255])
def test_resampling_stays_within_the_levels(levels: int) -> None:
    steps = np.zeros((8, 8, 1), np.uint8)
    steps[:, 4:] = levels  # bicubic overshoots at an edge
    out = fit_pixels(steps, Preprocess(size=23), levels)
    assert out.min() == 0
    assert out.max() == levels


def test_sixteen_bits_are_resampled_in_sixteen_bits() -> None:
    ramp = np.linspace(1000, 1100, 64, dtype=np.uint16).reshape(1, 64, 1).repeat(64, axis=0)
    out = fit_pixels(ramp, Preprocess(size=16), 65535)
    assert out.dtype == np.uint16
    assert len(np.unique(out)) == 16


def test_an_odd_crop_does_not_blur() -> None:
    out = fit_pixels(RGB, Preprocess(size=6), 255)
    np.testing.assert_array_equal(out, RGB[:, 1:7])


def test_center_takes_any_size_to_any_size() -> None:
    sizes = [1, 2, 3, 7, 10, 33, 97, 300, 401]
    for height in sizes:
        for width in sizes:
            image = np.full((height, width, 1), 77, np.uint8)
            for h, w in ((1, 1), (3, 7), (16, 16), (64, 49)):
                out = fit_pixels(image, Preprocess(size=(h, w)), 255)
                assert out.shape == (h, w, 1)
                assert set(out.flatten()) == {77}  # nothing from outside the image


def test_a_thread_like_image_costs_no_memory() -> None:
    line = np.zeros((1, 100_000, 1), np.uint8)
    assert fit_pixels(line, Preprocess(size=256), 255).shape == (256, 256, 1)


def test_tiles_are_the_image() -> None:
    preprocess = Preprocess(size=(2, 4), fit="tile")
    rows = [
        np.hstack([fit_pixels(RGB, preprocess, 255, (r, c)) for c in range(2)]) for r in range(3)
    ]
    np.testing.assert_array_equal(np.vstack(rows), RGB[:, :8])
    with pytest.raises(BadImage, match=r"6x9 px does not hold tile r0c2 of 2x4 px"):
        fit_pixels(RGB, preprocess, 255, (0, 2))


def test_luma_is_pillow_s_and_constant_on_gray() -> None:
    expected = np.asarray(Image.fromarray(RGB).convert("L"))
    np.testing.assert_array_equal(to_channels(RGB, 1)[:, :, 0], expected)
    for gray in (GRAY, DEEP):
        np.testing.assert_array_equal(
            to_channels(to_channels(gray[:, :, None], 3), 1)[..., 0], gray
        )
    floats = (RGB / 127.5 - 1).astype(np.float32)
    assert np.abs((to_channels(floats, 1)[:, :, 0] + 1) * 127.5 - expected).max() <= 0.51


def test_fingerprint_is_the_settings() -> None:
    base = Preprocess(size=32)
    assert base.fingerprint() == Preprocess(size=(32, 32)).fingerprint()
    others = [
        Preprocess(size=33),
        Preprocess(size=32, channels="gray"),
        Preprocess(size=32, fit="tile"),
        Preprocess(size=32, background=(0, 0, 0)),
        Preprocess(size=32, dequantize=True),
    ]
    assert len({p.fingerprint() for p in [base, *others]}) == 6
    assert Preprocess.model_validate_json(base.model_dump_json()) == base


@pytest.mark.parametrize(
    "settings",
    [{"size": 0}, {"size": (4, -1)}, {"fit": "tile"}, {"background": (0, 0, 256)}, {"sise": 4}],
)
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocess.model_validate(settings)
