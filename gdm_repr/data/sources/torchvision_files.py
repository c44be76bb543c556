"""Data sets in the files that torchvision's loaders read: ``torchvision:NAME[-SPLIT]:FOLDER``.

The loaders of `torchvision.datasets` check and read the files; nothing is downloaded. What they
hold as one array becomes an array here, too; of what lies in many files the loader opens one image
at a time.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gdm_repr.data.images import BadImage, Pixels, Preprocess, pil_pixels
from gdm_repr.data.labels import Label, Labels
from gdm_repr.data.sources.arrays import ArraySource
from gdm_repr.data.sources.files import reasons
from gdm_repr.files import user_path

_HASHED_IMAGES = 64
_LABELS = ("targets", "labels", "_labels")  # what loaders call the list of classes


class _Row(NamedTuple):
    """How a loader is called for each split, the first being the default; the files it reads."""

    splits: dict[str, dict[str, object]]
    files: str


def _named(*splits: str) -> dict[str, dict[str, object]]:
    return {split: {"split": split} for split in splits}


def _idx(folder: str) -> str:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return f"{folder}/raw/ with " + ", ".join(f"{name}-ubyte" for name in names)


_TRAIN: dict[str, dict[str, object]] = {"train": {"train": True}, "test": {"train": False}}
_EMNIST = ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")

DATA_SETS = {
    "MNIST": _Row(_TRAIN, _idx("MNIST")),
    "FashionMNIST": _Row(_TRAIN, _idx("FashionMNIST")),
    "KMNIST": _Row(_TRAIN, _idx("KMNIST")),
    "EMNIST": _Row(
        {
            f"{split}{part}": {"split": split, "train": not part}
            for split in _EMNIST
            for part in ("", "-test")
        },
        "EMNIST/raw/ with emnist-SPLIT-{train,test}-{images-idx3,labels-idx1}-ubyte",
    ),
    "QMNIST": _Row(
        {what: {"what": what} for what in ("train", "test", "test10k", "test50k", "nist")},
        "QMNIST/raw/ with qmnist-{train,test}-{images-idx3-ubyte,labels-idx2-int}",
    ),
    "USPS": _Row(_TRAIN, "usps.bz2, usps.t.bz2"),
    "SEMEION": _Row({"all": {}}, "semeion.data"),
    "CIFAR10": _Row(_TRAIN, "cifar-10-batches-py/, intact"),
    "CIFAR100": _Row(_TRAIN, "cifar-100-python/, intact"),
    "SVHN": _Row(_named("train", "test", "extra"), "{train,test,extra}_32x32.mat"),
    "STL10": _Row(_named("train", "test", "unlabeled", "train+unlabeled"), "stl10_binary/, intact"),
    "CelebA": _Row(
        _named("train", "valid", "test", "all"),
        "celeba/ with img_align_celeba/, list_eval_partition.txt, identity_CelebA.txt, "
        "list_bbox_celeba.txt, list_landmarks_align_celeba.txt, list_attr_celeba.txt",
    ),
    "Flowers102": _Row(
        _named("train", "val", "test"), "flowers-102/ with jpg/, imagelabels.mat, setid.mat"
    ),
    "OxfordIIITPet": _Row(
        _named("trainval", "test"), "oxford-iiit-pet/ with images/ and annotations/"
    ),
    "Food101": _Row(_named("train", "test"), "food-101/ with images/ and meta/"),
    "DTD": _Row(_named("train", "val", "test"), "dtd/dtd/ with images/ and labels/"),
    "EuroSAT": _Row({"all": {}}, "eurosat/2750/"),
    "FGVCAircraft": _Row(
        _named("trainval", "train", "val", "test"), "fgvc-aircraft-2013b/data/ with images/"
    ),
    "GTSRB": _Row(_named("train", "test"), "gtsrb/GTSRB/, for test gtsrb/GT-final_test.csv"),
    "Country211": _Row(
        {name: {"split": name} for name in ("train", "valid", "test")},
        "country211/ with train/, valid/, test/",
    ),
}
"""Loaders by the name that `torchvision.datasets` gives them."""


class LoaderSource:
    """What a loader opens one by one; an image that can't be read is its own `BadImage`."""

    levels: int | None = None

    def __init__(self, name: str, loader: Any, ids: list[str], labels: Labels) -> None:  # noqa: ANN401
        """Keep the loader: ``loader[i]`` is a PIL image, and something else beside it."""
        self.name, self.ids, self.labels, self._loader = name, ids, labels, loader

    def pixels(self, index: int, preprocess: Preprocess) -> Pixels:
        """Return the decoded image (H, W, C); raise BadImage with the reason if there is none."""
        with reasons():
            image = self._loader[index][0]
            if image.width * image.height > preprocess.max_pixels:
                raise BadImage(f"more than max_pixels={preprocess.max_pixels} pixels")
            return pil_pixels(image, preprocess.background)

    def size(self, index: int, preprocess: Preprocess) -> tuple[int, int]:
        """Return (H, W) of an image, which is decoded for it; raise BadImage."""
        height, width = self.pixels(index, preprocess).shape[:2]
        return height, width

    def content(self) -> Iterator[bytes]:
        """Yield the number of images, and the pixels of up to 64 evenly spaced ones."""
        count = len(self.ids)
        yield str(count).encode()
        for index in np.unique(np.linspace(0, count - 1, min(count, _HASHED_IMAGES)).astype(int)):
            try:
                yield self.pixels(int(index), Preprocess()).tobytes()
            except BadImage as error:
                yield str(error).encode()


