"""Train a Groupwise Diffusion Model: ``python -m gdm_repr.train`` (Eqs. 7, 8, 12-16).

Progress is counted in images seen. Every random number of a step comes from (seed, step), so a
resumed run gives the same numbers as an unbroken one.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gdm_repr.command import uninterrupted
from gdm_repr.config import TrainConfig, run

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gdm_repr.data import ImageDataset, QuarantineLog
    from gdm_repr.denoiser import Denoiser
    from gdm_repr.models.ema import EMA
    from gdm_repr.schedule import ScheduleOutput
    from gdm_repr.tracking import Run

STATE_FILE = "state.safetensors"
IN_MEMORY_BYTES = 4e9  # decoded data sets up to this size are kept in memory
STATISTICS_IMAGES = 50_000
# may differ from the interrupted run's without changing its numbers
FREE_ON_RESUME = {
    "config", "dry_run", "resume", "out", "track", "images", "checkpoint_every", "sample_every",
    "workers", "device", "compile",
}  # fmt: skip


def shuffled_batches(n: int, batch: int, seed: int, first: int) -> Iterator[list[int]]:
    """Yield the indices of step ``first``, ``first`` + 1, ..: epochs of permutations, joined up."""
    import numpy as np

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


def element_statistics(
    dataset: ImageDataset, to_basis: Callable[[Tensor], Tensor], seed: int
) -> tuple[Tensor, Tensor]:
    """Return mean and std of every element in the basis over the data, each (C, d), float64.

    Takes every image, or 50,000 drawn without replacement from a larger set.
    """
    import numpy as np
    import torch

    n = len(dataset)
    chosen = np.arange(n)
    if n > STATISTICS_IMAGES:
        chosen = np.sort(np.random.default_rng(seed).choice(n, STATISTICS_IMAGES, replace=False))
    count, total, square, shift = 0, torch.zeros(()), torch.zeros(()), None
    for part in np.array_split(chosen, max(1, len(chosen) // 512)):
        x = to_basis(dataset.batch(part).x.double())
        if not len(x):
            continue
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

    def __init__(self, config: TrainConfig, denoiser: Denoiser) -> None:
        """Check intervals, orders and weights.

        Raises:
            ValueError: if they do not fit the groups.
        """
        import torch

        from gdm_repr.grouping import group_std
        from gdm_repr.schedule import group_weights, schedule_from_order

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
        self.std = torch.tensor(group_std(grouping, denoiser.std), dtype=torch.float64)

    def draw(self, n: int, generator: torch.Generator) -> ScheduleOutput:
        """Draw n times, and an order for each where there are several."""
        import torch

        from gdm_repr.schedule import ScheduleOutput, draw_times, schedule_from_order

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

    def __init__(self, config: TrainConfig, dataset: ImageDataset) -> None:
        """Build the model for the data's shape, or reload it on resume."""
        import torch

        from gdm_repr.api import choose_device
        from gdm_repr.basis import build_basis
        from gdm_repr.checkpoint import build_denoiser
        from gdm_repr.models.ema import EMA

        self.config, self.dataset, self.shape = config, dataset, dataset.shape
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        spec = config.model.basis
        basis = build_basis(spec.name, self.shape[1:], **spec.options())
        mean, std = element_statistics(dataset, basis.forward, config.seed)
        self.denoiser = build_denoiser(config.model, self.shape, mean, std).to(self.device)
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

    def train_step(self, x: Tensor) -> tuple[float, list[float]]:
        """Take one step on images x (B, C, H, W) in [-1, 1]; it only counts if there are none.

        Returns:
            The mean loss, and the loss of each group (nan where none was drawn).
        """
        import numpy as np
        import torch

        from gdm_repr.objective import loss

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
        from gdm_repr.checkpoint import FORMAT, MODEL_FILE, save_checkpoint, save_tensors

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
        from gdm_repr.checkpoint import load_tensors

        path = self.config.out / STATE_FILE
        tensors, facts = load_tensors(path)
        if not {"step", "config", "data"} <= facts.keys():
            raise ValueError(
                f"training state {str(path)!r}: is no training state; remove it to start again"
            )
        now = self.config.model_dump(mode="json")
        for name, before in facts["config"].items():
            if name not in FREE_ON_RESUME and now.get(name) != before:
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

    def sample_sheet(self, path: Path, n: int = 64) -> None:
        """Draw n images from the averaged model, always from the same latents."""
        import torch

        from gdm_repr.api import DEFAULT_STEPS, GDM
        from gdm_repr.checkpoint import Checkpoint
        from gdm_repr.pictures import as_grid, save_sheet

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


def _check_output(config: TrainConfig) -> None:
    """Refuse to write over another run, before anything is computed."""
    from gdm_repr.checkpoint import MODEL_FILE

    found = [name for name in (STATE_FILE, MODEL_FILE) if (config.out / name).exists()]
    if found and not config.resume:
        raise ValueError(
            f"--out {str(config.out)!r} holds a run already; add --resume to go on with it, "
            "or choose another folder"
        )
    if config.batch_size % config.accumulate:
        raise ValueError(
            f"--accumulate {config.accumulate}: must divide --batch-size {config.batch_size}"
        )


