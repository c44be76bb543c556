"""Folders and zips: what is in them, in which order, and a reason for everything that is broken."""

import io
import json
import os
import pickle
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.sources.files import FileSource, ZipSource, open_folder

PLAIN = Preprocess()


def png(level: int = 0, size: int = 8) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(level).integers(0, 256, (size, size), dtype=np.uint8)
    noise[0, 0] = level
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def reason(source: FileSource | ZipSource, name: str, preprocess: Preprocess = PLAIN) -> str:
    with pytest.raises(BadImage) as caught:
        source.pixels(source.ids.index(name), preprocess)
    return str(caught.value)


def test_folder_order_ids_and_labels(tmp_path: Path) -> None:
    for name in ("b/10.png", "b/9.PNG", "a/x/1.jpg", "2.png", "10.png", "02.png"):
        write(tmp_path / name, png())
    for name in (".hidden.png", ".cache/1.png", "notes.txt", "labels.csv", "._1.png", "README"):
        write(tmp_path / name, b"")
    source = open_folder(tmp_path)
    assert source.ids == ["02.png", "2.png", "10.png", "a/x/1.jpg", "b/9.PNG", "b/10.png"]
    assert source.labels == {"label": [None, None, None, "a/x", "b", "b"]}
    assert source.name == tmp_path.name


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "1.png", png(7))
    source = open_folder(tmp_path)
    assert source.labels == {}
    assert source.pixels(0, PLAIN)[0, 0, 0] == 7


def test_dataset_json_of_a_folder_goes_before_its_sub_folders(tmp_path: Path) -> None:
    write(tmp_path / "00000/1.png", png())
    write(tmp_path / "dataset.json", json.dumps({"labels": [["00000/1.png", 4]]}).encode())
    assert open_folder(tmp_path).labels == {"label": [4]}


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "data/a/1.png", png())
    write(tmp_path / "elsewhere/2.png", png())
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/up").symlink_to(tmp_path / "data")
    assert open_folder(tmp_path / "data").ids == ["a/1.png", "b/2.png"]


def test_every_broken_file_has_its_reason(tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(
        jpeg, "JPEG"
    )
    write(tmp_path / "cut.png", png(size=64)[:2000])
    write(tmp_path / "cut.jpg", jpeg.getvalue()[:1500])
    write(tmp_path / "empty.png", b"")
    write(tmp_path / "text.jpg", b"<html>404</html>")
    write(tmp_path / "photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    write(tmp_path / "bits.png", png()[:60] + b"????" + png()[64:])
    write(tmp_path / "good.png", png())
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.png")
    source = open_folder(tmp_path)
    reasons = {name: reason(source, name) for name in source.ids if name != "good.png"}
    assert reasons["empty.png"] == "empty file"
    assert reasons["text.jpg"] == "not an image that Pillow can read"
    assert reasons["photo.heic"] == "not an image that Pillow can read"
    assert reasons["folder.png"] == "a folder named like an image"
    assert reasons["link.png"] == "broken symbolic link"
    assert reasons["pipe.png"] == "not a regular file"
    assert "truncated" in reasons["cut.jpg"]
    assert len(reasons) == 9
    for text in reasons.values():
        assert 0 < len(text) <= 200
        assert str(tmp_path) not in text
        assert "0x" not in text  # an address would differ between runs
    (tmp_path / "good.png").unlink()
    assert reason(source, "good.png") == "No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    write(tmp_path / "1.png", png())
    write(tmp_path / "locked/2.png", png())
    (tmp_path / "1.png").chmod(0)
    (tmp_path / "locked").chmod(0)
    source = open_folder(tmp_path)
    assert reason(source, "1.png") == "Permission denied"
    assert reason(source, "locked") == "folder can't be listed"
    (tmp_path / "locked").chmod(0o700)


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(png(5))
    source = open_folder(tmp_path)
    assert source.ids == ["caf\\udce9.png"]
    assert source.pixels(0, PLAIN)[0, 0, 0] == 5


def test_content_of_files_is_name_and_size(tmp_path: Path) -> None:
    write(tmp_path / "1.png", png())
    (tmp_path / "2.png").symlink_to(tmp_path / "nothing")
    source = open_folder(tmp_path)
    before = list(source.content())
    write(tmp_path / "1.png", png(size=9))
    assert before[0] != next(source.content())
    assert before[1] == b"2.png\0-1\0"


def test_zip_in_edm_s_format(tmp_path: Path) -> None:
    labels = json.dumps({"labels": [["00000/img10.png", 1], ["00000/img2.png", 0]]})
    members = {f"00000/img{i}.png": png(i) for i in (10, 2, 3)}
    extra = {"dataset.json": labels.encode(), "__MACOSX/._img2.png": b"", "notes.txt": b"hi"}
    source = ZipSource(make_zip(tmp_path / "d.zip", members | extra))
    assert source.ids == ["00000/img2.png", "00000/img3.png", "00000/img10.png"]
    assert source.labels == {"label": [0, None, 1]}
    assert [source.pixels(i, PLAIN)[0, 0, 0] for i in range(3)] == [2, 3, 10]
    copy = pickle.loads(pickle.dumps(source))
    assert copy.size(2, PLAIN) == (8, 8)
    assert list(copy.content()) == list(source.content())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/1.png", "points outside"),
        ("../1.png", "points outside"),
        ("a/../../1.png", "points outside"),
        ("C:\\1.png", "points outside"),
        ("..\\1.png", "points outside"),
        ("more.zip", "an archive in an archive"),
        ("a/more.tar.gz", "an archive in an archive"),
    ],
)
def test_zip_members_that_escape_or_nest(tmp_path: Path, name: str, why: str) -> None:
    path = make_zip(tmp_path / "d.zip", {"1.png": png(), name: png()})
    with pytest.raises(ValueError, match=why):
        ZipSource(path)


def test_zip_with_links_or_duplicates(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("1.png", png())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("1.png", png())
    with pytest.raises(ValueError, match="symbolic link"):
        ZipSource(tmp_path / "link.zip")
    with pytest.raises(ValueError, match="twice"):
        ZipSource(tmp_path / "twice.zip")


def test_zip_that_is_none(tmp_path: Path) -> None:
    write(tmp_path / "d.zip", make_zip(tmp_path / "e.zip", {"1.png": png()}).read_bytes()[:-30])
    with pytest.raises(ValueError, match="can't be read as a zip"):
        ZipSource(tmp_path / "d.zip")


def test_broken_zip_members_have_reasons(tmp_path: Path) -> None:
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(1 << 21))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("empty.png", b"")
        archive.writestr("flipped.png", png(size=16))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"IDAT", 0, content.rindex(b"IEND")) + 30] ^= 1
    path.write_bytes(content)
    source = ZipSource(path)
    assert "unpacks to 2097152 bytes" in reason(source, "bomb.png", Preprocess(max_pixels=1000))
    assert reason(source, "empty.png") == "empty file"
    assert "CRC" in reason(source, "flipped.png")
