"""What a GPU does: its tests, the speed of encoding and training, and the shipped recipe trained.

    python benchmarks/gpu.py --minutes 10 --edm ../edm --out gpu
    python benchmarks/gpu.py --quick --out gpu      # on a CPU, tiny sizes

Each figure is a line of OUT/figures.jsonl as soon as it is measured; a section that is there is not
measured again, so the same command goes on after an interruption. A section that fails says why and
the next begins. `docs/gpu.md` names what a bare machine needs.

    tests      pytest -m gpu, and the self-test on the device
    ceiling    matrix products in fp32, TF32 and bf16
    networks   one evaluation of the shipped and the paper's networks, beside EDM's own network and
               beside plain matrix products of the network's own shapes (its floor)
    encode     whole encodings by the default plan, with the latents' difference to strict fp32:
               the command's way, compiled, all groups in one batch, and that as one CUDA graph
    copies     the share of the device's time that goes to copies, and a trace
    training   images a second: the trainer, with data from workers, and a bare loop
    recipe     configs/scenes.yaml on larger batches for the minutes that are left
    card       held-out scenes encoded and analysed by the model that came out
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdm_repr import GDM
from gdm_repr.api import model_preprocess
from gdm_repr.boundary.yaml_file import read_yaml
from gdm_repr.checkpoint import Checkpoint, build_denoiser
from gdm_repr.config import TrainConfig
from gdm_repr.coordinates import WhitenedCoordinate
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import load, open_data
from gdm_repr.grouping import rms_by_group
from gdm_repr.solvers import ab3
from gdm_repr.trainer import Trainer, shuffled_batches, statistics_of

ROOT = Path(__file__).parent.parent
EVALUATIONS = 75  # of the default plan
BATCH = {"shipped": 1536, "cifar10": 256, "ffhq64": 128}
EDM = {  # options of EDM's networks of the same sizes (its train.py, --arch=ddpmpp)
    "cifar10": {"img_resolution": 32, "channel_mult": [2, 2, 2]},
    "ffhq64": {"img_resolution": 64, "channel_mult": [1, 2, 2, 2]},
}
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Job:
    """What the sections share.

    Attributes:
        out: folder of the figures.
        device: that is measured.
        quick: tiny sizes.
        edm: a checkout of NVlabs/edm; None leaves it out.
        ends: when all should be done, of time.monotonic.
        workers: processes that make images.
        warm: only call everything once, so that what is compiled lies in the cache.
    """

    out: Path
    device: torch.device
    quick: bool
    edm: Path | None
    ends: float
    workers: int
    warm: bool = False

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.ends - time.monotonic()

    def note(self, section: str, **figures: object) -> None:
        """Append a figure and show it."""
        if self.warm:
            return
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in figures.items()}
        line = json.dumps({"section": section, **rounded})
        with (self.out / "figures.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def seconds(self, call: Callable[[], object], *, least: float = 1.0) -> float:
        """Return the median time of a call, of at least three after one that warms up."""
        times: list[float] = []
        repeats = 1 if self.quick else 3
        self.wait(call())
        if self.warm:
            return 1.0
        while len(times) < repeats or (sum(times) < least and not self.quick and len(times) < 30):
            began = time.perf_counter()
            self.wait(call())
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    def wait(self, result: object = None) -> object:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return result


def use_precision(denoiser: Any, precision: str) -> None:  # noqa: ANN401
    """Let a denoiser compute in strict fp32, in TF32 or in bf16."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    denoiser.autocast = torch.bfloat16 if precision == "bf16" else None


def matrix_product(job: Job, shape: tuple[int, int, int], dtype: torch.dtype) -> float:
    """Return the seconds of one product (m, k) x (k, n) of random numbers."""
    m, k, n = shape
    a = torch.randn(m, k, device=job.device, dtype=dtype)
    b = torch.randn(k, n, device=job.device, dtype=dtype)
    return job.seconds(lambda: a @ b, least=0.05)


# ---- networks ------------------------------------------------------------------------------------