def train(config: TrainConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options, data or training state that can't be used, and when the loss is
            no longer finite.
    """
    _check_output(config)
    from gdm_repr.data import QuarantineLog, open_data
    from gdm_repr.grouping import draw_grouping

    dataset = open_data(
        config.data, config.preprocess, labels=config.labels, limit=config.limit, seed=config.seed
    )
    c, h, w = dataset.shape
    if len(dataset) * c * h * w <= IN_MEMORY_BYTES:
        dataset = dataset.in_memory()
    trainer = Trainer(config, dataset)
    config.out.mkdir(parents=True, exist_ok=True)
    if config.resume and (config.out / STATE_FILE).exists():
        trainer.load()
    resolved = config.model_dump(mode="json", exclude={"config", "dry_run", "resume"})
    (config.out / "config.json").write_text(json.dumps(resolved, indent=2) + "\n", encoding="utf-8")
    grouping, basis = trainer.denoiser.grouping, trainer.denoiser.basis
    positions = None if basis.name == "identity" else basis.positions
    draw_grouping(grouping, trainer.shape, config.out / "grouping.png", positions)
    log = QuarantineLog(config.out / "quarantine.jsonl", dataset.source)

    from gdm_repr import tracking

    with tracking.start("train", resolved, config.out, enabled=config.track) as tracked:
        tracked.inputs(dataset.source, dataset.fingerprint(), config.data)
        tracked.artifact(config.out / "grouping.png")
        try:
            _loop(trainer, tracked, log)
        except KeyboardInterrupt:
            trainer.save()
            raise
        trainer.save()
        sheet = config.out / "samples" / f"{trainer.nimg:010d}.png"
        trainer.sample_sheet(sheet)
        tracked.artifact(sheet, "samples")
        tracked.model(config.out / "model.safetensors")
    print(f"model: {config.out / 'model.safetensors'}")
    print(f"samples: {sheet}")
    return 0


def _loop(trainer: Trainer, tracked: Run, log: QuarantineLog) -> None:
    """Train up to the number of images, with checkpoints, sheets, records and a progress bar."""
    import torch
    from tqdm import tqdm

    from gdm_repr.data import load
    from gdm_repr.tracking import IMAGES_PER_SECOND, LOSS, band_metric

    config, names = trainer.config, trainer.denoiser.grouping.names
    batches = shuffled_batches(len(trainer.dataset), config.batch_size, config.seed, trainer.step)
    bar = tqdm(total=config.images, initial=trainer.nimg, unit="img", unit_scale=True, desc="train")
    sums, seen = torch.zeros(len(names) + 1), torch.zeros(len(names) + 1)
    started, start_nimg = time.monotonic(), trainer.nimg
    every = max(1, min(config.checkpoint_every, config.images) // 10)  # images between records
    with bar, (config.out / "log.jsonl").open("a", encoding="utf-8") as record:
        draws = itertools.count(trainer.step)  # fresh dequantisation noise every step
        for batch in load(trainer.dataset, batches, workers=config.workers, draw=draws, pin=True):
            if trainer.nimg >= config.images:
                break
            log.write(batch.rejected)
            before = trainer.nimg
            with uninterrupted():
                value, groups = trainer.train_step(batch.x)
            if not math.isfinite(value) and batch.ids:
                _stop(trainer, value, batch.ids)
            row = torch.tensor([value, *groups])
            seen += row.isfinite()
            sums += row.nan_to_num()
            bar.update(config.batch_size)
            if _crossed(before, trainer.nimg, every):
                means = (sums / seen.clamp(min=1)).tolist()
                rate = (trainer.nimg - start_nimg) / (time.monotonic() - started)
                bar.set_postfix_str(f"loss {means[0]:.4f}")
                values = {LOSS: means[0], IMAGES_PER_SECOND: rate}
                values |= {band_metric(LOSS, b): v for b, v in zip(names, means[1:], strict=True)}
                record.write(json.dumps({"images": trainer.nimg, **values}) + "\n")
                record.flush()
                tracked.metrics(values, step=trainer.nimg)
                sums.zero_()
                seen.zero_()
            if _crossed(before, trainer.nimg, config.sample_every):
                sheet = config.out / "samples" / f"{trainer.nimg:010d}.png"
                trainer.sample_sheet(sheet)
                tracked.artifact(sheet, "samples")
            if _crossed(before, trainer.nimg, config.checkpoint_every):
                trainer.save()


def _crossed(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def _stop(trainer: Trainer, value: float, ids: Sequence[str]) -> None:
    """Save what led to a loss that is not finite, and say so."""
    path = trainer.config.out / "nan.json"
    facts = {"step": trainer.step, "images": trainer.nimg, "loss": str(value), "ids": list(ids)}
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    raise ValueError(
        f"the loss is {value} at step {trainer.step} ({trainer.nimg} images); the batch's ids are "
        f"in {str(path)!r} and the last checkpoint is unharmed: train into another --out with a "
        "lower --lr, --clip 1, or without the image at fault"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr train``."""
    return run(TrainConfig, "train", argv, train, go_on="add --resume to go on")


if __name__ == "__main__":
    sys.exit(main())
