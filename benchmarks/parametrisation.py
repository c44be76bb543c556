"""Compare the denoiser's parametrisations on one budget: conditioning, preconditioning and loss.

    OMP_NUM_THREADS=1 python benchmarks/parametrisation.py

Each setting trains the same network on the same digits from the same seeds, and is measured on
images that it never saw (:class:`Result`). A finished setting is one line of the ``--out`` file,
and what is there already is not computed again. The tables printed at the end are kept, with what
follows from them, in docs/parametrisation.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gdm_repr.api import GDM
from gdm_repr.checkpoint import Checkpoint
from gdm_repr.config import TrainConfig
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import load, open_data
from gdm_repr.grouping import Grouping
from gdm_repr.oracle import block_whitening, gaussian_oracle
from gdm_repr.trainer import Trainer, shuffled_batches

TRAIN_IMAGES, ALL_IMAGES = 1500, 1797
PREPROCESS = Preprocess(dequantize=True)
BATCH = 128
BUDGET = {
    "out": "unused",  # nothing is written
    "data": "digits",
    "preprocess": PREPROCESS,
    "batch_size": BATCH,
    "lr": 2e-3,
    "warmup": 10_000,
    "decay": 0.3,
    "ema_half_life": 10_000,
    "device": "cpu",
}
NETWORK = {
    "name": "ddpmpp",
    "channels": 16,
    "multipliers": [1, 2, 2],
    "blocks": 1,
    "attention": [4],
}
NOISE_SHARES = (0.1, 0.5, 0.9)  # s, where alpha : sigma = 1 - s : s; s = 1 - a when linear
NOISE_DRAWS = 8  # x_t drawn for each held-out image and level
SOLVER_IMAGES = 64
COVARIANCE_DRAWS = 8  # dequantisations of each training image behind the Gaussian


@dataclass(frozen=True)
class Setting:
    """One row: how the network is conditioned, preconditioned and trained."""

    preconditioning: str
    conditioning: str
    loss: str
    strict: bool = False
    clock: str = "uniform"
    time_law: str | tuple[float, ...] = "groups"
    process: str = "linear"
    dropout: float = 0.0

    def config(self, images: int, seed: int) -> TrainConfig:
        """Return the training options: configs/digits.yaml's network on a smaller budget."""
        model = {
            "basis": {"name": "dct"},
            "grouping": {"name": "bands", "cuts": [6, 22]},
            "process": self.process,
            "denoiser": {
                "conditioning": self.conditioning,
                "preconditioning": self.preconditioning,
                "strict": self.strict,
            },
            "network": {**NETWORK, "dropout": self.dropout},
        }
        method = {"loss": self.loss, "time_law": self.time_law, "clock": self.clock}
        return TrainConfig.model_validate(
            {**BUDGET, **method, "model": model, "images": images, "seed": seed}
        )


