"""How much memory training takes, counted before it begins, and how much there is.

Counted, not tried: the network runs once on the ``meta`` device of PyTorch, where tensors have
shapes and no memory, while hooks add up what autograd keeps of one image for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gdm_repr.boundary.isolation import isolated
from gdm_repr.config import TrainConfig
from gdm_repr.grouping import Shape
from gdm_repr.models import build_network

COPIES = 6  # of the weights: themselves, gradient, Adam's two moments, their average, one to write
KEPT = 1.7  # what a step was found to take over what autograd keeps: 1.4 to 1.7 on a CPU
STATES = 24  # float32 images a training image costs outside the network: x, z, x_t, levels, u, ..
AHEAD = 4  # batches that wait for the step
REST = 400 << 20  # bytes: libraries' buffers, pictures, the tracker
SHARE = 0.9  # of what is free that is counted on
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training takes, by what they grow with.

    Attributes:
        model: weights, moments and averages.
        image: of every image that is computed at once.
        batch: of every image of a batch.
        rest: whatever the batch.
        parameters: number of weights.
    """

    model: int
    image: int
    batch: int
    rest: int
    parameters: int

    def total(self, batch_size: int, accumulate: int = 1) -> int:
        """Return the bytes of training with a batch in so many parts."""
        at_once = -(-batch_size // accumulate)
        return self.model + self.rest + at_once * self.image + batch_size * self.batch


@isolated
def count_memory(config: TrainConfig, shape: Shape, k: int) -> TrainingMemory:
    """Count what training on images of a shape (C, H, W) in k groups takes, in bytes.

    Raises:
        ValueError: if the network does not fit the images.
    """
    from gdm_repr.denoiser import Denoiser

    inputs = Denoiser.network_inputs(config.model.denoiser, shape[0], k)
    with torch.device("meta"):
        network = build_network(config.model.network, shape=shape[1:], **inputs)
        x, levels = (
            torch.empty(1, inputs["in_channels"], *shape[1:]),
            torch.empty(1, inputs["levels"]),
        )
    weights = sum(each.numel() for each in network.parameters())
    pixels = 4 * shape[0] * shape[1] * shape[2]
    kept = _kept_bytes(network, x, levels)
    if config.precision == "bf16":
        kept = kept * 5 // 8  # what autocast keeps: half of most, and a cast copy of some
    return TrainingMemory(
        model=4 * COPIES * weights,
        image=int(KEPT * kept) + STATES * pixels,
        batch=AHEAD * pixels,
        rest=REST,
        parameters=weights,
    )


def _kept_bytes(network: nn.Module, x: Tensor, levels: Tensor) -> int:
    """Return the bytes that autograd keeps of a forward pass, weights left out."""
    own = {each.untyped_storage()._cdata for each in network.parameters()}
    kept: dict[int, Tensor] = {}  # by storage; held, so that no other takes its place

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        network(x, levels)
    return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)


def free_memory(device: str = "cpu") -> int:
    """Return the bytes that this process may still take, by whoever is strictest.

    That is the machine, a container's control group, or the process's own limit (``ulimit -v``).
    """
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    free: list[int] = [psutil.virtual_memory().available, *_of_groups()]
    try:
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            free.append(most - psutil.Process().memory_info().vms)
    except ImportError:  # Windows has no such limits
        pass
    return max(0, min(free))


def _of_groups() -> list[int]:
    """Return what is left in this process's control groups (v2, then v1), each above it too."""
    left = []
    for path, most, now, cache in (
        (_own_group(), "memory.max", "memory.current", "inactive_file"),
        (
            _CGROUP / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        for folder in [path, *path.parents]:
            if not folder.is_relative_to(_CGROUP):
                break
            try:
                limit = int((folder / most).read_text())
                used = int((folder / now).read_text())
                stat = dict(
                    line.split() for line in (folder / "memory.stat").read_text().splitlines()
                )
                left.append(limit - used + int(stat.get(cache, 0)))
            except (OSError, ValueError):  # none, or "max"
                continue
    return left


def _own_group() -> Path:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return _CGROUP
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return _CGROUP / own.lstrip("/")


def gigabytes(count: float) -> str:
    """Write bytes for a reader.

    >>> gigabytes(2.345e9), gigabytes(3.1e7)
    ('2.3 GB', '31 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def require_memory(config: TrainConfig, shape: Shape, k: int, data: int = 0) -> TrainingMemory:
    """Refuse training that does not fit in memory, before it begins.

    Args:
        config: the options.
        shape: (C, H, W) of the images.
        k: number of groups.
        data: bytes of images that are to stay in memory.

    Raises:
        ValueError: naming what would be needed, what is free, and what would fit.
    """
    from gdm_repr.api import choose_device

    found, free = count_memory(config, shape, k), free_memory(choose_device(config.device).type)
    needed = found.total(config.batch_size, config.accumulate) + data
    if needed <= SHARE * free:
        return found
    parts = [
        n for n in range(config.accumulate + 1, config.batch_size + 1) if config.batch_size % n == 0
    ]
    fits = next((n for n in parts if found.total(config.batch_size, n) <= SHARE * free), None)
    fix = (
        f"add --accumulate {fits}, which computes a batch in parts"
        if fits
        else "use a smaller network (--model), smaller images (preprocess.size), or gdm-repr init"
    )
    raise ValueError(
        f"--batch-size {config.batch_size}: training {found.parameters:,} weights on images of "
        f"{shape} takes about {gigabytes(needed)} of memory, and {gigabytes(free)} are free; {fix}"
    )
