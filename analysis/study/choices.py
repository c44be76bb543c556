"""What a study holds: the choices to compare, each with all of its options.

A choice is a set of options laid over the study's own, by name: ``train.model``, ``train.widths``,
``encode.steps``, ``score.n``, ``analyse.traversal.anchors``. A mapping is laid over, so that
``train.model: {grouping: {name: single}}`` leaves the network as it is. Importing this module does
not import torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from gdm_repr.analysis.options import AT_HAND, MOST_SEED, PAPER, AnalysisConfig, FeatureConfig
from gdm_repr.analysis.runner import load
from gdm_repr.analysis.study.fingerprints import Options
from gdm_repr.boundary.yaml_file import read_yaml
from gdm_repr.command import Command, UserPath, build, laid_over
from gdm_repr.config import EncodeConfig, TrainConfig

if TYPE_CHECKING:
    from gdm_repr.grouping import Shape

PARTS = ("train", "encode", "score", "analyse")
LATENTS = "latents"  # in a choice's folder
SHARED = ("device", "precision", "data", "labels")  # one model and one store for all analyses


class StudyConfig(Command):
    """Train, encode, sample and score every choice of a grid or a list, and compare them.

    The file names the choices; options laid over each other are train's, encode's, sample_quality's
    and those of further analyses. What was trained in its folder, or scored there or in the
    tracking store, is not done again. Choices that differ in other options than train's share one
    model. Stop it whenever you like; the same command goes on.

    Example:
      python -m gdm_repr.analysis.study configs/studies/groupings-digits.yaml
      python -m gdm_repr.analysis.study configs/studies/groupings-digits.yaml --jobs 2 --seeds 0,1
    """

    name: str | None = Field(None, description="Of the study; the file's name by default.")
    out: UserPath | None = Field(None, description="Its folder; runs/studies/NAME by default.")
    base: UserPath | None = Field(None, description="YAML file of training options to start from.")
    train: Options = Field({}, description="Training options, laid over these.")
    encode: Options = Field({}, description="Options of encode: data, limit, steps, order, ...")
    score: Options = Field({}, description="Options of sample_quality: n, features, ...")
    analyse: dict[str, Options] = Field(
        {}, description="Further analyses of every choice: name -> options."
    )
    grid: dict[str, list[Any] | dict[str, Any]] = Field(
        {}, description="Axes, crossed: option -> values, or option -> {label: value}."
    )
    choices: dict[str, Options] = Field(
        {}, description="Single choices, label -> {option: value}, crossed with the grid."
    )
    seeds: tuple[Annotated[int, Field(ge=0, le=MOST_SEED)], ...] = Field(
        (0,),
        min_length=1,
        description="Of training and scoring; every choice is made with each.",
    )
    jobs: int = Field(1, ge=1, le=1024, description="Processes at once; they share the cores.")
    experiment: str | None = Field(None, description="MLflow experiment; gdm-repr by default.")
    track: bool = Field(True, description="Record the study and send it to MLflow.")

    def title(self) -> str:
        """Return the study's name."""
        return self.name or (self.config.stem if self.config else "study")

    def folder(self) -> Path:
        """Return the study's folder."""
        return self.out or Path("runs/studies") / self.title()


@dataclass(frozen=True)
class Choice:
    """One choice with one seed.

    Attributes:
        label: what is chosen, without the seed.
        seed: of training and scoring.
        train: options of training.
        encode: options of encoding.
        analyses: names and options of the analyses, that of the samples first.
        given: the options that all of these were built of.
    """

    label: str
    seed: int
    train: TrainConfig
    encode: EncodeConfig
    analyses: tuple[tuple[str, AnalysisConfig], ...]
    given: Mapping[str, Options]

    def plain(self) -> Options:
        """Return what :func:`build_choice` makes the choice of."""
        return {"label": self.label, "seed": self.seed, **self.given}

    def placed(self, model: Path, folder: Path) -> Choice:
        """Return the choice with the folders that its model and its results lie in."""
        given = {"checkpoint": str(model), "latents": folder / LATENTS}
        encode = {"checkpoint": str(model), "out": folder / LATENTS}
        return replace(
            self,
            train=self.train.model_copy(update={"out": model}),
            encode=self.encode.model_copy(update=encode),
            analyses=tuple(
                (name, options.model_copy(update={**given, "out": folder / name}))
                for name, options in self.analyses
            ),
        )

    def check(self, shape: Shape, images: int) -> None:
        """Build everything untrained, for images of a shape (C, H, W) and so many to encode.

        Raises:
            ValueError: for parts that do not fit the images or each other, and features that
                can't be had.
        """
        from gdm_repr.analysis.sample_quality.image_sets import choose_halves
        from gdm_repr.api import GDM
        from gdm_repr.untrained import build_untrained

        encode, (scores, *others) = self.encode, [options for _, options in self.analyses]
        assert isinstance(scores, FeatureConfig)
        try:
            model = GDM(build_untrained(self.train, shape), "cpu").with_order(encode.order)
            encode.plan(model, inverse=encode.inverse)
            for options in (self.train, encode, scores, *others):
                options.check()
            choose_halves(images, getattr(scores, "n", None) or 1, scores.seed)
            scores.extractors()
            for options in others:
                if isinstance(options, FeatureConfig):
                    options.distances()
        except ValueError as error:
            raise ValueError(f"choice {self.label!r}: {error}") from None


