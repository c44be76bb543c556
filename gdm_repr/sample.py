"""Draw images from a model: ``python -m gdm_repr.sample`` (Eq. 9 backwards)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gdm_repr.command import run
from gdm_repr.config import SampleConfig
from gdm_repr.files import only_writer
from gdm_repr.progress import progress
from gdm_repr.recipe import PROCESS, Recipe, how_made

if TYPE_CHECKING:
    from gdm_repr.api import GDM
    from gdm_repr.ode import Plan

STRIPS = 4  # images whose generation is drawn


def open_work(config: SampleConfig) -> tuple[GDM, Plan]:
    """Open the model, and plan the steps, split evenly.

    Raises:
        ValueError: for options or a checkpoint that can't be used.
    """
    from gdm_repr.api import open_model
    from gdm_repr.pictures import choose_format

    model = open_model(config)
    choose_format(config.format, model.shape[0])
    return model, config.plan(model)


def sample(config: SampleConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options or a checkpoint that can't be used, or a folder of other images.
    """
    with only_writer(config.out):
        return _sample(config)


def _sample(config: SampleConfig) -> int:
    """Run the command as the only writer of its folder."""
    import numpy as np

    from gdm_repr import tracking
    from gdm_repr.pictures import ImageWriter, choose_format
    from gdm_repr.process_strip import process_sheet

    model, plan = open_work(config)
    form = choose_format(config.format, model.shape[0])
    recipe = _recipe(config, model, plan, form)
    if recipe.look(config.out, overwrite=config.overwrite) is not None:
        print(
            f"{config.out} is finished already: {config.n} images drawn; add --overwrite to make "
            "it again"
        )
        return 0
    # the split is measured where a sampler goes: on the model's own samples
    if config.split == "auto":
        some = model.sample(min(64, config.n), seed=config.seed, plan=plan)
        plan = config.plan(model, split_on=some)
    recipe.begin(config.out, overwrite=config.overwrite)
    resolved = config.resolved("overwrite")
    with tracking.start(
        "sample",
        resolved,
        config.out,
        enabled=config.track,
        tags={"fingerprint.checkpoint": model.checkpoint.fingerprint},
    ) as tracked:
        writer = ImageWriter(config.out, config.n, model.shape, form)
        ids = _ids(config)
        with progress(config.n, desc="sample") as bar:
            for start in range(0, config.n, config.batch_size):
                part = ids[start : start + config.batch_size]
                if not writer.skip(part):
                    x = model.sample(len(part), seed=config.seed + start, plan=plan).cpu().numpy()
                    if not np.isfinite(x).all():
                        raise ValueError(
                            f"samples {start} to {start + len(part) - 1} are not finite; use more "
                            "--steps, with --overwrite"
                        )
                    writer.write(x, part)
                bar.update(len(part))
        sheet, process = writer.finish(), config.out / PROCESS
        tracked.artifact(sheet)
        if config.frames:
            n = min(STRIPS, config.n)
            rows = [f"seed {config.seed + i}" for i in range(n)]
            z = model.noise(n, seed=config.seed)
            process_sheet(model, z, plan, config.frames, rows).save(process)
            tracked.artifact(process)
    recipe.end(config.out, {"images": config.n})
    print(f"drew {config.n} images: {config.out}")
    print(f"the first of them: {sheet}")
    if config.frames:
        print(f"how they come about: {process}")
    return 0


def _recipe(config: SampleConfig, model: GDM, plan: Plan, form: str) -> Recipe:
    """Say what is made, and of what."""
    from gdm_repr.decode import image_files

    files = image_files(_ids(config), form)
    return Recipe(
        "sample",
        settings={
            "checkpoint": model.checkpoint.fingerprint,
            "n": config.n,
            "seed": config.seed,
            "solver": plan.solver,
            "coordinate": plan.coordinate,
            "steps": plan.steps,
            "split": config.split,
            "tolerance": plan.tolerance,
            "order": model.grouping.order,
            "precision": config.precision,
            "frames": config.frames,
            "format": form,
        },
        names={"checkpoint": config.checkpoint},
        how=how_made(config.batch_size, model.device.type),
        files=[*files, *([PROCESS] if config.frames else [])],
    )


def _ids(config: SampleConfig) -> list[str]:
    return [f"seed{config.seed + i:06d}" for i in range(config.n)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr sample``."""
    return run(SampleConfig, "sample", argv, sample, opened=open_work)


if __name__ == "__main__":
    sys.exit(main())
