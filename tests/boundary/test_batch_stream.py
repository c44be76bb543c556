"""One batch or many: loaders, data sets and generators give what a tensor of the images gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gdm_repr import GDM
from gdm_repr.boundary.batch_stream import IMAGES, LATENTS, batches, dimensions, is_stream, take
from gdm_repr.data import Preprocess, load, open_data
from gdm_repr.encoding import Encoding

RGB = (3, 4, 6)
N = 5
LEVELS = np.random.default_rng(0).integers(0, 256, (N, 4, 6, 3), np.uint8)
PICTURES = [Image.fromarray(levels) for levels in LEVELS]
LABELS = list(range(N))


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> GDM:
    path = tmp_path_factory.mktemp("stream") / "m.safetensors"
    grouping = {"name": "bands", "cuts": [5, 9]}
    return GDM.from_pretrained(make_model(path, RGB, grouping=grouping), device="cpu")


def images() -> Tensor:
    """The pictures as x = 2 v / 255 - 1."""
    x = LEVELS.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, 3, 1)))


def from_files(folder: Path) -> Any:  # noqa: ANN401
    for i, picture in enumerate(PICTURES):
        picture.save(folder / f"{i}.png")
    return open_data(folder, Preprocess())


def rows(**more: list[Any]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"label": LABELS, "image": PICTURES, **more})


class Pairs(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    """As torchvision's data sets are: (picture, label) by number."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return PICTURES[index], LABELS[index]


HELD: dict[str, Callable[[Path], Any]] = {
    "array": lambda _: images().numpy(),
    "list of tensors": lambda _: list(images()),
    "numbers": lambda _: images().tolist(),
    "PIL": lambda _: PICTURES,
    "images and labels": lambda _: [images(), torch.tensor(LABELS)],
    "mapping": lambda _: {"label": LABELS, "image": PICTURES},
    "rows of a data set": lambda _: rows()[:],
    "column of a data set": lambda _: rows()["image"],
    "our batch": lambda folder: from_files(folder).batch(range(N)),
}
GONE_THROUGH: dict[str, Callable[[Path, int], Any]] = {
    "generator of images": lambda _, n: (x for x in images()),
    "generator of pictures": lambda _, n: iter(PICTURES),
    "generator of batches": lambda _, n: (x for x in torch.split(images(), n)),
    "generator of lists": lambda _, n: (PICTURES[i : i + n] for i in range(0, N, n)),
    "loader of tensors": lambda _, n: DataLoader(TensorDataset(images()), n),
    "loader of pairs": lambda _, n: DataLoader(TensorDataset(images(), torch.arange(N)), n),
    "loader of mappings": lambda _, n: DataLoader(
        [{"x": x, "label": i} for i, x in enumerate(images())],  # type: ignore[arg-type]
        n,
    ),
    "our data set": lambda folder, n: from_files(folder),
    "pairs by number": lambda _, n: Pairs(),
    "our loader": lambda folder, n: load(
        from_files(folder), (range(i, min(i + n, N)) for i in range(0, N, n)), workers=0
    ),
    "rows": lambda _, n: rows(),
    "rows, streaming": lambda _, n: rows().to_iterable_dataset(),
    "rows in batches": lambda _, n: rows().iter(n),
}


@pytest.mark.parametrize("form", HELD)
def test_what_is_held_is_one_batch(model: GDM, tmp_path: Path, form: str) -> None:
    plan = model.plan(3)
    found = model.encode(HELD[form](tmp_path), plan)
    assert isinstance(found, Encoding)
    assert torch.equal(found.z, model.encode(images(), plan).z)


@pytest.mark.parametrize("size", [N, 2])
@pytest.mark.parametrize("form", GONE_THROUGH)
def test_what_is_gone_through_gives_the_same_latents(
    model: GDM, tmp_path: Path, form: str, size: int
) -> None:
    plan = model.plan(3)
    found = model.encode(GONE_THROUGH[form](tmp_path, size), plan, batch_size=size)
    assert isinstance(found, Iterator)
    encodings = list(found)
    assert [len(each) for each in encodings] == ([5] if size == N else [2, 2, 1])
    for each, part in zip(encodings, torch.split(images(), size), strict=True):
        assert torch.equal(each.z, model.encode(part, plan).z)  # equal batches, to the bit
    z = torch.cat([each.z for each in encodings])
    torch.testing.assert_close(z, model.encode(images(), plan).z, atol=1e-5, rtol=0)


