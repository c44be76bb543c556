"""The training loop's state and its one step (Eqs. 7, 8, 12-16).

Progress is counted in images seen. Every random number of a step comes from (seed, step), so a
resumed run gives the same numbers as an unbroken one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gdm_repr.api import GDM, choose_device
from gdm_repr.axes import Axes, principal_axes
from gdm_repr.basis import build_basis
from gdm_repr.checkpoint import (
    FORMAT,
    MODEL_FILE,
    Checkpoint,
    build_denoiser,
    build_model_grouping,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from gdm_repr.command import build
from gdm_repr.config import DEFAULT_STEPS, TrainConfig
from gdm_repr.data import ImageDataset
from gdm_repr.denoiser import Denoiser
from gdm_repr.isolation import isolated
from gdm_repr.models.ema import EMA
from gdm_repr.objective import loss
from gdm_repr.pictures import as_grid, save_sheet
from gdm_repr.schedule import ScheduleOutput, draw_times, group_weights, schedule_from_order

STATE_FILE = "state.safetensors"
STATISTICS_IMAGES = 50_000
# may differ from the interrupted run's without changing its numbers
FREE_ON_RESUME = {
    "config", "dry_run", "resume", "out", "track", "images", "checkpoint_every", "sample_every",
    "workers", "device", "compile",
}  # fmt: skip


def shuffled_batches(n: int, batch: int, seed: int, first: int) -> Iterator[list[int]]:
    """Yield the indices of step ``first``, ``first`` + 1, ..: epochs of permutations, joined up."""
    position, epoch = first * batch, -1
    order = np.empty(0, np.int64)
    while True:
        chosen: list[int] = []
        while len(chosen) < batch:
            if position // n != epoch:
                epoch = position // n
                order = np.random.default_rng([seed, epoch]).permutation(n)
            start = position % n
            part = order[start : start + batch - len(chosen)]
            chosen += part.tolist()
            position += len(part)
        yield chosen


def statistics_batches(
    dataset: ImageDataset, to_basis: Callable[[Tensor], Tensor], seed: int
) -> Iterator[Tensor]:
    """Yield the images that statistics are taken of, in the basis, (B, C, d), float64.

    They are all, or 50,000 drawn without replacement from a larger set.
    """
    n = len(dataset)
    chosen = np.arange(n)
    if n > STATISTICS_IMAGES:
        chosen = np.sort(np.random.default_rng(seed).choice(n, STATISTICS_IMAGES, replace=False))
    for part in np.array_split(chosen, max(1, len(chosen) // 512)):
        x = to_basis(dataset.batch(part).x.double())
        if len(x):
            yield x


@isolated
def element_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and std of every element over batches (B, C, d), each (C, d), float64."""
    count, total, square, shift = 0, torch.zeros(()), torch.zeros(()), None
    for x in batches:
        shift = x.mean(0) if shift is None else shift
        count += len(x)
        total = total + (x - shift).sum(0)
        square = square + (x - shift).square().sum(0)
    if count < 2 or shift is None:
        raise ValueError(f"data: {count} usable images; at least 2 are needed to train")
    mean = total / count
    return mean + shift, (square / count - mean.square()).clamp(min=0).sqrt()