def make_model(name: str, job: Job) -> GDM:
    """Return the shipped model, or one of the paper's networks with random weights."""
    device = job.device.type
    if name == "shipped":
        return GDM.from_pretrained("scenes", device=device)
    text = read_yaml(ROOT / f"configs/paper/{name}.yaml", "--config")
    size = text["preprocess"]["size"]
    if job.quick:
        text["model"]["network"] |= {"channels": 16, "blocks": 1}
    config = TrainConfig.model_validate({**text, "out": "unused"})
    shape = (3, size, size)
    torch.manual_seed(0)
    zeros = torch.zeros(3, size * size)
    denoiser = build_denoiser(config.model, shape, zeros, zeros + 0.5)
    denoiser.eval().requires_grad_(False)
    record = Checkpoint(denoiser, shape, config.model, Preprocess(size=size), {}, 0, "")
    return GDM(record, device)


def products_of(network: nn.Module, *inputs: Tensor) -> Counter[tuple[int, int, int]]:
    """Count the matrix products (m, k, n) that convolutions and linear layers of a call are."""
    found: Counter[tuple[int, int, int]] = Counter()

    def see(layer: nn.Module, _: object, output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        n, k = len(weight), weight[0].numel()
        found[(output.numel() // n, k, n)] += 1

    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    hooks = [each.register_forward_hook(see) for each in layers]
    try:
        network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def edm_network(job: Job, name: str, *, half: bool) -> nn.Module:
    """Build EDM's own network of the same size, from the checkout."""
    sys.path.insert(0, str(job.edm))
    try:
        from training.networks import EDMPrecond  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    options: dict[str, Any] = {"model_type": "SongUNet", "model_channels": 128, **EDM[name]}
    network: nn.Module = EDMPrecond(img_channels=3, use_fp16=half, **options)
    return network.to(job.device).eval().requires_grad_(False)


def captured(job: Job, call: Callable[[], object]) -> Callable[[], object]:
    """Return a call as one CUDA graph; the call itself where there is no CUDA."""
    if job.device.type != "cuda":
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


@torch.no_grad()
def network(name: str, job: Job) -> None:
    """Measure one evaluation u(x_t, A) of a network."""
    rows = 4 if job.quick else BATCH[name]
    model = make_model(name, job)
    denoiser, shape = model.denoiser, model.shape
    x = torch.randn(rows, shape[0], shape[1] * shape[2], device=job.device)
    A = torch.full((rows, denoiser.grouping.k), 0.5, device=job.device)
    inputs: list[Any] = []
    hook = denoiser.network.register_forward_pre_hook(lambda _, given: inputs.extend(given))
    denoiser(x, A)
    hook.remove()
    products = products_of(denoiser.network, *inputs)
    flop = sum(2 * m * k * n * count for (m, k, n), count in products.items()) / rows
    facts = {
        "network": name,
        "batch": rows,
        "gflop": flop / 1e9,
        "parameters": sum(each.numel() for each in denoiser.network.parameters()),
    }
    floor = dict[str, float]()
    for precision in PRECISIONS:
        use_precision(denoiser, precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        floor[precision] = sum(
            matrix_product(job, each, dtype) * count for each, count in products.items()
        )

    def tell(what: str, precision: str, call: Callable[[], object]) -> None:
        seconds = job.seconds(call)
        job.note(
            f"network {name}", **facts, what=what, precision=precision, ms=seconds * 1e3,
            images_per_s=rows / seconds, tflops=rows * flop / seconds / 1e12,
            share_of_products=floor.get(precision, math.nan) / seconds,
        )  # fmt: skip

    for precision in PRECISIONS:
        use_precision(denoiser, precision)
        tell("eager", precision, lambda: denoiser(x, A))
    plain, denoiser.network = denoiser.network, compiled(denoiser.network, job)
    tell("compiled", "bf16", lambda: denoiser(x, A))
    tell("compiled, CUDA graph", "bf16", captured(job, lambda: denoiser(x, A)))
    denoiser.network = plain
    if name == "shipped":
        whole = compiled(denoiser, job)
        tell("compiled with its whitening", "bf16", lambda: whole(x, A))
    if job.edm is not None and name in EDM:
        images = torch.randn(rows, *shape, device=job.device)
        sigma = torch.ones(rows, device=job.device)
        for precision in ("fp32", "tf32", "fp16"):
            use_precision(denoiser, precision)
            theirs = edm_network(job, name, half=precision == "fp16")
            tell("EDM", precision, lambda net=theirs: net(images, sigma))  # type: ignore[misc]


def compiled(module: nn.Module, job: Job) -> nn.Module:
    """Return a module compiled for the one shape it will see; by name only in a quick run."""
    backend = "eager" if job.quick else "inductor"
    result: nn.Module = torch.compile(module, dynamic=False, backend=backend)  # type: ignore[assignment]
    return result


# ---- encoding ------------------------------------------------------------------------------------


class Together(WhitenedCoordinate):
    """The whitened coordinate of several groups at once, each on rows of its own.

    A strict model's groups do not see those diffused before them, so that each group's ODE starts
    from the data and they may be solved side by side (Prop. 3.3).
    """

    def __init__(self, model: GDM, images: int) -> None:
        """Lay out rows: all images for the first group, then for the second, and so on."""
        super().__init__(model.flow)
        grouping, device = model.grouping, model.device
        index = torch.from_numpy(grouping.index).to(device)
        self.k, self.index = grouping.k, index
        self.moving = torch.stack([index == j for j in range(self.k)])
        self.moving = self.moving.repeat_interleave(images, 0)
        stds = torch.tensor(self.group_std, device=device)
        self.stds = stds.repeat_interleave(images)[:, None, None]
        self.levels: dict[float, Tensor] = {}
        self.before = [
            list(grouping.diffusion_order[: grouping.diffusion_order.index(j)])
            for j in range(self.k)
        ]
        self.images = images
        self.parts = WhitenedCoordinate(model.flow)

    def at(self, tau: Tensor) -> Tensor:
        """Return the levels (rows, k) of all rows; made once, then on the device."""
        key = float(tau)
        if key not in self.levels:
            A = torch.ones(self.k, self.k, dtype=torch.float64)
            for j in range(self.k):
                A[j, self.before[j]] = 0
                A[j, j] = self.parts.level(j, tau.double().cpu())
            self.levels[key] = A.float().repeat_interleave(self.images, 0).to(self.stds.device)
        return self.levels[key]

    def slope(self, y: Tensor, tau: Tensor) -> Tensor:
        """Return dy/dtau of each row's own group."""
        A = self.at(tau)
        self.group_std = [self.stds]  # type: ignore[list-item]
        dy = self.velocity(y, A[:, self.index], A, 0)
        return torch.where(self.moving, dy, torch.zeros_like(dy))

    def encode(self, x_bar: Tensor, steps: int) -> Tensor:
        """Return latents of x_bar (B, C, d) by ab3 with as many steps in every group."""
        y = self.enter(x_bar).repeat(self.k, 1, 1)
        y = ab3(self.slope, y, self.clock(0, steps), 0.0)
        blocks = torch.where(self.moving, y, torch.zeros_like(y)).unflatten(0, (self.k, -1))
        return blocks.sum(0)


def held_out(model: GDM, n: int) -> Tensor:
    """Return the first held-out scenes on the model's device."""
    data = open_data("scenes", model_preprocess(model), first=n)
    return data.batch(range(n)).x.to(model.device)


@torch.no_grad()
def encodings(job: Job) -> None:
    """Measure whole encodings by the shipped model's default plan."""
    n, small = (4, 2) if job.quick else (1536, 16)
    steps = 1 if job.quick else 24
    model = make_model("shipped", job)
    denoiser, plan = model.denoiser, model.plan(3 * steps)
    x = held_out(model, n)
    use_precision(denoiser, "fp32")
    exact = model.encode(x, plan).z

    def tell(what: str, precision: str, z: Tensor, seconds: float) -> None:
        gap = rms_by_group(z - exact[: len(z)], model.grouping).square().mean(0).sqrt()
        bands = dict(zip(model.grouping.names, (float(f"{g:.2g}") for g in gap), strict=True))
        job.note(
            "encode", what=what, precision=precision, batch=len(z), seconds=seconds,
            images_per_s=len(z) / seconds, difference=bands,
        )  # fmt: skip

    def the_way_of_the_command(what: str, batch: int, precisions: Sequence[str]) -> None:
        part = x[:batch]
        for precision in precisions:
            use_precision(denoiser, precision)
            z = model.encode(part, plan).z
            tell(what, precision, z, job.seconds(lambda: model.encode(part, plan)))

    def side_by_side(what: str, batch: int, precisions: Sequence[str], *, graph: bool) -> None:
        x_bar = model.to_basis(x[:batch])
        z = torch.empty_like(x_bar)
        for precision in precisions:
            use_precision(denoiser, precision)
            together = Together(model, batch)
            call: Callable[[], object] = lambda t=together: z.copy_(t.encode(x_bar, steps))  # noqa: E731
            if graph:
                call()
                call = captured(job, call)
            seconds = job.seconds(call)
            tell(what, precision, z, seconds)

    the_way_of_the_command("eager", n, PRECISIONS)
    the_way_of_the_command("eager", small, ("fp32", "bf16"))
    side_by_side("groups in one batch", n // 3, ("fp32", "bf16"), graph=False)
    side_by_side("groups in one batch", small, ("fp32", "bf16"), graph=False)
    side_by_side("groups in one batch, one graph", small, ("fp32", "bf16"), graph=True)
    plain, denoiser.network = denoiser.network, compiled(denoiser.network, job)
    the_way_of_the_command("compiled", n, ("tf32", "bf16"))
    rows = n // 3  # times three groups: the shape that is compiled already
    side_by_side("compiled, groups in one batch, one graph", rows, ("tf32", "bf16"), graph=True)
    denoiser.network = plain
    if job.warm:
        return
    found = [64, 256, 1024, 4096, 16384] if not job.quick else [2]
    more = x.repeat(math.ceil(found[-1] / n), 1, 1, 1)
    brief = model.plan(3)
    for batch in found:  # the batch that a GPU needs
        use_precision(denoiser, "bf16")
        seconds = job.seconds(lambda b=batch: model.encode(more[:b], brief), least=0.3)
        evaluations = model.encode(more[:1], brief).evaluations
        job.note("batch", batch=batch, images_per_s=batch * evaluations / seconds / EVALUATIONS)


@torch.no_grad()
def copies(job: Job) -> None:
    """Trace batches that come from the host and go back to it."""
    from torch.profiler import ProfilerActivity, profile

    model = make_model("shipped", job)
    use_precision(model.denoiser, "bf16")
    batch, plan = (2 if job.quick else 1024), model.plan(3 if job.quick else 24)
    host = [held_out(model, batch).cpu() for _ in range(3)]
    if job.device.type == "cuda":
        host = [each.pin_memory() for each in host]
    model.encode(host[0], plan)
    kinds = [ProfilerActivity.CPU]
    if job.device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    began = time.perf_counter()
    with profile(activities=kinds) as traced:
        for each in host:
            job.wait(model.encode(each, plan).z.cpu())
        job.wait()
    wall = time.perf_counter() - began
    busy: Counter[str] = Counter()
    for event in traced.events() or []:
        if event.device_type.name == "CUDA":
            kind = "copies" if "emcpy" in event.name else "kernels"
            busy[kind] += event.time_range.elapsed_us() / 1e6
    job.note("copies", wall_s=wall, images=3 * batch, **{f"{k}_s": v for k, v in busy.items()})
    table = traced.key_averages().table(sort_by="self_device_time_total", row_limit=25)
    (job.out / "profile.txt").write_text(table, encoding="utf-8")


# ---- training ------------------------------------------------------------------------------------


def recipe(job: Job, **options: object) -> TrainConfig:
    """Return configs/scenes.yaml with other options."""
    text = read_yaml(ROOT / "configs/scenes.yaml", "--config")
    own = {"device": job.device.type, "track": False, "out": job.out / "run"}
    return TrainConfig.model_validate({**text, **own, **options})


def scenes(config: TrainConfig, job: Job) -> ImageDataset:
    """Open the recipe's scenes; fewer for a quick run."""
    first = 64 if job.quick else None
    return open_data(config.data, config.preprocess, first=first)


def new_trainer(config: TrainConfig, data: ImageDataset) -> Trainer:
    """Return a trainer that need not measure the data's statistics: the shipped model has them."""
    return Trainer(
        config, data, statistics=statistics_of(GDM.from_pretrained("scenes", device="cpu").denoiser)
    )


def batches(trainer: Trainer, job: Job) -> Iterator[Tensor]:
    """Return batches made ahead in processes, forever."""
    config, data = trainer.config, trainer.dataset
    chosen = shuffled_batches(len(data), config.batch_size, config.seed, trainer.step)
    draws = iter(range(trainer.step, 10**9))
    for batch in load(data, chosen, workers=job.workers, draw=draws, pin=True):
        yield batch.x


def training(job: Job) -> None:
    """Measure training steps a second."""
    sizes = [8] if job.quick else [128, 512, 2048]
    for size, compile_ in [(size, False) for size in sizes] + [(sizes[len(sizes) // 2], True)]:
        config = recipe(job, batch_size=size, compile=compile_ and not job.quick)
        data = scenes(config, job)
        trainer = new_trainer(config, data)
        x = data.batch(range(min(size, len(data)))).x
        if job.device.type == "cuda":
            x = x.pin_memory()
        trainer.train_step(x)
        seconds = job.seconds(lambda t=trainer, x=x: t.train_step(x))
        what = "train_step, compiled" if compile_ else "train_step"
        job.note("training", what=what, batch=size, images_per_s=len(x) / seconds)
        if compile_ and not job.warm:
            bare = bare_loop(trainer, x.to(job.device))
            seconds = job.seconds(bare)
            job.note("training", what="bare loop, compiled", batch=size,
                     images_per_s=len(x) / seconds)  # fmt: skip
            source = batches(trainer, job)
            next(source)
            steps = 2 if job.quick else 100
            began = time.perf_counter()
            for batch in (next(source) for _ in range(steps)):
                trainer.train_step(batch)
            job.wait()
            rate = steps * size / (time.perf_counter() - began)
            job.note("training", what="train_step, compiled, data from workers", batch=size,
                     images_per_s=rate)  # fmt: skip


def bare_loop(trainer: Trainer, x: Tensor) -> Callable[[], object]:
    """Return one step of the least that training takes: network, loss, Adam and an average."""
    network, n = trainer.denoiser.network, len(x)
    weights = list(network.parameters())
    average = [each.detach().clone() for each in weights]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    levels = trainer.denoiser.grouping.k

    def step() -> None:
        sigma = torch.rand(n, 1, 1, 1, device=x.device)
        noisy = x + sigma * torch.randn_like(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            out = network(noisy, sigma.view(n, 1).expand(n, levels))
        F.mse_loss(out.float(), x).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(average, [each.detach() for each in weights], 0.001)

    return step


def train_recipe(job: Job) -> None:
    """Train the shipped recipe for the time that is left, but for what the card takes."""
    batch, seconds = (8, 3.0) if job.quick else (512, job.left - 60)
    tried = recipe(job, batch_size=batch, compile=not job.quick, images=10**9)
    data = scenes(tried, job)
    trainer = new_trainer(tried, data)
    source, began, steps = batches(trainer, job), time.monotonic(), 0
    next(source)
    for x in (next(source) for _ in range(2 if job.quick else 60)):
        steps += 1
        trainer.train_step(x)
        if steps == 2 or (job.quick and steps == 1):
            job.wait()
            timed, first = time.monotonic(), steps
    job.wait()
    rate = (steps - first + 1e-9) * batch / (time.monotonic() - timed)
    images = 16 if job.quick else int(rate * (seconds - (time.monotonic() - began)) * 0.97)
    config = recipe(
        job, batch_size=batch, compile=not job.quick, images=images, warmup=50_000,
        ema_half_life=100_000, decay=0.6,
    )  # fmt: skip
    config.out.mkdir(parents=True, exist_ok=True)
    trainer = new_trainer(config, data)
    deadline, sums, count = time.monotonic() + seconds - (time.monotonic() - began), 0.0, 0
    began, every = time.monotonic(), max(1, images // batch // 6)
    for i, x in enumerate(source):  # the batches go on where the trial ended
        value, groups = trainer.train_step(x)
        if not math.isfinite(value):
            raise ValueError(f"the loss is {value} after {trainer.nimg} images")
        sums, count = sums + value, count + 1
        done = trainer.nimg >= config.images or time.monotonic() > deadline + 10
        if i % 500 == 499 or done:
            rate = trainer.nimg / (time.monotonic() - began)
            job.note("recipe", images=trainer.nimg, of=images, loss=sums / count,
                     images_per_s=rate, bands=[round(g, 4) for g in groups])  # fmt: skip
            sums, count = 0.0, 0
        if i % every == every - 1:
            trainer.save()
            shutil.copy(config.out / "model.safetensors", job.out)
        if done:
            break
    trainer.save()
    shutil.copy(config.out / "model.safetensors", job.out)
    trainer.sample_sheet(job.out / "samples.png")


def card(job: Job) -> None:
    """Encode held-out scenes by the new model, analyse them, and pack what was found."""
    model = job.out / "model.safetensors"
    if not model.exists():
        raise FileNotFoundError("no model was trained")
    work = job.out / "run" / "card"
    device = ["--device", job.device.type, "--no-track", *(["--steps", 3] if job.quick else [])]
    n = 8 if job.quick else 10_000
    batch = 8 if job.quick else 1024
    commands = [
        ["encode", "--checkpoint", model, "--data", "scenes", "--first", n, "--no-round-trip",
         "--workers", job.workers, "--batch-size", batch, "--out", work / "latents", *device],
        ["encode", "--checkpoint", model, "--data", "scenes", "--first", min(n, 500),
         "--batch-size", batch, "--out", work / "round_trip", *device],
    ]  # fmt: skip
    config = ["--config", ROOT / "configs/scenes-card.yaml", "--checkpoint", model]
    only = ["sample_quality", "band_variance", "reconstruction", "total_correlation", "leakage",
            "factor_map", "element_factors", "traversal", "disentanglement"]  # fmt: skip
    for name in [] if job.quick else only:
        commands.append(
            ["analyse", name, *config, "--latents", work / "latents", "--out", work / "analysis",
             *device]
        )  # fmt: skip
    unfinished = []
    for command in commands:
        words = [str(each) for each in command]
        began = time.monotonic()
        if job.left < 5:
            unfinished.append(" ".join(words[:2]))
            continue
        try:
            ran = subprocess.run(
                [sys.executable, "-m", "gdm_repr", *words],
                capture_output=True, text=True, timeout=max(5.0, job.left), check=False, cwd=ROOT,
            )  # fmt: skip
            code, said = ran.returncode, (ran.stdout + ran.stderr)[-1500:]
        except subprocess.TimeoutExpired:
            code, said = 124, "out of time"
        if code:
            unfinished.append(" ".join(words[:2]))
        job.note("card", command=" ".join(words[:2]), seconds=time.monotonic() - began,
                 status=code, said=said)  # fmt: skip
        with tarfile.open(job.out / "card.tar.gz", "w:gz") as packed:
            for path in sorted(work.rglob("*")):
                if path.is_file() and path.suffix != ".parquet" and path.stat().st_size < 3e6:
                    packed.add(path, path.relative_to(work))
    if unfinished:
        raise RuntimeError(f"not finished: {', '.join(unfinished)}")


# ---- the rest ------------------------------------------------------------------------------------


def tests(job: Job) -> None:
    """Run the tests that need a GPU, and the self-test."""
    device = job.device.type
    files = sorted((ROOT / "tests").glob("test_*.py"))
    marked = [str(each) for each in files if "mark.gpu" in each.read_text(encoding="utf-8")]
    commands = {
        "gpu tests": ["pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *marked],
        "selftest": ["gdm_repr", "selftest", "--device", device],
    }
    for name, command in commands.items() if not job.quick else ():
        began = time.monotonic()
        ran = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True,
                             check=False, cwd=ROOT, timeout=180)  # fmt: skip
        (job.out / f"{name.replace(' ', '_')}.log").write_text(ran.stdout + ran.stderr)
        last = (ran.stdout.strip().splitlines() or [ran.stderr[-300:]])[-1]
        job.note("tests", what=name, status=ran.returncode, said=last,
                 seconds=time.monotonic() - began)  # fmt: skip


def ceiling(job: Job) -> None:
    """Measure large matrix products and a copy in the device's memory."""
    side = 256 if job.quick else 8192
    for precision in PRECISIONS:
        use_precision(argparse.Namespace(), precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        seconds = matrix_product(job, (side, side, side), dtype)
        job.note("ceiling", precision=precision, tflops=2 * side**3 / seconds / 1e12)
    a = torch.randn(side * side * (1 if job.quick else 8), device=job.device)
    b = torch.empty_like(a)
    seconds = job.seconds(lambda: b.copy_(a), least=0.1)
    job.note("ceiling", what="copy", gb_per_s=2 * a.numel() * 4 / seconds / 1e9)


SECTIONS: dict[str, Callable[[Job], None]] = {
    "tests": tests,
    "ceiling": ceiling,
    "encode": encodings,
    **{f"network-{name}": partial(network, name) for name in BATCH},
    "copies": copies,
    "training": training,
    "recipe": train_recipe,
    "card": card,
}


COMPILES = ("encode", "network-shipped", "network-cifar10", "network-ffhq64", "training")


def warm_up(job: Job, names: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    """Compile for several sections at once, each in a process of its own, into the cache."""
    started = []
    for name in names:
        words = ["--only", name, "--warm", "--out", job.out, "--device", job.device.type]
        command = [sys.executable, str(Path(__file__)), *map(str, words)]
        with (job.out / f"warm-{name}.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
    return started


def main() -> int:
    """Run what is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="that all may take")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder of the figures")
    parser.add_argument("--edm", type=Path, help="a checkout of NVlabs/edm, to compare with")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    job = Job(
        options.out.resolve(),
        torch.device(options.device),
        options.quick,
        options.edm,
        time.monotonic() + 60 * options.minutes,
        1 if options.quick else options.workers,
        options.warm,
    )
    if job.warm:
        for name in options.only:
            SECTIONS[name](job)
        return 0
    figures = job.out / "figures.jsonl"
    lines = figures.read_text(encoding="utf-8").splitlines() if figures.exists() else []
    done = {row["what"] for row in map(json.loads, lines) if row["section"] == "done"}
    if not done:
        name = torch.cuda.get_device_name() if job.device.type == "cuda" else "CPU"
        job.note("machine", device=name, torch=torch.__version__, cores=os.cpu_count())
    failed, wanted = 0, [name for name in options.only if name not in done]
    warming = [] if job.quick else warm_up(job, [name for name in wanted if name in COMPILES])
    for name in wanted:
        if name != "tests":  # nothing is timed beside the compilers
            for process in warming:
                process.wait()
        began = time.monotonic()
        try:
            SECTIONS[name](job)
        except Exception as error:  # the next section may work: device time is short
            failed += 1
            traceback.print_exc()
            job.note("failed", what=name, why=f"{type(error).__name__}: {error}"[:500])
            continue
        finally:
            if job.device.type == "cuda":
                torch.cuda.empty_cache()
        job.note("done", what=name, seconds=time.monotonic() - began)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
