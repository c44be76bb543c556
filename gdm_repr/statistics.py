"""Statistics of the data in the basis: what preconditioning and whitened steps need of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gdm_repr.axes import Axes, axes_sizes, principal_axes
from gdm_repr.basis import build_basis
from gdm_repr.boundary.isolation import isolated
from gdm_repr.config import ModelConfig
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.grouping import Grouping, Shape

STATISTICS_IMAGES = 50_000
MOST_BYTES = 1 << 28  # of images in float64 at a time


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of a data set's elements.

    Attributes:
        mean: of every element, shape (C, d).
        std: of every element, shape (C, d).
        rotations: principal axes of some groups by number, shape (D, D), float32.
        along: stds along the axes, shape (C, d), float32; None without axes.
    """

    mean: Tensor
    std: Tensor
    rotations: Mapping[int, Tensor] = field(default_factory=dict)
    along: Tensor | None = None

    def axes(self, grouping: Grouping) -> Axes | None:
        """Return the axes of a model with these groups; None without any."""
        if self.along is None:
            return None
        return Axes(grouping, self.std.float(), self.rotations, self.along)

    def tensors(self) -> dict[str, Tensor]:
        """Return them by the names that a training state has."""
        found = {"data.mean": self.mean, "data.std": self.std}
        if self.along is not None:
            found["axes.std"] = self.along
        return found | {f"axes.{group}": V for group, V in self.rotations.items()}

    def require_fit(self, model: ModelConfig, shape: Shape, grouping: Grouping, where: str) -> None:
        """Refuse statistics of other images or another model.

        Raises:
            ValueError: if a shape is another, or axes are missing or too many.
        """
        sizes = axes_sizes(grouping, shape) if has_axes(model) else {}
        found = {group: tuple(V.shape) for group, V in self.rotations.items()}
        wanted = {group: (size, size) for group, size in sizes.items()}
        if tuple(self.mean.shape) != (shape[0], shape[1] * shape[2]) or found != wanted:
            raise ValueError(
                f"{where}its statistics of the data are of another model or other images; start "
                "again"
            )

    @classmethod
    def blank(cls, model: ModelConfig, shape: Shape, grouping: Grouping) -> Statistics:
        """Return statistics of N(0, I), for what depends on their shapes alone."""
        mean, std = (
            torch.zeros(shape[0], shape[1] * shape[2]),
            torch.ones(shape[0], shape[1] * shape[2]),
        )
        if not has_axes(model):
            return cls(mean, std)
        sizes = axes_sizes(grouping, shape)
        return cls(mean, std, {j: torch.eye(n) for j, n in sizes.items()}, std if sizes else None)

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], where: str) -> Statistics:
        """Read what :meth:`tensors` returned.

        Raises:
            ValueError: if a part is missing, of another shape, negative or not finite.
        """
        mean, std, along = (tensors.get(name) for name in ("data.mean", "data.std", "axes.std"))
        rotations = {
            name.removeprefix("axes."): tensor
            for name, tensor in tensors.items()
            if name.startswith("axes.") and name != "axes.std"
        }
        if mean is None or std is None or not all(map(str.isdecimal, rotations)):
            raise ValueError(f"{where}its statistics of the data are not whole; start again")
        each = [mean, std, *([] if along is None else [along])]
        shapes, whole = {t.shape for t in each}, [*each, *rotations.values()]
        fits = len(shapes) == 1 and mean.ndim == 2 and all(bool((t >= 0).all()) for t in each[1:])
        if not fits or not all(t.is_floating_point() and bool(t.isfinite().all()) for t in whole):
            raise ValueError(f"{where}its statistics of the data are damaged; start again")
        return cls(mean, std, {int(group): V for group, V in rotations.items()}, along)


@isolated
def measure_statistics(
    dataset: ImageDataset, model: ModelConfig, grouping: Grouping, seed: int
) -> Statistics:
    """Measure what a model needs to know of its data, on all images or 50,000 of them.

    Raises:
        ValueError: if fewer than two images can be used.
    """
    spec = model.basis
    basis = build_basis(spec.name, dataset.shape[1:], **spec.options())
    mean, std = element_statistics(statistics_batches(dataset, basis.forward, seed))
    if not has_axes(model) or not axes_sizes(grouping, dataset.shape):
        return Statistics(mean, std)
    batches = statistics_batches(dataset, basis.forward, seed)
    rotations, along = principal_axes(grouping, mean, std, batches)
    return Statistics(mean, std, {j: V.float() for j, V in rotations.items()}, along.float())


def has_axes(model: ModelConfig) -> bool:
    """Tell whether a model whitens along principal axes."""
    return model.denoiser.preconditioning == "principal"


def statistics_batches(
    dataset: ImageDataset, to_basis: Callable[[Tensor], Tensor], seed: int
) -> Iterator[Tensor]:
    """Yield the images that statistics are taken of, in the basis, (B, C, d), float64.

    They are all, or 50,000 drawn without replacement from a larger set.
    """
    n = len(dataset)
    chosen = np.arange(n)
    if n > STATISTICS_IMAGES:
        chosen = np.sort(np.random.default_rng(seed).choice(n, STATISTICS_IMAGES, replace=False))
    at_once = max(1, min(512, MOST_BYTES // (8 * math.prod(dataset.shape))))
    for part in np.array_split(chosen, max(1, len(chosen) // at_once)):
        x = to_basis(dataset.batch(part).x.double())
        if len(x):
            yield x


@isolated
def element_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and std of every element over batches (B, C, d), each (C, d), float64."""
    count, total, square, shift = 0, torch.zeros(()), torch.zeros(()), None
    for x in batches:
        shift = x.mean(0) if shift is None else shift
        count += len(x)
        total = total + (x - shift).sum(0)
        square = square + (x - shift).square().sum(0)
    if count < 2 or shift is None:
        raise ValueError(f"data: {count} usable images; at least 2 are needed to train")
    mean = total / count
    return mean + shift, (square / count - mean.square()).clamp(min=0).sqrt()
