"""What an analysis looks at: a model, the latents of a data set, and the images themselves."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.identity import store_digest
from gdm_repr.api import GDM, open_model
from gdm_repr.boundary import arguments
from gdm_repr.boundary.arguments import Rows, count, row_numbers
from gdm_repr.boundary.isolation import isolated
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.hold_out import HELD_OUT, Part
from gdm_repr.generation import Generation
from gdm_repr.latents.images import encoded_images
from gdm_repr.latents.matching import open_latents
from gdm_repr.latents.store import Ints, LatentStore

if TYPE_CHECKING:
    from gdm_repr.analysis.cost import Rates
    from gdm_repr.analysis.options import AnalysisConfig

LEAST_HELD_OUT = 64  # images: fewer give intervals that say little


@dataclass(frozen=True, eq=False)
class Anchors:
    """Latents that something is done to.

    Attributes:
        ids: n ids of items of the store, or ``sample 0`` ...
        z: latents (n, C, d) on the device.
        rows: their rows in the store; none for samples.
    """

    ids: list[str]
    z: Tensor
    rows: list[int]


def _choose_part(
    store: LatentStore, part: Part | None, *, named: bool = False
) -> tuple[Part | None, Ints | None]:
    """Return which images of a store are looked at, and their rows; None for all.

    Where the user named the images, it is these, whichever part they are of.

    Raises:
        ValueError: if the store does not say which those are, or has none.
    """
    held_out = store.held_out
    if held_out is None:
        if part not in (None, "all"):
            raise ValueError(
                f"--part {part}: the store does not say which images training held out; use all, "
                "or encode by a model that was trained with --hold-out"
            )
        return None, None
    if part is None:
        enough = held_out.all() if named else held_out.sum() >= LEAST_HELD_OUT
        part = HELD_OUT if enough else "all"
    if part == "all":
        return part, None
    rows = np.flatnonzero(held_out == (part == HELD_OUT))
    if not len(rows):
        raise ValueError(f"--part {part}: none of the store's {len(store)} images is; use all")
    return part, rows


def are_disjoint(trained: object, source: object) -> bool:
    """Tell whether two sources are known to share no image: ranges of scenes that do not meet.

    Names of files say nothing of what is in them.

    >>> are_disjoint("scenes:0-100", "scenes:100-200/seed=0"), are_disjoint("a.npy", "b.npy")
    (True, False)
    """
    found = [re.match(r"scenes:(\d+)-(\d+)(?:/|$)", str(name)) for name in (trained, source)]
    ends = sorted((int(each[1]), int(each[2])) for each in found if each)
    return len(ends) == 2 and ends[0][1] <= ends[1][0]


class Subject:
    """A model and the store of latents it made.

    Attributes:
        model: the model.
        store: the latents that are looked at.
        part: which images of the store those latents are of; None where it does not say which
            training held out.
        stored: how many images that part is of: the store's, or those that were named.
        named: whether the user named the images.
        plan: by which they were encoded, and are decoded.
        generation: decodes, sharing groups where the model is strict.
        checked: features that can be had, so that several analyses look for them once.
        rates: how long each kind of work takes here, by the features that were tried.
        tried: how long others take, by what an analysis calls them.
    """

    @isolated
    def __init__(
        self,
        model: GDM,
        latents: Path,
        *,
        checkpoint: str | None,
        data: str | None = None,
        labels: Path | None = None,
        part: Part | None = None,
        ids: Path | None = None,
        rows: Ints | None = None,
    ) -> None:
        """Open the store.

        Args:
            model: the model.
            latents: the store's folder.
            checkpoint: what the user calls the model, for errors; None where it has no name.
            data: the images that were encoded; found by the store's own word when None.
            labels: of these images, if any.
            part: which images to look at; held-out ones when None, if there are enough.
            ids: file of the ids of the images to look at; of these, ``part`` are.
            rows: of the store, to look at, instead of ``ids``.

        Raises:
            ValueError: if the model did not make the store, or it does not have that part or all of
                these ids.
        """
        if ids is not None and rows is not None:
            raise ValueError(
                f"--ids {str(ids)!r}: the store given is a selection already; leave them out"
            )
        self._data, self._labels = data, labels
        self.checked: set[str] = set()
        self.rates: dict[str, Rates] = {}
        self.tried: dict[str, float] = {}
        self.model, store, self.plan = open_latents(latents, model, checkpoint, ids)
        store = store if rows is None else store.select(rows)
        self.stored, self.named = len(store), ids is not None or rows is not None
        self.part, of_part = _choose_part(store, part, named=self.named)
        self.store = store if of_part is None else store.select(of_part)
        strict = self.model.checkpoint.model.denoiser.strict
        self.generation = Generation(self.model.flow, self.plan, strict=strict)

    @classmethod
    def open(cls, config: AnalysisConfig) -> Subject:
        """Load the model and open the store that options name.

        Raises:
            ValueError: for a checkpoint or store that can't be used, together or alone.
        """
        return cls(
            open_model(config),
            config.latents,
            checkpoint=config.checkpoint,
            data=config.data,
            labels=config.labels,
            part=config.part,
            ids=config.ids,
        )

    @cached_property
    def dataset(self) -> ImageDataset:
        """The images that the store was encoded from.

        Raises:
            ValueError: if they can't be found, or are not those.
        """
        return encoded_images(self.store, self._data, self._labels)

    def require_images(self) -> None:
        """See that the images are at hand.

        Raises:
            ValueError: as :attr:`dataset`.
        """
        assert len(self.dataset) == self.store.manifest.items  # their fingerprint says so

    def rows(self, n: int | None = None, *, seed: int = 0) -> list[int]:
        """Choose n rows of the store at random, in order; all of them when None.

        Raises:
            ValueError: if the store has fewer.
        """
        total = len(self.store)
        if n is None:
            return list(range(total))
        n, seed = count(n, "n"), arguments.seed(seed)
        if n > total:
            raise ValueError(f"n={n}: the store holds {total} images only; ask for fewer")
        return sorted(np.random.default_rng(seed).choice(total, n, replace=False).tolist())

    @isolated
    def z(self, rows: Rows) -> Tensor:
        """Return latents (n, C, d) of rows of the store, on the model's device."""
        return torch.from_numpy(self.store.z(rows)).to(self.model.device)

    @isolated
    def images(self, rows: Rows) -> Tensor:
        """Return the images (n, C, H, W) of rows of the store, as they were encoded.

        Raises:
            ValueError: if one can't be read any more.
        """
        batch = self.dataset.batch(self.store.index[row_numbers(rows, len(self.store))])
        if batch.rejected:
            bad = batch.rejected[0]
            raise ValueError(f"--data: {bad.id!r} can't be read any more ({bad.reason})")
        return batch.x

    @isolated
    def anchors(self, n: int, source: Literal["images", "samples"], *, seed: int = 0) -> Anchors:
        """Return n latents: of random images of the store, or drawn from N(0, I).

        Raises:
            ValueError: if the store has fewer images.
        """
        if source == "samples":
            z = self.model.noise(n, seed=first_latent(seed))
            return Anchors([f"sample {i}" for i in range(n)], z, [])
        rows = self.rows(n, seed=seed)
        ids = self.store.ids
        return Anchors([ids[row] for row in rows], self.z(rows), rows)

    @property
    def held_out(self) -> bool:
        """Whether training is known to have seen none of the images."""
        trained = self.model.checkpoint.training.get("data")
        apart = are_disjoint(trained, self.store.manifest.settings.get("source"))
        return self.part == HELD_OUT or apart

    def said(self) -> str:
        """Say which images are looked at."""
        n, whole = len(self.store), f"{self.stored}{' named by --ids' if self.named else ''}"
        if self.part == HELD_OUT:
            return f"{n} of {whole}, held out: training never saw them"
        if self.held_out:
            return f"all {whole}, other scenes by their numbers: training never saw them"
        if self.part == "seen":
            return f"{n} of {whole}, not held out: training may have seen them"
        known = "held out or not" if self.part else "not known to be held out"
        return f"all {whole}, {known}: training may have seen them"

    def digest(self) -> str:
        """Return the digest of everything that made the latents."""
        return store_digest(self.store.manifest.fingerprint)

    def facts(self) -> dict[str, object]:
        """Return what is looked at, for the record: counts, fingerprints, and how it decodes."""
        manifest = self.store.manifest
        return {
            "images in the store": self.stored,
            "images looked at": self.said(),
            "source": manifest.settings.get("source"),
            "image shape": list(self.model.shape),
            "bands, in the order of generation": [
                self.model.grouping.names[group] for group in self.model.grouping.order
            ],
            "strict model": self.generation.strict,
            "decoded by": asdict(self.plan),
            **{f"fingerprint of {key}": value for key, value in manifest.fingerprint.items()},
        }
