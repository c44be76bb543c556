"""Opening and loading: any workers give the same batches, and a bad image stops nothing."""

import errno
import io
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gdm_repr.boundary.endings import ending
from gdm_repr.data.dataset import Batch, ImageDataset
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import load, open_data, work_ahead
from gdm_repr.data.quarantine import QuarantineLog


def photo(side: int = 40, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(side)
    return Image.fromarray(rng.integers(0, 256, (side, side + 3, 3), dtype=np.uint8)).convert(mode)


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    """Make a folder of 6 good images and 15 bad ones."""
    folder = tmp_path / "wild"
    folder.mkdir()
    for index, mode in enumerate(("RGB", "L", "P", "CMYK", "1", "LA")):
        suffix = "tif" if mode == "CMYK" else "png"
        photo(20 + index, mode).save(folder / f"{index}.{suffix}")
    whole: dict[str, bytes] = {}
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        file = io.BytesIO()
        photo().save(file, kind)
        whole[kind] = file.getvalue()
    for kind, content in whole.items():
        (folder / f"cut.{kind.lower()}").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").touch()
    (folder / "page.jpg").write_text("<html>Not found</html>")
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "vector.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.png")
    photo(300).save(folder / "bomb.png")
    rgb16 = b"P6\n2 2\n65535\n" + bytes(24)
    (folder / "deep.ppm").write_bytes(rgb16)
    return folder


SETTINGS = Preprocess(size=16, dequantize=True, max_pixels=10_000)


def joined(batches: Iterator[Batch]) -> tuple[torch.Tensor, list[str], list[str], list[object]]:
    every = list(batches)
    return (
        torch.cat([b.x for b in every]),
        [name for b in every for name in b.ids],
        [f"{r.id}: {r.reason}" for b in every for r in b.rejected],
        [value for b in every for value in b.index.tolist()],
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 4])
def test_workers_and_batches_change_nothing(wild: Path, workers: int, size: int) -> None:
    dataset = open_data(wild, SETTINGS, seed=2)
    expected = joined(iter([dataset.batch(range(len(dataset)), draw=1)]))
    batches = [list(range(i, min(i + size, len(dataset)))) for i in range(0, len(dataset), size)]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    x, *others = joined(load(dataset, batches, workers=workers, draw=1))
    assert torch.equal(x, expected[0])
    assert others == list(expected[1:])
    assert torch.equal(torch.get_rng_state(), before)  # training draws the same numbers after it


def test_every_bad_image_is_listed_and_the_job_goes_on(wild: Path, tmp_path: Path) -> None:
    dataset = open_data(wild, SETTINGS)
    log = QuarantineLog(tmp_path / "quarantine.jsonl", dataset.source)
    good: list[str] = []
    for _ in range(2):  # a second epoch adds no line
        for batch in load(dataset, np.array_split(np.arange(len(dataset)), 3), workers=0):
            log.write(batch.rejected)
            good += batch.ids
            assert batch.x.shape == (len(batch.ids), 3, 16, 16)
            assert torch.isfinite(batch.x).all()
    assert sorted(set(good)) == ["0.png", "1.png", "2.png", "3.tif", "4.png", "5.png"]
    rows = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert len(rows) == len(log) == 15
    assert {row["source"] for row in rows} == {"wild"}
    reasons = {row["id"]: row["reason"] for row in rows}
    assert set(reasons) | set(good) == set(dataset.ids)
    assert "max_pixels=10000" in reasons["bomb.png"]
    assert all(str(tmp_path) not in reason for reason in reasons.values())


def test_zip_is_read_by_several_processes(tmp_path: Path) -> None:
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(24):
            file = io.BytesIO()
            photo(160 + index).save(file, "PNG")  # larger than a read-ahead buffer
            archive.writestr(f"{index}.png", file.getvalue())
    dataset = open_data(path, Preprocess(size=16))
    batches = [[i, 23 - i] for i in range(24)]
    alone, many = (joined(load(dataset, batches, workers=n)) for n in (0, 2))
    assert torch.equal(alone[0], many[0])
    assert many[1:] == alone[1:]
    assert many[2] == []


