"""Stores that are served: their images by id, their labels, and what is learned from them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.analysis.subject import Subject
from gdm_repr.edit.contrast import Contrast, label_contrast, picked_contrast
from gdm_repr.edit.direction import Direction, learn_from_store
from gdm_repr.latents.neighbours import NearestIndex, Neighbours

if TYPE_CHECKING:
    from gdm_repr.api import GDM
    from gdm_repr.latents.store import LatentStore
    from gdm_repr.serve.edits import Learned

MOST_VALUES = 50  # of a label, to choose from
MOST_LEARNED = 256  # directions that are kept


@dataclass
class ServedStore:
    """A store under a name.

    Attributes:
        name: in requests.
        place: its folder, as it was given.
        store: the store.
        served: name of the model that made it.
        model: that model, in the order that the store was encoded by.
    """

    name: str
    place: str
    store: LatentStore
    served: str
    model: GDM
    # one search or fit at a time: the cores are the models'
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _learned: OrderedDict[Hashable, Direction] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        """Read ids and labels, which are small."""
        self.ids = self.store.ids
        self.labels = {name: self.store.labels(name) for name in self.store.manifest.labels}
        self.held_out = self.store.held_out
        self._places = {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def _subject(self) -> Subject:
        return Subject(self.model, self.store.path, checkpoint=self.served, part="all")

    def images(self, ids: Sequence[str]) -> Tensor:
        """Return the images that were encoded, (B, C, H, W), where the store's word finds them.

        Raises:
            ValueError: if they are not at hand, have changed, or there is no such image.
        """
        rows = self.rows(ids)
        with self._lock:  # they are compared with what was encoded, once
            return self._subject.images(rows)

    @cached_property
    def _index(self) -> NearestIndex:
        return NearestIndex(self.store)

    def facts(self) -> dict[str, Any]:
        """Say what the store holds."""
        return {
            "name": self.name,
            "place": self.place,
            "model": self.served,
            "images": len(self.ids),
            "bands": [band.name for band in self.store.manifest.bands],
            "labels": {name: _values(values) for name, values in self.labels.items()},
            "numbers": [name for name, each in self.labels.items() if each.dtype.kind in "iuf"],
            "held_out": self.held_out is not None,
        }

    def rows(self, ids: Sequence[str]) -> list[int]:
        """Return the places of images.

        Raises:
            ValueError: if there is no such image.
        """
        lacking = [name for name in ids if name not in self._places]
        if lacking:
            raise ValueError(
                f"ids: {lacking[0][:80]!r} is not in the store {self.name!r} ({len(lacking)} of "
                f"{len(ids)} are not); GET /v1/stores/{self.name}/items lists them"
            )
        return [self._places[name] for name in ids]

    def latents(self, ids: Sequence[str]) -> Tensor:
        """Return latents (B, C, d).

        Raises:
            ValueError: if there is no such image.
        """
        return torch.from_numpy(self.store.z(self.rows(ids)))

    def errors(self, ids: Sequence[str]) -> dict[str, list[Any]]:
        """Return the errors that were measured when the images were encoded, by name.

        Raises:
            ValueError: if there is no such image.
        """
        rows = self.rows(ids)
        return {name: self.store.errors(name, rows).tolist() for name in self.store.manifest.errors}

    def find(self, label: str | None, value: str | None, text: str) -> NDArray[np.int64]:
        """Return the rows of a label's value whose ids hold a text.

        Raises:
            ValueError: for a label that the store has not.
        """
        keep = np.ones(len(self.ids), np.bool_)
        if label is not None:
            if label not in self.labels:
                raise ValueError(f"label={label!r}: there are {', '.join(self.labels) or 'none'}")
            keep &= np.array([str(each) == value for each in self.labels[label]], np.bool_)
        if text:
            keep &= np.array([text.lower() in name.lower() for name in self.ids], np.bool_)
        return np.flatnonzero(keep)

    def item(self, row: int) -> dict[str, Any]:
        """Say what is known of an image."""
        held_out = self.held_out
        return {
            "id": self.ids[row],
            "labels": {name: _plain(values[row]) for name, values in self.labels.items()},
            "held_out": None if held_out is None else bool(held_out[row]),
        }

    def nearest(
        self, z: Tensor, bands: Sequence[str], n: int, without: str | None
    ) -> list[Neighbours]:
        """Return the nearest images of one image's latents (C, d), by band.

        Raises:
            ValueError: for a band or an image that is not there.
        """
        row = None if without is None else self.rows([without])[0]
        with self._lock:
            return self._index.nearest(z.numpy(), bands, n, without=row)

    def learn(self, asked: Learned) -> Direction:
        """Learn a direction, or return the one that was learned before.

        Raises:
            ValueError: for a band, a label or images that are not there, or too few of a kind.
        """
        key = asked.model_dump_json()
        with self._lock:
            if key not in self._learned:
                self._learned[key] = learn_from_store(
                    self.store, self._contrast(asked), self.model.grouping, asked.band
                )
                while len(self._learned) > MOST_LEARNED:
                    self._learned.popitem(last=False)
            return self._learned[key]

    def _contrast(self, asked: Learned) -> Contrast:
        if (asked.label is None) == (asked.positive is None):
            raise ValueError("learned: give a label with its value, or two lists of ids")
        if asked.label is not None:
            if asked.value is None:
                raise ValueError(f"value: missing; name a value of {asked.label}")
            return label_contrast(self.store, asked.label, asked.value, asked.against)
        return picked_contrast(self.store, asked.positive or [], asked.negative)


def _values(values: NDArray[Any]) -> list[str] | None:
    """Return the values to choose from, the most frequent first; None where they are too many."""
    known = [str(each) for each in map(_plain, values) if each is not None]
    found, counts = np.unique(np.array(known, np.str_), return_counts=True)
    if len(found) > MOST_VALUES:
        return None
    return [str(found[i]) for i in np.argsort(-counts, kind="stable")]


def _plain(value: object) -> Any:  # noqa: ANN401
    """Return a label's value as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
