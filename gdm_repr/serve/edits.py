"""Edits as requests ask for them: mix, vary, set, traverse, interpolate, direction (Sec. 4.5)."""

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from gdm_repr.api import GDM
from gdm_repr.edit.direction import Direction, move
from gdm_repr.edit.operations import interpolate, mix, set_element, vary
from gdm_repr.masks import NOTHING, band_mask, element_mask

MOST = 1000  # bands, elements or values
MOST_IDS = 100_000
MOST_SEED = 2**63 - 1
Bands = Annotated[list[str], Field(max_length=MOST)]
Ids = Annotated[list[str], Field(min_length=1, max_length=MOST_IDS)]
Value = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]


class Given(BaseModel):
    """Images: as files, as latents z (B, C, d), or of a store that is served."""

    model_config = ConfigDict(extra="forbid")

    images: list[Any] | None = Field(None, description="Files in base64, or x as nested lists.")
    z: list[Any] | None = Field(None, description="Or latents, as encode gives them.")
    ids: Ids | None = Field(None, description="Or ids of a store's images.")
    store: str | None = Field(None, description="Its name; the model's first one by default.")


class EditRequest(Given):
    """What all edits have in common."""

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        raise NotImplementedError

    def edited(
        self, model: GDM, z: Tensor, references: Tensor, learned: Direction | None = None
    ) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        raise NotImplementedError


class MixRequest(EditRequest):
    """Replace bands by those of references (Fig. 7): one result an image and band."""

    operation: Literal["mix"]
    references: list[Any] = Field(
        min_length=1, description="As the images are given: files, z or ids; one, or one for each."
    )
    bands: Bands = Field([], description="By name, number or indices 0-29; each group by default.")

    def other(self) -> Given:
        """Return the references."""
        name = next(name for name in ("images", "z", "ids") if getattr(self, name) is not None)
        return build_given({name: self.references, "store": self.store})

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        return images * len(self.bands or model.grouping.names)

    def edited(
        self, model: GDM, z: Tensor, references: Tensor, learned: Direction | None = None
    ) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        if len(references) not in (1, len(z)):
            raise ValueError(
                f"references: {len(references)} for {len(z)} images; give one, or one for each"
            )
        bands = self.bands or list(model.grouping.names)
        masks = [band_mask(band, model.grouping, model.shape[0]) for band in bands]
        found = torch.stack([mix(z, references, mask) for mask in masks], 1)
        return found.flatten(0, 1), bands * len(z)


class VaryRequest(EditRequest):
    """Keep some bands and draw the rest (Fig. 9): n results an image and entry of ``fixed``."""

    operation: Literal["vary"]
    fixed: Bands = Field([NOTHING], min_length=1, description="Bands; + joins several.")
    n: int = Field(1, ge=1, le=MOST)
    seed: int = Field(0, ge=0, le=MOST_SEED, description="Variation i is drawn from seed + i.")

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        return images * len(self.fixed) * self.n

    def edited(
        self, model: GDM, z: Tensor, references: Tensor, learned: Direction | None = None
    ) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        noise = model.noise(self.n, seed=self.seed).cpu()
        masks = [~band_mask(band, model.grouping, model.shape[0]) for band in self.fixed]
        found = torch.stack([vary(z, mask, noise) for mask in masks], 1)
        names = [
            f"{band} fixed, seed {self.seed + i}" for band in self.fixed for i in range(self.n)
        ]
        return found.flatten(0, 2), names * len(z)


class SetRequest(EditRequest):
    """Set elements to values, or shift them by these (Fig. 8): one result for each of both."""

    operation: Literal["set"]
    elements: Bands = Field(min_length=1, description="Index in all channels, 7, or in one, 7:1.")
    values: list[Value] = Field(min_length=1, max_length=MOST, description="In stds of N(0, 1).")
    shift: bool = False

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        return images * len(self.elements) * len(self.values)

    def edited(
        self, model: GDM, z: Tensor, references: Tensor, learned: Direction | None = None
    ) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        masks = [element_mask(each, model.shape[0], model.grouping.d) for each in self.elements]
        each = [(mask, value) for mask in masks for value in self.values]
        found = [set_element(z, mask, value, shift=self.shift) for mask, value in each]
        sign = "+" if self.shift else ""
        names = [f"{element} {value:{sign}g}" for element in self.elements for value in self.values]
        return torch.stack(found, 1).flatten(0, 1), names * len(z)