def build_choice(label: str, seed: int, **given: Options) -> Choice:
    """Build a choice's options; its folders are left open.

    All analyses look at what was encoded, with the device and precision of the scores.

    Args:
        label: what is chosen, without the seed.
        seed: of training and scoring.
        given: the options of each of :data:`PARTS`.

    Raises:
        ValueError: for analyses and options that are not there.
    """
    train, encode, score, analyse = (given[part] for part in PARTS)
    place, store = f"choice {label!r}: ", {"checkpoint": "model", "track": False}
    own = {"out": "model", "resume": True, "track": False}
    training = build(TrainConfig, {**train, **own}, f"{place}train.")
    encoding = build(EncodeConfig, {**encode, **store}, f"{place}encode.")
    common = {"seed": seed, **{key: encode.get(key) for key in ("data", "labels")}}
    common |= {key: score[key] for key in SHARED if key in score}
    parts = [(f"{place}score", "sample_quality", score)]
    parts += [(f"{place}analyse.{name}", name, options) for name, options in analyse.items()]
    analyses = []
    for part, name, options in parts:
        if not isinstance(options, Mapping):
            raise ValueError(f"{part}={options!r}: must be options, as {{seed: 0}} or {{}}")
        if name == "sample_quality" and options is not score:
            raise ValueError(
                f"{part}: is what every choice is scored by; give its options as score"
            )
        if options is not score and (twice := sorted(options.keys() & set(SHARED))):
            raise ValueError(
                f"{part}.{twice[0]}: is one for all analyses of a choice; give it under score"
            )
        kind = load(name).options
        values = {**common, **options, **store, "latents": LATENTS, "out": name}
        if issubclass(kind, FeatureConfig):
            values = {"features": PAPER, **values}
        built = build(kind, values, f"{part}.")
        _require_told(built, part)
        analyses.append((name, built))
    return Choice(label, seed, training, encoding, tuple(analyses), given)


def _require_told(options: AnalysisConfig, part: str) -> None:
    """Refuse what a machine would choose: choices are alike wherever they are made."""
    if options.minutes is not None:
        raise ValueError(
            f"{part}.minutes={options.minutes:g}: what it chooses depends on the machine, and a "
            "study is the same on all; name anchors, draws and images instead"
        )
    if isinstance(options, FeatureConfig) and AT_HAND[0] in options.features:
        raise ValueError(
            f"{part}.features={AT_HAND[0]!r}: is chosen by what a machine has, and a study is "
            "the same on all; name them, as [efficientnet-lite0, pixels]"
        )


def list_choices(config: StudyConfig) -> list[Choice]:
    """Return every choice with every seed, seeds last.

    Raises:
        ValueError: for options that are not there, labels given twice, or nothing to choose from.
    """
    study = {part: dict(getattr(config, part)) for part in PARTS}
    if config.base is not None:
        study["train"] = laid_over(read_yaml(config.base, "--base"), study["train"])
    axes = [_axis(name, values) for name, values in config.grid.items()]
    if config.choices:
        axes.insert(0, list(config.choices.items()))
    if not axes:
        raise ValueError("--grid, --choices: a study needs choices; name at least one in either")
    if len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"--seeds {','.join(map(str, config.seeds))}: names a seed twice")
    choices = []
    for seed in config.seeds:
        for picked in itertools.product(*axes):
            options = {part: dict(values) for part, values in study.items()}
            options = laid_over(options, {"train": {"seed": seed}})
            for _, overrides in picked:
                for name, value in overrides.items():
                    options = laid_over(options, _nested(name, value))
            options["encode"].setdefault("data", options["train"].get("data"))
            label = ", ".join(label for label, _ in picked)
            choices.append(build_choice(label, seed, **options))
    held_out = sorted({str(choice.train.hold_out) for choice in choices})
    if len(held_out) > 1:
        raise ValueError(
            f"train.hold_out: choices differ in it ({', '.join(held_out)}), and would be scored on "
            "different images; give all choices the same"
        )
    labels = [choice.label for choice in choices if choice.seed == config.seeds[0]]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"choice {twice[0]!r}: named twice; give every choice a name of its own")
    return choices


def _axis(name: str, values: Sequence[Any] | Mapping[str, Any]) -> list[tuple[str, Options]]:
    """Return an axis's labels and the options that each stands for."""
    if not values:
        raise ValueError(f"grid.{name}: has no values; give one at least, or leave it out")
    if isinstance(values, Mapping):
        return [(str(label), {name: value}) for label, value in values.items()]
    last = name.rpartition(".")[2]
    return [(f"{last} {value}", {name: value}) for value in values]


def _nested(name: str, value: object) -> Options:
    """Turn ``train.model.process`` into nested mappings.

    >>> _nested("encode.steps", 48)
    {'encode': {'steps': 48}}
    """
    part, *path = name.split(".")
    if part not in PARTS or not path:
        raise ValueError(
            f"option {name!r}: must begin with {', '.join(f'{part}.' for part in PARTS[:-1])} or "
            f"{PARTS[-1]}., as train.model or encode.steps"
        )
    for key in reversed(path):
        value = {key: value}
    return {part: value}
