"""Images encoded a second, beside the bare network and the paper's setting, in one run.

    python benchmarks/encode.py runs/digits runs/photos
    python benchmarks/encode.py cifar --precision fp32 bf16 --batch-size 512   # on a GPU

``cifar`` is DDPM++ of EDM's CIFAR-10 setting (55.7 M parameters, 32x32) in three bands with random
weights: speed does not depend on what it learned. Each line is the median of --repeats rounds that
alternate between all lines, so that a busy machine is busy for all of them:

    bare network    as many calls of the network as the default plan makes, nothing else
    encode          GDM.encode with the default plan
    paper           GDM.encode by euler, uniform steps, 128 evaluations
    command         gdm-repr encode: data, network, latent store; without the round trip

The ratio is time over the bare network's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gdm_repr import GDM, encode
from gdm_repr.api import choose_device
from gdm_repr.checkpoint import build_denoiser, find_checkpoint, save_checkpoint
from gdm_repr.config import ModelConfig
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.steps import even_steps

CIFAR = (3, 32, 32)


def random_model(folder: Path) -> tuple[Path, str]:
    """Write the CIFAR-10 network with random weights, and images to encode."""
    model = ModelConfig.model_validate({"grouping": {"name": "bands", "cuts": [30, 150]}})
    mean, std = torch.zeros(3, 1024), torch.ones(3, 1024)
    torch.manual_seed(0)
    path = folder / "cifar.safetensors"
    save_checkpoint(
        path,
        build_denoiser(model, CIFAR, mean, std),
        shape=CIFAR,
        model=model,
        preprocess=Preprocess(size=32),
        training={},
        images=0,
    )
    return path, "scenes"


def measure(name: str, precision: str, options: argparse.Namespace) -> None:
    """Time one model and print its lines."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if name == "cifar":
            path, data = random_model(folder)
            model = GDM.from_pretrained(path, device=options.device, precision=precision)
        else:
            model = GDM.from_pretrained(name, device=options.device, precision=precision)
            data = model.checkpoint.training["data"]
        lines = _lines(model, name, data, precision, options, folder)
        seconds: dict[str, list[float]] = {line: [] for line in lines}
        for _ in range(options.repeats + 1):
            for line, run in lines.items():
                started = time.perf_counter()
                run()
                if model.device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[line].append(time.perf_counter() - started)
    medians = {line: statistics.median(times[1:]) for line, times in seconds.items()}
    bare = medians["bare network"]
    parameters = sum(p.numel() for p in model.denoiser.network.parameters())
    print(
        f"{name}: {parameters / 1e6:.1f} M parameters, {'x'.join(map(str, model.shape))}, "
        f"{model.device.type}, {precision}, {options.images} images, batch {options.batch_size}, "
        f"{torch.get_num_threads()} threads"
    )
    for line, median in medians.items():
        spread = (max(seconds[line][1:]) - min(seconds[line][1:])) / median
        print(
            f"  {line:<34} {options.images / median:>9.1f} images/s   {median / bare:>5.2f} x bare"
            f"   (spread {spread:.0%})",
            flush=True,
        )


def _lines(
    model: GDM, name: str, data: str, precision: str, options: argparse.Namespace, folder: Path
) -> dict[str, Callable[[], object]]:
    images = open_data(data, model.checkpoint.preprocess, first=options.images)
    x = images.batch(range(options.images)).x
    batches = x.split(options.batch_size)
    default = model.plan()
    paper = model.plan(even_steps(128, model.grouping.k), solver="euler", coordinate="uniform")
    evaluations = model.encode(x[:1], default).evaluations
    A = torch.full((1, model.grouping.k), 0.5, device=model.device)

    @torch.no_grad()
    def bare() -> None:
        denoiser = model.denoiser
        for batch in batches:
            pixels = batch.to(model.device)
            if denoiser.config.conditioning == "concat":
                pixels = pixels.repeat(1, 2, 1, 1)
            levels = A.expand(len(pixels), -1)
            levels = levels[:, :1] if denoiser.config.conditioning == "concat" else levels
            with torch.autocast(
                model.device.type, torch.bfloat16, enabled=denoiser.autocast is not None
            ):
                for _ in range(evaluations):
                    denoiser.network(pixels, levels)

    def command() -> None:
        out = tempfile.mkdtemp(dir=folder)
        checkpoint = str(folder / "cifar.safetensors") if name == "cifar" else name
        argv = ["--checkpoint", checkpoint, "--data", data, "--out", out, "--no-track"]
        argv += ["--first", str(options.images), "--batch-size", str(options.batch_size)]
        argv += ["--device", model.device.type, "--precision", precision, "--no-round-trip"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert encode.main(argv) == 0

    return {
        "bare network": bare,
        f"encode ({evaluations} evaluations)": lambda: [
            model.encode(b, default).z for b in batches
        ],
        "paper (128 evaluations)": lambda: [model.encode(b, paper) for b in batches],
        "command, with data and store": command,
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["scenes"])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="32 images, once")
    options = parser.parse_args()
    choose_device(options.device)
    if options.quick:
        options.images, options.batch_size, options.repeats = 32, 32, 1
    for name in options.models:
        if name != "cifar" and not find_checkpoint(name).exists():
            print(f"{name}: no such model; train it first (README)", file=sys.stderr)
            continue
        for precision in options.precision:
            measure(name, precision, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
