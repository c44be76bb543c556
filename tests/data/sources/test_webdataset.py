"""WebDataset shards: samples by name, labels of their members, and what no such tar needs."""

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.sources.registry import open_source

PLAIN = Preprocess()
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)
Members = Sequence[tuple[str, bytes]]


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(file, "PNG")
    return file.getvalue()


def write(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_a_shard(tmp_path: Path) -> None:
    more = {"kind": "x", "sharp": True, "size": 2, "box": [1], "none": None}
    members = [
        ("10.png", png(1)),
        ("10.cls", b"7\n"),
        ("2.PNG", png(0)),
        ("2.seg.png", png(3)),  # no second image: its ending is not a simple one
        ("2.json", json.dumps(more).encode()),
        ("2.txt", b"a caption"),
        ("2.cls", b"3"),
        ("20.json", b'{"size": 1.5}'),
        ("20.png", png(2)),
        ("lonely.cls", b"1"),
    ]
    source = open_source(write(tmp_path / "a.tar", members))
    assert source.ids == ["2", "10", "20"]
    assert source.labels == {
        "kind": ["x", None, None],
        "sharp": [1, None, None],
        "size": [2.0, None, 1.5],
        "label": [3, 7, None],
    }
    for index in (2, 0, 1):
        np.testing.assert_array_equal(source.pixels(index, PLAIN)[:, :, 0], PIXELS[index])
        assert source.size(index, PLAIN) == (5, 6)


def test_a_folder_of_shards(tmp_path: Path) -> None:
    write(tmp_path / "train" / "00.tar", [("a.png", png(0)), ("b.png", png(1))])
    write(tmp_path / "train" / "01.tar", [("c.png", png(2))])
    assert open_source(tmp_path).ids == ["a", "b", "c"]
    write(tmp_path / "train" / "02.tar", [("a.png", png(3))])
    source = open_source(tmp_path)
    assert source.ids == ["train/00/a", "train/00/b", "train/01/c", "train/02/a"]
    np.testing.assert_array_equal(source.pixels(3, PLAIN)[:, :, 0], PIXELS[3])


def test_a_plain_tar_is_labelled_by_its_folders(tmp_path: Path) -> None:
    members = [("./cat/1.png", png(0)), ("dog/1.png", png(1)), ("2.png", png(2))]
    source = open_source(write(tmp_path / "a.tar", members))
    assert dict(zip(source.ids, source.labels["label"], strict=True)) == {
        "cat/1": "cat",
        "dog/1": "dog",
        "2": None,
    }


def test_bad_images_are_rejected_alone(tmp_path: Path) -> None:
    source = open_source(
        write(tmp_path / "a.tar", [("a.png", b""), ("b.png", b"x"), ("c.png", png(0))])
    )
    for index, reason in enumerate(["empty file", "not an image"]):
        with pytest.raises(BadImage, match=reason):
            source.pixels(index, PLAIN)
    assert source.pixels(2, PLAIN).shape == (5, 6, 1)


def test_the_fingerprint_changes_with_the_images(tmp_path: Path) -> None:
    def content(data: bytes) -> list[bytes]:
        return list(open_source(write(tmp_path / "a.tar", [("a.png", data)])).content())

    assert content(png(0)) == content(png(0))
    assert content(png(0)) != content(png(0)[:-1] + b"!")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("../a.png", b"x")], "points outside the archive"),
        ([("/a.png", b"x")], "points outside the archive"),
        ([("a.zip", b"x")], "is an archive in an archive"),
        ([("a.png", b"x"), ("a.png", b"y")], "member 'a.png' is there twice"),
        ([("a.png", b"x"), ("a.jpg", b"y")], r"'a' has 2 images \(png, jpg\)"),
        ([("a.png", b"x"), ("a.json", b"{")], "'a.json' can't be read as labels"),
        ([("a.png", b"x"), ("a.cls", b"\xff")], "'a.cls' can't be read as labels"),
    ],
)
def test_what_is_refused(tmp_path: Path, members: Members, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^data 'a.tar'.*{reason}"):
        open_source(write(tmp_path / "a.tar", members))


def test_links_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            info = tarfile.TarInfo("a.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        with pytest.raises(ValueError, match=r"'a\.png' is a link"):
            open_source(tmp_path / "a.tar")


def test_damaged_and_compressed_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", [(f"{i}.png", png(i)) for i in range(4)])
    whole = path.read_bytes()
    second = whole.index(b"1.png")
    for data in (b"no tar", whole[: second + 700], whole[:second] + b"9" * 9 + whole[second + 9 :]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"'a.tar' can't be read as a tar.*pack it again"):
            open_source(path)
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(ValueError, match="it is compressed"):
        open_source(path)
    path.rename(tmp_path / "a.tar.gz")
    with pytest.raises(ValueError, match="compressed tar"):
        open_source(tmp_path / "a.tar.gz")
