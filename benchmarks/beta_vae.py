"""A beta-VAE of equal training cost, as a baseline: train it and write its codes of a store.

    python benchmarks/beta_vae.py --checkpoint runs/scenes --latents runs/scenes/latents --cpu-minutes 300 --out runs/scenes-vae
    python -m gdm_repr.analysis.factor_map --checkpoint runs/scenes --latents runs/scenes/latents --baseline vae=runs/scenes-vae/codes.npz --out runs/scenes/factor_map

Images and preprocess are those that the checkpoint was trained with. Training ends after so many
minutes of CPU time, on all cores together, or after --steps if that is sooner: give these to repeat
a run bit for bit. Ctrl-C ends it sooner; what is trained by then is used. A batch and its noise depend on the seed and on the step alone.

The loss of an image (Higgins et al. 2017) is its cross-entropy, summed over pixels and channels
scaled to [0, 1], plus beta times the KL divergence of q(z|x) from N(0, I), summed over latents; in
nats. The network is that of Burgess et al. (2018): convolutions of 32 channels, size 4 and stride 2
down to 4x4, two layers of 256, and the same backwards; one convolution more or less for each
doubling of the side from 64. Rate, batch and weights' initialisation: Adam 5e-4, 64, PyTorch's own.

Written: beta_vae.safetensors; codes.npz with the posteriors' means, ``codes`` (n, D), and ``ids``;
summary.json. Printed: RMSE of reconstructions from the means, in units of x in [-1, 1], and each
latent's mean KL. No library is used: pythae (0.1.2, 2023) pickles its models, and disent needs
Lightning, for the 60 lines that are the model here.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdm_repr.analysis.options import AnalysisConfig
from gdm_repr.analysis.subject import Subject
from gdm_repr.checkpoint import FORMAT, load_tensors, save_tensors
from gdm_repr.command import uninterrupted
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import load, open_data
from gdm_repr.train import IN_MEMORY_BYTES
from gdm_repr.trainer import shuffled_batches

CHANNELS, HIDDEN, LEAST = 32, 256, 4
ACTIVE = 0.01  # nats; a latent of less is as good as unused


class BetaVAE(nn.Module):
    """q(z|x) and p(x|z) of Burgess et al. (2018), for square images of a power of two from 16."""

    def __init__(self, channels: int, side: int, latents: int) -> None:
        """Build it with fresh weights.

        Raises:
            ValueError: for another side.
        """
        super().__init__()
        halvings = side.bit_length() - LEAST.bit_length()
        if side < 16 or LEAST << halvings != side:
            raise ValueError(f"images of side {side}: must be square, a power of two from 16")
        widths = [channels] + [CHANNELS] * halvings
        flat = CHANNELS * LEAST**2
        down: list[nn.Module] = []
        for width, following in pairwise(widths):
            down += [nn.Conv2d(width, following, 4, 2, 1), nn.ReLU()]
        dense = [nn.Linear(flat, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
        self.encoder = nn.Sequential(*down, nn.Flatten(), *dense, nn.Linear(HIDDEN, 2 * latents))
        dense = [nn.Linear(latents, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
        up: list[nn.Module] = [nn.Linear(HIDDEN, flat), nn.Unflatten(1, (CHANNELS, LEAST, LEAST))]
        for width, following in pairwise(widths[::-1]):
            up += [nn.ReLU(), nn.ConvTranspose2d(width, following, 4, 2, 1)]
        self.decoder = nn.Sequential(*dense, *up)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z|x), each (B, D)."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x|z) as x (B, C, H, W) in [-1, 1]."""
        return 2 * torch.sigmoid(self.decoder(z)) - 1

    def loss(self, x: Tensor, noise: Tensor, beta: float) -> Tensor:
        """Return the mean loss of images x (B, C, H, W) in [-1, 1] with noise (B, D) for z."""
        mean, log_variance = self.posterior(x)
        logits = self.decoder(mean + noise * (0.5 * log_variance).exp())
        target = ((x + 1) / 2).clamp(0, 1)  # noise that the preprocess adds may leave the range
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return (entropy + beta * divergence(mean, log_variance).sum()) / len(x)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log variance)) | N(0, 1)) in nats, elementwise."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


class Codes(NamedTuple):
    """Codes (n, D) of n images with ids, mean KL of each latent, and RMSE of reconstructions."""

    codes: np.ndarray[Any, np.dtype[np.float32]]
    ids: list[str]
    kl: list[float]
    rmse: float