class Levels:
    """Draws a step's times and turns them into levels: intervals, orders and the law of t."""

    @isolated
    def __init__(self, config: TrainConfig, denoiser: Denoiser) -> None:
        """Check intervals, orders and weights.

        Raises:
            ValueError: if they do not fit the groups.
        """
        grouping = denoiser.grouping
        orders = config.orders
        if isinstance(orders, str):
            listed = [grouping.order]
        else:
            listed = [grouping.with_order(order).order for order in orders]
        self.orders = None if orders == "random" else torch.tensor(listed)
        self.k = grouping.k
        self.widths = None if config.widths is None else torch.tensor(config.widths).double()
        schedule = schedule_from_order(grouping.order, self.widths)
        self.weights = group_weights(config.time_law, schedule)
        self.process, self.clock = denoiser.process, config.clock
        self.std = denoiser.axes.scale.double().cpu()

    @isolated
    def draw(self, n: int, generator: torch.Generator) -> ScheduleOutput:
        """Draw n times, and an order for each where there are several."""
        if self.orders is None:
            order = torch.rand(n, self.k, generator=generator).argsort(1)
        elif len(self.orders) == 1:
            order = self.orders[0]
        else:
            order = self.orders[torch.randint(len(self.orders), (n,), generator=generator)]
        schedule = schedule_from_order(order, self.widths)
        at = schedule.at(draw_times(self.weights, schedule, n, generator))
        A = at.A
        if self.clock == "whitened":
            moving = at.active[:, None]
            angle = (1 - A.gather(1, moving)) * (math.pi / 2)
            level = self.process.level(angle.cos(), self.std[moving] * angle.sin()).clamp(0, 1)
            A = A.scatter(1, moving, level)
        return ScheduleOutput(A.float(), at.dA_dt.float(), at.active)


