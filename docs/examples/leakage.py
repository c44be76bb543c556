"""Prop. 3.3: u ignores groups that are still noise, so latents move nothing generated before them.

python docs/examples/leakage.py [--figure docs/img/leakage.png]

Data are 8x8 digits in four blocks. Measured on the closed form of their statistics (one Gaussian a
class, and one in all) and, as contrast, on two small networks trained alike: one that sees the
elements that are still noise, as the paper's does, and a strict one, from which they are hidden.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.leakage.matrix import LeakageMatrix, measure_leakage
from gdm_repr.analysis.leakage.noise_dependence import noise_dependence
from gdm_repr.config import TrainConfig
from gdm_repr.coordinates import Flow
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.generation import Generation
from gdm_repr.grouping import build_grouping
from gdm_repr.ode import Plan, encode
from gdm_repr.oracle import class_mixture
from gdm_repr.process import PROCESSES
from gdm_repr.trainer import Trainer, shuffled_batches

BLOCKS = build_grouping("blocks", (1, 8, 8), rows=2, cols=2)
PLAN = Plan("ab2", "whitened", (6,) * BLOCKS.k)
EXAMPLES = 48
DIGITS = Preprocess(dequantize=True)


@dataclass(frozen=True)
class Measured:
    """What one vector field does with noise.

    Attributes:
        derivative: largest |dE[x | x_t] / dx_t| in elements that are still noise, closed form only.
        dependence: largest D of :mod:`gdm_repr.analysis.leakage.noise_dependence` on the moving
            group.
        earlier: largest change of a latent when data of a group generated later are exchanged.
        later: RMS change of the latents of later groups when data of the first are exchanged.
        leakage: which latent groups move which data groups.
    """

    derivative: float | None
    dependence: float
    earlier: float
    later: float
    leakage: LeakageMatrix


def closed_form(x: Tensor, labels: Tensor) -> Flow:
    """Return the flow of a mixture of one Gaussian a label."""
    mixture = class_mixture(x[:, 0], labels, BLOCKS)
    return Flow(mixture, BLOCKS, PROCESSES["linear"], x.mean(0), x.std(0))


def network(data: ImageDataset, *, strict: bool, images: int = 32_000) -> Flow:
    """Train a small MLP by the project's own trainer; only ``strict`` differs."""
    config = TrainConfig.model_validate(
        {
            "out": "unused",  # nothing is written
            "data": "digits",
            "preprocess": DIGITS,
            "model": {
                "basis": {"name": "identity"},
                "grouping": {"name": "blocks", "rows": 2, "cols": 2},
                "denoiser": {"strict": strict},
                "network": {"name": "mlp", "width": 128, "depth": 2},
            },
            "batch_size": 128,
            "images": images,
            "lr": 2e-3,
            "warmup": 4_000,
            "decay": 0.3,
            "ema_half_life": 4_000,
            "device": "cpu",
        }
    )
    trainer = Trainer(config, data)
    batches = shuffled_batches(len(data), config.batch_size, config.seed, 0)
    while trainer.nimg < images:
        trainer.train_step(data.batch(next(batches)).x)
    u = trainer.averaged
    return Flow(u, BLOCKS, u.process, u.mean, u.std)


def denoiser_derivative(flow: Flow, x: Tensor) -> float:
    """Return the largest |d E[x | x_t]_n / d (x_t)_i| over all n and all i that are noise (a = 0).

    Every group but the last generated one moves once, at s = .5.
    """
    index, largest = torch.from_numpy(BLOCKS.index[0]), 0.0
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    for rank, group in enumerate(BLOCKS.order[:-1]):
        A = torch.zeros(1, BLOCKS.k, dtype=x.dtype)
        A[0, list(BLOCKS.order[:rank])] = 1
        A[0, group] = 0.5
        elements = A[:, index]
        x_t = flow.process.x_t(x, z, elements).requires_grad_()
        denoised = flow.process.x_from_u(flow.u(x_t, A), x_t, elements)
        noise = elements[0] == 0
        for n in range(x.shape[-1]):
            (slope,) = torch.autograd.grad(denoised[..., n].sum(), x_t, retain_graph=True)
            largest = max(largest, float(slope[..., noise].abs().max()))
    return largest


def exchanged(flow: Flow, x: Tensor) -> tuple[float, float]:
    """Exchange one group's data between images and encode; see :class:`Measured`."""
    z, index, earlier, later = encode(flow, x, PLAN).y, torch.from_numpy(BLOCKS.index[0]), 0.0, 0.0
    for rank, group in enumerate(BLOCKS.order):
        other = torch.where(index == group, x.roll(1, 0), x)
        change = encode(flow, other, PLAN).y - z
        before = torch.isin(index, torch.tensor(BLOCKS.order[:rank]))
        if rank:
            earlier = max(earlier, float(change[..., before].abs().max()))
        else:
            later = float(change[..., index != group].square().mean().sqrt())
    return earlier, later


