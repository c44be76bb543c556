"""The Python API: one object that encodes, decodes and samples.

from gdm_repr import GDM
m = GDM.from_pretrained("runs/digits/model.safetensors")
e = m.encode(x)            # x (B, C, H, W) in [-1, 1]; e.z (B, C, d) in the basis's order
y = m.decode(e)            # back to (B, C, H, W)
for e in m.encode(loader): # a DataLoader, a data set or a generator: one batch at a time
    e.band("0_29")         # (B, C, 30)
s = m.sample(16, seed=0)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.boundary import arguments
from gdm_repr.boundary.arguments import count, integer, integers
from gdm_repr.boundary.batch_stream import (
    IMAGES,
    LATENTS,
    OneOfImages,
    OneOfLatents,
    Stream,
    apply,
)
from gdm_repr.boundary.image_batch import Batchable, check_range, image_batch, latent_batch
from gdm_repr.boundary.isolation import isolated
from gdm_repr.boundary.text import listed, printable
from gdm_repr.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from gdm_repr.config import DEFAULT_SOLVER, DEFAULT_STEPS, OfModel, SolverConfig
from gdm_repr.coordinates import Flow
from gdm_repr.encoding import Encoding as Encoding
from gdm_repr.grouping import Shape, rms_by_group
from gdm_repr.ode import Plan, decode, encode
from gdm_repr.steps import even_steps, split_steps, step_doubling_error

if TYPE_CHECKING:
    from gdm_repr.data.images import Preprocess

BATCH_SIZE = 64  # single images that are gathered into one batch


class Options(TypedDict, total=False):
    """Keywords of :meth:`GDM.decode`."""

    grad: bool
    column: str | None
    batch_size: SupportsIndex


class EncodeOptions(Options, total=False):
    """Keywords of :meth:`GDM.encode`."""

    latent_error: bool
    round_trip: bool
    check: bool


class GDM:
    """A trained Groupwise Diffusion Model.

    Args:
        checkpoint: the model as read from its file.
        device: ``auto`` takes CUDA where there is one.
        precision: of the network, ``fp32`` or ``bf16``; the ODE's state is float32.
    """

    @isolated
    def __init__(
        self, checkpoint: Checkpoint, device: str = "auto", precision: str = "fp32"
    ) -> None:
        """Move the model to its device."""
        self.checkpoint = checkpoint
        self.device = choose_device(device)
        self.denoiser = checkpoint.denoiser.to(self.device)
        if self.device.type == "cuda":
            self.denoiser.network.to(memory_format=torch.channels_last)
        self.denoiser.autocast = torch.bfloat16 if precision == "bf16" else None
        self.basis, self.grouping = self.denoiser.basis, self.denoiser.grouping
        self.flow = Flow(
            self.denoiser,
            self.grouping,
            self.denoiser.process,
            self.denoiser.mean,
            self.denoiser.std,
            self.denoiser.axes,
        )

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, device: str = "auto", precision: str = "fp32"
    ) -> GDM:
        """Load a shipped model by name, or one from a file, a folder of one, MLflow, or a hub id.

        Args:
            name: ``"scenes"``, the model that comes with the package; a file; a folder that holds
                ``model.safetensors``; a name in MLflow, as
                ``models:/digits@champion``; or a hub id.
            device: ``auto`` takes CUDA where there is one.
            precision: of the network, ``fp32`` or ``bf16``.

        Raises:
            ValueError: if nothing is found, or the file can't be used.
        """
        return cls(load_checkpoint(find_checkpoint(name)), device, precision)

    @isolated
    def with_order(self, order: Sequence[int] | None) -> GDM:
        """Return this model generating its groups in another order that it was trained on.

        Args:
            order: group numbers, the first one generated first; None leaves the order.

        Raises:
            ValueError: if it is no order of the groups, or not one of training's.
        """
        order = None if order is None else integers(order, "order")
        if order is None or order == self.grouping.order:
            return self
        grouping = self.grouping.with_order(order)
        trained = self.checkpoint.training.get("orders", "fixed")
        listed = [] if isinstance(trained, str) else [tuple(each) for each in trained]
        if trained != "random" and grouping.order not in listed:
            raise ValueError(
                f"order={list(order)}: this model was trained on orders={trained!r} with order "
                f"{list(self.grouping.order)}; use one of these, or train with orders=random"
            )
        denoiser = copy(self.denoiser)
        denoiser.grouping = grouping
        other = copy(self)
        other.checkpoint = replace(self.checkpoint, denoiser=denoiser)
        other.denoiser, other.grouping = denoiser, grouping
        other.flow = replace(self.flow, u=denoiser, grouping=grouping)
        return other

    def __repr__(self) -> str:
        """Say what images it is of, its bands, its size and where it is."""
        channels, height, width = self.shape
        data = self.checkpoint.training.get("data")
        parameters = sum(weight.numel() for weight in self.denoiser.network.parameters())
        return (
            f"GDM({channels}x{height}x{width}{'' if data is None else printable(f' of {data}')}; "
            f"bands {listed(self.grouping.names)}; {parameters:,} parameters; {self.device})"
        )

    @property
    def shape(self) -> Shape:
        """Shape (C, H, W) of the images."""
        return self.checkpoint.shape

    @property
    def hold_out(self) -> float | None:
        """Share of its images that training held out (:mod:`gdm_repr.data.hold_out`), if any."""
        return self.checkpoint.hold_out

    @isolated
    def plan(
        self,
        steps: SupportsIndex | Sequence[int] | NDArray[np.integer[Any]] = DEFAULT_STEPS,
        *,
        solver: str = DEFAULT_SOLVER,
        coordinate: str = "whitened",
        tolerance: float = 1e-5,
        inverse: bool = False,
        split_on: Batchable | None = None,
    ) -> Plan:
        """Say how to solve the ODE.

        Args:
            steps: steps in all, split over the groups, or one count a group.
            solver: a key of :data:`gdm_repr.solvers.SOLVERS`.
            coordinate: a key of :data:`gdm_repr.coordinates.COORDINATES`.
            tolerance: of dopri5 and of the exact inverse.
            inverse: encode by inverting the decoder's steps.
            split_on: images (B, C, H, W) on which to measure the best split of all steps; when
                None, they are split evenly.

        Raises:
            ValueError: for an unknown name or a step count that does not fit the groups.
        """
        k = self.grouping.k
        many = isinstance(steps, Sequence | np.ndarray) and np.ndim(steps) > 0
        each = integers(steps, "steps") if many else even_steps(integer(steps, "steps"), k)
        if len(each) != k:
            raise ValueError(
                f"steps={list(each)}: {len(each)} counts for {k} groups; give one number in all or "
                "one per group"
            )
        plan = Plan(solver, coordinate, each, tolerance, inverse)
        if split_on is None:
            return plan
        images = image_batch(split_on, self.shape, "split_on")
        if not len(images):
            raise ValueError("split_on: holds no images; give some to measure on, or None")
        check_range(images, "split_on", hint=False)
        split = split_steps(self.flow, self.to_basis(images), plan, sum(each))
        return replace(plan, steps=split)

    @isolated
    def to_basis(self, x: Batchable) -> Tensor:
        """Return U^T x in the basis's order: (B, C, H, W) to (B, C, d), on the model's device.

        Raises:
            ValueError: if x are no such images (see
                :func:`gdm_repr.boundary.image_batch.image_batch`).
        """
        return self._to_basis(image_batch(x, self.shape))

    def _to_basis(self, images: Tensor) -> Tensor:
        return self.basis.forward(images.to(self.device, torch.float32, non_blocking=True))

    @overload
    def encode(  # type: ignore[overload-overlap]  # one batch can be gone through, too
        self, x: OneOfImages, plan: Plan | None = None, **options: Unpack[EncodeOptions]
    ) -> Encoding: ...

    @overload
    def encode(
        self, x: Stream, plan: Plan | None = None, **options: Unpack[EncodeOptions]
    ) -> Iterator[Encoding]: ...

    def encode(
        self,
        x: OneOfImages | Stream,
        plan: Plan | None = None,
        *,
        latent_error: bool = False,
        round_trip: bool = False,
        check: bool = True,
        grad: bool = False,
        column: str | None = None,
        batch_size: SupportsIndex = BATCH_SIZE,
    ) -> Encoding | Iterator[Encoding]:
        """Encode images to latents by the forward ODE: one batch, or batch by batch.

        What is held at once is one batch and gives one encoding: a float tensor or array
        (B, C, H, W) in [-1, 1], on any device, a PIL image, a list of images, a mapping of columns,
        a :class:`gdm_repr.data.Batch`. What is gone through gives an iterator of encodings, one a
        batch, each made when it is asked for: a DataLoader, a data set (torch's, or Hugging Face's,
        streaming, too), a generator. Its single images are gathered into batches.

        Labels are ignored: all but the first of a batch (images, labels), and other columns.
        A list or tuple of nothing but single images is a batch of these.

        Args:
            x: the images. A batch of none gives none.
            plan: from :meth:`plan`; its defaults when None.
            latent_error: estimate the solver's error by doubling the steps (twice the cost more).
            round_trip: decode again and measure the error (once the cost more).
            check: refuse values beyond :data:`gdm_repr.boundary.image_batch.REACH`, and warn of a
                batch that lies wholly in [0, 1]; False where x is known to be scaled to [-1, 1].
            grad: let gradients pass from z to x; errors and the reconstruction carry none. All that
                the network computes then stays in memory until the gradient is taken: some 3 MB an
                evaluation and image with the shipped model. So take few steps, and few images.
                By the exact inverse and dopri5 gradients are as exact as the plan's tolerance.
            column: of a mapping, such as a data set's row; the only one with images when None.
            batch_size: how many single images of what is gone through make a batch.

        Raises:
            ValueError: if x has another shape than the model, is not finite, or is beyond REACH. Of
                what is gone through the error names the batch; those before it were given out.
        """
        one = partial(
            self._encode,
            plan=plan or self.plan(),
            latent_error=latent_error,
            round_trip=round_trip,
            check=check,
            grad=grad,
        )
        return apply(one, x, IMAGES, column, batch_size)

    @isolated
    def _encode(
        self,
        x: Batchable,
        plan: Plan,
        *,
        latent_error: bool = False,
        round_trip: bool = False,
        check: bool = True,
        grad: bool = False,
    ) -> Encoding:
        """Encode one batch."""
        with torch.set_grad_enabled(grad):
            images = image_batch(x, self.shape, grad=grad)
            if check:
                check_range(images)
            x_bar = self._to_basis(images)
        solution = encode(self.flow, x_bar, plan, grad=grad)
        x_bar, z, errors = x_bar.detach(), solution.y.detach(), {}
        if latent_error:
            error = step_doubling_error(self.flow, x_bar, plan, z)
            errors["latent_error"] = error.flatten(1).square().mean(1).sqrt()
            errors["latent_error_by_group"] = rms_by_group(error, self.grouping)
        if round_trip:
            back = decode(self.flow, z, plan).y
            error = back - x_bar
            errors["round_trip_error"] = error.flatten(1).square().mean(1).sqrt()
            errors["round_trip_error_by_group"] = rms_by_group(error, self.grouping)
            errors["reconstruction"] = self.basis.inverse(back)
        return Encoding(
            solution.y, solution.evaluations, solution.converged, **errors, grouping=self.grouping
        )

    @overload
    def latents(  # type: ignore[overload-overlap]
        self, x: OneOfImages, plan: Plan | None = None, **options: Unpack[EncodeOptions]
    ) -> Tensor: ...

    @overload
    def latents(
        self, x: Stream, plan: Plan | None = None, **options: Unpack[EncodeOptions]
    ) -> Iterator[Tensor]: ...

    def latents(
        self,
        x: OneOfImages | Stream,
        plan: Plan | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Tensor | Iterator[Tensor]:
        """Return the latents z (B, C, d) of images alone, or an iterator of these.

        Arguments, options and errors are those of :meth:`encode`.
        """
        found = self.encode(x, plan, **options)
        return found.z if isinstance(found, Encoding) else (each.z for each in found)

    @overload
    def decode(  # type: ignore[overload-overlap]
        self, z: OneOfLatents, plan: Plan | None = None, **options: Unpack[Options]
    ) -> Tensor: ...

    @overload
    def decode(
        self, z: Stream, plan: Plan | None = None, **options: Unpack[Options]
    ) -> Iterator[Tensor]: ...

    def decode(
        self,
        z: OneOfLatents | Stream,
        plan: Plan | None = None,
        *,
        grad: bool = False,
        column: str | None = None,
        batch_size: SupportsIndex = BATCH_SIZE,
    ) -> Tensor | Iterator[Tensor]:
        """Decode latents (B, C, d) to images (B, C, H, W), not clipped to [-1, 1].

        Args:
            z: numbers (B, C, d), as tensor, array, a list of (C, d), or an encoding; None of them
                gives none. What is gone through, as :meth:`encode` says it, such as the encodings
                that it gives or :meth:`gdm_repr.latents.LatentStore.iter_batches`, gives an
                iterator of images, one result a batch.
            plan: from :meth:`plan`; its defaults when None.
            grad: let gradients pass from the images to z, at the memory that :meth:`encode` says.
            column: of a mapping; the only one with latents when None.
            batch_size: how many single latents of what is gone through make a batch.

        Raises:
            ValueError: if z has another shape than the model's latents, or is not finite.
        """
        one = partial(self._decode, plan=plan or self.plan(), grad=grad)
        return apply(one, z, LATENTS, column, batch_size)

    @isolated
    def _decode(self, z: Batchable, plan: Plan, *, grad: bool = False) -> Tensor:
        """Decode one batch."""
        with torch.set_grad_enabled(grad):
            z = latent_batch(z, (self.shape[0], self.grouping.d), grad=grad)
            z = z.to(self.device, torch.float32)
            return self.basis.inverse(decode(self.flow, z, plan, grad=grad).y)

    @isolated
    def noise(self, n: SupportsIndex, *, seed: SupportsIndex = 0) -> Tensor:
        """Draw latents (n, C, d) ~ N(0, I); number i depends on seed + i alone.

        Raises:
            ValueError: if n is less than 1, or a seed is not in 0 .. 2^64 - 1.
        """
        n = count(n, "n")
        seed = arguments.seed(seed, draws=n)
        shape = (self.shape[0], self.grouping.d)
        draws = [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(n)
        ]
        return torch.stack(draws).to(self.device)

    @isolated
    def sample(
        self, n: SupportsIndex, *, seed: SupportsIndex = 0, plan: Plan | None = None
    ) -> Tensor:
        """Draw images (n, C, H, W), not clipped; number i depends on seed + i alone.

        Raises:
            ValueError: if n is less than 1, or a seed is not in 0 .. 2^64 - 1.
        """
        return self.decode(self.noise(n, seed=seed), plan)


def open_model(config: OfModel) -> GDM:
    """Load the model that options name, in the order of generation that they may ask for.

    Raises:
        ValueError: if it is not found, can't be used, or was not trained on that order.
    """
    model = GDM.from_pretrained(config.checkpoint, device=config.device, precision=config.precision)
    return model.with_order(config.order) if isinstance(config, SolverConfig) else model


def choose_device(name: str) -> torch.device:
    """Return a device by name; ``auto`` takes CUDA where there is one.

    Raises:
        ValueError: if CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}: no CUDA device here; use auto or cpu")
    return torch.device(name)


def model_preprocess(
    model: GDM, *, fit: str | None = None, dequantize: bool | None = None
) -> Preprocess:
    """Return how training made images into x, but for what is given, at the model's shape."""
    channels, height, width = model.shape
    trained = model.checkpoint.preprocess
    update: dict[str, Any] = {
        "size": (height, width),
        "channels": {1: "gray", 3: "rgb"}.get(channels),
    }
    if fit is not None:
        update["fit"] = fit
    if dequantize is not None:
        update["dequantize"] = dequantize
    return type(trained).model_validate({**trained.model_dump(), **update})