# Equal intervals make t uniform and every group alike the same law; "by size" is t uniform over
# intervals as long as the groups have elements.
BY_SIZE = (6.0, 16.0, 42.0)
STRICT = Setting("spectral", "embed", "active", strict=True)
SETTINGS = {
    "1 none concat eq8 (paper)": Setting("none", "concat", "eq8"),
    "2 none embed eq8": Setting("none", "embed", "eq8"),
    "3 none embed active": Setting("none", "embed", "active"),
    "4 spectral embed eq8": Setting("spectral", "embed", "eq8"),
    "5 spectral embed active": Setting("spectral", "embed", "active"),
    "6 spectral embed active strict": STRICT,
    "7 spectral concat active strict": replace(STRICT, conditioning="concat"),
    "8 = 6, clock whitened": replace(STRICT, clock="whitened"),
    "9 = 6, groups by size": replace(STRICT, time_law=BY_SIZE),
    "10 none concat eq7": Setting("none", "concat", "eq7"),
    "11 = 6, variance-preserving": replace(STRICT, process="variance-preserving"),
    "12 = 8, dropout .1": replace(STRICT, clock="whitened", dropout=0.1),
    "13 = 6, dropout .1": replace(STRICT, dropout=0.1),
    "14 = 1, dropout .1": Setting("none", "concat", "eq8", dropout=0.1),
}
GAUSSIAN = "0 Gaussian, closed form"


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error over images."""

    value: float
    error: float


@dataclass(frozen=True)
class Result:
    """What one setting gave.

    Attributes:
        setting: a key of :data:`SETTINGS`, or :data:`GAUSSIAN`.
        seed: of weights, order of images, noise and times.
        images: images trained on, counted with repeats.
        ratio: squared error of u over the moving group of held-out images, over that of the best
            linear estimate (the Gaussian with the training images' mean and full covariance); one
            row a group, one column an s of :data:`NOISE_SHARES`. Below 1 beats linear denoisers.
        diagonal: the same of the Gaussian without covariances, spectral preconditioning alone.
        std: of each group's held-out latents; 1 is right.
        kurtosis: of each group's held-out latents; 3 is right.
        train_std: std on training images.
        train_kurtosis: kurtosis on training images.
        round_trip: RMSE of decode(encode(x)) over held-out images, default plan.
        solver_error: RMSE of held-out latents by the solver, from doubled steps, on 64 images.
        train_rate: images trained on a CPU second.
        encode_seconds: CPU seconds to encode 1,000 images with the default plan.
    """

    setting: str
    seed: int
    images: int
    ratio: list[list[Estimate]]
    diagonal: list[list[Estimate]]
    std: list[Estimate]
    kurtosis: list[Estimate]
    train_std: list[Estimate]
    train_kurtosis: list[Estimate]
    round_trip: float
    solver_error: float
    train_rate: float
    encode_seconds: float


def jackknife(per_image: Tensor, statistic: Callable[[Tensor], Tensor]) -> Estimate:
    """Estimate a function of means over n images, with the jackknife's standard error.

    Args:
        per_image: each image's terms, shape (n, m).
        statistic: means (.., m) to the statistic (..).
    """
    n = len(per_image)
    total = per_image.sum(0)
    left_out = statistic((total - per_image) / (n - 1))
    error = math.sqrt((n - 1) / n * float((left_out - left_out.mean()).square().sum()))
    return Estimate(float(statistic(total / n)), error)


def moments(z: Tensor, grouping: Grouping) -> tuple[list[Estimate], list[Estimate]]:
    """Return std and kurtosis of each group's latents z (n, 1, d), over images and elements."""

    def std(m: Tensor) -> Tensor:
        return (m[..., 1] - m[..., 0] ** 2).sqrt()

    def kurtosis(m: Tensor) -> Tensor:
        first, second, third, fourth = m.unbind(-1)
        central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        return central / (second - first**2) ** 2

    stds, kurtoses = [], []
    for group in range(grouping.k):
        own = z[:, 0, torch.from_numpy(grouping.mask(group)[0])].double()
        powers = torch.stack([(own**p).mean(1) for p in (1, 2, 3, 4)], dim=1)
        stds.append(jackknife(powers, std))
        kurtoses.append(jackknife(powers, kurtosis))
    return stds, kurtoses


def error_ratios(
    model: GDM, x: Tensor, mean: Tensor, covariance: Tensor
) -> tuple[list[list[Estimate]], list[list[Estimate]]]:
    """Compare u's squared error on data x (n, 1, d) with the two Gaussians' (:class:`Result`)."""
    grouping, process = model.grouping, model.denoiser.process
    linear = gaussian_oracle(mean, covariance, grouping, process)
    diagonal = gaussian_oracle(mean, covariance.diagonal().diag(), grouping, process)
    x = x.repeat(NOISE_DRAWS, 1, 1)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    ratios, diagonals = [], []
    for rank, group in enumerate(grouping.order):
        own = torch.from_numpy(grouping.mask(group)[0])
        rows: tuple[list[Estimate], list[Estimate]] = ([], [])
        for s in NOISE_SHARES:
            A = torch.zeros(1, grouping.k)
            A[0, list(grouping.order[:rank])] = 1
            A[0, group] = process.level(torch.tensor(1 - s), torch.tensor(s))
            levels = model.denoiser.expand(A)
            x_t, u = process.x_t(x, z, levels), process.u(x, z, levels)
            guesses = (
                model.denoiser(x_t, A),
                linear(x_t.double(), A),
                diagonal(x_t.double(), A),
            )
            squares = torch.stack(
                [(guess - u)[:, 0, own].double().square().mean(1) for guess in guesses], dim=1
            )
            each = squares.reshape(NOISE_DRAWS, -1, 3).mean(0)
            rows[0].append(jackknife(each, lambda m: m[..., 0] / m[..., 1]))
            rows[1].append(jackknife(each, lambda m: m[..., 2] / m[..., 1]))
        ratios.append(rows[0])
        diagonals.append(rows[1])
    return ratios, diagonals


def trained(setting: Setting, dataset: ImageDataset, images: int, seed: int) -> tuple[GDM, float]:
    """Train one setting; return the averaged model and images a CPU second."""
    config = setting.config(images, seed)
    trainer = Trainer(config, dataset)
    batches = shuffled_batches(len(dataset), BATCH, seed, 0)
    start = time.process_time()
    for batch in load(dataset, batches, workers=0, draw=itertools.count()):
        if trainer.nimg >= images:
            break
        value, _ = trainer.train_step(batch.x)
        if not math.isfinite(value):
            raise ValueError(f"loss {value} at step {trainer.step} of {setting}; lower the rate")
    rate = trainer.nimg / (time.process_time() - start)
    denoiser = trainer.ema.module
    shape, preprocess = trainer.shape, config.preprocess
    checkpoint = Checkpoint(denoiser, shape, config.model, preprocess, {}, images, "")  # type: ignore[arg-type]
    return GDM(checkpoint, "cpu"), rate


@torch.no_grad()
def measure(name: str, images: int, seed: int) -> Result:
    """Train and measure one setting; :data:`GAUSSIAN` is its closed form, without a network."""
    everything = open_data("digits", PREPROCESS).in_memory()
    dataset = open_data("digits", PREPROCESS, first=TRAIN_IMAGES).in_memory()
    held_out = everything.batch(range(TRAIN_IMAGES, ALL_IMAGES)).x
    seen = dataset.batch(range(0, TRAIN_IMAGES, 5)).x
    with torch.enable_grad():
        closed = name == GAUSSIAN
        setting = Setting("spectral", "embed", "active") if closed else SETTINGS[name]
        model, rate = trained(setting, dataset, 1 if closed else images, seed)
    draws = [dataset.batch(range(TRAIN_IMAGES), draw).x for draw in range(COVARIANCE_DRAWS)]
    x = model.to_basis(torch.cat(draws))[:, 0].double()
    mean, covariance = x.mean(0), torch.cov(x.T)
    ratio, diagonal = error_ratios(model, model.to_basis(held_out), mean, covariance)
    grouping = model.grouping
    if closed:
        ratio = [[Estimate(1.0, 0.0)] * len(NOISE_SHARES)] * grouping.k
        bars = [model.to_basis(part)[:, 0].double() for part in (held_out, seen)]
        z, z_seen = (block_whitening(bar, mean, covariance, grouping)[:, None] for bar in bars)
        rate = round_trip = solver_error = seconds = 0.0
    else:
        start = time.process_time()
        z_seen = model.encode(seen).z
        seconds = (time.process_time() - start) / len(seen) * 1000
        encoding = model.encode(held_out, round_trip=True)
        doubled = model.encode(held_out[:SOLVER_IMAGES], latent_error=True)
        assert encoding.round_trip_error is not None and doubled.latent_error is not None
        z = encoding.z
        round_trip = float(encoding.round_trip_error.square().mean().sqrt())
        solver_error = float(doubled.latent_error.square().mean().sqrt())
    return Result(
        name,
        seed,
        images,
        ratio,
        diagonal,
        *moments(z, grouping),
        *moments(z_seen, grouping),
        round_trip,
        solver_error,
        rate,
        seconds,
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as two Markdown tables, each cell a mean over seeds.

    A range is over seeds; a plus-minus is the standard error over images, the larger of the seeds'.
    """

    def mean(values: Iterable[float], digits: int) -> str:
        listed = list(values)
        return f"{sum(listed) / len(listed):.{digits}f}"

    def over_images(seeds: list[dict[str, Any]], key: str, group: int) -> str:
        cells = [row[key][group] for row in seeds]
        error = max(cell["error"] for cell in cells)
        return f"{mean((cell['value'] for cell in cells), 2)} ± {error:.2f}"

    def overall(groups: list[list[dict[str, float]]]) -> float:
        cells = [cell["value"] for group in groups for cell in group]
        return math.exp(sum(map(math.log, cells)) / len(cells))

    ratios = [
        "| setting | low | middle | high | geometric mean (seeds) |",
        "| --- | --- | --- | --- | --- |",
    ]
    latents = [
        "| setting | std low, middle, high | kurtosis low, middle, high | std on training images "
        "| round trip | solver error | images/s, training | s per 1000, encoding |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in (GAUSSIAN, *SETTINGS):
        seeds = [row for row in rows if row["setting"] == name]
        if not seeds:
            continue
        groups, levels = range(len(seeds[0]["std"])), range(len(NOISE_SHARES))
        kinds = {"ratio": name}
        if name == GAUSSIAN:
            kinds["diagonal"] = "0 the same, without covariances"
        for key, label in kinds.items():
            bands = [
                " ".join(mean((row[key][g][s]["value"] for row in seeds), 2) for s in levels)
                for g in groups
            ]
            means = [overall(row[key]) for row in seeds]
            spread = ", ".join(f"{value:.3f}" for value in means)
            ratios.append(f"| {label} | {' | '.join(bands)} | {mean(means, 3)} ({spread}) |")
        parts = [
            ", ".join(over_images(seeds, key, g) for g in groups)
            for key in ("std", "kurtosis", "train_std")
        ]
        parts += [mean((row[key] for row in seeds), 5) for key in ("round_trip", "solver_error")]
        parts += [mean((row[key] for row in seeds), 0) for key in ("train_rate", "encode_seconds")]
        latents.append(f"| {name} | {' | '.join(parts)} |")
    return "\n".join([*ratios, "", *latents])


def main() -> None:
    """Compute what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/parametrisation.jsonl"))
    parser.add_argument("--images", type=int, default=80_000, help="training images a setting")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--settings", nargs="+", metavar="NUMBER", help="numbers of the settings; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="the table of what is in --out only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["images"] == options.images]
    done = {(row["setting"], row["seed"]) for row in rows}
    names = [
        name
        for name in (GAUSSIAN, *SETTINGS)
        if options.settings is None or name.split()[0] in options.settings
    ]
    for seed, name in itertools.product([] if options.quick else options.seeds, names):
        if (name, seed) in done:
            continue
        result = asdict(measure(name, options.images, seed))
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{name}, seed {seed}: done", flush=True)
        rows.append(result)
    print(table(rows))


if __name__ == "__main__":
    main()
