"""The data set: x in [-1, 1], the same for an item wherever and however it is asked for."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data

RNG = np.random.default_rng(0)


def save(path: Path, array: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def rgb(height: int, width: int) -> npt.NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Six images of three sizes, colour and gray; two more can't be read."""
    for index, shape in enumerate([(40, 50), (32, 32), (70, 33)]):
        save(tmp_path / f"a/{index}.png", rgb(*shape))
        save(tmp_path / f"b/{index}.png", rgb(*shape)[..., 0])
    (tmp_path / "a/1b.png").write_bytes(b"")
    (tmp_path / "b/9.jpg").write_bytes(b"no image")
    return tmp_path


def test_ends_of_the_range_are_exact() -> None:
    digits = open_data("digits", Preprocess())
    x = digits.batch(range(len(digits))).x
    assert (x.min().item(), x.max().item()) == (-1, 1)
    assert digits.quantum == 2 / 16
    levels = (x + 1) / digits.quantum
    assert torch.equal(levels, levels.round())


def test_values_follow_the_formulas(tmp_path: Path) -> None:
    eight, sixteen = rgb(5, 7), RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    save(tmp_path / "8.png", eight)
    save(tmp_path / "16.png", sixteen)
    for name, array, levels in (("8.png", eight, 255), ("16.png", sixteen[..., None], 65535)):
        plain = open_data(tmp_path / name, Preprocess())
        x = plain.batch([0]).x[0].permute(1, 2, 0).double().numpy()
        np.testing.assert_allclose((x + 1) / 2 * levels, array, atol=levels * 1e-7)
        assert plain.quantum == 2 / levels
        spread = open_data(tmp_path / name, Preprocess(dequantize=True))
        x = spread.batch([0]).x[0].permute(1, 2, 0).double().numpy()
        np.testing.assert_array_equal(np.floor((x + 1) / spread.quantum), array)
        assert spread.quantum == 2 / (levels + 1)


def test_noise_is_added_and_seeded_by_item() -> None:
    clean = open_data("digits", Preprocess(), limit=300)
    noisy, other = (open_data("digits", Preprocess(noise=0.1), limit=300, seed=s) for s in (0, 1))
    x = noisy.batch(range(300)).x
    added = x - clean.batch(range(300)).x
    # 19,200 numbers: 4 standard errors of the std
    assert abs(float(added.std()) / 0.1 - 1) < 4 / (2 * added.numel()) ** 0.5
    assert torch.equal(noisy.batch([7, 3]).x, x[[7, 3]])
    assert not torch.equal(noisy.batch([7], draw=1).x, x[[7]])
    assert len({d.fingerprint() for d in (clean, noisy, other)}) == 3


def test_float_data_have_no_levels(tmp_path: Path) -> None:
    images = RNG.uniform(-1, 1, (3, 2, 8, 8)).astype(np.float32)[:, :1]
    np.save(tmp_path / "a.npy", images)
    dataset = open_data(tmp_path / "a.npy", Preprocess())
    assert dataset.quantum == 0
    assert torch.equal(dataset.batch([0, 1, 2]).x, torch.from_numpy(images))
    with pytest.raises(ValueError, match="dequantize=True needs integer levels"):
        open_data(tmp_path / "a.npy", Preprocess(dequantize=True))


@pytest.mark.parametrize("fit", ["center", "resize", "tile"])
@pytest.mark.parametrize("channels", [None, "rgb", "gray"])
def test_in_memory_is_the_same(mixed: Path, fit: str, channels: str | None) -> None:
    preprocess = Preprocess.model_validate(
        {"size": 16, "fit": fit, "channels": channels, "dequantize": True}
    )
    direct = open_data(mixed, preprocess, seed=5)
    memory = direct.in_memory()
    assert memory.is_in_memory
    assert not direct.is_in_memory
    assert memory.fingerprint() == direct.fingerprint()
    order = RNG.permutation(len(direct))
    one, two = direct.batch(order, draw=3), memory.batch(order, draw=3)
    assert torch.equal(one.x, two.x)
    assert one.x.shape[1:] == direct.shape == (1 if channels == "gray" else 3, 16, 16)
    assert one.ids == two.ids
    assert one.labels == two.labels
    assert sorted(r.id for r in two.rejected) == ["a/1b.png", "b/9.jpg"]
    assert one.rejected == two.rejected
    assert len(one.x) == len(one.index) == len(one.sources) == len(direct) - 2
    np.testing.assert_array_equal([direct.ids[i] for i in one.index], one.ids)


def test_items_do_not_depend_on_their_company(mixed: Path) -> None:
    dataset = open_data(mixed, Preprocess(size=16, dequantize=True), seed=1)
    together = dataset.batch(range(len(dataset)))
    for row, index in enumerate(together.index.tolist()):
        alone = dataset.batch([index, index])
        assert torch.equal(alone.x, together.x[row].expand(2, -1, -1, -1))
    again = dataset.batch(together.index, draw=1)
    assert (again.x != together.x).double().mean() > 0.99
    assert (again.x - together.x).abs().max() < dataset.quantum


