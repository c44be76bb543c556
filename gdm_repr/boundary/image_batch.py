"""Images and latents as callers hold them: tensors, NumPy arrays, PIL images, lists of these.

Whatever comes is made a batch, or refused by a ValueError that names it, its form, and the fix.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gdm_repr.data.images import COLOURS, Pixels, pil_pixels, to_channels

Shape = tuple[int, int, int]
Batchable = Any
"""A tensor or array of a batch, a PIL image, or a sequence of single images."""

REACH = 10.0
"""Largest |x| that is encoded. Images lie in [-1, 1]. Beyond that, what a model made is still let
pass, and noise: samples of the shipped model reach 1.4 (72 steps), 2.2 (3 steps) and 5.9 (3 steps
of euler), and N(0, 1) hardly ever 6. Levels in 0..255, or the digits' 0..16, do not."""


def image_batch(x: Batchable, shape: Shape, name: str = "x", *, grad: bool = False) -> Tensor:
    """Return images as one float tensor (B, C, H, W).

    Args:
        x: floats (B, C, H, W), as tensor or array; a PIL image; or a sequence of images, PIL's or
            floats (C, H, W). PIL's become x = 2 v / L - 1 as files do: turned by EXIF, transparency
            on white, in the model's channels.
        shape: (C, H, W) of each.
        name: of the argument, for errors.
        grad: keep the way back to x for gradients.

    Raises:
        ValueError: for another shape or size, no floats, or values that are not finite.
    """
    wanted = f"(B, {', '.join(map(str, shape))})"
    if isinstance(x, Image.Image):
        x = [x]
    if isinstance(x, Sequence) and any(isinstance(each, Image.Image) for each in x):
        return torch.stack([_from_pil(each, shape, f"{name}[{i}]") for i, each in enumerate(x)])
    rule = f"floats {wanted}, as tensor or array, a PIL image, or a list of images"
    batch = as_tensor(x, name, rule, grad=grad)
    if isinstance(x, list | tuple) and not len(x):
        batch = batch.new_empty((0, *shape), dtype=torch.float32)
    if batch.ndim != 4 or tuple(batch.shape[1:]) != tuple(shape):
        last = tuple(batch.shape[1:]) == (*shape[1:], shape[0])
        raise ValueError(
            f"{name}: shape {tuple(batch.shape)}; must be {wanted}, the shape this model was "
            "trained on" + ("; move the channels to the front" if last else "")
        )
    if not batch.is_floating_point():
        raise ValueError(
            f"{name}: dtype {batch.dtype}; must be floats in [-1, 1], as {name} / 127.5 - 1"
        )
    if not bool(torch.isfinite(batch).all()):
        raise ValueError(f"{name}: holds values that are not finite; remove those images")
    return batch


def latent_batch(
    z: Batchable, shape: tuple[int, int], name: str = "z", *, grad: bool = False
) -> Tensor:
    """Return latents as one tensor (B, C, d).

    Args:
        z: numbers (B, C, d), as tensor or array, or a sequence of (C, d).
        shape: (C, d) of each.
        name: of the argument, for errors.
        grad: keep the way back to z for gradients.

    Raises:
        ValueError: for another shape, no real numbers, or values that are not finite.
    """
    wanted = f"(B, {shape[0]}, {shape[1]})"
    batch = as_tensor(z, name, f"a tensor or array {wanted}", grad=grad)
    if isinstance(z, list | tuple) and not len(z):
        batch = batch.new_empty((0, *shape), dtype=torch.float32)
    if batch.ndim != 3 or tuple(batch.shape[1:]) != tuple(shape):
        raise ValueError(f"{name}: shape {tuple(batch.shape)}; must be {wanted}")
    if batch.dtype == torch.bool or batch.is_complex():
        raise ValueError(f"{name}: dtype {batch.dtype}; must be floats, {wanted}")
    if not bool(torch.isfinite(batch.to(torch.float32)).all()):
        raise ValueError(f"{name}: holds values that are not finite; remove those latents")
    return batch