class TraverseRequest(EditRequest):
    """Move elements from one end to the other (Fig. 8): n results for each."""

    operation: Literal["traverse"] = "traverse"
    elements: Bands = Field(min_length=1, description="Index in all channels, 7, or in one, 7:1.")
    n: int = Field(7, ge=2, le=MOST, description="Values, both ends included.")
    reach: float = Field(3, gt=0, le=100, description="The ends, in stds of N(0, 1).")

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        return images * len(self.elements) * self.n

    def edited(
        self, model: GDM, z: Tensor, references: Tensor, learned: Direction | None = None
    ) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        values = np.linspace(-self.reach, self.reach, self.n).tolist()
        given = {"operation": "set", "elements": self.elements, "values": values}
        return SetRequest.model_validate(given).edited(model, z, references)


class InterpolateRequest(EditRequest):
    """Go from the first image's bands to the second's (Fig. 3): n results for each band."""

    operation: Literal["interpolate"]
    bands: Bands = Field([], description="By name, number or indices 0-29; each group by default.")
    n: int = Field(9, ge=2, le=MOST, description="Steps, both ends included.")
    path: Literal["linear", "spherical"] = "spherical"

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        return len(self.bands or model.grouping.names) * self.n

    def edited(
        self, model: GDM, z: Tensor, references: Tensor, learned: Direction | None = None
    ) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        if len(z) != 2:
            raise ValueError(f"images: interpolate needs two, {len(z)} given")
        bands, t = self.bands or list(model.grouping.names), np.linspace(0, 1, self.n).tolist()
        masks = [band_mask(band, model.grouping, model.shape[0]) for band in bands]
        found = [interpolate(z[:1], z[1:], mask, t, self.path)[0] for mask in masks]
        return torch.cat(found), [f"{band} at {place:.3g}" for band in bands for place in t]


class Learned(BaseModel):
    """What a direction tells apart: a label's value from others, or two lists of images."""

    model_config = ConfigDict(extra="forbid")

    store: str | None = Field(None, description="Name; the model's first one by default.")
    band: str = Field(description="In which the direction lies.")
    label: str | None = Field(None, description="Of the store.")
    value: str | None = Field(None, description="That images of one kind have; numbers: above it.")
    against: str | None = Field(None, description="That the others have; any other by default.")
    positive: Ids | None = Field(None, description="Or ids of images of one kind,")
    negative: Ids | None = Field(None, description="and of the other.")


class DirectionRequest(EditRequest):
    """Move along a direction that was learned from labels: one result an image and amount."""

    operation: Literal["direction"]
    learned: Learned
    amounts: list[Value] = Field(
        min_length=1, max_length=MOST, description="In stds of the images along the direction."
    )

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        return images * len(self.amounts)

    def edited(
        self, model: GDM, z: Tensor, references: Tensor, learned: Direction | None = None
    ) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        if learned is None:
            raise ValueError("learned: no direction was learned")
        found = move(z, learned, self.amounts)
        return found.flatten(0, 1), [f"{amount:+g}" for amount in self.amounts] * len(z)


AnyEdit = Annotated[
    MixRequest | VaryRequest | SetRequest | TraverseRequest | InterpolateRequest | DirectionRequest,
    Field(discriminator="operation"),
]


def build_given(values: dict[str, Any]) -> Given:
    """Check values that came as another field.

    Raises:
        ValueError: if they are no images, latents or ids.
    """
    try:
        return Given(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"references: {first['msg']}") from None
