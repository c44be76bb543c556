"""Parquet with a column of images: Hugging Face's layout and plain binary, one file and many."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.loading import load, open_data
from gdm_repr.data.sources.parquet import ParquetSource
from gdm_repr.data.sources.registry import open_source

PLAIN = Preprocess()
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


def png(pixels: Any) -> bytes:  # noqa: ANN401
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


IMAGES = [png(pixels) for pixels in PIXELS]


def write(path: Path, columns: dict[str, Any], classes: dict[str, list[str]] | None = None) -> Path:
    """Write a table in row groups of two, with names of classes as Hugging Face keeps them."""
    table = pa.table(columns)
    if classes:
        features = {
            name: {"names": names, "_type": "ClassLabel"} for name, names in classes.items()
        }
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def struct(images: list[bytes | None], paths: list[str] | None = None) -> Any:  # noqa: ANN401
    return [{"bytes": data, "path": paths[i] if paths else None} for i, data in enumerate(images)]


def opened(data: Path) -> ParquetSource:
    source = open_source(data)
    assert isinstance(source, ParquetSource)
    return source


def test_a_file_in_hugging_face_s_layout(tmp_path: Path) -> None:
    columns = {
        "image": struct(list(IMAGES)),
        "label": [1, 0, -1, None, 1],
        "sharp": [True, False, True, True, False],
        "weight": pa.array([0.5, 1, 2, 3, 4], pa.float32()),
        "kind": pa.array(["x", "y", "x", "x", "y"]).dictionary_encode(),
        "box": [[1, 2]] * 5,  # no scalar: no label
    }
    source = opened(write(tmp_path / "some.parquet", columns, {"label": ["cat", "dog"]}))
    assert source.ids == [f"some/{row:06d}" for row in range(5)]
    assert source.labels == {
        "label": [1, 0, None, None, 1],
        "class": ["dog", "cat", None, None, "dog"],
        "sharp": [1, 0, 1, 1, 0],
        "weight": [0.5, 1.0, 2.0, 3.0, 4.0],
        "kind": ["x", "y", "x", "x", "y"],
    }
    for index in (4, 0, 3, 1, 2):
        np.testing.assert_array_equal(source.pixels(index, PLAIN), PIXELS[index])
        assert source.size(index, PLAIN) == (6, 7)


def test_names_of_classes_replace_no_column_of_the_file(tmp_path: Path) -> None:
    own = ["a", "b", "c", "d", "e"]
    for columns in ({"class": own, "label": [0] * 5}, {"label": [0] * 5, "class": own}):
        path = write(tmp_path / "a.parquet", {"image": IMAGES, **columns}, {"label": ["cat"]})
        assert opened(path).labels == {"class": own, "label": [0] * 5}


def test_plain_binary_and_names_from_inside(tmp_path: Path) -> None:
    binary = opened(write(tmp_path / "a.parquet", {"picture": IMAGES, "fine": [3, 1, 2, 3, 1]}))
    assert binary.labels == {"fine": [3, 1, 2, 3, 1]}
    np.testing.assert_array_equal(binary.pixels(2, PLAIN), PIXELS[2])
    paths = [f"cats/{i}.png" for i in range(5)]
    assert opened(write(tmp_path / "b.parquet", {"image": struct([*IMAGES], paths)})).ids == paths
    for bad in (["a.png"] * 5, [f"/home/me/{i}.png" for i in range(5)]):
        path = write(tmp_path / "b.parquet", {"image": struct([*IMAGES], bad)})
        assert opened(path).ids[4] == "b/000004"


def test_a_folder_of_files(tmp_path: Path) -> None:
    for split, part, rows in (("train", 0, [0, 1, 2]), ("train", 1, [3]), ("test", 0, [4])):
        path = (
            tmp_path / "data" / f"{split}-{part:05d}-of-0000{2 if split == 'train' else 1}.parquet"
        )
        write(path, {"image": struct([IMAGES[i] for i in rows]), "n": rows})
    (tmp_path / "README.md").touch()
    source = opened(tmp_path)
    assert source.ids[0] == "data/test-00000-of-00001/000000"
    assert source.labels == {"n": [4, 0, 1, 2, 3], "split": ["test", *["train"] * 4]}
    order: list[Any] = source.labels["n"]
    for index, image in enumerate(order):
        np.testing.assert_array_equal(source.pixels(index, PLAIN), PIXELS[image])
    write(tmp_path / "other.parquet", {"image": struct([*IMAGES]), "m": [1] * 5})
    with pytest.raises(ValueError, match=r"'other.parquet' has other columns"):
        open_source(tmp_path)


def test_bad_rows_are_rejected_alone_also_in_workers(tmp_path: Path) -> None:
    images = [IMAGES[0], None, b"", b"no image", IMAGES[4]]
    path = write(tmp_path / "bad.parquet", {"image": struct(images)})
    source = opened(path)
    reasons = []
    for index in (1, 2, 3):
        with pytest.raises(BadImage) as caught:
            source.pixels(index, PLAIN)
        reasons.append(str(caught.value))
    assert reasons == ["no image in this row", "empty file", "not an image that Pillow can read"]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.pixels(4, PLAIN), PIXELS[4])
    (batch,) = load(open_data(path, PLAIN), [range(5)], workers=1)
    assert batch.index.tolist() == [0, 4] and len(batch.rejected) == 3


def test_the_fingerprint_changes_with_the_images(tmp_path: Path) -> None:
    def content(images: list[bytes]) -> list[bytes]:
        path = write(tmp_path / "a.parquet", {"image": images})
        return list(opened(path).content())

    before = content(IMAGES)
    assert content(IMAGES) == before
    changed = IMAGES[3][:-20] + bytes(20)
    assert content([*IMAGES[:3], changed, IMAGES[4]]) != before


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"n": [1, 2]}, r"'a.parquet' has the columns n, of which none could hold the images"),
        ({"left": IMAGES, "right": IMAGES}, "of which left and right could hold"),
    ],
)
def test_tables_without_images(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        open_source(write(tmp_path / "a.parquet", columns))


def test_a_damaged_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": IMAGES})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"'a.parquet' can't be read as Parquet"):
        open_source(path)
