"""torchvision's own files: as its loaders read them, with a line that says what is missing."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from numpy.typing import NDArray
from PIL import Image

from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.sources.registry import open_source
from gdm_repr.data.sources.torchvision_files import DATA_SETS, open_torchvision

PLAIN = Preprocess()
RNG = np.random.default_rng(0)


def write_idx(path: Path, array: NDArray[Any]) -> None:
    """Write LeCun's format: a magic number, the sizes, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def test_mnist_s_files(tmp_path: Path) -> None:
    images = {part: RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8) for part in ("train", "t10k")}
    for part in images:
        write_idx(tmp_path / "MNIST/raw" / f"{part}-images-idx3-ubyte", images[part])
        write_idx(tmp_path / "MNIST/raw" / f"{part}-labels-idx1-ubyte", np.array([7, 0, 9]))
    train = open_source(f"torchvision:MNIST:{tmp_path}")
    assert train.ids == ["train/000000", "train/000001", "train/000002"]
    assert train.labels["label"] == [7, 0, 9]
    assert train.labels["class"] == ["7 - seven", "0 - zero", "9 - nine"]
    np.testing.assert_array_equal(train.pixels(1, PLAIN)[:, :, 0], images["train"][1])
    test = open_source(f"torchvision:MNIST-test:{tmp_path}")
    assert test.ids[0] == "test/000000" and str(tmp_path) not in test.name
    np.testing.assert_array_equal(test.pixels(2, PLAIN)[:, :, 0], images["t10k"][2])


def test_emnist_has_six_splits_of_two_parts(tmp_path: Path) -> None:
    for kind, array in (("images-idx3", np.zeros((2, 28, 28))), ("labels-idx1", np.array([1, 26]))):
        write_idx(tmp_path / "EMNIST/raw" / f"emnist-letters-test-{kind}-ubyte", array)
    letters = open_source(f"torchvision:EMNIST-letters-test:{tmp_path}")
    assert letters.labels == {"label": [1, 26], "class": ["a", "z"]}


def test_a_data_set_of_many_files_is_opened_one_by_one(tmp_path: Path) -> None:
    for name in ("Forest", "River"):
        folder = tmp_path / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        pixels = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}_1.png")
    (folder / "River_2.png").write_bytes(b"no image")
    source = open_source(f"torchvision:EuroSAT:{tmp_path}")
    assert source.labels == {"label": [0, 1, 1], "class": ["Forest", "River", "River"]}
    np.testing.assert_array_equal(source.pixels(1, PLAIN), pixels)
    assert source.size(0, PLAIN) == (4, 5)
    with pytest.raises(BadImage, match="cannot identify"):
        source.pixels(2, PLAIN)
    before = list(source.content())
    Image.fromarray(255 - pixels).save(folder / "River_1.png")
    assert list(source.content()) != before


def test_celeba_s_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", [])  # of real checksums
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = ["1.jpg", "2.jpg", "3.jpg"]
    for name in names:
        Image.new("RGB", (4, 6), (9, 9, 9)).save(folder / "img_align_celeba" / name)

    def write(file: str, head: list[str], row: str) -> None:
        lines = head + [f"{name} {row}" for name in names]
        (folder / file).write_text("\n".join(lines) + "\n")

    write("list_attr_celeba.txt", ["3", "Bald Young"], "-1 1")
    write("identity_CelebA.txt", [], "5")
    write("list_bbox_celeba.txt", ["3", "x y"], "1 2")
    write("list_landmarks_align_celeba.txt", ["3", "x y"], "1 2")
    (folder / "list_eval_partition.txt").write_text("1.jpg 0\n2.jpg 2\n3.jpg 0\n")
    source = open_source(f"torchvision:CelebA:{tmp_path}")
    assert source.labels == {"Bald": [0, 0], "Young": [1, 1]}
    assert source.pixels(1, PLAIN).shape == (6, 4, 3)
    assert len(open_source(f"torchvision:CelebA-all:{tmp_path}").ids) == 3


def test_every_data_set_says_what_is_missing(tmp_path: Path) -> None:
    for name, row in DATA_SETS.items():
        assert hasattr(torchvision.datasets, name)
        for split in row.splits:
            with pytest.raises(ValueError, match=f"'torchvision:{name}") as caught:
                open_torchvision(f"{name}-{split}:{tmp_path}")
            message = str(caught.value)
            assert row.files in message and "download=" not in message and "\n" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("torchvision:MNIST:/no/such/folder", "there is no such folder"),
        ("torchvision:MNIST", "no FOLDER is given"),
        ("torchvision:MNIST-valid:x", "no split 'valid'; there are MNIST-train, MNIST-test"),
        ("torchvision:mnist:x", "did you mean MNIST"),
        ("torchvision", "write torchvision:NAME:FOLDER"),
    ],
)
def test_names_that_are_wrong(data: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        open_source(data)
