"""Edits as requests ask for them: mix, vary, set, interpolate (Sec. 4.5)."""

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gdm_repr.api import GDM
from gdm_repr.edit.operations import interpolate, mix, set_element, vary
from gdm_repr.masks import NOTHING, band_mask, element_mask

MOST = 1000  # bands, elements or values
MOST_SEED = 2**63 - 1
Bands = Annotated[list[str], Field(max_length=MOST)]
Value = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]


class EditRequest(BaseModel):
    """What all edits have in common: images, or latents z (B, C, d)."""

    model_config = ConfigDict(extra="forbid")

    images: list[Any] | None = Field(None, description="Files in base64, or x as nested lists.")
    z: list[Any] | None = Field(None, description="Or latents, as encode gives them.")


class MixRequest(EditRequest):
    """Replace bands by those of references (Fig. 7): one result an image and band."""

    operation: Literal["mix"]
    references: list[Any] = Field(
        min_length=1, description="As images or as z, whichever is given; one for all, or one each."
    )
    bands: Bands = Field([], description="By name, number or indices 0-29; each group by default.")

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        return images * len(self.bands or model.grouping.names)

    def edited(self, model: GDM, z: Tensor, references: Tensor) -> tuple[Tensor, list[str]]:
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

    def edited(self, model: GDM, z: Tensor, references: Tensor) -> tuple[Tensor, list[str]]:
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

    def edited(self, model: GDM, z: Tensor, references: Tensor) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        masks = [element_mask(each, model.shape[0], model.grouping.d) for each in self.elements]
        each = [(mask, value) for mask in masks for value in self.values]
        found = [set_element(z, mask, value, shift=self.shift) for mask, value in each]
        sign = "+" if self.shift else ""
        names = [f"{element} {value:{sign}g}" for element in self.elements for value in self.values]
        return torch.stack(found, 1).flatten(0, 1), names * len(z)


class InterpolateRequest(EditRequest):
    """Go from the first image's bands to the second's (Fig. 3): n results for each band."""

    operation: Literal["interpolate"]
    bands: Bands = Field([], description="By name, number or indices 0-29; each group by default.")
    n: int = Field(9, ge=2, le=MOST, description="Steps, both ends included.")
    path: Literal["linear", "spherical"] = "spherical"

    def count(self, model: GDM, images: int) -> int:
        """Return how many results there are."""
        return len(self.bands or model.grouping.names) * self.n

    def edited(self, model: GDM, z: Tensor, references: Tensor) -> tuple[Tensor, list[str]]:
        """Return latents (E, C, d) and a name of each."""
        if len(z) != 2:
            raise ValueError(f"images: interpolate needs two, {len(z)} given")
        bands, t = self.bands or list(model.grouping.names), np.linspace(0, 1, self.n).tolist()
        masks = [band_mask(band, model.grouping, model.shape[0]) for band in bands]
        found = [interpolate(z[:1], z[1:], mask, t, self.path)[0] for mask in masks]
        return torch.cat(found), [f"{band} at {place:.3g}" for band in bands for place in t]


AnyEdit = Annotated[
    MixRequest | VaryRequest | SetRequest | InterpolateRequest, Field(discriminator="operation")
]
