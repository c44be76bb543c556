"""The training state as a file: what is saved is what is restored, or it is refused.

``state.safetensors`` holds, beside the resolved options and the fingerprint of the data,

    network.NAME, ema.NAME    weights and averaged weights
    adam.NUMBER.SLOT          Adam's moments of the NUMBERth parameter, and its count of steps
    data.mean, data.std       statistics of the data; axes.std, axes.GROUP of a model with axes
    record.sums, record.seen  losses since the last record, and how many were summed

A moment is laid out in memory as its parameter is: files are contiguous, convolutions' weights are
not (channels last), and the fused optimizer pairs what lies at the same place in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gdm_repr.checkpoint import FORMAT, load_tensors, save_tensors
from gdm_repr.command import build
from gdm_repr.config import TrainConfig
from gdm_repr.identity import Mark, counted, marked
from gdm_repr.recipe import flat
from gdm_repr.statistics import Statistics

if TYPE_CHECKING:
    from gdm_repr.data.dataset import ImageDataset
    from gdm_repr.trainer import Trainer

STATE_FILE = "state.safetensors"
PARTS = ("network", "ema", "adam", "data", "axes", "record")
STEPS, MOMENTS = "step", ("exp_avg", "exp_avg_sq")  # of AdamW


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training state as read from its file.

    Attributes:
        path: the file.
        step: steps taken.
        config: the options of the run that wrote it.
        data: fingerprint of its data.
        started_from: fingerprint of the checkpoint that it started from; None for fresh weights.
        statistics: of its data; None in states of early versions.
        parts: tensors by part and name.
        moved: whether the optimizer had taken a step.
    """

    path: Path
    step: int
    config: TrainConfig
    data: str
    started_from: str | None
    statistics: Statistics | None
    parts: dict[str, dict[str, Tensor]]
    moved: bool

    @property
    def nimg(self) -> int:
        """Images seen."""
        return self.step * self.config.batch_size


def save_state(path: Path, trainer: Trainer) -> None:
    """Write a trainer's state, whole or not at all."""
    tensors = {f"network.{k}": v for k, v in trainer.network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in trainer.ema.state_dict().items()}
    for number, slots in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{slot}": value for slot, value in slots.items()}
    tensors |= trainer.statistics.tensors()
    tensors |= {"record.sums": trainer.sums, "record.seen": trainer.seen}
    facts = {
        "format": FORMAT,
        "step": trainer.step,
        "config": trainer.config.model_dump(mode="json"),
        "data": trainer.dataset.fingerprint(),
        "started_from": trainer.started_from,
        "moved": bool(trainer.optimizer.state),
    }
    save_tensors(path, tensors, facts)


def read_state(path: Path) -> TrainingState:
    """Read a training state.

    Raises:
        ValueError: if it is damaged or none; the message names what is wrong.
    """
    tensors, facts = load_tensors(path)
    where = f"training state {str(path)!r}: "
    fix = "; remove it to start again"
    step, options, data = (facts.get(key) for key in ("step", "config", "data"))
    started = facts.get("started_from")
    if options is None or step is None or data is None:
        raise ValueError(f"{where}is no training state{fix}")
    for name, value, fits in (
        ("step", step, isinstance(step, int) and not isinstance(step, bool) and step >= 0),
        ("config", options, isinstance(options, dict)),
        ("data", data, isinstance(data, str)),
        ("started_from", started, isinstance(started, str | None)),
    ):
        if not fits:
            raise ValueError(f"{where}{name} is {str(value)[:80]!r}{fix}")
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        if part not in parts or not name:
            raise ValueError(f"{where}holds {key[:80]!r}, which is no part of one{fix}")
        parts[part][name] = tensor
    # read as options again: those that came into being since then had their defaults
    config = build(TrainConfig, options, where)
    statistics = Statistics.read(tensors, where) if parts["data"] else None
    moved = bool(facts.get("moved", step > 0))
    return TrainingState(path, step, config, data, started, statistics, parts, moved)


def require_same(state: TrainingState, config: TrainConfig, dataset: ImageDataset) -> None:
    """Refuse to go on with other options or data than a state's.

    Raises:
        ValueError: naming the one difference.
    """
    out = str(config.out)
    both = (config, state.config)
    now, before = (flat(counted(each, Mark.CONTENT, Mark.END)) for each in both)
    for name in dict.fromkeys([*now, *before]):
        if now.get(name) != before.get(name):
            raise ValueError(
                f"{name}={now.get(name)!r}: the run in {out!r} was started with "
                f"{before.get(name)!r}; resume with the same options or choose another --out"
            )
    if state.data != dataset.fingerprint():
        now, before = (each.model_dump(mode="json") for each in both)
        known = reversed(marked(TrainConfig, Mark.CONTENT))  # how many, before of what
        name = next((name for name in known if now[name] != before[name]), "data")
        told = f" (with {name}={before[name]!r})" if now[name] != before[name] else ""
        raise ValueError(
            f"{name}={now[name]!r}: the images are not those that the run in {out!r} was "
            f"started with{told}; bring them back or choose another --out"
        )


def restore(trainer: Trainer, state: TrainingState) -> None:
    """Bring a trainer to where it was.

    Raises:
        ValueError: if a tensor is missing, is one too many, or has another shape or dtype.
    """
    where = f"training state {str(state.path)!r}: "
    for part, module in (("network", trainer.network), ("ema", trainer.ema.module)):
        require_like(state.parts[part], module.state_dict(), f"{where}{part}.")
        module.load_state_dict(state.parts[part])
    if state.parts["record"]:
        wanted = {"sums": trainer.sums, "seen": trainer.seen}
        require_like(state.parts["record"], wanted, f"{where}record.")
        trainer.sums, trainer.seen = state.parts["record"]["sums"], state.parts["record"]["seen"]
    parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    if not state.moved:
        parameters = []
    moments = state.parts["adam"]
    blank = {
        number: {slot: torch.empty_like(p, requires_grad=False) for slot in MOMENTS}
        | {STEPS: torch.zeros((), device=p.device)}
        for number, p in enumerate(parameters)
    }
    wanted = {f"{n}.{slot}": like for n, slots in blank.items() for slot, like in slots.items()}
    require_like(moments, wanted, f"{where}adam.")
    for number, parameter in enumerate(parameters):
        trainer.optimizer.state[parameter] = {
            slot: like.copy_(moments[f"{number}.{slot}"]) for slot, like in blank[number].items()
        }
    trainer.step = state.step


def require_like(
    given: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    where: str,
    fix: str = "bring the file back, or start again",
) -> None:
    """Refuse tensors that are not those wanted, by name, shape and dtype.

    Raises:
        ValueError: naming the first that differs.
    """
    for name in [*wanted, *given]:
        if name not in given:
            problem = "is missing"
        elif name not in wanted:
            problem = "belongs to no part of this model"
        elif (given[name].shape, given[name].dtype) != (wanted[name].shape, wanted[name].dtype):
            found, needed = ([tuple(t.shape), t.dtype] for t in (given[name], wanted[name]))
            problem = f"is {found[1]} of shape {found[0]}, not {needed[1]} of shape {needed[0]}"
        else:
            continue
        raise ValueError(f"{where}{name} {problem}; {fix}")
