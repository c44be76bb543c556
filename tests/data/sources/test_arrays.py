"""Arrays: the same images in every layout, labels beside them, and no guess about their range."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.sources.arrays import ArraySource, open_npy, open_npz

PLAIN = Preprocess()
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)


def all_pixels(source: ArraySource) -> npt.NDArray[Any]:
    return np.stack([source.pixels(i, PLAIN) for i in range(len(source.ids))])


@pytest.mark.parametrize(
    "stored",
    [IMAGES, IMAGES.transpose(0, 3, 1, 2), IMAGES.astype(">u2"), IMAGES / np.float32(255)],
    ids=["channels last", "channels first", "big-endian", "float"],
)
def test_layouts(tmp_path: Path, stored: npt.NDArray[np.generic]) -> None:
    np.save(tmp_path / "a.npy", stored)
    source = open_npy(tmp_path / "a.npy")
    pixels = all_pixels(source)
    if pixels.dtype == np.float32:
        pixels = np.rint((pixels + 1) * 127.5)
    np.testing.assert_array_equal(pixels, IMAGES)
    assert source.size(0, PLAIN) == (4, 6)
    assert source.ids[:2] == ["000000", "000001"]


def test_gray_without_a_channel_axis() -> None:
    source = ArraySource("a", IMAGES[..., 0], {})
    np.testing.assert_array_equal(all_pixels(source), IMAGES[..., :1])


def test_range_of_floats_is_decided_by_the_images_in_range() -> None:
    unit = RNG.random((4, 5, 5))
    signed = unit.copy()
    signed[0, 0, 0] = -0.25
    spoiled = unit.copy()
    spoiled[0] = -7  # out of any range: it has no say
    assert np.allclose(all_pixels(ArraySource("a", unit, {}))[..., 0], 2 * unit - 1)
    assert np.allclose(all_pixels(ArraySource("a", signed, {}))[..., 0], signed)
    assert np.allclose(ArraySource("a", spoiled, {}).pixels(1, PLAIN)[..., 0], 2 * unit[1] - 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.nan, "NaN"), (np.inf, "leave"), (-np.inf, "leave"), (255.0, "1 to 255 leave|0 to 255")],
)
def test_bad_floats_are_rejected_one_by_one(value: float, reason: str) -> None:
    images = np.zeros((3, 5, 5), np.float32)
    images[1, 2, 3] = value
    source = ArraySource("a", images, {})
    for read in (source.pixels, source.size):
        with pytest.raises(BadImage, match=reason):
            read(1, PLAIN)
    assert source.pixels(2, PLAIN).shape == (5, 5, 1)


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((0, 8, 8), np.uint8, "no empty axis"),
        ((8, 8), np.uint8, "images must be"),
        ((8, 8, 3), np.uint8, r"images\[None\]"),
        ((2, 8, 8, 4), np.uint8, "C = 1 or 3"),
        ((2, 3, 8, 3), np.uint8, "either axis"),
        ((2, 8, 8), np.int64, "dtype int64"),
        ((2, 8, 8), np.bool_, "dtype bool"),
        ((2, 8, 8), np.complex64, "dtype complex64"),
    ],
)
def test_arrays_that_are_no_images(shape: tuple[int, ...], dtype: type, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ArraySource("a", np.zeros(shape, dtype), {})


def test_npz_labels(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "a.npz",
        imgs=IMAGES,
        y=np.arange(5),
        names=np.array(["a", "b", "c", "d", "é"]),
        raw=np.array([b"a", b"b", b"c", b"d", b"\xff"]),
        flag=np.array([True, False, True, True, True]),
        factors=np.arange(10.0).reshape(5, 2),
        metadata=np.array({"pickled": 1}),
        other=np.arange(4),
    )
    source = open_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(all_pixels(source), IMAGES)
    assert source.labels == {
        "y": [0, 1, 2, 3, 4],
        "names": ["a", "b", "c", "d", "é"],
        "raw": ["a", "b", "c", "d", "\\xff"],
        "flag": [1, 0, 1, 1, 1],
        "factors_0": [0.0, 2.0, 4.0, 6.0, 8.0],
        "factors_1": [1.0, 3.0, 5.0, 7.0, 9.0],
    }


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"train": IMAGES, "test": IMAGES}, "2 could be the images"),
        ({"y": np.arange(3)}, "none could be the images"),
        ({"images": np.array([{}] * 5)}, "none could be the images"),
        ({"images": IMAGES, "labels": np.arange(4)}, "'labels' is pickled or not one row"),
        ({"images": IMAGES, "y": np.array([None] * 5)}, "'y' is pickled or not one row"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, npt.NDArray[np.generic]], reason: str) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=True, **arrays)
    with pytest.raises(ValueError, match=reason):
        open_npz(tmp_path / "a.npz")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "cut.npy", IMAGES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-9])
    (tmp_path / "empty.npy").touch()
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps([1]))
    for file in tmp_path.iterdir():
        opener = open_npz if file.suffix == ".npz" else open_npy
        with pytest.raises(ValueError, match=f"'{file.name}' can't be read"):
            opener(file)


def test_a_memory_map_travels_by_its_path(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100, 64, 64), np.uint8))
    sent = pickle.dumps(open_npy(tmp_path / "a.npy"))
    assert len(sent) < 10_000
    assert pickle.loads(sent).pixels(99, PLAIN).shape == (64, 64, 1)


def test_content_changes_with_the_images() -> None:
    changed = IMAGES.copy()
    changed[3, 2, 1] += 1
    contents = [b"".join(ArraySource("a", a, {}).content()) for a in (IMAGES, IMAGES, changed)]
    assert contents[0] == contents[1] != contents[2]
