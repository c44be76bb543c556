"""Encode a data set into a store of grouped latents: ``python -m gdm_repr.encode`` (Sec. 4.2)."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gdm_repr.command import run
from gdm_repr.config import EncodeConfig
from gdm_repr.files import sweep
from gdm_repr.progress import notice, progress

if TYPE_CHECKING:
    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.api import GDM
    from gdm_repr.data.dataset import ImageDataset
    from gdm_repr.latents.format import Manifest
    from gdm_repr.latents.writer import StoreWriter
    from gdm_repr.ode import Plan
    from gdm_repr.tracking.run import Run

SHEET_IMAGES = 16  # columns of the contact sheet, spread evenly over the store
LIKENESS_IMAGES = 256  # that are compared with training's
SPLIT_IMAGES = 64  # images on which the steps' split is measured
ERRORS = ("latent_error", "round_trip_error")


def open_images(config: EncodeConfig, model: GDM) -> ImageDataset:
    """Open the data as the model saw it in training, but for what the options change.

    Raises:
        ValueError: if the data can't be opened, or another size than the model's is asked for.
    """
    from gdm_repr.api import model_preprocess
    from gdm_repr.data.loading import open_begun
    from gdm_repr.latents.store import data_of

    _, height, width = model.shape
    if config.size is not None and (config.size, config.size) != (height, width):
        raise ValueError(
            f"--size {config.size}: this model was trained on {height}x{width} images; use its size"
        )
    if config.part != "all" and model.hold_out is None:
        raise ValueError(
            f"--part {config.part}: training of {config.checkpoint!r} held nothing out; use all, "
            "or train with --hold-out"
        )
    preprocess = model_preprocess(model, fit=config.fit, dequantize=config.dequantize)
    return open_begun(
        config.images(),
        preprocess,
        begun=data_of(config.out),
        labels=config.labels,
        limit=config.limit,
        first=config.first,
        seed=config.seed,
        part=config.part,
        hold_out=model.hold_out,
    )


def make_manifest(config: EncodeConfig, model: GDM, dataset: ImageDataset, plan: Plan) -> Manifest:
    """Say what the store holds and what makes another run the same store."""
    from dataclasses import asdict

    from gdm_repr.latents.format import Manifest, bands_of, label_type

    grouping = model.grouping
    order = grouping.store_order()
    solver = {**asdict(plan), "precision": config.precision}
    preprocess = dataset.preprocess
    errors: dict[str, int] = {}
    for name, wanted in zip(ERRORS, (config.latent_error, config.round_trip), strict=True):
        if wanted:
            errors |= {name: 1, f"{name}_by_group": grouping.k}
    return Manifest(
        fingerprint={
            "checkpoint": model.checkpoint.fingerprint,
            "basis": model.basis.fingerprint(),
            "grouping": grouping.fingerprint(),
            "solver": hashlib.sha256(json.dumps(solver, sort_keys=True).encode()).hexdigest(),
            "preprocessing": preprocess.fingerprint(),
            "data": dataset.fingerprint(),
        },
        bands=bands_of(grouping),
        element_order=None if (order == range(len(order))).all() else order.tolist(),
        shape=model.shape,
        items=len(dataset),
        shard_size=config.shard_size,
        dtype=config.dtype,
        per_channel=grouping.per_channel,
        labels={name: label_type(values) for name, values in dataset.labels.items()},
        errors=errors,
        held_out=model.hold_out is not None,
        settings={
            "solver": solver,
            "preprocess": preprocess.model_dump(mode="json"),
            "source": dataset.source,
            "chosen": dataset.chosen,
            **({} if config.part == "all" else {"part": config.part, "hold_out": model.hold_out}),
            "seed": config.seed,
            "order": list(grouping.order),
            "checkpoint": config.checkpoint,
        },
    )


def open_work(config: EncodeConfig) -> tuple[GDM, ImageDataset, Plan]:
    """Open the model and the data, and plan the steps, split evenly.

    Raises:
        ValueError: for options, a checkpoint, data or a store that can't be used.
    """
    from gdm_repr.api import open_model
    from gdm_repr.data.sources.registry import refuse_inside
    from gdm_repr.latents.writer import require_same

    refuse_inside(config.out, config.images())
    model = open_model(config)
    with notice("looking at the images"):
        dataset = open_images(config, model)
    plan = config.plan(model, inverse=config.inverse)
    if config.latent_error and plan.solver == "dopri5":
        raise ValueError(
            "--latent-error: dopri5 chooses its own steps, so that there are none to double; "
            "choose another --solver"
        )
    if config.split == "even":  # another is not known yet
        with notice("looking whether images and model are those of before"):
            require_same(config.out, make_manifest(config, model, dataset, plan))
    return model, dataset, plan


def encode(config: EncodeConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options, a checkpoint, data or a store that can't be used.
    """
    import numpy as np

    from gdm_repr import tracking
    from gdm_repr.latents.store import open_store
    from gdm_repr.latents.summary import (
        as_columns,
        as_metrics,
        as_text,
        summarise,
        summarise_elements,
    )
    from gdm_repr.latents.writer import StoreWriter
    from gdm_repr.tracking.record import warn
    from gdm_repr.verdict import judge_latents, judge_likeness

    model, dataset, plan = open_work(config)
    if config.split == "auto":
        some = dataset.batch(range(min(SPLIT_IMAGES, len(dataset)))).x
        plan = config.plan(model, inverse=config.inverse, split_on=some)
    writer = StoreWriter(config.out, make_manifest(config, model, dataset, plan))
    sheet = config.out / "reconstructions.png"
    if writer.is_finished() and sheet.exists() and not (config.track and _is_untold(config.out)):
        manifest = writer.manifest
        print(
            f"{config.out} is finished already: {manifest.encoded} images encoded, "
            f"{manifest.quarantined} quarantined; for others choose another --out"
        )
        return 0
    unlike = judge_likeness(measure_likeness(model, dataset))
    if unlike:
        warn(unlike[0])
    # before there is a run, whose sender is busy at first
    if left := sum(len(writer.rows(shard)) for shard in writer.pending()):
        _announce(config, model, plan, left)
    resolved = config.resolved()
    fingerprints = {f"fingerprint.{k}": v for k, v in writer.manifest.fingerprint.items()}
    with tracking.start(
        "encode", resolved, config.out, enabled=config.track, tags=fingerprints
    ) as tracked:
        tracked.inputs(dataset.source, dataset.fingerprint(), config.images())
        _encode_pending(config, model, dataset, plan, writer, tracked)
        manifest = writer.finish()
        store = open_store(config.out)
        if not sheet.exists():
            last = len(store) - 1
            spread = np.linspace(0, last, min(SHEET_IMAGES, len(store))).round().astype(int)
            draw_sheet(model, dataset, plan, store.index[spread].tolist(), sheet)
        sweep(config.out, sheet.name)  # of a job that was killed while it drew
        summary = summarise(store)
        tracked.metrics(as_metrics(summary))
        tracked.table("bands", as_columns(summary))
        tracked.artifact(sheet)
        for name in ERRORS:
            if name in manifest.errors:
                rmse = float((store.errors(name).astype("f8") ** 2).mean() ** 0.5)
                tracked.metrics({f"{name.removesuffix('_error')}_rmse": rmse})
                print(f"{name.replace('_', ' ')}: RMSE {rmse:.2e}")
        verdict = [*unlike, *judge_latents(summary, summarise_elements(store))]
        tracked.note(verdict, {"originals over reconstructions": sheet.name})
    print(as_text(summary))
    print(*verdict, sep="\n")
    print(f"encoded {manifest.encoded} images, {manifest.quarantined} quarantined: {config.out}")
    print(f"originals over reconstructions: {sheet}")
    return 0


