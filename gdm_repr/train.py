"""Train a Groupwise Diffusion Model: ``python -m gdm_repr.train`` (Eqs. 7, 8, 12-16)."""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gdm_repr.command import run, uninterrupted
from gdm_repr.config import TrainConfig

if TYPE_CHECKING:
    from gdm_repr.data import ImageDataset, QuarantineLog
    from gdm_repr.tracking import Run
    from gdm_repr.trainer import Trainer

IN_MEMORY_BYTES = 4e9  # decoded data sets up to this size are kept in memory


def _check_output(config: TrainConfig) -> None:
    """Refuse to write over another run, before anything is computed."""
    from gdm_repr.checkpoint import MODEL_FILE
    from gdm_repr.trainer import STATE_FILE

    found = [name for name in (STATE_FILE, MODEL_FILE) if (config.out / name).exists()]
    if found and not config.resume:
        raise ValueError(
            f"--out {str(config.out)!r} holds a run already; add --resume to go on with it, "
            "or choose another folder"
        )


def _data_of(state: Path) -> str | None:
    """Return the fingerprint of the data that a training state is of, read without its tensors."""
    from safetensors import SafetensorError, safe_open

    if not state.is_file():
        return None
    try:
        with safe_open(state, framework="pt") as file:
            return str(json.loads((file.metadata() or {})["gdm_repr"])["data"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None  # what is wrong with it is told where it is loaded


def open_work(config: TrainConfig) -> ImageDataset:
    """Open the data, and see that all parts of the model fit them.

    Raises:
        ValueError: for options or data that can't be used.
    """
    _check_output(config)
    from gdm_repr.data import open_begun
    from gdm_repr.trainer import STATE_FILE
    from gdm_repr.untrained import build_untrained

    dataset = open_begun(
        config.data,
        config.preprocess,
        begun=_data_of(config.out / STATE_FILE) if config.resume else None,
        labels=config.labels,
        limit=config.limit,
        first=config.first,
        seed=config.seed,
    )
    if len(dataset) < 2:
        raise ValueError(f"data {config.data!r}: {len(dataset)} images; at least 2 are needed")
    build_untrained(config, dataset.shape)
    return dataset


def train(config: TrainConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options, data or training state that can't be used, and when the loss is
            no longer finite.
    """
    dataset = open_work(config)
    from gdm_repr.data import QuarantineLog
    from gdm_repr.grouping import draw_grouping
    from gdm_repr.trainer import STATE_FILE, Trainer

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
        if not sheet.exists():  # drawn already where the last step was due one
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
    from gdm_repr.trainer import shuffled_batches

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
    return run(TrainConfig, "train", argv, train, opened=open_work, go_on="add --resume to go on")


if __name__ == "__main__":
    sys.exit(main())
