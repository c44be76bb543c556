"""Every option of every command, defined once: it serves flag, YAML key, environment and help.

:func:`gdm_repr.command.parse` says where values come from. Unknown keys are refused. Importing this
module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from gdm_repr.boundary import numerals
from gdm_repr.command import Command, UserPath, UserPlace, require_folder
from gdm_repr.data.hold_out import Part
from gdm_repr.data.images import Preprocess, Side, Size, unwrap
from gdm_repr.identity import ByContent, End, Free, Later, OfPlan
from gdm_repr.models import AnyNetworkConfig

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.api import GDM
    from gdm_repr.ode import Plan

MOST_VALUES = 1000  # of one range: a sheet has one column for each


def _no_frame_or_two(value: int) -> int:
    if value == 1:
        raise ValueError("must be 0, for no picture, or at least 2, the noise and the image")
    return value


def _not_beside_limit(value: int | None, info: ValidationInfo) -> int | None:
    if value is not None and info.data.get("limit") is not None:
        raise ValueError("--limit is given, too; give it for a sample, or this for the first items")
    return value


MOST = 10**12  # of anything that is counted one after the other
MANY = 1_000_000  # of what is in memory at once
Count = Annotated[int, Field(ge=1, le=MOST)]
Held = Annotated[int, Field(ge=1, le=MANY)]
Seed = Annotated[int, Field(ge=0, le=2**62)]  # generators take 64 bits, and seed + i is one, too
Group = Annotated[int, Field(le=MANY)]  # whether it is one, the grouping says
Workers = Free[Annotated[int, Field(ge=0, le=1024)]]
First = ByContent[Annotated[Count | None, AfterValidator(_not_beside_limit)]]
Frames = Annotated[int, Field(ge=0, le=1000), AfterValidator(_no_frame_or_two)]
StepCount = Annotated[int, Field(le=100_000)]  # from below they are checked with the groups
Steps = Annotated[StepCount | tuple[StepCount, ...], BeforeValidator(unwrap)]
TimeLaw = Annotated[Literal["uniform", "groups"] | tuple[float, ...], BeforeValidator(unwrap)]
Orders = Annotated[
    Literal["fixed", "random"] | tuple[tuple[Group, ...], ...], BeforeValidator(unwrap)
]
Labels = Annotated[
    ByContent[UserPath | None],
    Field(description="Labels: a CSV, or CelebA's list of attributes."),
]
IDS = (
    "Look at these images of the store alone: a file of their ids, one a line, or a .csv or "
    ".parquet file with a column id."
)
Ids = Annotated[ByContent[UserPath | None], Field(description=IDS)]
Device = Literal["auto", "cpu", "cuda"]
DEFAULT_SOLVER, DEFAULT_STEPS = "ab3", 72  # see docs/solvers.md and the model card of scenes
SHORT = {"cuts", "channels", "multipliers"}  # options of training that are parts of the model's
# what --data takes; the registry of sources is not imported for it, `gdm-repr list` shows all
IMAGES = (
    "Images: a folder, an image, a .zip, .npy, .npz, .parquet or .tar, or a source: digits, "
    "photos, scenes[:START-STOP], cifar10:FOLDER, torchvision:NAME:FOLDER, dsprites:FILE, "
    "shapes3d:FILE, mpi3d:FILE, cars3d:FOLDER, smallnorb:FOLDER."
)
MODEL_FILE = "model.safetensors"  # in a run's folder
SHIPPED = "scenes"  # the model that comes with the package
SHIPPED_DATA = "scenes:0-64"  # what it encodes when no data are named; it never saw them
Precision = Literal["fp32", "bf16"]
Format = Annotated[
    Literal["png", "npy"] | None,
    Field(
        description="PNG files, or one float32 array; png by default, but for images of other "
        "than 1 or 3 channels."
    ),
]


class NamedConfig(BaseModel):
    """A strategy or basis by name, with its own options beside (checked when it is built)."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str

    @model_validator(mode="after")
    def _finite(self) -> NamedConfig:
        for option, value in self.options().items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{option}={value}: must be finite")
        return self

    def options(self) -> dict[str, Any]:
        """Return the options without the name."""
        return dict(self.model_extra or {})