def open_torchvision(argument: str) -> ArraySource | LoaderSource:
    """Open ``NAME[-SPLIT]:FOLDER`` by the loader of that name; labels `label` and `class`.

    Raises:
        ValueError: There is no such data set or split, or its files are not in the folder.
    """
    named, _, folder = argument.partition(":")
    name, _, split = named.partition("-")
    if name not in DATA_SETS:
        lower = {known.lower(): known for known in DATA_SETS}
        close = difflib.get_close_matches(name.lower(), lower, n=1)
        hint = f"did you mean {lower[close[0]]}? " if close else ""
        raise ValueError(
            f"data 'torchvision:{argument}': no data set {name!r}; {hint}write "
            f"torchvision:NAME:FOLDER, where NAME is one of {', '.join(DATA_SETS)}"
        )
    row = DATA_SETS[name]
    split = split or next(iter(row.splits))
    if split not in row.splits:
        known = ", ".join(f"{name}-{each}" for each in row.splits)
        raise ValueError(f"data 'torchvision:{argument}': no split {split!r}; there are {known}")
    loader = _load(argument, name, split, folder)
    ids = [f"{split}/{i:06d}" for i in range(len(loader))]
    source, labels = f"torchvision:{name}-{split}", _labels(loader)
    if hasattr(loader, "data"):
        return ArraySource(source, np.asarray(loader.data), labels, ids=ids)
    return LoaderSource(source, loader, ids, labels)


def _load(argument: str, name: str, split: str, folder: str) -> Any:  # noqa: ANN401
    from torchvision import datasets

    row, reason = DATA_SETS[name], "no FOLDER is given"
    if folder:
        root = user_path(folder)
        try:
            if not root.is_dir():
                raise NotADirectoryError("there is no such folder")
            return getattr(datasets, name)(str(root), download=False, **row.splits[split])
        except Exception as error:  # of missing, altered and broken files loaders raise anything
            # what torchvision says of missing files is to set an option that we don't have
            reason = str(error).split(" You can use download", 1)[0]
            reason = " ".join(reason.split()).rstrip(".")[:120]
    raise ValueError(
        f"data 'torchvision:{argument}' can't be read ({reason}); FOLDER must hold {row.files}. "
        "Nothing is downloaded"
    )


def _labels(loader: Any) -> Labels:  # noqa: ANN401
    """Return the class of each image, and its name; of CelebA the attributes, 0 or 1."""
    if hasattr(loader, "attr_names"):
        names = [name for name in loader.attr_names if name]
        columns = np.asarray(loader.attr).T.tolist()
        return dict(zip(names, columns, strict=False))
    found = [getattr(loader, name) for name in _LABELS if hasattr(loader, name)]
    if not found and hasattr(loader, "_samples"):
        found = [[target for _, target in loader._samples]]
    if not found or found[0] is None:
        return {}
    codes = np.asarray(found[0])
    codes = codes[:, 0] if codes.ndim == 2 else codes  # of QMNIST; beside them, who wrote it
    # -1 stands for an image without a label, of STL10
    label: list[Label] = [None if code < 0 else code for code in codes.astype(int).tolist()]
    classes = list(getattr(loader, "classes", None) or ())
    if not classes or max((code for code in label if isinstance(code, int)), default=0) >= len(
        classes
    ):
        return {"label": label}
    return {
        "label": label,
        "class": [None if code is None else str(classes[int(code)]) for code in label],
    }