def test_latents_in_every_form_give_the_same_pixels(model: GDM) -> None:
    plan = model.plan(3)
    e = model.encode(images(), plan)
    pixels = model.decode(e.z, plan)
    held: list[Any] = [
        e,
        e.z.numpy(),
        list(e.z),
        e.z.tolist(),
        [e.z, torch.arange(N)],
        {"z": e.z, "id": "a"},
    ]
    for one in held:
        assert torch.equal(model.decode(one, plan), pixels)
    loader: Any = DataLoader(TensorDataset(e.z, torch.zeros(N, 40)), N)
    encodings = model.encode(iter([images()]), plan)
    for many in (iter(e.z), iter([e.z]), iter([e]), loader, encodings):
        (found,) = model.decode(many, plan)
        assert torch.equal(found, pixels)
    parts = torch.cat(list(model.decode(iter(e.z), plan, batch_size=2)))
    torch.testing.assert_close(parts, pixels, atol=1e-5, rtol=0)


def test_latents_alone(model: GDM) -> None:
    plan = model.plan(3)
    z = model.encode(images(), plan).z
    assert torch.equal(model.latents(images(), plan), z)
    assert torch.equal(torch.cat(list(model.latents(iter([images()]), plan))), z)


def test_results_come_when_asked_for(model: GDM) -> None:
    asked: list[int] = []

    def endless() -> Iterator[Tensor]:
        while True:
            asked.append(len(asked))
            yield images()[:1]

    found = model.encode(endless(), model.plan(3))
    assert asked == []
    next(found), next(found)
    assert asked == [0, 1]


def test_wrong_options_are_refused_before_anything_is_read(model: GDM) -> None:
    with pytest.raises(ValueError, match="batch_size=0"):
        model.encode(iter(images()), batch_size=0)


def test_single_images_before_a_batch_are_a_batch_of_their_own() -> None:
    x = images()
    found = batches(iter([x[0], x[1], x[2:4], x[4]]), IMAGES, 8)
    assert [dimensions(each) for each in found] == [4, 4, 4]


def test_a_column_by_name(model: GDM) -> None:
    plan, two = model.plan(3), rows(mask=PICTURES[::-1])
    with pytest.raises(ValueError, match=r"item 0: x: its columns 'image' and 'mask'.*ge'"):
        next(model.encode(two, plan))
    (found,) = model.encode(two, plan, column="mask")
    assert torch.equal(found.z, model.encode(PICTURES[::-1], plan).z)


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        ({"a": [1, 2], "b": ["x", "y"]}, {}, "none of its columns, a, b, holds images"),
        ({"a": PICTURES}, {"column": "b"}, "column='b': not among x's columns, a"),
        (PICTURES, {"column": "a"}, "column='a': x has no columns .it is a list"),
        ([images(), images()], {}, "entries 0 and 1 of a list could both be images"),
        (iter([images()[0, 0]]), {}, r"item 0: x is of shape \(4, 6\); must be one image \(C, H"),
        (iter([images(), "cat.png"]), {}, "item 1: x is str; must be one image"),
        (iter([images(), images()[:, :2]]), {}, "^batch 1: x: shape"),
        (iter([PICTURES[0], PICTURES[1].rotate(90, expand=True)]), {}, r"^batch 0: x\[1\]: 6x4 px"),
    ],
)
def test_what_is_no_batch_and_has_none(
    model: GDM,
    values: Any,  # noqa: ANN401
    options: dict[str, Any],
    says: str,
) -> None:
    with pytest.raises(ValueError, match=says):
        found = model.encode(values, model.plan(3), **options)
        assert list(found) == []


def test_results_before_a_refused_batch_are_given_out(model: GDM) -> None:
    found = model.encode(iter([images(), images() * torch.nan]), model.plan(3))
    assert len(next(found)) == N
    with pytest.raises(ValueError, match="batch 1: x: holds values that are not finite"):
        next(found)


def test_a_warning_points_at_who_goes_through_it(model: GDM) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        next(model.latents(iter([images() / 2 + 0.5]), model.plan(3)))
    assert [Path(each.filename).name for each in told] == [Path(__file__).name]


def test_kinds() -> None:
    assert not any(map(is_stream, (images(), PICTURES, PICTURES[0], {}, "x", rows()["image"])))
    assert all(map(is_stream, (rows(), iter([]), Pairs(), DataLoader(Pairs()))))
    z = torch.zeros(2, 3, 24)
    assert take([z, torch.zeros(2, 40)], LATENTS) is z
    assert dimensions(PICTURES) == 4 and dimensions([]) is None and dimensions(True) == 0