def measure_likeness(model: GDM, dataset: ImageDataset) -> Estimate:
    """Measure how far images are from training's (see :func:`gdm_repr.verdict.unlike_training`)."""
    import numpy as np

    from gdm_repr.verdict import unlike_training

    n = min(LIKENESS_IMAGES, len(dataset))
    x = dataset.batch(np.linspace(0, len(dataset) - 1, n).round().astype(int)).x
    return unlike_training(model.checkpoint, x)


def _is_untold(out: Path) -> bool:
    """Say whether no record tells that the store was finished: it was made without --track."""
    from gdm_repr.tracking.record import read_events

    events = read_events(out)
    runs = {e["run"] for e in events if e["event"] == "start" and e["command"] == "encode"}
    ends = [e for e in events if e["event"] == "end" and e["run"] in runs]
    return not ends or ends[-1]["status"] != "FINISHED"


def _announce(config: EncodeConfig, model: GDM, plan: Plan, left: int) -> None:
    """Say how long encoding takes, and what takes less, where it takes more than a minute."""
    from gdm_repr.timing import MOST_TIMED, measure_speed

    passes = 1 + config.round_trip + 2 * config.latent_error  # that is of twice the steps
    speed = measure_speed(model, plan, min(left, config.batch_size, MOST_TIMED))
    minutes = passes * speed.seconds(left, config.batch_size) / 60
    if not minutes > 1:
        return
    less = ["--limit"] if config.limit is None and config.first is None else []
    if model.hold_out is not None and config.part == "all":
        less.insert(0, "--part held-out")
    fewer = f"; {' or '.join(less)} takes fewer" if less else ""
    print(f"{left:,} images take about {minutes:.1f} minutes{fewer}", file=sys.stderr)