class GroupingConfig(NamedConfig):
    """A grouping strategy: name, its options, and the generation order."""

    name: str = "single"
    per_channel: bool = False
    order: tuple[Group, ...] | None = None


class DenoiserConfig(BaseModel):
    """How the network is conditioned and preconditioned (:mod:`gdm_repr.denoiser`).

    Attributes:
        conditioning: ``concat`` gives the network A as C more channels, on the grid where each
            element lies, and the mean level through its noise embedding; ``embed`` gives it the k
            levels through the noise embedding.
        preconditioning: ``spectral``, by every element's std; ``principal``, along each group's
            principal axes; or ``none`` (the paper's).
        strict: hide elements already turned to noise from the network.
        inputs: what the network sees and answers in: ``pixels``, or ``coefficients``, each where it
            lies on the basis's grid (Fig. 10); with the pixel basis both are the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditioning: Literal["concat", "embed"] = "embed"
    preconditioning: Literal["spectral", "principal", "none"] = "spectral"
    strict: bool = True
    inputs: Literal["pixels", "coefficients"] = "pixels"


class ModelConfig(BaseModel):
    """What a checkpoint holds: the method's parts and the network.

    Attributes:
        basis: U, a key of BASES with its options.
        grouping: the groups, a key of STRATEGIES with its options.
        process: the interpolation, a key of PROCESSES.
        denoiser: conditioning and preconditioning.
        network: a key of NETWORKS with its options.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    basis: NamedConfig = NamedConfig(name="dct")
    grouping: GroupingConfig = GroupingConfig()
    process: str = "linear"
    denoiser: DenoiserConfig = DenoiserConfig()
    network: AnyNetworkConfig = Field(
        default_factory=lambda: {"name": "ddpmpp"}, validate_default=True
    )


class Compute(Command):
    """Options of everything that runs a network."""

    device: Free[Device] = Field("auto", description="auto takes CUDA where there is one.")
    precision: Precision = Field("fp32", description="Of the network; the state is float32.")
    batch_size: Free[Held] = Field(
        256, description="Images at a time; it changes speed and memory, not results."
    )
    track: Free[bool] = Field(True, description="Record the run and send it to MLflow.")


class OfModel(Compute):
    """Options of everything that reads a trained model."""

    checkpoint: Free[UserPlace] = Field(
        SHIPPED,
        description="Model: a .safetensors file, a folder of one, models:/NAME@ALIAS in MLflow, a "
        "hub id, or scenes, which is shipped.",
    )


class PrepareConfig(Command):
    """Decode and resize images once, into a folder of small PNG files.

    An item's id gives its file's path below the folder, so that sub-folders stay; labels are also
    written to labels.csv, for --labels. The pixels are those that the other commands would see,
    8-bit or 16-bit gray; floats are refused. A folder that was interrupted is resumed by running
    the same command again.

    Example:
      python -m gdm_repr.prepare --data downloads/images1024x1024 --size 64 --out data/ffhq64
      python -m gdm_repr.prepare --data cifar10:downloads --out data/cifar10
    """

    data: UserPlace = Field(description=IMAGES)
    out: UserPath = Field(description="Folder for the images; an unfinished one is resumed.")
    labels: Labels = None
    size: Size = Field(
        None, description="Side of a square, or height,width; the images' own by default."
    )
    fit: Literal["center", "resize", "tile"] = Field(
        "center",
        description="How images come to size: cut to its shape, ignoring theirs, or in tiles.",
    )
    channels: Literal["rgb", "gray"] | None = Field(
        None, description="As the first image by default."
    )
    limit: Count | None = Field(
        None, description="Prepare a sample of so many items, spread over the classes."
    )
    first: First = Field(None, description="Prepare the first items only.")
    workers: Workers = Field(1, description="Processes that make files.")

    @field_validator("fit")
    @classmethod
    def _tile_has_size(cls, fit: str, info: ValidationInfo) -> str:
        if fit == "tile" and info.data.get("size", 0) is None:
            raise ValueError("cuts tiles of --size pixels; give --size")
        return fit

    def preprocess(self) -> Preprocess:
        """Return how images become the files' pixels."""
        return Preprocess(size=self.size, fit=self.fit, channels=self.channels)