def as_tensor(values: object, name: str, rule: str, *, grad: bool = False) -> Tensor:
    """Return a dense tensor of values, without gradients unless asked; no value is changed.

    Raises:
        ValueError: if they are none, or lie on no device that can be read.
    """
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_quantized or values.is_meta:
            kind = "meta" if values.is_meta else str(values.layout).removeprefix("torch.")
            raise ValueError(f"{name}: is a {kind} tensor; must be {rule}")
        return values if grad else values.detach()
    if isinstance(values, list | tuple) and any(isinstance(v, Tensor | np.ndarray) for v in values):
        parts = [as_tensor(each, f"{name}[{i}]", rule, grad=grad) for i, each in enumerate(values)]
        for i, part in enumerate(parts):
            if part.shape != parts[0].shape or part.dtype != parts[0].dtype:
                raise ValueError(
                    f"{name}[{i}]: {part.dtype} of shape {tuple(part.shape)}, but {name}[0] is "
                    f"{parts[0].dtype} of shape {tuple(parts[0].shape)}; give all alike"
                )
        return torch.stack([part.to(parts[0].device) for part in parts])
    try:
        array = np.asarray(values)
        if array.dtype == object and not isinstance(values, np.ndarray):
            raise TypeError(f"{type(values).__name__} of other things than numbers")
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # torch has no longer floats
            array = array.astype(np.float64)
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        # torch would warn of an array that can't be written to
        return torch.from_numpy(native if native.flags.writeable else native.copy())
    except (TypeError, ValueError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:120]
        raise ValueError(f"{name}: {type(values).__name__} ({detail}); must be {rule}") from None


def check_range(x: Tensor, name: str = "x", *, hint: bool = True) -> None:
    """Refuse images (B, C, H, W) that cannot be in [-1, 1]; warn of those that look like [0, 1].

    The warning is for a batch of which all values are in [0, 1] and some image has more than one:
    images that are bright throughout are rare, and blank ones say nothing.

    Args:
        x: the images.
        name: of the argument, for errors.
        hint: whether to warn.

    Raises:
        ValueError: if a value is beyond :data:`REACH`.
    """
    if not x.numel():
        return
    low, high = (float(end) for end in torch.aminmax(x.detach()))
    if max(-low, high) > REACH:
        raise ValueError(
            f"{name}: values from {low:g} to {high:g}; must be in [-1, 1] (up to +-{REACH:g} is "
            f"let pass, for noise and for samples); of levels in 0..255 make {name} / 127.5 - 1"
        )
    if not hint or low < 0 or high > 1:
        return
    flat = x.flatten(1)
    if bool((flat != flat[:, :1]).any()):
        warnings.warn(
            f"{name}: all values are in [0, 1], but images are taken in [-1, 1]; if these are "
            f"scaled to [0, 1], give {name} * 2 - 1",
            UserWarning,
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """Return the stacklevel by which a warning points at the first line outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("gdm_repr."):
        level, frame = level + 1, frame.f_back
    return level


def _from_pil(image: object, shape: Shape, name: str) -> Tensor:
    """Return one PIL image as x (C, H, W)."""
    channels, *size = shape
    if not isinstance(image, Image.Image):
        raise ValueError(f"{name}: is a {type(image).__name__} among PIL images; give one kind")
    if channels not in COLOURS:
        raise ValueError(f"{name}: a PIL image, but the model's have {channels} channels; give x")
    try:
        pixels: Pixels = to_channels(pil_pixels(image), channels)
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}: can't be used ({error})") from None
    if list(pixels.shape[:2]) != size:
        raise ValueError(
            f"{name}: {pixels.shape[0]}x{pixels.shape[1]} px (height x width); must be "
            f"{size[0]}x{size[1]}, the size this model was trained on; resize it"
        )
    levels = np.float32(np.iinfo(pixels.dtype).max)
    x = pixels.astype(np.float32) / levels * np.float32(2) - np.float32(1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, 2, 0)))