def _encode_pending(
    config: EncodeConfig,
    model: GDM,
    dataset: ImageDataset,
    plan: Plan,
    writer: StoreWriter,
    tracked: Run,
) -> None:
    """Encode the shards that are not there yet."""
    from gdm_repr.data.loading import load
    from gdm_repr.latents.writer import ShardRows, shard_batches
    from gdm_repr.tracking.keys import IMAGES_PER_SECOND

    pending = writer.pending()
    left = sum(len(writer.rows(shard)) for shard in pending)
    if left < len(dataset):
        print(
            f"resuming: {len(dataset) - left} of {len(dataset)} images are there", file=sys.stderr
        )
    batches = shard_batches(writer, pending, config.batch_size)
    loaded = load(dataset, batches, workers=config.workers, pin=model.device.type == "cuda")
    started, failed = time.monotonic(), 0
    with progress(len(dataset), desc="encode", initial=len(dataset) - left) as bar:
        for shard in pending:
            rows, left_here = ShardRows(), len(writer.rows(shard))
            while left_here:
                batch = next(loaded)
                encoding = model.encode(
                    batch.x,
                    plan,
                    latent_error=config.latent_error,
                    round_trip=config.round_trip,
                    check=False,  # a data set is scaled to [-1, 1], however bright its images
                )
                failed += int((~encoding.converged).sum())
                arrays = {
                    "z": encoding.z,
                    **{n: getattr(encoding, n) for n in writer.manifest.errors},
                }
                rows.add(batch, {name: array.cpu().numpy() for name, array in arrays.items()})
                asked = len(batch.index) + len(batch.rejected)
                left_here -= asked
                bar.update(asked)
            rows.write(writer, shard)
    if left:
        tracked.metrics({IMAGES_PER_SECOND: left / (time.monotonic() - started)})
    if failed:
        print(
            f"warning: the exact inverse did not converge for {failed} images; use more --steps",
            file=sys.stderr,
        )


def draw_sheet(model: GDM, dataset: ImageDataset, plan: Plan, rows: list[int], path: Path) -> None:
    """Draw originals over reconstructions of the given items."""
    from gdm_repr.pictures import save_sheet

    x = dataset.batch(rows).x
    reconstruction = model.encode(x, plan, round_trip=True, check=False).reconstruction
    assert reconstruction is not None
    save_sheet([x.numpy(), reconstruction.cpu().numpy()], path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr encode``."""
    return run(EncodeConfig, "encode", argv, encode, opened=open_work)


if __name__ == "__main__":
    sys.exit(main())