def measure(flow: Flow, x: Tensor, *, exact: bool) -> Measured:
    """Measure everything on some images and on as many latents drawn from N(0, I)."""
    x = x.to(flow.mean.dtype)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    rows = noise_dependence(flow, x)
    earlier, later = exchanged(flow, x)
    return Measured(
        denoiser_derivative(flow, x[:4]) if exact else None,
        max(row.moving.value for row in rows),
        earlier,
        later,
        measure_leakage(Generation(flow, PLAN, strict=False), z),
    )


def show(name: str, measured: Measured) -> None:
    """Print what was measured."""
    print(name)
    if measured.derivative is not None:
        print(f"  dE[x | x_t] / dx_t, largest in noise        {measured.derivative:.1e}")
    print(f"  D, dependence of u on noise, largest        {measured.dependence:.2g}")
    print(f"  encode: latents of earlier groups, largest  {measured.earlier:.2g}")
    print(f"  encode: latents of later groups, RMS        {measured.later:.2g}")
    print("  decode: RMS change of data group (row) by redrawing latent group (column), in stds")
    for row in measured.leakage.value:
        print("    " + " ".join(f"{value:8.2g}" for value in row))
    leakage, last = measured.leakage, BLOCKS.k - 1
    for column, whose in ((0, "the first"), (last, "its own")):
        entry = (array[last, column] for array in (leakage.value, leakage.low, leakage.high))
        print(f"  the last block by {whose} latents: {Estimate(*map(float, entry))}")


def draw(matrices: dict[str, LeakageMatrix], path: str) -> None:
    """Draw the matrices side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.1), layout="constrained")
    top = max(float(leakage.value.max()) for leakage in matrices.values())
    panels = figure.subplots(1, len(matrices), sharey=True)
    for axes, (name, leakage) in zip(panels, matrices.items(), strict=True):
        image = axes.imshow(leakage.value, cmap="cividis", vmin=0, vmax=top)
        for (i, j), value in np.ndenumerate(leakage.value):
            text = "0" if value < 1e-12 else f"{value:.2f}"
            colour = "black" if value > 0.6 * top else "white"
            axes.text(j, i, text, ha="center", va="center", color=colour)
        axes.set_title(name, fontsize="medium")
        axes.set_xticks(range(BLOCKS.k), [str(j + 1) for j in range(BLOCKS.k)])
        axes.set_yticks(range(BLOCKS.k), [str(j + 1) for j in range(BLOCKS.k)])
        axes.set_xlabel("latent block redrawn")
    panels[0].set_ylabel("data block that moves,\nin the order of generation")
    figure.colorbar(image, ax=list(panels), label="RMS change (stds)")
    figure.savefig(path, dpi=150)


def main(figure: str | None = None) -> None:
    """Print the numbers, check the law, and draw the matrices if told where."""
    data = open_data("digits", DIGITS)
    x = data.batch(range(len(data))).x.double().flatten(2)
    flows = {
        "closed form": closed_form(x, torch.tensor(data.labels["digit"])),
        "closed form, one Gaussian": closed_form(x, torch.zeros(len(x))),
        "strict network": network(data, strict=True),
        "network that sees noise": network(data, strict=False),
    }
    found = {
        name: measure(flow, x[:EXAMPLES], exact="closed form" in name)
        for name, flow in flows.items()
    }
    for name, measured in found.items():
        show(name, measured)
    above = {name: m.leakage.value[m.leakage.forbidden].max() for name, m in found.items()}
    for name in ("closed form", "closed form, one Gaussian"):
        exact = found[name]
        assert exact.derivative is not None
        # float64 with covariances of condition up to 1e4
        assert max(exact.derivative, exact.dependence, exact.earlier, above[name]) < 1e-10
    strict, plain = found["strict network"], found["network that sees noise"]
    # hidden from the network: not small but none
    assert strict.dependence == strict.earlier == above["strict network"] == 0
    # the control: the measures do see what leaks
    assert min(plain.dependence, plain.earlier, above["network that sees noise"]) > 1e-3
    # and the lower triangle is there: later blocks follow earlier latents
    assert all(m.leakage.value[-1, 0] > 0.05 and m.later > 0.05 for m in found.values())
    if figure is not None:
        shown = ("closed form", "strict network", "network that sees noise")
        draw({name: found[name].leakage for name in shown}, figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", help="PNG to draw the leakage matrices to")
    main(parser.parse_args().figure)
