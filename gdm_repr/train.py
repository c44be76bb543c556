"""Train a Groupwise Diffusion Model: ``python -m gdm_repr.train`` (Eqs. 7, 8, 12-16)."""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.command import run, uninterrupted
from gdm_repr.config import MODEL_FILE, TrainConfig
from gdm_repr.files import only_writer, write_text
from gdm_repr.progress import notice

if TYPE_CHECKING:
    from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
    from gdm_repr.checkpoint import Checkpoint
    from gdm_repr.data.dataset import ImageDataset
    from gdm_repr.data.quarantine import QuarantineLog
    from gdm_repr.tracking.run import Run
    from gdm_repr.trainer import Trainer
    from gdm_repr.training_state import TrainingState

LOG, CURVE, VERDICT = "log.jsonl", "loss.png", "verdict.json"
MOST_SHOWN = 4  # bands on the bar
IN_MEMORY_BYTES, IN_MEMORY_SHARE = 4e9, 0.25  # of what is free; data sets up to both stay decoded


def train(config: TrainConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options, data or training state that can't be used, and when the loss is
            no longer finite.
    """
    with only_writer(config.out):
        return _train(config)


@dataclass(frozen=True)
class Work:
    """What a training needs.

    Attributes:
        config: its options, with those of the model that it starts from.
        dataset: the images.
        held_out: the images that it never sees; None where none are held out.
        state: of the run that it goes on with; None begins one.
        start: the model that it starts from; None begins with fresh weights, or goes on.
    """

    config: TrainConfig
    dataset: ImageDataset
    held_out: ImageDataset | None
    state: TrainingState | None
    start: Checkpoint | None


def open_work(config: TrainConfig) -> Work:
    """Open the data, and see that all parts of the model fit them.

    Raises:
        ValueError: for options, data, a model or a training state that can't be used.
    """
    if config.resume and config.overwrite:
        raise ValueError("--resume --overwrite: one goes on, the other starts anew; give one")
    from gdm_repr.data.loading import open_begun
    from gdm_repr.data.sources.registry import refuse_inside
    from gdm_repr.memory import require_memory
    from gdm_repr.training_state import require_same
    from gdm_repr.untrained import build_untrained

    refuse_inside(config.out, config.data)
    state = _state_of_run(config)
    config, start = _started(config, state)
    with notice("looking at the images"):
        dataset = open_begun(
            config.data,
            config.preprocess,
            begun=None if state is None else state.data,
            labels=config.labels,
            limit=config.limit,
            first=config.first,
            seed=config.seed,
        )
    dataset, held_out = _split(config, dataset)
    if len(dataset) < 2:
        raise ValueError(f"data {config.data!r}: {len(dataset)} images; at least 2 are needed")
    k = build_untrained(config, dataset.shape).denoiser.grouping.k
    require_memory(config, dataset.shape, k)
    if state is not None:
        with notice("looking whether the images are those of before"):
            require_same(state, config, dataset)
        if not config.resume and state.nimg < config.images:
            raise ValueError(
                f"--out {str(config.out)!r}: holds a run of {state.nimg} images; add --resume to "
                f"go on to {config.images}, --overwrite to start anew, or choose another folder"
            )
    return Work(config, dataset, held_out, state, start)


def _split(config: TrainConfig, dataset: ImageDataset) -> tuple[ImageDataset, ImageDataset | None]:
    """Return the images to train on and those that are held out.

    Raises:
        ValueError: if there are none of one kind.
    """
    import numpy as np

    from gdm_repr.data.loading import find_held_out

    if config.hold_out is None:
        return dataset, None
    held_out = find_held_out(dataset, config.hold_out, workers=config.workers)
    if held_out.all() or not held_out.any():
        raise ValueError(
            f"--hold-out {config.hold_out:g}: leaves {int((~held_out).sum())} of {len(dataset)} "
            "images to train on; give another share, or more images"
        )
    return dataset.take(np.flatnonzero(~held_out)), dataset.take(np.flatnonzero(held_out))


def _train(config: TrainConfig) -> int:
    """Run the command as the only writer of its folder."""
    work = open_work(config)
    from gdm_repr import tracking
    from gdm_repr.data.quarantine import QuarantineLog
    from gdm_repr.grouping import draw_grouping
    from gdm_repr.memory import free_memory
    from gdm_repr.proposal import axes_images, describe_training
    from gdm_repr.trainer import Trainer

    config, dataset, state, start = work.config, work.dataset, work.state, work.start
    if state is not None:
        if _is_finished(config, state):
            print(f"finished already, after {state.nimg} images: {config.out / MODEL_FILE}")
            print("more --images with --resume train on; --overwrite starts anew")
            return 0
        if config.decay and config.images != state.config.images:
            print(
                f"warning: the rate falls by --images, which were {state.config.images}: the "
                "result differs from that of an unbroken run",
                file=sys.stderr,
            )
    if decoded_bytes(dataset) <= min(IN_MEMORY_BYTES, IN_MEMORY_SHARE * free_memory()):
        with notice("reading all images into memory"):
            dataset = dataset.in_memory()
    with notice("building the model" if state else "measuring mean and std of the images"):
        trainer = Trainer(config, dataset, state=state, start=start)
    if start is not None:
        print(_taken_over(config, start), file=sys.stderr)
    with notice("timing a step of training"):
        lines = describe_training(config, dataset)
    print(*lines, sep="\n", file=sys.stderr)
    if config.model.denoiser.preconditioning == "principal":
        needed = axes_images(trainer.denoiser.grouping, trainer.shape)
        if len(dataset) < needed:
            print(
                f"warning: principal axes of its groups take {needed:,} images or more, and there "
                f"are {len(dataset):,}; --model.denoiser.preconditioning spectral takes none",
                file=sys.stderr,
            )
    if state is None:
        _clear(config.out)
    resolved = config.resolved("resume", "overwrite")
    write_text(config.out / "config.json", json.dumps(resolved, indent=2) + "\n")
    grouping, basis = trainer.denoiser.grouping, trainer.denoiser.basis
    positions = None if basis.name == "identity" else basis.positions
    draw_grouping(grouping, trainer.shape, config.out / "grouping.png", positions)
    log = QuarantineLog(config.out / "quarantine.jsonl", dataset.source)
    tags = {"fingerprint.started_from": trainer.started_from} if trainer.started_from else None
    with tracking.start("train", resolved, config.out, enabled=config.track, tags=tags) as tracked:
        tracked.inputs(dataset.source, dataset.fingerprint(), config.data)
        tracked.artifact(config.out / "grouping.png")
        try:
            _loop(trainer, tracked, log)
        except KeyboardInterrupt:
            with uninterrupted():
                trainer.save()
            raise
        with uninterrupted():
            trainer.save()
        sheet = _last_sheet(config.out, trainer.nimg)
        if not sheet.exists():  # drawn already where the last step was due one
            trainer.sample_sheet(sheet)
            tracked.artifact(sheet, "samples")
        tracked.artifact(_draw_curve(trainer))
        tracked.model(config.out / MODEL_FILE)
        verdict = _judge(trainer, work.held_out)
        pages = {"the last samples": f"samples/{sheet.name}", "the curve of the loss": CURVE}
        tracked.note(verdict, pages)
    print(f"model: {config.out / MODEL_FILE}")
    print(f"samples: {sheet}")
    print(*verdict, sep="\n")
    return 0


def _judge(trainer: Trainer, held_out: ImageDataset | None) -> list[str]:
    """Compare the averaged model with the best Gaussian, band by band, on both parts."""
    import numpy as np

    from gdm_repr.verdict import IMAGES, judge, measure_bands

    measured: dict[str, list[GroupLoss]] = {}
    for part, dataset in (("held-out", held_out), ("training", trainer.dataset)):
        n = 0 if dataset is None else len(dataset)
        if dataset is None or n < 2:
            continue
        chosen = np.random.default_rng(trainer.config.seed).choice(n, min(n, IMAGES), replace=False)
        if len(x := dataset.batch(np.sort(chosen)).x) > 1:
            measured[part] = measure_bands(trainer.averaged, x, seed=trainer.config.seed)
    if not measured:
        return []
    verdict = judge(measured)
    bands = {part: {each.group: asdict(each) for each in found} for part, found in measured.items()}
    facts = {"verdict": verdict, "bands": bands}
    write_text(trainer.config.out / VERDICT, json.dumps(facts, indent=1) + "\n")
    return verdict


def _is_relative(config: TrainConfig) -> bool:
    """Tell whether a loss of 1 is that of the best Gaussian."""
    return config.loss == "active" and config.model.denoiser.preconditioning != "none"


def _draw_curve(trainer: Trainer) -> Path:
    from gdm_repr.training_curve import draw_curve

    config, grouping = trainer.config, trainer.denoiser.grouping
    names = [grouping.names[group] for group in grouping.order]
    path = config.out / CURVE
    draw_curve(read_log(config.out / LOG), names, path, relative=_is_relative(config))
    return path


def decoded_bytes(dataset: ImageDataset) -> int:
    """Return what a data set takes when it is kept decoded."""
    each = 4 if dataset.levels == 0 else 1 + (dataset.levels > 255)  # bytes a value
    return len(dataset) * math.prod(dataset.shape) * each


def _state_of_run(config: TrainConfig) -> TrainingState | None:
    """Read the training state in the output folder; None where a run is to begin.

    Raises:
        ValueError: if the folder holds a model without a state, or the state is damaged.
    """
    from gdm_repr.training_state import STATE_FILE, read_state

    if config.overwrite:
        return None
    if (config.out / STATE_FILE).exists():
        return read_state(config.out / STATE_FILE)
    model = config.out / MODEL_FILE
    if model.exists():
        raise ValueError(
            f"--out {str(config.out)!r}: holds a model, but no {STATE_FILE} to go on from; train "
            f"on from its weights in another folder with --start-from {model}, or replace it with "
            "--overwrite"
        )
    return None


def _started(
    config: TrainConfig, state: TrainingState | None
) -> tuple[TrainConfig, Checkpoint | None]:
    """Return the options with those of the model that training starts from, and the model.

    A run that goes on has its weights; the model is asked for its fingerprint only.

    Raises:
        ValueError: if it can't be read, or the run was started from another.
    """
    from gdm_repr.checkpoint import find_checkpoint, load_checkpoint

    if config.start_from is None and (state is None or state.started_from is None):
        return config, None
    start, taken = None, dict[str, Any]()
    if config.start_from is not None:
        path = find_checkpoint(config.start_from)
        if state is None:
            start = load_checkpoint(path)
        elif path.exists() and state.started_from != load_checkpoint(path).fingerprint:
            before = repr(state.config.start_from) if state.started_from else "fresh weights"
            raise ValueError(
                f"start_from={config.start_from!r}: the run in {str(config.out)!r} was started "
                f"from {before}; resume with the same, or choose another --out"
            )
    if start is not None:
        _, height, width = start.shape
        colours = {1: "gray", 3: "rgb"}.get(start.shape[0])
        size = {"size": (height, width), "channels": colours}
        taken = {"model": start.model, "preprocess": start.preprocess.model_copy(update=size)}
        taken["hold_out"] = start.hold_out  # what it has not seen stays unseen
    elif state is not None:
        kept = ("model", "preprocess", "hold_out")
        taken = {name: getattr(state.config, name) for name in kept}
    taken = {key: part for key, part in taken.items() if key not in config.model_fields_set}
    return config.model_copy(update=taken), start


def _taken_over(config: TrainConfig, start: Checkpoint) -> str:
    """Say what training takes over from the model that it starts from."""
    from gdm_repr.tracking.record import warn
    from gdm_repr.trainer import keeps_statistics

    if config.hold_out and config.hold_out > (start.hold_out or 0):
        warn(
            f"--hold-out {config.hold_out:g}: {config.start_from} was trained with "
            f"{start.hold_out or 'none'}, so that it may have seen what is held out now"
        )
    kept = keeps_statistics(start, config)
    what = "weights and statistics" if kept else "weights; statistics of the data are new"
    return f"starting from {config.start_from} ({start.images} images): takes over its {what}"


def _is_finished(config: TrainConfig, state: TrainingState) -> bool:
    """Tell whether nothing is left of a run: no image, file or word to the tracking server."""
    from gdm_repr.tracking.record import read_events

    if state.nimg < config.images:
        return False
    files = (config.out / MODEL_FILE, _last_sheet(config.out, state.nimg))
    ends = [event for event in read_events(config.out) if event["event"] == "end"]
    told = not config.track or (bool(ends) and ends[-1].get("status") == "FINISHED")
    return told and all(path.exists() for path in files)


def _last_sheet(out: Path, nimg: int) -> Path:
    return out / "samples" / f"{nimg:010d}.png"


def _clear(out: Path) -> None:
    """Remove what an earlier run left; the record of what was tracked stays."""
    from gdm_repr.training_state import STATE_FILE

    names = (STATE_FILE, MODEL_FILE, LOG, CURVE, VERDICT, "nan.json", "quarantine.jsonl")
    sheets = (out / "samples").glob("[0-9]" * 10 + ".png")
    for path in (*(out / name for name in names), *sheets):
        path.unlink(missing_ok=True)


def read_log(path: Path, up_to: int | None = None) -> list[dict[str, Any]]:
    """Read the records of a training, without a line that a kill cut short.

    Args:
        path: ``log.jsonl``.
        up_to: images seen; later records are left out.
    """
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
            images = record["images"]
        except (ValueError, KeyError, TypeError):
            continue
        if up_to is None or images <= up_to:
            records.append(record)
    return records


def _loop(trainer: Trainer, tracked: Run, log: QuarantineLog) -> None:
    """Train up to the number of images, with checkpoints, sheets, records and a progress bar."""
    import torch
    from tqdm import tqdm

    from gdm_repr.data.loading import load
    from gdm_repr.tracking.keys import IMAGES_PER_SECOND, LOSS, band_metric
    from gdm_repr.trainer import shuffled_batches

    config, names = trainer.config, trainer.denoiser.grouping.names
    batches = shuffled_batches(len(trainer.dataset), config.batch_size, config.seed, trainer.step)
    bar = tqdm(total=config.images, initial=trainer.nimg, unit="img", unit_scale=True, desc="train")
    # what was recorded after the state was saved comes again
    kept = read_log(config.out / LOG, trainer.nimg)
    write_text(config.out / LOG, "".join(json.dumps(record) + "\n" for record in kept))
    started, start_nimg = time.monotonic(), trainer.nimg
    every = max(1, min(config.checkpoint_every, config.images) // 10)  # images between records
    with bar, (config.out / LOG).open("a", encoding="utf-8") as record:
        draws = itertools.count(trainer.step)  # fresh dequantisation noise every step
        for batch in load(trainer.dataset, batches, workers=config.workers, draw=draws, pin=True):
            if trainer.nimg >= config.images:
                break
            log.write(batch.rejected)
            before = trainer.nimg
            with uninterrupted():  # a step and its record: the state saved after has both or none
                value, groups = trainer.train_step(batch.x)
                if not math.isfinite(value) and batch.ids:
                    _stop(trainer, value, batch.ids)
                row = torch.tensor([value, *groups])
                trainer.seen += row.isfinite()
                trainer.sums += row.nan_to_num()
                bar.update(config.batch_size)
                if _crossed(before, trainer.nimg, every):
                    rate = (trainer.nimg - start_nimg) / (time.monotonic() - started)
                    means = (trainer.sums / trainer.seen.clamp(min=1)).tolist()
                    values = {LOSS: means[0], IMAGES_PER_SECOND: rate}
                    bands = list(zip(names, means[1:], strict=True))
                    bar.set_postfix_str(_shown_loss(means[0], bands, _is_relative(config)))
                    values |= {band_metric(LOSS, band): mean for band, mean in bands}
                    record.write(json.dumps({"images": trainer.nimg, **values}) + "\n")
                    record.flush()
                    tracked.metrics(values, step=trainer.nimg)
                    trainer.sums.zero_()
                    trainer.seen.zero_()
            if _crossed(before, trainer.nimg, config.sample_every):
                sheet = _last_sheet(config.out, trainer.nimg)
                trainer.sample_sheet(sheet)
                tracked.artifact(sheet, "samples")
            if _crossed(before, trainer.nimg, config.checkpoint_every):
                with uninterrupted():
                    trainer.save()
                _draw_curve(trainer)


def _shown_loss(value: float, bands: Sequence[tuple[str, float]], relative: bool) -> str:
    """Write a loss for the bar, beside the best Gaussian's where it is in units of that.

    >>> _shown_loss(0.81, [("0_29", 0.5), ("30_99", 1.02)], relative=True)
    'loss 0.81 of a Gaussian: 0_29 0.50, 30_99 1.02'
    """
    if not relative:
        return f"loss {value:.4f}"
    each = ", ".join(f"{name} {loss:.2f}" for name, loss in bands[:MOST_SHOWN])
    return f"loss {value:.2f} of a Gaussian" + (f": {each}" if len(bands) > 1 else "")


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
    return run(
        TrainConfig,
        "train",
        argv,
        lambda config: train(_told(config)),
        opened=lambda config: open_work(_told(config)),
        go_on="add --resume to go on",
    )


def _told(config: TrainConfig) -> TrainConfig:
    from gdm_repr.proposal import propose_unless_told

    return propose_unless_told(config)


if __name__ == "__main__":
    sys.exit(main())