def test_endless_batches_and_early_stop() -> None:
    digits = open_data("digits", Preprocess())
    for dataset in (digits, digits.in_memory()):
        batches = load(dataset, ([i % 7, i % 11] for i in count()), workers=1)
        taken = [batch.index.tolist() for batch in islice(batches, 5)]
        assert taken == [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]]


def test_labels_from_csv_reach_the_batch(wild: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("file,age\n1.png,30\n0.png,20\nempty.png,1\n")
    dataset = open_data(wild, SETTINGS, labels=tmp_path / "l.csv")
    assert dataset.label_names == ["age"]
    assert dataset.batch([2, 1, 0]).labels == {"age": [None, 30, 20]}
    with pytest.raises(ValueError, match="not in the data"):
        (tmp_path / "l.csv").write_text("file,age\nother.png,30\n")
        open_data(wild, SETTINGS, labels=tmp_path / "l.csv")


def test_csv_takes_the_place_of_the_source_s_column(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("id,digit\n000002,20\n")
    digits = open_data("digits", Preprocess(), labels=tmp_path / "l.csv", first=3)
    assert digits.labels == {"digit": [None, None, 20]}


def test_photos_as_tiles() -> None:
    pytest.importorskip("skimage")
    photos = open_data("photos", Preprocess(size=32, fit="tile"), limit=600)
    assert photos.shape == (3, 32, 32)
    batch = photos.in_memory().batch(range(len(photos)))
    assert batch.rejected == []
    assert len(set(batch.ids)) == 600
    assert batch.x.std() > 0.1


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="limit=0"):
        open_data("digits", Preprocess(), limit=0)
    digits = open_data("digits", Preprocess(), limit=5)
    assert isinstance(digits, ImageDataset)
    with pytest.raises(ValueError, match="workers=-1"):
        load(digits, [[0]], workers=-1)


@pytest.mark.gpu
def test_pinned_batches() -> None:
    digits = open_data("digits", Preprocess(), limit=8)
    for dataset in (digits, digits.in_memory()):
        for workers in (0, 1):
            (batch,) = load(dataset, [range(8)], workers=workers, pin=True)
            assert batch.x.is_pinned()
            assert torch.equal(batch.x, digits.batch(range(8)).x)


class Deadly:
    """Squares its keys; a worker that gets the fatal one kills itself, as often as told."""

    def __init__(self, marks: Path, fatal: int, times: int) -> None:
        self.marks, self.fatal, self.times = marks, fatal, times

    def __call__(self, key: int) -> torch.Tensor:
        if key == self.fatal and len(list(self.marks.iterdir())) < self.times:
            (self.marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.full((3,), key**2)


def test_a_killed_worker_is_replaced_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [key**2 for key in range(40)]
    before = signal.getsignal(signal.SIGCHLD)
    made = work_ahead(Deadly(tmp_path, 17, 1), range(40), workers=2)
    assert [int(each[0]) for each in made] == expected
    assert len(list(tmp_path.iterdir())) == 1
    assert signal.getsignal(signal.SIGCHLD) == before  # no exception amid other work
    assert capsys.readouterr().err.count("it is replaced") == 1


def test_a_worker_that_dies_twice_is_told(tmp_path: Path) -> None:
    made = work_ahead(Deadly(tmp_path, 3, 2), range(40), workers=1)
    got = []  # what a worker made before is lost with it where it was not fetched
    with pytest.raises(ChildProcessError, match="--workers 0"):
        for each in made:
            got.append(int(each[0]))
    assert got == [0, 1, 4][: len(got)]
    assert ending(ChildProcessError("a worker; use --workers 0"), "go on") is not None


def no_files_left(key: int) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), f"{key}.png")


def test_an_error_in_a_worker_keeps_its_number() -> None:
    with pytest.raises(OSError, match=r"0\.png") as caught:
        next(work_ahead(no_files_left, range(3), workers=1))
    assert caught.value.errno == errno.EMFILE
    assert "DataLoader" not in str(caught.value)
