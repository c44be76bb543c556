"""Pictures of images: exact levels, whole enlargement, rows and columns where they belong."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdm_repr.pictures import (
    SHOWN_SIDE,
    as_grid,
    as_html,
    channel_tiles,
    choose_format,
    label_sheet,
    png_bytes,
    save_image,
    save_sheet,
    to_uint8,
)


def test_levels_are_the_inverse_of_x() -> None:
    levels = np.arange(256, dtype=np.uint8)
    x = (levels / 127.5 - 1).astype(np.float32).reshape(1, 16, 16)
    assert (to_uint8(x)[..., 0].ravel() == levels).all()
    assert to_uint8(np.array([[[-3.0, 3.0]]]))[0].ravel().tolist() == [0, 255]
    assert to_uint8(np.zeros((5, 3, 2, 4))).shape == (5, 2, 4, 3)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_an_image_file_holds_the_levels(tmp_path: Path, channels: int, mode: str) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (channels, 4, 6))
    save_image(x, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert (image.mode, image.size) == (mode, (6, 4))
        assert (np.asarray(image).reshape(4, 6, channels) == to_uint8(x)).all()


def test_a_png_s_bytes_are_a_file_s(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32))
    save_image(noise, tmp_path / "x.png")  # noise leaves nothing to optimise
    assert abs(png_bytes(noise) - (tmp_path / "x.png").stat().st_size) < 100
    assert png_bytes(np.zeros((1, 32, 32))) < 100


@pytest.mark.parametrize(
    ("shape", "count", "size"),
    [
        ((3, 3, 8, 8), 3, (8, 8)),
        ((2, 5, 8, 4), 10, (4, 8)),
        ((70, 1, 8, 8), 64, (8, 8)),
        ((20, 3, 300, 150), 16, (64, 128)),
    ],
)
def test_a_page_shows_images_at_a_readable_size(
    shape: tuple[int, ...], count: int, size: tuple[int, int]
) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, shape)
    found = re.findall(r'base64,(.*?)" width="(\d+)" height="(\d+)"', as_html(x, "<b>"))
    assert len(found) == count
    for data, width, height in found:
        assert max(int(width), int(height)) == SHOWN_SIDE
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == size
    with Image.open(io.BytesIO(base64.b64decode(found[0][0]))) as image:
        if shape[1] == 3 and size == shape[:1:-1]:
            assert (np.asarray(image) == to_uint8(x[0])).all()
    assert "&lt;b&gt;" in as_html(x, "<b>")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_every_image_at_its_place(tmp_path: Path, channels: int) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (2, 5, channels, 4, 6))
    save_sheet(list(x), tmp_path / "sheet.png", tile=18, gap=1)
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image).reshape(image.height, image.width, channels)
    assert pixels.shape[:2] == (2 * (4 * 3 + 2), 5 * (6 * 3 + 2))
    for row in range(2):
        for column in range(5):
            top, left = row * 14, column * 20
            cell = pixels[top : top + 14, left : left + 20]
            big = to_uint8(x[row, column]).repeat(3, axis=0).repeat(3, axis=1)
            assert (cell[1:-1, 1:-1] == big).all()
            border = cell.astype(int).sum() - big.astype(int).sum()
            assert border == 255 * channels * (14 * 20 - 12 * 18)


def test_many_channels_are_shown_as_gray_tiles(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (2, 5, 4, 6))
    tiles = channel_tiles(x)
    assert tiles.shape == (2, 1, 2 * 4 + 1, 3 * 6 + 2)
    for channel in range(5):
        top, left = 5 * (channel // 3), 7 * (channel % 3)
        np.testing.assert_array_equal(tiles[:, 0, top : top + 4, left : left + 6], x[:, channel])
    assert (tiles[:, 0, 4] == 1).all() and (tiles[:, 0, 5:, 14:] == 1).all()
    for colours in (1, 3):
        assert channel_tiles(x[:, :colours]).shape == (2, colours, 4, 6)
    save_sheet(list(x[:, None]), tmp_path / "sheet.png", tile=20, gap=0)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (2 * 20, 2 * 2 * 9)
    label_sheet(list(x[:, None]), ["a", "b"], ["c"]).save(tmp_path / "labels.png")


def test_files_of_many_channels_are_arrays() -> None:
    assert [choose_format(None, channels) for channels in (1, 2, 3, 5)] == [
        "png",
        "npy",
        "png",
        "npy",
    ]
    assert choose_format("npy", 3) == "npy"
    with pytest.raises(
        ValueError, match=r"^--format png: keeps 1 or 3 channels, .* have 5; use npy"
    ):
        choose_format("png", 5)


def test_large_images_are_not_shrunk(tmp_path: Path) -> None:
    save_sheet([np.zeros((2, 1, 64, 50))], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (2 * 58, 72)


def test_a_grid_is_filled_with_white() -> None:
    x = np.arange(5.0).reshape(5, 1, 1, 1) / 5
    rows = as_grid(x, 3)
    assert [row.shape for row in rows] == [(3, 1, 1, 1)] * 2
    assert np.concatenate(rows).ravel().tolist() == [0, 0.2, 0.4, 0.6, 0.8, 1]