class InitConfig(Command):
    """Make a training config from images: size, bands, network and budget, each with its reason.

    Some images are opened and some steps are timed; the YAML file may be edited. `train --data
    IMAGES` without a config does the same.

    Example:
      gdm-repr init photos/ --out photos.yaml
      gdm-repr init photos/ --out photos.yaml --minutes 60
    """

    data: UserPlace = Field(description=IMAGES)
    out: UserPath = Field(description="The YAML file.")
    labels: UserPath | None = Field(
        None, description="Labels: a CSV, or CelebA's list of attributes."
    )
    minutes: float = Field(10, gt=0, le=100_000, description="That training may take, here.")
    size: Side | None = Field(None, description="Side of x in pixels; chosen by default.")
    device: Device = Field("auto", description="auto takes CUDA where there is one.")
    overwrite: bool = Field(False, description="Replace the file.")

    def check(self) -> None:
        """Refuse a file that is there, or a place where none can be."""
        if self.out.is_dir():
            raise ValueError(f"--out {str(self.out)!r}: is a folder; name a file, as my.yaml")
        if self.out.exists() and not self.overwrite:
            raise ValueError(f"--out {str(self.out)!r}: is there already; add --overwrite")
        require_folder(self.out.parent)


class TrainConfig(Compute):
    """Train a Groupwise Diffusion Model on images.

    Example:
      python -m gdm_repr.train --config configs/digits.yaml --out runs/digits
      python -m gdm_repr.train --config configs/digits.yaml --out runs/digits --resume
      python -m gdm_repr.train --start-from scenes --data photos/ --images 200000 --out runs/photos
    """

    out: Free[UserPath] = Field(
        description="Folder for the model, its training state, sheets and records."
    )
    resume: Free[bool] = Field(False, description="Go on from the training state in --out.")
    overwrite: Free[bool] = Field(
        False, description="Start anew in --out, in place of the run there."
    )
    start_from: ByContent[UserPlace | None] = Field(
        None,
        description="Model whose weights training begins with (fine-tuning), with its --model and "
        "--preprocess where these are not given.",
    )
    data: ByContent[UserPlace] = Field(description=IMAGES)
    labels: Labels = None
    limit: ByContent[Count | None] = Field(
        None, description="Use a sample of so many items, spread over the classes."
    )
    first: First = Field(None, description="Use the first items only.")
    hold_out: Later[float | None] = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the images that training never sees, chosen by their content.",
    )
    preprocess: Preprocess = Field(Preprocess(), description="How images become x.")
    model: ModelConfig = Field(ModelConfig(), description="Basis, grouping, process and network.")
    cuts: Free[tuple[Group, ...] | None] = Field(
        None, exclude=True, description="Short for --model.grouping: bands, cut at these elements."
    )
    channels: Free[Held | None] = Field(
        None, exclude=True, description="Short for --model.network: its width at the finest level."
    )
    multipliers: Free[tuple[Held, ...] | None] = Field(
        None,
        exclude=True,
        description="Short for --model.network: widths of its levels, times that.",
    )
    loss: Literal["eq8", "eq7", "active"] = Field(
        "active", description="Eq. (8), Eq. (7), or the moving group alone."
    )
    time_law: TimeLaw = Field(
        "groups", description="Uniform in t, every group alike, or one weight per group."
    )
    clock: Literal["uniform", "whitened"] = Field(
        "uniform", description="Law of time inside a group: uniform in t, or in the whitened angle."
    )
    widths: tuple[float, ...] | None = Field(
        None, description="Lengths of the groups' intervals in t, sum 1."
    )
    orders: Orders = Field(
        "fixed", description="Generation orders to train on: the grouping's, any, or a list."
    )
    images: End[Count] = Field(2_000_000, description="Images to train on, counted with repeats.")
    accumulate: Count = Field(1, description="Parts in which a batch is computed.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of Adam after the warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay (AdamW).")
    warmup: int = Field(100_000, ge=0, le=MOST, description="Images of linear warm-up.")
    decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Last fraction of training in which the rate falls linearly to 0.",
    )
    clip: float | None = Field(None, gt=0, description="Largest gradient norm; none clips nothing.")
    ema_half_life: float = Field(
        500_000, ge=1, description="Half-life of the averaged weights, in images."
    )
    ema_ramp: float = Field(
        0.05, gt=0, description="Half-life at most this fraction of images seen."
    )
    checkpoint_every: Free[Count] = Field(200_000, description="Images between checkpoints.")
    sample_every: Free[Count] = Field(500_000, description="Images between sample sheets.")
    seed: Seed = Field(0, description="Seed of weights, order of images, noise and times.")
    workers: Workers = Field(
        1, description="Processes that decode images, when these don't fit in memory."
    )
    compile: Free[bool] = Field(False, description="Compile the network (torch.compile).")
    batch_size: Held = Field(256, description="Images a step.")

    @model_validator(mode="wrap")
    @classmethod
    def _short_ones_are_of_the_model(
        cls, values: object, handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        made = handler(values)
        short = {name: getattr(made, name) for name in sorted(SHORT & made.model_fields_set)}
        if not isinstance(values, dict) or all(value is None for value in short.values()):
            return made
        model = made.model.model_dump(mode="json", exclude_unset=True)
        for name, value in short.items():
            part = model.setdefault("grouping" if name == "cuts" else "network", {})
            if value is not None:
                part[name] = list(value) if isinstance(value, tuple) else value
            if name == "cuts" and part.get("name", "single") == "single":
                part["name"] = "bands"
        model.setdefault("network", {}).setdefault("name", made.model.network.name)
        return handler({**values, "model": model})


class SolverConfig(OfModel):
    """Options of everything that solves the ODE."""

    solver: OfPlan[str] = Field(
        DEFAULT_SOLVER, description="euler, midpoint, heun, rk4, ab2, ab3 or dopri5."
    )
    coordinate: OfPlan[str] = Field("whitened", description="whitened, or uniform (the paper's).")
    steps: OfPlan[Steps] = Field(DEFAULT_STEPS, description="Steps in all, or for each group.")
    split: OfPlan[Literal["even", "auto"]] = Field(
        "even", description="How steps in all are split: evenly, or by a measured error."
    )
    tolerance: OfPlan[float] = Field(
        1e-5, gt=0, description="Of dopri5 and of --inverse's fixed point."
    )
    order: tuple[Group, ...] | None = Field(
        None, description="Groups in the order of generation, of a model trained on several orders."
    )

    def plan(self, model: GDM, *, inverse: bool = False, split_on: Tensor | None = None) -> Plan:
        """Say how to solve a model's ODE, as :meth:`gdm_repr.api.GDM.plan` does."""
        return model.plan(
            self.steps,
            solver=self.solver,
            coordinate=self.coordinate,
            tolerance=self.tolerance,
            inverse=inverse,
            split_on=split_on,
        )


class EncodeConfig(SolverConfig):
    """Encode a data set into a store of grouped latents.

    A store that was interrupted is resumed by running the same command again. Without options,
    sample scenes are encoded by the model that comes with the package.

    Example:
      python -m gdm_repr.encode
      python -m gdm_repr.encode --checkpoint runs/digits --data digits --out runs/digits/latents
      python -m gdm_repr.encode --checkpoint runs/digits --data photos/ --out latents --steps 96
    """

    data: ByContent[UserPlace | None] = Field(
        None,
        description=f"{IMAGES} Needed, but for the model that comes with the package.",
    )
    out: Free[UserPath] = Field(
        Path("latents"), description="Folder of the latent store; an unfinished one is resumed."
    )
    labels: Labels = None
    size: Side | None = Field(None, description="Image size; must be the model's.")
    fit: Literal["center", "resize", "tile"] | None = Field(
        None, description="How images come to size."
    )
    dequantize: bool | None = Field(None, description="Spread integer levels uniformly.")
    limit: ByContent[Count | None] = Field(
        None, description="Encode a sample of so many items, spread over the classes."
    )
    first: First = Field(None, description="Encode the first items only.")
    part: Later[Part] = Field(
        "all", description="Encode all images, or those that training held out, or has seen."
    )
    inverse: bool = Field(
        False, description="Invert the decoder's own steps exactly (one-step solvers)."
    )
    round_trip: bool = Field(True, description="Decode again and store the error of each image.")
    latent_error: bool = Field(
        False, description="Estimate the solver's error by doubling the steps."
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="Of the stored latents.")
    shard_size: Held = Field(4096, description="Images a file of the store.")
    seed: Seed = Field(0, description="Seed of the dequantisation.")
    workers: Workers = Field(1, description="Processes that decode images.")

    def images(self) -> str:
        """Return --data, or the sample scenes for the model that comes with the package.

        Raises:
            ValueError: if another model is asked for without data.
        """
        if self.data is None and self.checkpoint != SHIPPED:
            raise ValueError(
                f"--data is required with --checkpoint {self.checkpoint!r}; name images or a source"
            )
        return self.data or SHIPPED_DATA


class DecodeConfig(OfModel):
    """Decode latents to images, by the solver and steps they were encoded with.

    Example:
      python -m gdm_repr.decode --checkpoint runs/digits --latents runs/digits/latents --out decoded
    """

    latents: UserPath = Field(description="Latent store, or a .npy file of latents (N, C, d).")
    out: UserPath = Field(description="Folder for the images.")
    ids: Ids = None
    limit: Count | None = Field(None, description="Decode the first latents only.")
    format: Format = None
    overwrite: bool = Field(False, description="Remove the images of other settings in --out.")


class SampleConfig(SolverConfig):
    """Draw images from a model.

    Example:
      python -m gdm_repr.sample --checkpoint runs/digits --n 64 --seed 0 --out samples
      python -m gdm_repr.sample --n 16 --frames 8 --out samples
    """

    n: Count = Field(64, description="Number of images.")
    seed: Seed = Field(0, description="Image i is made from seed + i, whatever the batch.")
    out: UserPath = Field(description="Folder for the images and their sheet.")
    frames: Frames = Field(
        0,
        description="States in which process.png shows how the first images come about, from noise "
        "to image; 0 draws none.",
    )
    format: Format = None
    overwrite: bool = Field(False, description="Remove the images of other settings in --out.")


def _words(value: object) -> object:
    """Read ``a,b`` as two words, and numbers of a YAML file as words."""
    if isinstance(value, str):
        return value.split(",")
    return [str(v) for v in value] if isinstance(value, Sequence) else [str(value)]


def _numbers(value: object) -> object:
    """Read ``-3:3:7`` as 7 even steps from -3 to 3, and ``-1,2`` as two numbers."""
    if not isinstance(value, str):
        return value if isinstance(value, Sequence) else [value]
    if value.count(":") != 2:
        if wrong := [part for part in value.split(",") if numerals.real(part) is None]:
            raise ValueError(f"{wrong[0]!r} is none; {numerals.RULE}")
        return [numerals.real(part) for part in value.split(",")]
    first, last, n = value.split(":")
    ends, count = [numerals.real(first), numerals.real(last)], numerals.place(n)
    if ends[0] is None or ends[1] is None or count is None or not 1 <= count <= MOST_VALUES:
        raise ValueError(
            f"a range is FIRST:LAST:HOW_MANY, such as -3:3:7, of at most {MOST_VALUES} numbers; "
            f"{numerals.RULE}"
        )
    return np.linspace(ends[0], ends[1], count).tolist()


# NoDecode: an environment variable gives the text of a flag, not JSON.
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


Numbers = Annotated[
    Annotated[
        tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(max_length=MOST_VALUES)
    ],
    NoDecode,
    BeforeValidator(_numbers),
]


class NeighboursConfig(OfModel):
    """Find the images of a store that are nearest to some images, band by band.

    It says first whether the nearest one is a near-duplicate, and whether training may have seen
    it. One row of the picture an image and band. Images of --data are encoded as the store was.

    Example:
      gdm-repr neighbours --checkpoint runs/digits --latents runs/digits/latents --items 3,7 --out runs/digits/near
      gdm-repr neighbours --checkpoint runs/faces --latents runs/faces/latents --data mine/ --items me.png --bands 0_29,all --out near
    """  # noqa: E501

    latents: UserPath = Field(description="Latent store that is searched.")
    ids: Ids = None
    data: ByContent[UserPlace | None] = Field(
        None, description=f"Where --items are from, when not from the store. {IMAGES}"
    )
    items: ByContent[Words] = Field(
        ("0",),
        min_length=1,
        description="Images whose neighbours are found, by id or number: 0,5. One of the store is "
        "not its own neighbour.",
    )
    bands: Words = Field(
        (),
        description="By name, number or indices 0-29; + joins several; all is all latents. Each "
        "group, then all, by default.",
    )
    n: int = Field(5, ge=1, le=MOST_VALUES, description="Neighbours of each image.")
    sample: int = Field(
        256,
        ge=2,
        le=MANY,
        description="Images of the store whose own nearest ones say how near is near.",
    )
    seed: Seed = Field(0, description="Seed of their choice.")
    out: Free[UserPath] = Field(description="Folder for the table and the picture.")
    overwrite: Free[bool] = Field(False, description="Remove those of other settings in --out.")
    tile: int = Field(
        96, ge=1, le=4096, description="Enlarge small images to about this many pixels."
    )


class MapConfig(Command):
    """Lay the images of a store out on a plane, by the latents of a band, as one Parquet file.

    Near neighbours in the band stay near: by t-SNE where openTSNE is installed (pip install
    'gdm-repr[map]'), with principal components beside it, else by these alone. embedding-atlas
    opens the file as it is, and what is selected there and exported goes into --ids.

    Example:
      gdm-repr map --latents runs/digits/latents --band 0_29 --data digits --out map.parquet
      gdm-repr map --latents latents --checkpoint scenes --out map.parquet
    """

    latents: UserPath = Field(description="Latent store.")
    ids: Ids = None
    band: str = Field(
        "all", description="By name, number or indices 0-29; + joins several; all is all latents."
    )
    data: ByContent[UserPlace | None] = Field(
        None, description="The images it was encoded from: thumbnails are made of them."
    )
    labels: Labels = None
    checkpoint: Free[UserPlace | None] = Field(
        None,
        description="Or the model it was encoded by: thumbnails are decoded by it, in few steps.",
    )
    device: Free[Device] = Field("auto", description="auto takes CUDA where there is one.")
    batch_size: Free[Held] = Field(256, description="Images that are decoded at a time.")
    fit_rows: int = Field(
        100_000,
        ge=5,
        le=MANY,
        description="Images that the map is fitted to, at random; the others are placed among "
        "them, and neighbours are found among them.",
    )
    seed: Seed = Field(0, description="Seed of their choice.")
    out: Free[UserPath] = Field(description="The Parquet file.")
    overwrite: Free[bool] = Field(False, description="Replace the file.")

    def check(self) -> None:
        """Refuse a file that is there, or a place where none can be, and thumbnails of both."""
        if self.out.is_dir():
            raise ValueError(f"--out {str(self.out)!r}: is a folder; name a file, as map.parquet")
        if self.out.exists() and not self.overwrite:
            raise ValueError(f"--out {str(self.out)!r}: is there already; add --overwrite")
        require_folder(self.out.parent)
        if self.data is not None and self.checkpoint is not None:
            raise ValueError(
                "--data, --checkpoint: both given; thumbnails are of one of them: leave the other "
                "out"
            )
