"""How long a study will take: each kind of task is tried for a moment, untrained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.study.work import Task

if TYPE_CHECKING:
    from gdm_repr.analysis.study.choices import Choice

START = 10.0  # seconds in which a process loads what it needs


def task_seconds(tasks: Mapping[str, tuple[Task, str | None]]) -> dict[str, float]:
    """Return the seconds that each task takes here, by its key; choices that are alike count once.

    Scoring is encoding and sampling; other analyses are not in it, until a task has done them.

    Args:
        tasks: by key, with the key of the one that each needs.
    """
    known: dict[str, float] = {}
    found = {}
    for key, (task, _) in tasks.items():
        if task.done.exists():
            continue
        alike = json.dumps([task.folder is None, _without_seed(task.choice)], default=str)
        if alike not in known:
            known[alike] = START + (_score if task.folder else _train)(task.choice)
        found[key] = known[alike]
    return found


def _without_seed(choice: Choice) -> dict[str, Any]:
    """Return what a choice's work is made of."""
    plain = choice.train.model_dump(mode="json", exclude={"seed", "out"})
    encode = choice.encode.model_dump(mode="json", exclude={"checkpoint", "out"})
    return {"train": plain, "encode": encode}


def _train(choice: Choice) -> float:
    from gdm_repr.data.loading import open_data
    from gdm_repr.proposal import USED, time_training

    config = choice.train
    dataset = open_data(config.data, config.preprocess, labels=config.labels)
    return config.images * time_training(config, dataset).step / USED


def _score(choice: Choice) -> float:
    from gdm_repr.api import GDM, choose_device
    from gdm_repr.data.loading import open_data
    from gdm_repr.timing import measure_speed
    from gdm_repr.untrained import build_untrained

    encode, train = choice.encode, choice.train
    dataset = open_data(
        encode.images(), train.preprocess, labels=encode.labels, limit=encode.limit,
        first=encode.first, seed=encode.seed, part=encode.part, hold_out=train.hold_out,
    )  # fmt: skip
    untrained = build_untrained(train, dataset.shape)
    model = GDM(untrained, choose_device(encode.device).type).with_order(encode.order)
    plan = encode.plan(model, inverse=encode.inverse)
    samples = getattr(choice.analyses[0][1], "n", None) or min(500, len(dataset) // 2)
    # the error of the steps is that of twice as many
    passes = 1 + encode.round_trip + 2 * encode.latent_error
    images = len(dataset) * passes + samples
    return measure_speed(model, plan).seconds(images, encode.batch_size)


def minutes_left(
    seconds: Mapping[str, float],
    took: Mapping[str, float],
    left: Mapping[str, float],
    jobs: int,
) -> float:
    """Return the minutes left, by what finished tasks of each kind took beside what was thought.

    Args:
        seconds: that each task was thought to take, by its key; models' begin with ``model``.
        took: seconds of finished tasks.
        left: seconds that unfinished ones have been running, 0 for those that wait.
        jobs: processes at once.

    >>> minutes_left({"model a": 60, "model b": 60, "c": 30}, {"model a": 120}, {"model b": 0}, 1)
    2.0
    """
    total = 0.0
    for kind in (True, False):
        done = [key for key in took if key in seconds and key.startswith("model ") == kind]
        thought = sum(seconds[key] for key in done)
        ratio = sum(took[key] for key in done) / thought if thought > 0 else 1.0
        total += sum(
            max(0.0, seconds.get(key, 0.0) * ratio - ran)
            for key, ran in left.items()
            if key.startswith("model ") == kind
        )
    return total / jobs / 60