def train(model: BetaVAE, dataset: ImageDataset, options: argparse.Namespace) -> tuple[int, float]:
    """Train until CPU time or steps are spent, or Ctrl-C; return steps and CPU seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    latents = model.decoder[0].in_features
    if np.prod(dataset.shape) * len(dataset) <= IN_MEMORY_BYTES:
        dataset = dataset.in_memory()
    batches = shuffled_batches(len(dataset), options.batch_size, options.seed, 0)
    started, step, spent = time.process_time(), 0, 0.0
    try:
        for step, batch in enumerate(load(dataset, batches, workers=0, draw=count())):
            spent = time.process_time() - started
            if spent >= 60 * options.cpu_minutes or step == options.steps:
                break
            state = np.random.SeedSequence([options.seed, step]).generate_state(1)
            if not len(batch.x):  # all in the quarantine
                continue
            noise = torch.randn(
                (len(batch.x), latents), generator=torch.Generator().manual_seed(int(state[0]))
            )
            with uninterrupted():
                loss = model.loss(batch.x, noise, options.beta)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if step % 1000 == 0:
                minutes = f"{spent / 60:.1f} CPU minutes"
                print(f"step {step}  {minutes}  loss {loss.item():.1f}", flush=True)
    except KeyboardInterrupt:
        print("interrupted: what is trained is used", file=sys.stderr)
    return step, spent


@torch.no_grad()
def encode(model: BetaVAE, parts: Iterable[tuple[list[str], Tensor]]) -> Codes:
    """Encode images x with their ids, part by part."""
    codes, ids, errors, kl = [], [], [], []
    for names, x in parts:
        mean, log_variance = model.posterior(x)
        codes.append(mean.numpy())
        ids += names
        kl.append(divergence(mean, log_variance))
        errors.append((model.decode(mean) - x).square().flatten(1).mean(1))
    mean_kl: list[float] = torch.cat(kl).mean(0).tolist()
    return Codes(np.concatenate(codes), ids, mean_kl, float(torch.cat(errors).mean().sqrt()))


def _images(subject: Subject) -> Iterator[tuple[list[str], Tensor]]:
    """Yield ids and images of a store."""
    ids, rows = subject.store.ids, subject.rows()
    for start in range(0, len(rows), 256):
        part = slice(start, start + 256)
        yield ids[part], subject.images(rows[part])


def write(model: BetaVAE, found: Codes, facts: dict[str, Any], out: Path) -> None:
    """Write weights, codes and summary, and print what the summary says."""
    out.mkdir(parents=True, exist_ok=True)
    active = sum(value > ACTIVE for value in found.kl)
    summary = facts | {"images": len(found.ids), "rmse": found.rmse, "kl": found.kl}
    save_tensors(out / "beta_vae.safetensors", model.state_dict(), {"format": FORMAT, **summary})
    np.savez(out / "codes.npz", codes=found.codes, ids=np.array(found.ids))
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"{facts['steps']} steps, {facts['cpu_minutes']:.2f} CPU minutes, seed {facts['seed']}")
    print(f"RMSE of {len(found.ids)} reconstructions: {found.rmse:.4f} (x in [-1, 1])")
    print(f"KL: {sum(found.kl):.2f} nats, {active} of {len(found.kl)} latents above {ACTIVE}")
    print("  each: " + " ".join(f"{value:.2f}" for value in found.kl))
    print(f"codes: {out / 'codes.npz'}")


def main(argv: list[str] | None = None) -> int:
    """Train, encode, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", help="model to compare with: its data are taken")
    parser.add_argument("--latents", type=Path, help="its store: of these images codes are written")
    parser.add_argument("--data", help="images to train on, if not found by the checkpoint's name")
    parser.add_argument("--cpu-minutes", type=float, help="CPU time that training may take")
    parser.add_argument("--steps", type=int, help="steps at most")
    parser.add_argument("--weights", type=Path, help="beta_vae.safetensors, instead of training")
    parser.add_argument("--beta", type=float, default=4.0)
    parser.add_argument("--size", type=int, default=10, help="latents")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/beta-vae"))
    parser.add_argument("--quick", action="store_true", help="a few steps on small scenes")
    options = parser.parse_args(argv)
    if options.quick:
        options.steps, options.cpu_minutes = options.steps or 20, 1.0
        preprocess = Preprocess(size=(16, 16))
        data = "scenes:10000-10256"
        dataset, shown = (open_data(name, preprocess) for name in (data, "scenes:0-64"))
        batch = shown.batch(range(len(shown)))
        parts = iter([(batch.ids, batch.x)])
    elif not (options.checkpoint and options.latents and (options.cpu_minutes or options.weights)):
        parser.error("give --checkpoint, --latents and --cpu-minutes or --weights, or --quick")
    else:
        given = {"checkpoint": options.checkpoint, "latents": options.latents, "out": options.out}
        subject = Subject.open(AnalysisConfig.model_validate(given))
        checkpoint = subject.model.checkpoint
        training, preprocess = checkpoint.training, checkpoint.preprocess
        data = options.data or training["data"]
        chosen = {"limit": training.get("limit"), "first": training.get("first")}
        if "first" not in training:  # an earlier version, in which a limit took the first
            chosen = {"first": training.get("limit")}
        dataset = open_data(data, preprocess, **chosen, seed=training.get("seed", 0))
        parts = _images(subject)
    torch.manual_seed(options.seed)
    if dataset.shape[1] != dataset.shape[2]:
        raise ValueError(f"images of shape {dataset.shape}: must be square")
    model = BetaVAE(dataset.shape[0], dataset.shape[1], options.size)
    if options.weights:
        tensors, before = load_tensors(options.weights)
        model.load_state_dict(tensors)
        steps, seconds = before["steps"], 60 * before["cpu_minutes"]
    else:
        steps, seconds = train(model, dataset, options)
    facts = {
        "data": data, "preprocess": preprocess.model_dump(mode="json"), "beta": options.beta,
        "lr": options.lr, "batch_size": options.batch_size, "seed": options.seed,
        "shape": list(dataset.shape), "latents": options.size, "steps": steps,
        "cpu_minutes": seconds / 60,
    }  # fmt: skip
    write(model, encode(model.eval(), parts), facts, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
