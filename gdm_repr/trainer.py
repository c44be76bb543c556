"""The training loop's state and its one step (Eqs. 7, 8, 12-16).

Progress is counted in images seen. Every random number of a step comes from (seed, step), so a
resumed run gives the same numbers as an unbroken one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from gdm_repr.api import GDM, choose_device
from gdm_repr.boundary.isolation import isolated
from gdm_repr.checkpoint import (
    Checkpoint,
    build_denoiser,
    build_model_grouping,
    save_checkpoint,
)
from gdm_repr.config import DEFAULT_STEPS, MODEL_FILE, TrainConfig
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.denoiser import Denoiser
from gdm_repr.models.ema import EMA
from gdm_repr.objective import loss
from gdm_repr.pictures import as_grid, save_sheet
from gdm_repr.schedule import ScheduleOutput, draw_times, group_weights, schedule_from_order
from gdm_repr.statistics import Statistics, measure_statistics
from gdm_repr.training_state import (
    STATE_FILE,
    TrainingState,
    require_like,
    restore,
    save_state,
)

SHEET_IMAGES = (64, 16, 4)  # as many as do not exceed
SHEET_PIXELS = 1 << 22


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


def keeps_statistics(start: Checkpoint, config: TrainConfig) -> bool:
    """Tell whether training from a model keeps its statistics.

    They are kept where the weights were trained in their scale: the same preconditioning of the
    same groups in the same basis. Then the first step begins at the model's own u, whatever the
    data.
    """
    old, new = start.model, config.model
    groups = build_model_grouping(new, start.shape).index
    return (
        old.denoiser.preconditioning == new.denoiser.preconditioning != "none"
        and old.basis == new.basis
        and np.array_equal(groups, start.denoiser.grouping.index)
    )


def statistics_of(denoiser: Denoiser) -> Statistics:
    """Return the statistics that a model is preconditioned by."""
    axes = denoiser.axes
    rotations = {group: axes.rotation(group) for group in axes.groups}
    along = axes.std if axes.groups else None
    return Statistics(denoiser.mean, denoiser.std, rotations, along)


class Trainer:
    """The training loop and its state.

    Attributes:
        statistics: of the data, as the model is preconditioned by them.
        started_from: fingerprint of the checkpoint that it started from; None for fresh weights.
        step: steps taken.
        sums: losses since the last record: of all examples, and of each group's, shape (1 + k,).
        seen: how many are in each sum, shape (1 + k,).
    """

    @isolated
    def __init__(
        self,
        config: TrainConfig,
        dataset: ImageDataset,
        *,
        state: TrainingState | None = None,
        start: Checkpoint | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        """Build the model for the data's shape, with fresh weights or those of a run or model.

        Args:
            config: its options.
            dataset: its images.
            state: of an interrupted run, to go on from.
            start: a model to start from; its statistics are kept where :func:`keeps_statistics`.
            statistics: of the data, where they are known; measured when None.

        Raises:
            ValueError: if options, data, state and model do not fit each other.
        """
        self.config, self.dataset, self.shape = config, dataset, dataset.shape
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        grouping = build_model_grouping(config.model, self.shape)
        if state is not None and state.statistics is not None:
            self.statistics = state.statistics
            where = f"training state {str(state.path)!r}: "
            self.statistics.require_fit(config.model, self.shape, grouping, where)
        elif start is not None and keeps_statistics(start, config):
            self.statistics = statistics_of(start.denoiser)
        elif statistics is not None:
            self.statistics = statistics
        else:
            self.statistics = measure_statistics(dataset, config.model, grouping, config.seed)
        axes, mean, std = self.statistics.axes(grouping), self.statistics.mean, self.statistics.std
        denoiser = build_denoiser(config.model, self.shape, mean, std, axes=axes)
        if start is not None:
            weights = start.denoiser.network.state_dict()
            network, instead = denoiser.network.state_dict(), "leave --model as the model has it"
            require_like(weights, network, "--start-from: network.", instead)
            denoiser.network.load_state_dict(weights)
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
        self.step, self.started_from = 0, start.fingerprint if start else None
        self.sums = torch.zeros(self.denoiser.grouping.k + 1)
        self.seen = torch.zeros_like(self.sums)
        self.network = self.denoiser.network
        if state is not None:
            self.started_from = state.started_from
            restore(self, state)
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
        source = generator
        if self.device.type == "cuda":  # drawn on the CPU it would take longer than the step
            source = torch.Generator(self.device).manual_seed(int(noise))
        shape = (n, self.shape[0], self.denoiser.grouping.d)
        z = torch.randn(shape, generator=source, device=source.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        parts = [each.tensor_split(config.accumulate) for each in (torch.arange(n), x, z)]
        for rows, x_part, z_part in zip(*parts, strict=True):
            part = at.rows(rows).to(self.device)
            x_bar = self.denoiser.basis.forward(x_part.to(self.device, non_blocking=True))
            each = loss(config.loss, self.denoiser, x_bar, z_part.to(self.device), part)
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
        options["items"] = len(self.dataset)
        save_checkpoint(
            config.out / MODEL_FILE,
            self.averaged,
            shape=self.shape,
            model=config.model,
            preprocess=config.preprocess,
            training=options,
            images=self.nimg,
        )
        save_state(config.out / STATE_FILE, self)

    @isolated
    def sample_sheet(self, path: Path) -> None:
        """Draw images from the averaged model, always from the same latents.

        As many at a time as a step computes, so that a sheet takes no more memory than training.
        """
        config = self.config
        checkpoint = Checkpoint(
            self.averaged, self.shape, config.model, config.preprocess, {}, self.nimg, ""
        )
        model = GDM(checkpoint, self.device.type, config.precision)
        plan = model.plan(max(DEFAULT_STEPS, self.denoiser.grouping.k))
        pixels = self.shape[1] * self.shape[2]
        n = next(n for n in SHEET_IMAGES if n * pixels <= SHEET_PIXELS or n == SHEET_IMAGES[-1])
        at_once = max(1, config.batch_size // config.accumulate)
        parts = [
            model.sample(min(at_once, n - start), seed=config.seed + start, plan=plan)
            for start in range(0, n, at_once)
        ]
        x = torch.cat(parts)
        if not bool(torch.isfinite(x).all()):
            print(f"warning: samples at {self.nimg} images are not finite", file=sys.stderr)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        save_sheet(as_grid(x.cpu().numpy(), 8), path)
