"""Options of the edits, as :mod:`gdm_repr.config` has those of the other commands."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gdm_repr.command import Command, UserPath, UserPlace
from gdm_repr.config import IMAGES, Ids, Numbers, Seed, SolverConfig, Words
from gdm_repr.files import user_place
from gdm_repr.identity import ByContent, Free, Later, OfPlan

Places = Annotated[Words, AfterValidator(lambda words: tuple(map(user_place, words)))]
Word = Annotated[
    str | None, BeforeValidator(lambda value: value if value is None else str(value))
]  # a number of a YAML file is one, too


class EditConfig(SolverConfig):
    """What all edits have in common."""

    data: ByContent[UserPlace | None] = Field(None, description=IMAGES)
    latents: ByContent[UserPath | None] = Field(
        None, description="Or a latent store, decoded by the solver and steps it was encoded with."
    )
    ids: Ids = None
    items: ByContent[Words] = Field(
        ("0",), min_length=1, description="Items to edit, by id or number: 0,5."
    )
    fit: ByContent[Literal["center", "resize", "tile"] | None] = Field(
        None, description="How images come to the model's size; as in training when not given."
    )
    dequantize: ByContent[bool | None] = Field(None, description="Spread integer levels uniformly.")
    solver: OfPlan[str] = Field(
        "midpoint", description="euler, midpoint, heun or rk4: invertible exactly."
    )
    tolerance: OfPlan[float] = Field(1e-5, gt=0, description="Of the exact inverse's fixed point.")
    data_seed: ByContent[Seed] = Field(
        0, description="Seed of the dequantisation: encode's --seed."
    )
    out: Free[UserPath] = Field(
        description="Folder for the pictures and the JSON that makes them again."
    )
    overwrite: Free[bool] = Field(False, description="Replace pictures that are there already.")
    tile: int = Field(
        96, ge=1, le=4096, description="Enlarge small images to about this many pixels."
    )

    def check(self) -> None:
        """Refuse both data and latents, or neither."""
        super().check()
        if (self.data is None) == (self.latents is None):
            given = "neither" if self.data is None else "both"
            raise ValueError(f"--data, --latents: {given} given; give one of them")
        if self.ids is not None and self.latents is None:
            raise ValueError(
                f"--ids {str(self.ids)!r}: chooses images of --latents; give that, or name images "
                "by --items"
            )


class MixConfig(EditConfig):
    """Replace bands of some images' latents by those of others (Fig. 7).

    One row a pair, one column an entry of --bands.

    Example:
      python -m gdm_repr.edit mix --checkpoint runs/digits --data digits --items 0,1 --references 5,6 --out runs/digits/mix
      python -m gdm_repr.edit mix --checkpoint runs/digits --data a/ --references 0 --reference-data b/ --bands 0_5,0-20 --out mixed
    """  # noqa: E501

    references: ByContent[Words] = Field(
        min_length=1, description="One item for each of --items, or one for all."
    )
    reference_data: ByContent[UserPlace | None] = Field(
        None, description="Images of the references, when other than --data."
    )
    bands: Words = Field(
        (), description="By name, number or indices 0-29; + joins several. Each group by default."
    )

    def check(self) -> None:
        """Refuse a number of references that fits no items."""
        super().check()
        if len(self.references) not in (1, n := len(self.items)):
            raise ValueError(
                f"--references: {len(self.references)} for {n} items; give one, or one for each"
            )


class VaryConfig(EditConfig):
    """Draw the latents of images afresh but for some bands (Fig. 9).

    One row an item and entry of --fixed, one column a variation.

    Example:
      python -m gdm_repr.edit vary --checkpoint runs/digits --data digits --items 3 --fixed 0-5,0-20 --n 8 --out runs/digits/vary
    """  # noqa: E501

    fixed: Words = Field(
        (),
        description="By name, number or indices 0-29; + joins several. Nothing, then the first "
        "groups generated, by default.",
    )
    n: int = Field(8, ge=1, le=10_000, description="Variations.")
    seed: Seed = Field(0, description="Variation i is drawn from seed + i.")


class SetConfig(EditConfig):
    """Set single elements of images' latents to values, or shift them by these (Fig. 8).

    One row an item and element, one column a value; or --together, one picture an item.

    Example:
      python -m gdm_repr.edit set --checkpoint runs/digits --data digits --items 3 --elements 1,2:0 --values -3:3:7 --out runs/digits/set
    """  # noqa: E501

    elements: Words = Field(
        min_length=1, description="Index in all channels, 7, or in one, 7:1 (YAML: '7:1')."
    )
    values: Numbers = Field(
        (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
        min_length=1,
        description="In units of the latents' std: -3:3:7 (7 steps; YAML: '-3:3:7'), or -1,2.",
    )
    shift: bool = Field(False, description="Add the values to the elements.")
    together: Later[bool] = Field(
        False, description="Set all elements in one picture, each to its own of the values."
    )

    def check(self) -> None:
        """Refuse another number of values than of elements that are set together."""
        super().check()
        if self.together and len(self.values) != (n := len(self.elements)):
            raise ValueError(
                f"--values: {len(self.values)} for {n} elements; --together takes one for each"
            )


class InterpolateConfig(EditConfig):
    """Go from one image's band to another's, all other latents being the first one's (Fig. 3).

    One row an entry of --bands, one column a step.

    Example:
      python -m gdm_repr.edit interpolate --checkpoint runs/digits --data digits --items 3,4 --n 9 --out runs/digits/path
    """  # noqa: E501

    bands: Words = Field(
        (), description="By name, number or indices 0-29; + joins several. Each group by default."
    )
    n: int = Field(9, ge=2, le=10_000, description="Steps, both ends included.")
    path: Literal["linear", "spherical"] = Field("spherical", description="Line or arc.")

    def check(self) -> None:
        """Refuse another number of items than two."""
        super().check()
        if len(self.items) != 2:
            raise ValueError(f"--items: interpolate needs two items, {len(self.items)} given")


class DirectionConfig(EditConfig):
    """Move images along what tells two kinds of images apart in a band, learned from labels.

    One row an item and entry of --bands, one column an amount. The kinds are those of a label's
    value and of all others, or are picked by files of ids. How well the direction tells images
    apart that it was not learned from is printed, beside what permuted labels give.

    Example:
      python -m gdm_repr.edit direction --checkpoint runs/digits --latents runs/digits/latents --items 3 --label digit --value 3 --out runs/digits/three
      python -m gdm_repr.edit direction --data a.png --learn-from latents --positive-ids picked.txt --bands 0_29 --out moved
    """  # noqa: E501

    learn_from: ByContent[UserPath | None] = Field(
        None, description="Latent store that directions are learned from; --latents by default."
    )
    label: Word = Field(None, description="Label of that store that parts its images.")
    value: Word = Field(
        None, description="Value of the kind to move to; median parts numbers in two halves."
    )
    against: Word = Field(
        None, description="Value of the kind to move away from; all other values by default."
    )
    positive_ids: ByContent[UserPath | None] = Field(
        None, description="Instead of a label, the kind to move to: a file of ids, as --ids takes."
    )
    negative_ids: ByContent[UserPath | None] = Field(
        None, description="And the kind to move away from; all other images by default."
    )
    bands: Words = Field(
        (), description="By name, number or indices 0-29; + joins several. Each group by default."
    )
    amounts: Numbers = Field(
        (-3.0, -1.5, 0.0, 1.5, 3.0),
        min_length=1,
        description="In stds of images along the direction: -3:3:7 (7 steps; YAML: '-3:3:7').",
    )
    seed: Seed = Field(0, description="Of the sample of images, the folds and permuted labels.")

    def check(self) -> None:
        """Refuse kinds that are given twice, by half, or not at all, and images without a store."""
        super().check()
        if (self.label is None) == (self.positive_ids is None):
            given = "neither" if self.label is None else "both"
            raise ValueError(
                f"--label, --positive-ids: {given} given; give --label and --value, or a file of "
                "ids"
            )
        needs = {"value": "label", "against": "label", "negative_ids": "positive_ids"}
        for name, needed in needs.items():
            if getattr(self, name) is not None and getattr(self, needed) is None:
                flag, other = (f"--{each.replace('_', '-')}" for each in (name, needed))
                raise ValueError(
                    f"{flag} {str(getattr(self, name))!r}: goes with {other}; give that, too"
                )
        if self.label is not None and self.value is None:
            raise ValueError(
                f"--value: is needed with --label {self.label!r}; give the value to move to"
            )
        if self.latents is None and self.learn_from is None:
            raise ValueError(
                "--learn-from: is needed with --data; give a latent store of images with labels"
            )


class AgainConfig(Command):
    """Make the pictures of an edit again from the JSON beside them, byte for byte.

    Paths in it are as they were given, so run it in the folder where the edit was run.

    Example:
      python -m gdm_repr.edit again --recipe runs/digits/mix/mix.json --out again
    """

    recipe: UserPath = Field(description="The JSON beside the pictures.")
    out: UserPath = Field(description="Folder for the pictures.")
    overwrite: bool = Field(False, description="Replace pictures that are there already.")
    track: bool = Field(True, description="Record the run and send it to MLflow.")
