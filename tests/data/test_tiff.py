"""TIFF files of many channels come whole; what was gray or colour before is so still."""

import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.images import BadImage, Preprocess, fit_pixels, image_size, read_image
from gdm_repr.data.sources.arrays import ArraySource

PLAIN = Preprocess()
RNG = np.random.default_rng(0)
CYX = RNG.integers(0, 65536, (5, 12, 16), dtype=np.uint16)
YXC = CYX.transpose(1, 2, 0)


def written(array: NDArray[Any], **options: object) -> io.BytesIO:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **{"photometric": "minisblack", **options})  # type: ignore[arg-type]
    file.seek(0)
    return file


@pytest.mark.parametrize(
    "file",
    [
        lambda: written(CYX, ome=True, metadata={"axes": "CYX"}),
        lambda: written(CYX, imagej=True, metadata={"axes": "CYX"}),
        lambda: written(CYX, metadata={"axes": "CYX"}, compression="zlib"),
        lambda: written(CYX[None, :, None], ome=True, metadata={"axes": "TCZYX"}),
        lambda: written(YXC, planarconfig="contig"),
        lambda: written(CYX, planarconfig="separate"),
        lambda: written(CYX, metadata={"axes": "CYX"}, byteorder=">", bigtiff=True),
    ],
)
def test_every_form_gives_the_same_pixels(file: Callable[[], io.BytesIO]) -> None:
    pixels = read_image(file(), PLAIN)
    np.testing.assert_array_equal(pixels, YXC)
    assert pixels.dtype == np.dtype(np.uint16) and image_size(file(), PLAIN) == (12, 16)


def test_what_is_gray_colour_or_a_stack_is_left_to_pillow() -> None:
    rgba = RNG.integers(0, 256, (12, 16, 4), dtype=np.uint8)
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    np.testing.assert_array_equal(
        read_image(written(rgba, **alpha), PLAIN),
        np.asarray(
            Image.alpha_composite(
                Image.new("RGBA", (16, 12), "white"), Image.fromarray(rgba, "RGBA")
            ).convert("RGB")
        ),
    )
    assert read_image(written(rgba[..., :3], photometric="rgb"), PLAIN).shape == (12, 16, 3)
    stack = read_image(written(CYX, ome=True, metadata={"axes": "ZYX"}), PLAIN)
    np.testing.assert_array_equal(stack[:, :, 0], CYX[0])
    pages = read_image(written(CYX), PLAIN)  # nothing says that pages are channels
    np.testing.assert_array_equal(pages[:, :, 0], CYX[0])


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (CYX.astype(np.float32), {}, "float32 values have no known range"),
        (CYX.astype(np.int16), {}, "int16 values have no known range"),
        (np.zeros((65, 4, 4), np.uint8), {}, "65 channels; at most 64"),
        (CYX, {"max_pixels": 191}, "more than max_pixels=191"),
    ],
)
def test_what_can_t_be_used(array: NDArray[Any], options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        read_image(written(array, metadata={"axes": "CYX"}), Preprocess(**options))


def test_damaged_files_say_nothing_more(capfd: pytest.CaptureFixture[str]) -> None:
    whole = written(CYX, ome=True, metadata={"axes": "CYX"}).getvalue()
    for data in (whole[:100], whole[: len(whole) // 2], b"II*\0" + bytes(40)):
        with pytest.raises(Exception) as caught:
            read_image(io.BytesIO(data), PLAIN)
        assert not isinstance(caught.value, SystemExit)
    assert capfd.readouterr().err == "" and not logging.getLogger("tifffile").disabled


def test_channels_are_resampled_one_by_one_and_never_mixed() -> None:
    images = RNG.integers(0, 256, (3, 12, 16, 5), dtype=np.uint8)
    half = fit_pixels(images[0], Preprocess(size=6), 255)
    for channel in range(5):
        alone = fit_pixels(images[0][:, :, channel : channel + 1], Preprocess(size=6), 255)
        assert np.abs(half[:, :, channel].astype(int) - alone[:, :, 0]).max() <= 1
    dataset = ImageDataset(ArraySource("a", images, {}), Preprocess(size=6), {}, 0)
    assert dataset.shape == (5, 6, 6) and dataset.batch([0, 2]).x.shape == (2, 5, 6, 6)
    for channels in ("rgb", "gray"):
        preprocess = Preprocess.model_validate({"channels": channels})
        with pytest.raises(ValueError, match="5 channels where images have"):
            ImageDataset(ArraySource("a", images, {}), preprocess, {}, 0)
