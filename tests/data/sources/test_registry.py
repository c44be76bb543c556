"""Names and paths become the right kind of source; what is built in is what it says."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdm_repr.data.images import Preprocess
from gdm_repr.data.sources.registry import BUILT_IN, open_source

PLAIN = Preprocess()


def save_png(path: Path) -> Path:
    Image.new("L", (4, 4), 9).save(path)
    return path


def test_digits_are_scikit_learn_s() -> None:
    digits = open_source("digits")
    assert len(digits.ids) == len(set(digits.ids)) == 1797
    assert digits.levels == 16
    pixels = np.stack([digits.pixels(i, PLAIN) for i in range(1797)])
    assert pixels.shape == (1797, 8, 8, 1)
    assert (pixels.min(), pixels.max()) == (0, 16)
    assert digits.labels["digit"][:10] == list(range(10))


def test_photos_are_photographs_of_both_kinds() -> None:
    pytest.importorskip("skimage")
    photos = open_source("photos")
    assert len(photos.ids) == 18
    channels = {
        photos.pixels(photos.ids.index(name), PLAIN).shape[2]
        for name in ("astronaut.png", "camera.png", "rocket.jpg")
    }
    assert channels == {1, 3}
    for index in range(len(photos.ids)):
        assert min(photos.size(index, PLAIN)) >= 100


@pytest.fixture
def cifar_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write CIFAR-10's files with 3 and 2 images; their checksums replace the real ones."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name: str, content: object) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def batch(name: str, count: int) -> list[str]:
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        return [name, write(name, {"data": data, "labels": list(range(count))})]

    monkeypatch.setattr(CIFAR10, "train_list", [batch("data_batch_1", 2), batch("data_batch_2", 1)])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", 2)])
    names = ["airplane", "automobile", "bird"]
    md5 = write("batches.meta", {"label_names": names})
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return tmp_path


def test_cifar10_s_own_files(cifar_root: Path) -> None:
    train = open_source(f"cifar10:{cifar_root}")
    test = open_source(f"cifar10-test:{cifar_root}")
    assert train.ids == ["train/00000", "train/00001", "train/00002"]
    assert test.ids == ["test/00000", "test/00001"]
    assert train.labels == {"label": [0, 1, 0], "class": ["airplane", "automobile", "airplane"]}
    raw = pickle.loads((cifar_root / "cifar-10-batches-py" / "data_batch_2").read_bytes())["data"]
    expected = raw[0].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(train.pixels(2, PLAIN), expected)


def test_cifar10_that_is_missing_or_altered(cifar_root: Path, tmp_path: Path) -> None:
    with (cifar_root / "cifar-10-batches-py" / "data_batch_2").open("ab") as file:
        file.write(b"!")
    for name in (f"cifar10:{cifar_root}", f"cifar10-test:{tmp_path / 'none'}", "cifar10"):
        with pytest.raises(ValueError, match=r"cifar10.*FOLDER holds the unpacked"):
            open_source(name)


def test_paths_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 5, 5), np.uint8))
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 5, 5), np.uint8))
    (tmp_path / "a.npz").rename(tmp_path / "a.NPZ")
    save_png(tmp_path / "a.png")
    (tmp_path / "digits").mkdir()
    save_png(tmp_path / "digits" / "1.png")
    monkeypatch.chdir(tmp_path)
    assert len(open_source("a.npy").ids) == 2
    assert len(open_source(str(tmp_path / "a.NPZ")).ids) == 3
    assert open_source(Path("a.png")).ids == ["a.png"]
    assert open_source("./digits").ids == ["1.png"]  # a path, not the built-in
    assert len(open_source("digits").ids) == 1797
    assert open_source(".").name == tmp_path.name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("digit", "neither a path that exists nor one of digits, photos.*Did you mean digits"),
        ("phots", "Did you mean photos"),
        ("pictuers", "Did you mean pictures"),
        ("nowhere/at/all", "neither a path"),
        ("digits:3", "takes no argument"),
        ("photos:3", "takes no argument"),
        ("scenes:9", "START-STOP"),
        ("scenes:9-9", "START < STOP"),
        ("notes.txt", "unknown kind"),
    ],
)
def test_bad_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, reason: str) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=reason):
        open_source(data)


def test_every_built_in_refuses_what_it_does_not_know() -> None:
    for name in BUILT_IN:
        with pytest.raises(ValueError, match=name):
            open_source(f"{name}:no such thing")
