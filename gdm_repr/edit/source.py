"""What an edit starts from: images or rows of a latent store, their latents and reconstructions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gdm_repr.api import model_preprocess, open_model
from gdm_repr.boundary import numerals
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.loading import open_data
from gdm_repr.edit.options import EditConfig
from gdm_repr.generation import Generation
from gdm_repr.latents.matching import open_latents
from gdm_repr.latents.store import LatentStore
from gdm_repr.ode import Plan, encode
from gdm_repr.solvers import SOLVERS


@dataclass(frozen=True, eq=False)
class Originals:
    """N images with their latents.

    Attributes:
        ids: of the items.
        z: latents (N, C, d).
        states: of the generation from z (:meth:`Generation.states`).
        data: the unedited reconstruction decode(z), in the basis's coordinates, (N, C, d).
        x: the images (N, C, H, W); of a store, the reconstruction's.
        error: RMS of the reconstruction's error over pixels, (N,); None where a store has none.
        converged: whether every fixed point of the exact inverse converged, bool (N,).
        facts: the source, its fingerprint and the ids, for the record.
    """

    ids: list[str]
    z: Tensor
    states: list[Tensor]
    data: Tensor
    x: Tensor
    error: Tensor | None
    converged: Tensor
    facts: Mapping[str, Any]


class Editor:
    """A model, the plan it is solved by, and the source that items come from.

    Images are encoded by inverting the decoder's own steps, so that decode(z) is the image to the
    plan's tolerance and what changes is the edit. A store is decoded as it was encoded.
    """

    def __init__(self, config: EditConfig) -> None:
        """Load the model and choose the plan.

        Raises:
            ValueError: for a checkpoint, store or options that can't be used.
        """
        config.check()
        self.config = config
        self.model = open_model(config)
        self.store = None
        self._datasets: dict[str, ImageDataset] = {}
        if config.latents is not None:
            self.model, self.store, self._even = open_latents(
                config.latents, self.model, config.checkpoint, config.ids
            )
        else:
            self._even = config.plan(self.model, inverse=True)

    @cached_property
    def plan(self) -> Plan:
        """How to solve the ODE; a split by a measured error is measured when first asked for."""
        config = self.config
        if config.data is None or config.split != "auto":
            return self._even
        some = self._read(config.data, config.items, "--items")[1]
        return config.plan(self.model, inverse=True, split_on=some)

    @cached_property
    def generation(self) -> Generation:
        """What decodes by the plan."""
        strict = self.model.checkpoint.model.denoiser.strict
        return Generation(self.model.flow, self.plan, strict=strict)

    def find(self, items: Sequence[str], flag: str, data: str | None = None) -> list[int]:
        """Return the places of items in the data or the store, which :meth:`originals` reads.

        Raises:
            ValueError: if there is no such item, or the data can't be opened.
        """
        source = data or self.config.data
        if source is not None:
            return find_items(items, self._dataset(source).ids, flag)
        assert self.store is not None
        return find_items(items, self.store.ids, flag)

    def originals(self, items: Sequence[str], flag: str, data: str | None = None) -> Originals:
        """Get items with their latents.

        Args:
            items: ids or numbers.
            flag: the option that names them, for errors.
            data: where from, if not from the common source.

        Raises:
            ValueError: if there is no such item, or it can't be read.
        """
        source = data or self.config.data
        if source is not None:
            return self._encoded(source, items, flag)
        assert self.store is not None
        rows = self.find(items, flag)
        z = torch.from_numpy(self.store.z(rows)).to(self.model.device)
        states, decoded = self.generation.generate(z, self.config.batch_size)
        name = "round_trip_error"
        known = name in self.store.manifest.errors
        made_by = json.dumps(self.store.manifest.fingerprint, sort_keys=True)
        return Originals(
            ids=[self.store.ids[row] for row in rows],
            z=z,
            states=states,
            data=decoded,
            x=self.model.basis.inverse(decoded),
            error=torch.from_numpy(self.store.errors(name, rows)) if known else None,
            converged=torch.ones(len(z), dtype=torch.bool),
            facts={
                "source": str(self.config.latents),
                "fingerprint": hashlib.sha256(made_by.encode()).hexdigest(),
                "ids": [self.store.ids[row] for row in rows],
                "plan": asdict(self.plan),
            },
        )

    def labelled_store(self, path: Path | None) -> LatentStore:
        """Return the store that directions are learned from: one of the model's latents.

        Args:
            path: its folder; None for the store that items come from.

        Raises:
            ValueError: if it can't be read, or its latents are of another model or order.
        """
        if path is None:
            assert self.store is not None
            return self.store
        try:
            model, store, _ = open_latents(path, self.model, self.config.checkpoint)
        except ValueError as error:
            raise ValueError(f"--learn-from {str(path)!r}: {error}") from None
        if model.grouping.order != self.model.grouping.order:
            raise ValueError(
                f"--learn-from {str(path)!r}: was encoded in the order {model.grouping.order}, the "
                f"items in {self.model.grouping.order}; learn from latents of one order"
            )
        return store

    def _encoded(self, data: str, items: Sequence[str], flag: str) -> Originals:
        dataset, x, ids = self._read(data, items, flag)
        # the references beside a store of ab2 latents, which no fixed point inverts
        one_step = SOLVERS[self.plan.solver].step is not None
        plan = replace(self.plan, inverse=one_step)
        x_bar, size = self.model.to_basis(x), self.config.batch_size
        solutions = [encode(self.model.flow, part, plan) for part in torch.split(x_bar, size)]
        z = torch.cat([solution.y for solution in solutions])
        states, decoded = self.generation.generate(z, size)
        return Originals(
            ids=ids,
            z=z,
            states=states,
            data=decoded,
            x=x,
            error=(decoded - x_bar).flatten(1).square().mean(1).sqrt().cpu(),
            converged=torch.cat([solution.converged for solution in solutions]).cpu(),
            facts={
                "source": data,
                "fingerprint": dataset.fingerprint(),
                "ids": ids,
                "plan": asdict(plan),
            },
        )

    def _read(
        self, data: str, items: Sequence[str], flag: str
    ) -> tuple[ImageDataset, Tensor, list[str]]:
        dataset = self._dataset(data)
        batch = dataset.batch(self.find(items, flag, data))
        if batch.rejected:
            bad = batch.rejected[0]
            raise ValueError(f"{flag} {bad.id!r}: can't be read ({bad.reason}); choose another")
        return dataset, batch.x, batch.ids

    def _dataset(self, data: str) -> ImageDataset:
        """Open images as the model saw them in training, but for what the options change."""
        if data not in self._datasets:
            config = self.config
            how = model_preprocess(self.model, fit=config.fit, dequantize=config.dequantize)
            self._datasets[data] = open_data(data, how, seed=config.data_seed)
        return self._datasets[data]


def find_items(items: Sequence[str], ids: Sequence[str], flag: str = "--items") -> list[int]:
    """Return the places of items among ids; an item is an id or else a number.

    Raises:
        ValueError: if there is no such item.

    Example:
        >>> find_items(["b.png", "0"], ["a.png", "b.png"])
        [1, 0]
    """
    places = {name: place for place, name in enumerate(ids)}
    found = []
    for item in items:
        place = places.get(item, numerals.place(item))
        if place is None or place >= len(ids):
            raise ValueError(
                f"{flag} {item!r}: no such item; give an id, such as {ids[0]!r}, or a number "
                f"below {len(ids)}"
            )
        found.append(place)
    return found