class Trainer:
    """The training loop and its state."""

    @isolated
    def __init__(self, config: TrainConfig, dataset: ImageDataset) -> None:
        """Build the model for the data's shape, or reload it on resume."""
        self.config, self.dataset, self.shape = config, dataset, dataset.shape
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        spec = config.model.basis
        basis = build_basis(spec.name, self.shape[1:], **spec.options())
        mean, std = element_statistics(statistics_batches(dataset, basis.forward, config.seed))
        axes = None
        if config.model.denoiser.preconditioning == "principal":
            batches = statistics_batches(dataset, basis.forward, config.seed)
            grouping = build_model_grouping(config.model, self.shape)
            rotations, along = principal_axes(grouping, mean, std, batches)
            turned = {group: V.float() for group, V in rotations.items()}
            axes = Axes(grouping, std.float(), turned, along.float())
        denoiser = build_denoiser(config.model, self.shape, mean, std, axes=axes)
        self.denoiser = denoiser.to(self.device)
        self.denoiser.train()
        self.levels = Levels(config, self.denoiser)
        self.ema: EMA = EMA(self.denoiser, config.ema_half_life, config.ema_ramp)
        self.denoiser.autocast = torch.bfloat16 if config.precision == "bf16" else None
        if self.device.type == "cuda":
            self.denoiser.network.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.denoiser.network.parameters(),
            lr=config.lr,
            betas=(0.9, 0.999),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.step = 0
        self.network = self.denoiser.network
        if config.compile:
            self.denoiser.network = torch.compile(self.network)  # type: ignore[assignment]

    @property
    def nimg(self) -> int:
        """Images seen."""
        return self.step * self.config.batch_size

    @property
    def averaged(self) -> Denoiser:
        """The denoiser with averaged weights."""
        return cast("Denoiser", self.ema.module)

    def learning_rate(self) -> float:
        """Return the rate: linear warm-up, constant, and linear decay over the last fraction."""
        c = self.config
        rate = c.lr * min(1.0, (self.nimg + c.batch_size) / max(c.warmup, 1))
        if c.decay:
            rate *= min(1.0, max(0.0, (c.images - self.nimg) / (c.decay * c.images)))
        return rate

    @isolated
    @torch.enable_grad()
    def train_step(self, x: Tensor) -> tuple[float, list[float]]:
        """Take one step on images x (B, C, H, W) in [-1, 1]; it only counts if there are none.

        Returns:
            The mean loss, and the loss of each group (nan where none was drawn).
        """
        config, n = self.config, len(x)
        if n == 0:  # every image of the batch is in the quarantine
            self.step += 1
            return math.nan, [math.nan] * self.denoiser.grouping.k
        noise, dropout = np.random.SeedSequence([config.seed, self.step]).generate_state(2)
        generator = torch.Generator().manual_seed(int(noise))
        torch.manual_seed(int(dropout))
        at = self.levels.draw(n, generator)
        z = torch.randn((n, self.shape[0], self.denoiser.grouping.d), generator=generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for rows in torch.arange(n).tensor_split(config.accumulate):
            part = at.rows(rows).to(self.device)
            x_bar = self.denoiser.basis.forward(x[rows].to(self.device, non_blocking=True))
            each = loss(config.loss, self.denoiser, x_bar, z[rows].to(self.device), part)
            (each.sum() / n).backward()  # type: ignore[no-untyped-call]
            losses.append(each.detach().cpu())
        each = torch.cat(losses)
        value = float(each.mean())
        if math.isfinite(value):
            if config.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
            self.optimizer.step()
            self.ema.update(self.nimg, n)
            self.step += 1
        groups = [float(each[at.active == j].mean()) for j in range(self.denoiser.grouping.k)]
        return value, groups

    def save(self) -> None:
        """Write the model, then the training state; each whole or not at all."""
        config = self.config
        options = config.model_dump(mode="json", exclude={"model", "preprocess"})
        save_checkpoint(
            config.out / MODEL_FILE,
            self.averaged,
            shape=self.shape,
            model=config.model,
            preprocess=config.preprocess,
            training=options,
            images=self.nimg,
        )
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{slot}": value for slot, value in slots.items()}
        facts = {
            "format": FORMAT,
            "step": self.step,
            "config": config.model_dump(mode="json"),
            "data": self.dataset.fingerprint(),
        }
        save_tensors(config.out / STATE_FILE, tensors, facts)

    def load(self) -> None:
        """Go on from the training state in the output folder.

        Raises:
            ValueError: if it is damaged, or was written with other options or data.
        """
        path = self.config.out / STATE_FILE
        tensors, facts = load_tensors(path)
        if not {"step", "config", "data"} <= facts.keys():
            raise ValueError(
                f"training state {str(path)!r}: is no training state; remove it to start again"
            )
        now = self.config.model_dump(mode="json")
        # read as options again: those that came into being since then had their defaults
        started = build(TrainConfig, facts["config"], f"training state {str(path)!r}: ")
        for name, before in started.model_dump(mode="json").items():
            if name not in FREE_ON_RESUME and now[name] != before:
                raise ValueError(
                    f"{name}={now.get(name)!r}: the run in {str(self.config.out)!r} was started "
                    f"with {before!r}; resume with the same options or choose another --out"
                )
        if facts["data"] != self.dataset.fingerprint():
            raise ValueError(
                f"data={self.config.data!r}: the images are not those that the run in "
                f"{str(self.config.out)!r} was started with; bring them back or choose another "
                "--out"
            )
        parts: dict[str, dict[str, Any]] = {"network": {}, "ema": {}, "adam": {}}
        for key, tensor in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = tensor
        try:
            self.network.load_state_dict(parts["network"])
            self.ema.load_state_dict(parts["ema"])
        except RuntimeError as error:
            detail = str(error).splitlines()[0]
            raise ValueError(f"training state {str(path)!r}: does not fit ({detail})") from error
        state: dict[int, dict[str, Any]] = {}
        for key, tensor in parts["adam"].items():
            number, slot = key.split(".")
            state.setdefault(int(number), {})[slot] = tensor
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
        self.step = int(facts["step"])

    @isolated
    def sample_sheet(self, path: Path, n: int = 64) -> None:
        """Draw n images from the averaged model, always from the same latents."""
        config = self.config
        checkpoint = Checkpoint(
            self.averaged, self.shape, config.model, config.preprocess, {}, self.nimg, ""
        )
        model = GDM(checkpoint, self.device.type, config.precision)
        steps = max(DEFAULT_STEPS, self.denoiser.grouping.k)
        x = model.sample(n, seed=config.seed, plan=model.plan(steps))
        if not bool(torch.isfinite(x).all()):
            print(f"warning: samples at {self.nimg} images are not finite", file=sys.stderr)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        save_sheet(as_grid(x.cpu().numpy(), 8), path)
