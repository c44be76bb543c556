"""Choose the network of the shipped model: patching, width and rate, by CPU time to a loss.

    OMP_NUM_THREADS=1 python benchmarks/scenes_recipe.py --minutes 5

Every recipe is configs/scenes.yaml with `BASE` and the options of one row of `RECIPES`, trained for
the same CPU time with a constant rate. Every half a minute its averaged weights are measured on
held-out scenes: the loss of the moving group alone, by band, in units that preconditioning makes
the same for all. A measurement is a line of ``--out``; what is there is not computed again.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from gdm_repr.config import TrainConfig
from gdm_repr.data.loading import load, open_data
from gdm_repr.objective import loss
from gdm_repr.trainer import Levels, Trainer, shuffled_batches

ROOT = Path(__file__).parent.parent
# What configs/scenes.yaml changed after the recipes of docs/scenes.md were measured.
BASE: dict[str, Any] = {
    "preprocess": {"size": 32, "channels": "rgb", "dequantize": True},
    "time_law": "groups",
    "lr": 2e-3,
    "warmup": 10_000,
    "clip": None,
    "decay": 0.0,
}
RECIPES: dict[str, dict[str, Any]] = {
    "patch 2, width 48": {"network": {"channels": 48}},
    "patch 2, width 32": {"network": {"channels": 32}},
    "patch 1, width 32": {"network": {"channels": 32, "patch": 1}},
    "patch 4, width 96": {"network": {"channels": 96, "patch": 4, "multipliers": [1, 2]}},
    "patch 1, width 16": {"network": {"channels": 16, "patch": 1, "multipliers": [1, 2, 4]}},
    "patch 2, width 32, lr 4e-3": {"network": {"channels": 32}, "lr": 4e-3},
}
HELD_OUT = 512
EVERY = 30.0  # CPU seconds between measurements


def recipe_config(options: dict[str, Any]) -> TrainConfig:
    """Return configs/scenes.yaml with a recipe's options, on fewer images."""
    config = yaml.safe_load((ROOT / "configs/scenes.yaml").read_text(encoding="utf-8"))
    model = config["model"]
    model["denoiser"]["preconditioning"] = "spectral"
    model["network"] |= {"multipliers": [1, 2, 2], **options["network"]}
    config |= BASE | {key: value for key, value in options.items() if key != "network"}
    config |= {"out": "unused", "data": "scenes:10000-60000", "track": False}
    return TrainConfig.model_validate(config)


class HeldOut:
    """Held-out scenes with noise and times that are the same for all recipes."""

    def __init__(self, trainer: Trainer) -> None:
        """Draw them."""
        config = trainer.config.model_copy(update={"clock": "whitened"})
        data = open_data("scenes", config.preprocess, first=HELD_OUT)
        generator = torch.Generator().manual_seed(1)
        self.x = trainer.denoiser.basis.forward(data.batch(range(HELD_OUT)).x)
        self.at = Levels(config, trainer.denoiser).draw(HELD_OUT, generator)
        self.z = torch.randn(self.x.shape, generator=generator)

    @torch.no_grad()
    def loss_by_group(self, trainer: Trainer) -> list[float]:
        """Return the mean loss of each band by the averaged weights."""
        denoiser = copy.copy(trainer.averaged)
        parts = [
            loss("active", denoiser, self.x[rows], self.z[rows], self.at.rows(rows))
            for rows in torch.arange(HELD_OUT).split(64)
        ]
        each = torch.cat(parts)
        return [float(each[self.at.active == j].mean()) for j in range(denoiser.grouping.k)]


def measure(name: str, minutes: float, out: Path) -> None:
    """Train one recipe and append its measurements to a file."""
    config = recipe_config(RECIPES[name])
    trainer = Trainer(config, open_data(config.data, config.preprocess).in_memory())
    held_out = HeldOut(trainer)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    batches = shuffled_batches(len(trainer.dataset), config.batch_size, config.seed, 0)
    spent, due = 0.0, EVERY
    for step, batch in enumerate(load(trainer.dataset, batches, workers=0)):
        if spent > 60 * minutes:
            break
        started = time.process_time()
        trainer.train_step(batch.x)
        spent += time.process_time() - started
        if spent >= due or step == 0:
            due = spent + EVERY if step else due
            groups = held_out.loss_by_group(trainer)
            row = {
                "recipe": name,
                "parameters": parameters,
                "images": trainer.nimg,
                "cpu_seconds": round(spent, 1),
                "loss": [round(value, 5) for value in groups],
            }
            print(json.dumps(row), flush=True)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5, help="CPU minutes a recipe")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), help="names of recipes")
    parser.add_argument("--out", type=Path, default=Path("scenes_recipe.jsonl"))
    parser.add_argument("--quick", action="store_true", help="a few seconds of each")
    options = parser.parse_args()
    done = set()
    if options.out.exists():
        lines = options.out.read_text(encoding="utf-8").splitlines()
        done = {json.loads(line)["recipe"] for line in lines}
    for name in options.recipes:
        if name not in done:
            measure(name, 0.1 if options.quick else options.minutes, options.out)


if __name__ == "__main__":
    main()
