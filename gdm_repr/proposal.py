"""A training config for images nobody has trained on: made from the images and the machine.

What is chosen, and by what, stands in the comments of the YAML that :func:`as_yaml` writes. The
network is the widest that sees :data:`ENOUGH` images in the time given, as timed steps of it say;
the size of images is what such a network can model. The time is the user's; all else can be edited.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.boundary.isolation import isolated
from gdm_repr.boundary.text import printable
from gdm_repr.command import build, laid_over, shortened
from gdm_repr.config import DEFAULT_STEPS, SHORT, TrainConfig
from gdm_repr.grouping import Grouping, Shape
from gdm_repr.progress import notice
from gdm_repr.survey import Survey, cuts_of_spectrum, describe_sizes, survey

if TYPE_CHECKING:
    from gdm_repr.data.dataset import ImageDataset

ENOUGH = 120_000  # images a run should see: what the digits' config takes, and a little
MOST_EPOCHS = 400  # of a small set: more would learn it by heart
CHANNELS = (8, 12, 16, 24, 32, 48, 64, 96, 128)
MULTIPLIERS = (1, 2, 3, 3)
SIDES = {"cpu": (32, 64), "cuda": (64, 128)}  # below and from LONG minutes
LONG = 120  # minutes
HELD_OUT_IMAGES = 100  # at least, where a fifth of the images are as many
FEWEST_IMAGES = 50  # of which some are held out: of fewer, chance might hold out none
PATCHED = 24  # pixels, from which on the network works on patches of 2x2
BANDS = 3
PROPOSED = "proposed.yaml"  # in a run's folder
GIVEN = "as given"
PAPER_CUTS = (30, 100, 500)  # Sec. 4.3
SPECTRUM_IMAGES = 2000
AXES_IMAGES = 4  # for each number of a band, from which on its principal axes are told
TIMED_IMAGES = (16, 64)  # the larger where it fits: a small network is slow on few
LONG_STEP = 0.5  # seconds, from which on more images take as much longer
USED = 0.85  # of the time: the rest goes to starting, statistics, checkpoints and sheets


@dataclass(frozen=True)
class Rates:
    """Measured speed of a training.

    Attributes:
        step: seconds of a training step, an image.
        network: seconds of one evaluation, an image.
    """

    step: float
    network: float


@dataclass(frozen=True)
class Proposal:
    """A config with what it was made from.

    Attributes:
        values: options of training by name, plain.
        survey: of the images.
        dataset: some of them as x.
        rates: of the network.
        minutes: that training was to take.
    """

    values: dict[str, Any]
    survey: Survey
    dataset: ImageDataset
    rates: Rates
    minutes: float

    def config(self, **options: Any) -> TrainConfig:  # noqa: ANN401
        """Return the options as train takes them, with others beside."""
        return build(TrainConfig, {**self.values, **options})


@isolated
def propose(
    data: str,
    *,
    labels: Path | None = None,
    minutes: float = 10,
    device: str = "auto",
    size: int | None = None,
    images: int | None = None,
    seed: int = 0,
) -> Proposal:
    """Make a config from images.

    Args:
        data: as train's.
        labels: as train's.
        minutes: that training may take, on this machine.
        device: as train's.
        size: side of x; chosen when None.
        images: that training is to see, whatever the time; chosen when None.
        seed: of what is looked at.

    Raises:
        ValueError: for data that can't be used, or a machine with too little memory for any.
    """
    from gdm_repr.api import choose_device
    from gdm_repr.data.images import Preprocess
    from gdm_repr.data.loading import open_data

    found = survey(data, labels, seed=seed)
    kind = choose_device(device).type
    side = size or model_side(found.side, SIDES[kind][minutes >= LONG])
    preprocess: dict[str, Any] = {"size": side}
    if colours := {1: "gray", 3: "rgb"}.get(found.channels):
        preprocess["channels"] = colours
    plain = Preprocess.model_validate(preprocess)
    dataset = open_data(data, plain, labels=labels, limit=SPECTRUM_IMAGES)
    preprocess |= {"noise": found.noise} if found.noise else {"dequantize": dataset.levels > 0}
    cuts = cuts_of_spectrum(_variance(dataset), BANDS)
    share = hold_out_share(found.images)
    trained = round(found.images * (1 - (share or 0)))
    values: dict[str, Any] = {
        "data": data,
        **({"labels": str(labels)} if labels else {}),
        "preprocess": preprocess,
        "model": {
            "basis": {"name": "dct"},
            "grouping": {"name": "bands", "cuts": list(cuts)},
            "denoiser": {"preconditioning": choose_whitening(cuts, dataset.shape, trained)},
            "network": network_options(side, CHANNELS[0]),
        },
        **({"hold_out": share} if share else {}),
        "clock": "whitened",
        "precision": "bf16" if kind == "cuda" else "fp32",
        "device": device,
    }
    seconds = 60 * USED * minutes
    with notice("timing steps of networks of several widths"):
        rates = _choose_network(values, dataset, seconds)
    seen = min(int(seconds / rates.step), MOST_EPOCHS * found.images)
    values |= schedule_options(images or max(1, seen))
    _fit_memory(values, dataset.shape)
    return Proposal(values, found, dataset, rates, minutes)


def _variance(dataset: ImageDataset) -> NDArray[np.float64]:
    """Return the variance of each element of the DCT, summed over channels, (d,)."""
    from gdm_repr.basis import build_basis
    from gdm_repr.statistics import element_statistics, statistics_batches

    basis = build_basis("dct", dataset.shape[1:])
    _, std = element_statistics(statistics_batches(dataset, basis.forward, 0))
    found: NDArray[np.float64] = std.square().sum(0).numpy()
    return found


def hold_out_share(images: int) -> float | None:
    """Return the share to hold out: a tenth, or more of a small set; None where few would be left.

    >>> hold_out_share(10_000), hold_out_share(500), hold_out_share(20)
    (0.1, 0.2, None)
    """
    if images < FEWEST_IMAGES:
        return None
    return round(min(0.2, max(0.1, HELD_OUT_IMAGES / images)), 2)


def choose_whitening(cuts: Sequence[int], shape: Shape, images: int) -> str:
    """Return ``principal`` where the images are enough to tell the axes of every band.

    Of few, the covariance has axes along which nothing varies, and noise there counts a thousand
    times what it should.

    >>> [choose_whitening([16, 129], (3, 32, 32), n) for n in (160, 2700)]
    ['spectral', 'principal']
    """
    from gdm_repr.grouping import build_grouping

    needed = axes_images(build_grouping("bands", shape, cuts=list(cuts)), shape)
    return "principal" if images >= needed else "spectral"


def axes_images(grouping: Grouping, shape: Shape) -> int:
    """Return how many images the principal axes of all groups take."""
    from gdm_repr.axes import axes_sizes

    return AXES_IMAGES * max(axes_sizes(grouping, shape).values(), default=0)


def model_side(side: int, most: int) -> int:
    """Return the side of x for images of a side: a multiple of 4 near it, up to the most.

    >>> [model_side(side, 32) for side in (8, 27, 28, 100, 3)]
    [8, 28, 28, 32, 8]
    """
    return max(8, min(most, 4 * round(side / 4)))


def network_options(side: int, channels: int) -> dict[str, Any]:
    """Return options of DDPM++ for a side: halved down to 4 or more, attention at the coarsest.

    >>> network_options(28, 16)["multipliers"], network_options(28, 16)["attention"]
    ([1, 2], [7])
    """
    patch = 2 if side >= PATCHED and side % 4 == 0 else 1
    sides = [side // patch]
    while sides[-1] % 2 == 0 and sides[-1] >= 8 and len(sides) < len(MULTIPLIERS):
        sides.append(sides[-1] // 2)
    return {
        "name": "ddpmpp",
        "channels": channels,
        "multipliers": list(MULTIPLIERS[: len(sides)]),
        "blocks": 1,
        "attention": [sides[-1]],
        "dropout": 0.0,
        "patch": patch,
    }


def schedule_options(images: int) -> dict[str, Any]:
    """Return batch, rate and the rest for a number of images to be seen."""
    batch = 64 if images < ENOUGH else 128 if images < 10 * ENOUGH else 256
    steps = max(1, images // batch)
    images = steps * batch
    return {
        "batch_size": batch,
        "images": images,
        "lr": 3e-3,
        "warmup": images // 10,
        "decay": 0.4,
        "clip": 1.0,
        "ema_half_life": max(1.0, float(images // 15)),
        "checkpoint_every": max(batch, images // 5),
        "sample_every": max(batch, images // 3),
    }


def time_training(config: TrainConfig, dataset: ImageDataset) -> Rates:
    """Time a step and an evaluation of fresh weights on noise; no random state is touched."""
    import torch

    from gdm_repr.checkpoint import build_model_grouping
    from gdm_repr.statistics import Statistics
    from gdm_repr.timing import shortest
    from gdm_repr.trainer import Trainer

    most, shape = config.batch_size // config.accumulate, dataset.shape
    sizes = sorted({min(n, most) for n in TIMED_IMAGES})
    small = config.model_copy(update={"batch_size": sizes[-1], "accumulate": 1, "compile": False})
    with torch.random.fork_rng(devices=[]):
        blank = Statistics.blank(small.model, shape, build_model_grouping(small.model, shape))
        trainer = Trainer(small, dataset, statistics=blank)
        for n in sizes:
            x = torch.zeros(n, *shape)
            step = shortest(partial(trainer.train_step, x))
            if step > LONG_STEP:
                break
        level = torch.full((1, trainer.denoiser.grouping.k), 0.5, device=trainer.device)
        state = trainer.denoiser.basis.forward(x.to(trainer.device))
        with torch.no_grad():
            network = shortest(lambda: trainer.denoiser(state, level).sum().item())
    return Rates(step / n, network / n)


def _choose_network(values: dict[str, Any], dataset: ImageDataset, seconds: float) -> Rates:
    """Set the widest network that sees enough images in time and fits; return its speed."""
    from gdm_repr.api import choose_device
    from gdm_repr.memory import SHARE, count_memory, free_memory

    shape, chosen = dataset.shape, None
    for channels in CHANNELS:
        network = network_options(shape[1], channels)
        tried = {**values, "model": {**values["model"], "network": network}}
        config = build(TrainConfig, {**tried, "out": "model"})
        k = len(values["model"]["grouping"]["cuts"]) + 1
        needed, free = (
            count_memory(config, shape, k),
            free_memory(choose_device(config.device).type),
        )
        fits = [n for n in TIMED_IMAGES if needed.total(n) <= SHARE * free]
        if not fits:
            takes = needed.total(min(TIMED_IMAGES))
            break
        rates = time_training(config.model_copy(update={"batch_size": max(fits)}), dataset)
        if chosen is not None and seconds / rates.step < ENOUGH:
            break
        chosen, values["model"] = rates, tried["model"]
    if chosen is None:
        from gdm_repr.memory import gigabytes

        raise ValueError(
            f"images of {shape}: the smallest network takes {gigabytes(takes)} of memory and "
            f"{gigabytes(free)} are free; free some, or raise the limit (ulimit -v)"
        )
    return chosen


def _fit_memory(values: dict[str, Any], shape: Shape) -> None:
    """Compute a batch in as many parts as memory asks for."""
    from gdm_repr.api import choose_device
    from gdm_repr.memory import SHARE, count_memory, free_memory

    config = build(TrainConfig, {**values, "out": "model"})
    found = count_memory(config, shape, len(values["model"]["grouping"]["cuts"]) + 1)
    free = free_memory(choose_device(config.device).type)
    while (
        found.total(config.batch_size, values.get("accumulate", 1)) > SHARE * free
        and values.get("accumulate", 1) < config.batch_size
    ):
        values["accumulate"] = 2 * values.get("accumulate", 1)


def as_yaml(proposal: Proposal, laid: Mapping[str, Any] | None = None) -> str:
    """Write the config, each line with what it was chosen by and what it trades.

    Args:
        proposal: the config.
        laid: the same with options laid over it that were given.
    """
    import yaml

    found, values = proposal.survey, proposal.values if laid is None else laid
    channels = proposal.dataset.shape[0]
    model, colours = values["model"], {1: "gray", 3: "colour"}.get(channels, f"{channels} channels")
    paper = ", ".join(map(str, PAPER_CUTS))
    reasons = {
        "data": "",
        "labels": "",
        "preprocess": _why_pixels(found, proposal.dataset.shape[1]),
        "model": "",
        "hold_out": "share that training never sees, chosen by content; analyses look at these",
        "clock": "times are even in the angle between image and noise",
        "precision": "bf16 is twice as fast on a GPU, and no faster on a CPU",
        "device": "",
        "batch_size": "a larger batch is steadier, with fewer steps in the same time",
        "accumulate": "parts of a batch, so that it fits in memory",
        "images": "how many training sees, with repeats: more is better, and takes longer",
        "lr": "of Adam; lower it if the loss jumps",
        "warmup": "images in which the rate rises",
        "decay": "last part of training, in which the rate falls to 0",
        "clip": "largest gradient norm",
        "ema_half_life": "images that averaged weights look back on",
        "checkpoint_every": "images; a run that is killed loses no more than these",
        "sample_every": "images between sheets of samples",
    }
    parts = {
        "basis": "",
        "grouping": "equal shares of the summed std of the DCT, lowest frequencies first; the "
        f"paper cuts 256x256 at {paper}",
        "denoiser": {
            "principal": "each band is whitened along its principal axes",
            "spectral": "each element is whitened by its own std: these are too few images to tell "
            "a band's principal axes",
        }[proposal.values["model"]["denoiser"]["preconditioning"]],
        "network": "the widest that sees enough images in the time; a wider one is better, slower",
    }

    def line(name: str, value: object, why: str) -> str:
        text = yaml.safe_dump({name: value}, default_flow_style=True, width=10_000, sort_keys=False)
        return text.strip()[1:-1] + (f"   # {why}" if why else "")

    rows = [
        f"# From {found.images} images ({describe_sizes(found.sizes)}, {colours}), for training of "
        f"{proposal.minutes:g} minutes on this machine."
    ]
    if found.labels:
        kinds = (f"{name} ({count} values)" for name, count in found.labels.items())
        rows.append(f"# Labels: {printable(', '.join(kinds))}.")
    if found.unusable:
        name, reason = next(iter(found.unusable.items()))
        rows.append(
            f"# {len(found.unusable)} of {found.looked_at} images looked at can't be used; "
            + printable(f"{name}: {reason}")
        )
    made, order = proposal.values, {name: None for name in (*reasons, *values) if name in values}
    for name in order:
        if name == "model":
            rows.append("model:")
            for part, value in model.items():
                own = made["model"].get(part) == value
                rows.append(f"  {line(part, value, parts[part] if own else GIVEN)}")
        else:
            own = name in reasons and made.get(name) == values[name]
            rows.append(line(name, values[name], reasons[name] if own else GIVEN))
    return "\n".join(rows) + "\n"


def _why_pixels(found: Survey, side: int) -> str:
    why = f"{side} pixels a side, of {found.side}"
    if not found.noise:
        return why
    return (
        f"{why}; {100 * found.flat:.0f} % of neighbouring pixels are equal, and latents of flat "
        "areas are far from N(0, 1) without noise"
    )


def describe_training(
    config: TrainConfig, dataset: ImageDataset, rates: Rates | None = None
) -> list[str]:
    """Say what training takes, one line each; timed here when no rates are given."""
    from gdm_repr.checkpoint import build_model_grouping
    from gdm_repr.memory import count_memory, gigabytes

    rates = rates or time_training(config, dataset)
    grouping = build_model_grouping(config.model, dataset.shape)
    takes = count_memory(config, dataset.shape, grouping.k)
    minutes = rates.step * config.images / 60 / USED
    evaluations = max(DEFAULT_STEPS, grouping.k) + grouping.k  # each group begins with one more
    rows = {
        "bands": ", ".join(grouping.names),
        "parameters": f"{takes.parameters:,}",
        "memory": gigabytes(takes.total(config.batch_size, config.accumulate)),
        "images a second": f"{1 / rates.step:.0f}",
        "minutes": f"{minutes:.1f}, for {config.images:,} images",
        "to encode an image": f"{evaluations} evaluations, {evaluations * rates.network:.2f} s",
    }
    return [f"{name:<20}{shortened(value)}" for name, value in rows.items()]


def propose_unless_told(config: TrainConfig) -> TrainConfig:
    """Return train's options; where nothing says which model, those made from the images.

    A run that was begun so goes on with its own. What was made is written to its folder.

    Raises:
        ValueError: for data that can't be used.
    """
    from gdm_repr.files import write_text
    from gdm_repr.training_state import STATE_FILE, read_state

    given = config.model_fields_set
    short = {name: getattr(config, name) for name in sorted(SHORT & given)}
    if short and config.model == build(TrainConfig, {"data": "", "out": "", **short}).model:
        given = given - {"model"}  # which says no more than they do
    if config.config is not None or config.start_from is not None or "model" in given:
        return config
    made = config.out / PROPOSED
    plain = {**config.model_dump(mode="json", include=given, exclude_unset=True), **short}
    if (config.out / STATE_FILE).exists() and not config.overwrite:
        if not made.exists():
            return config
        before = read_state(config.out / STATE_FILE).config.resolved("resume", "overwrite")
        return build(TrainConfig, laid_over(before, plain))
    size = config.preprocess.size
    proposal = propose(
        config.data,
        labels=config.labels,
        device=config.device,
        size=size if isinstance(size, int) else None,
        images=config.images if "images" in given else None,
        seed=config.seed,
    )
    print(
        f"no --config: {made} is made from the images, for {proposal.minutes:g} minutes; "
        "gdm-repr init makes one for other times",
        file=sys.stderr,
    )
    if min(config.limit or FEWEST_IMAGES, config.first or FEWEST_IMAGES) < FEWEST_IMAGES:
        proposal.values.pop("hold_out", None)
    found = build(TrainConfig, laid_over(proposal.values, plain))
    if not config.dry_run:
        config.out.mkdir(parents=True, exist_ok=True)
        here = {*SHORT, "out", "overwrite", "resume", "track"}  # of this run alone, or parts
        laid = laid_over(proposal.values, {k: v for k, v in plain.items() if k not in here})
        laid["model"] = found.model.model_dump(mode="json", exclude_unset=True)
        write_text(made, as_yaml(proposal, laid))
    return found