def test_tiles_are_items(mixed: Path) -> None:
    dataset = open_data(mixed, Preprocess(size=(16, 30), fit="tile"))
    tiles = [f"a/{i}.png#r{row}c0" for i in (0, 1) for row in (0, 1)]
    assert dataset.ids[:5] == [*tiles, "a/1b.png"]
    assert dataset.labels["label"][:5] == ["a"] * 5
    photo = np.asarray(Image.open(mixed / "a/0.png"))
    x = dataset.batch([1]).x[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose((x + 1) * 127.5, photo[16:32, :30], atol=1e-3)
    assert len(dataset) == 2 * (2 + 2 + 4) + 2
    limited = open_data(mixed, Preprocess(size=(16, 30), fit="tile"), first=3)
    assert limited.ids == dataset.ids[:3]


def test_tiles_turn_with_the_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb(16, 48)).save(tmp_path / "1.jpg", exif=exif)
    dataset = open_data(tmp_path, Preprocess(size=16, fit="tile"))
    assert dataset.ids == [f"1.jpg#r{row}c0" for row in range(3)]
    assert dataset.batch([0, 1, 2]).rejected == []


def test_images_too_small_for_a_tile_are_rejected(mixed: Path) -> None:
    dataset = open_data(mixed, Preprocess(size=40, fit="tile"))
    reasons = {r.id: r.reason for r in dataset.batch(range(len(dataset))).rejected}
    assert "32x32 px does not hold" in reasons["a/1.png"]
    assert "70x33 px does not hold" in reasons["b/2.png"]
    assert len(reasons) == 6


@pytest.mark.parametrize(
    ("second", "settings", "reason"),
    [
        (rgb(8, 9), {}, "8x9 px among images of 8x8 px"),
        (rgb(8, 8).astype(np.uint16)[..., 0], {}, "16-bit values among 8-bit images"),
        (rgb(8, 8).astype(np.uint16)[..., 0], {"size": 4}, "16-bit values among 8-bit images"),
    ],
)
def test_images_unlike_the_first(
    tmp_path: Path, second: npt.NDArray[np.generic], settings: dict[str, object], reason: str
) -> None:
    save(tmp_path / "1.png", rgb(8, 8))
    save(tmp_path / "2.png", second)
    dataset = open_data(tmp_path, Preprocess.model_validate(settings))
    assert [r.reason.split(";")[0] for r in dataset.batch([0, 1]).rejected] == [reason]


def test_colour_is_not_dropped_unasked(tmp_path: Path) -> None:
    gray, colour = rgb(8, 8)[..., 0], rgb(8, 8)
    save(tmp_path / "1.png", gray)
    save(tmp_path / "2.png", colour)
    dataset = open_data(tmp_path, Preprocess())
    assert dataset.shape == (1, 8, 8)
    assert "colour among gray" in dataset.batch([0, 1]).rejected[0].reason
    assert open_data(tmp_path, Preprocess(channels="gray")).batch([0, 1]).x.shape == (2, 1, 8, 8)
    (tmp_path / "1.png").rename(tmp_path / "3.png")
    wide = open_data(tmp_path, Preprocess()).batch([1]).x  # gray among colour is widened
    assert torch.equal(wide, wide[:, :1].expand(1, 3, 8, 8))


def test_layout_comes_from_the_first_readable_image(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    save(tmp_path / "1.png", rgb(6, 5))
    dataset = open_data(tmp_path, Preprocess())
    assert dataset.shape == (3, 6, 5)
    batch = dataset.batch([0])
    assert batch.x.shape == (0, 3, 6, 5)
    assert batch.index.shape == (0,)
    assert batch.labels == {}


def test_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no images; what counts .* \.png, .*\.parquet"):
        open_data(tmp_path, Preprocess())
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of 1 items can be used; first, '0.png': empty"):
        open_data(tmp_path, Preprocess())
    save(tmp_path / "1.png", rgb(6, 5))
    with pytest.raises(ValueError, match="none of 2 items"):
        open_data(tmp_path, Preprocess(size=16, fit="tile"))


def test_indices_out_of_range() -> None:
    digits = open_data("digits", Preprocess(), limit=10)
    for index in (-1, 10):
        with pytest.raises(IndexError, match=r"leave 0\.\.9"):
            digits.batch([index])


def fingerprints(path: Path, *settings: Preprocess, seed: int = 0) -> list[str]:
    return [open_data(path, preprocess, seed=seed).fingerprint() for preprocess in settings]


def test_fingerprint_is_of_the_data_and_not_of_its_place(mixed: Path) -> None:
    plain, noisy = Preprocess(size=8), Preprocess(size=8, dequantize=True)
    first = fingerprints(mixed, plain, noisy)
    assert len(set(first)) == 2
    again = fingerprints(mixed, plain, noisy, seed=1)
    assert again[0] == first[0]  # without noise the seed is of no account
    assert again[1] != first[1]
    moved = mixed.rename(mixed.parent / "moved")
    assert fingerprints(moved, plain, noisy) == first
    (moved / "b/9.jpg").unlink()
    assert fingerprints(moved, plain)[0] != first[0]


def test_first_takes_the_first(mixed: Path) -> None:
    whole, part = (open_data(mixed, Preprocess(size=8), first=n) for n in (None, 3))
    assert part.ids == whole.ids[:3]
    assert part.labels == {"label": ["a"] * 3}
    assert isinstance(part, ImageDataset)
