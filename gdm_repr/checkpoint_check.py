"""What a checkpoint says, checked against its tensors before anything is built of it.

A network is a few words of configuration, of any size; the tensors are as large as the file. So
the network's building is stopped where it outgrows them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from gdm_repr.axes import Axes
from gdm_repr.grouping import Grouping, Shape

LONGEST_SIDE = 4096  # of an image in pixels: a basis holds the square of it
MOST_TAPS = 1 << 20  # of a blur
_SPARE_TENSORS, _SPARE_NUMBERS = 100, 1 << 20  # so that load_state_dict can say what is missing
_SPARE_OPTION = 4096
_AXES = re.compile(r"axes\.(0|[1-9][0-9]{0,8})")
_NETWORK = "network."


def read_shape(facts: Mapping[str, Any]) -> Shape:
    """Return (C, H, W) of the images.

    Raises:
        ValueError: these are no three counts, or a side is longer than a basis can be built for.
    """
    shape = facts["shape"]
    if not isinstance(shape, list) or len(shape) != 3 or not all(_is_count(n, 1) for n in shape):
        raise ValueError(f"shape {str(shape)[:80]} is not three counts (C, H, W)")
    channels, height, width = shape
    if max(height, width) > LONGEST_SIDE:
        raise ValueError(f"shape {shape}: sides of more than {LONGEST_SIDE} pixels are not read")
    return channels, height, width


def check_basis(options: Mapping[str, Any]) -> None:
    """Refuse options of a basis that ask for more memory than any image's basis needs.

    Raises:
        ValueError: a number is too large.
    """
    for name, value in options.items():
        if isinstance(value, int | float) and not abs(value) <= MOST_TAPS:
            raise ValueError(f"model.basis.{name}={str(value)[:80]}: must be at most {MOST_TAPS}")


def read_images(facts: Mapping[str, Any]) -> int:
    """Return the number of images seen in training.

    Raises:
        ValueError: it is no count.
    """
    images = facts["images"]
    if not _is_count(images, 0):
        raise ValueError(f"images {str(images)[:80]} is no count")
    return int(images)


def take_grouping(tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> Grouping:
    """Take the groups out of the tensors.

    Raises:
        ValueError: the numbers of the groups, their order or their names are of another kind, or no
            partition.
    """
    index, order, names = tensors.pop("grouping"), facts["order"], facts["names"]
    if index.dtype != torch.int64 or index.ndim != 2 or not index.numel():
        raise ValueError(f"grouping {tuple(index.shape)} is {index.dtype}, not int64 by element")
    if not isinstance(order, list) or not all(_is_count(group, 0) for group in order):
        raise ValueError(f"order {str(order)[:80]} is no list of group numbers")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names {str(names)[:80]} is no list of texts")
    if len(set(names)) < len(names):
        raise ValueError(f"names {str(names)[:80]} repeat one")
    return Grouping(index.numpy(), tuple(order), tuple(names))


def take_statistics(
    tensors: dict[str, Tensor], shape: Shape, grouping: Grouping
) -> tuple[Tensor, Tensor]:
    """Take mean and std (C, d) out of the tensors.

    Raises:
        ValueError: they have other shapes, are no floats, or a std is negative or not finite.
    """
    mean, std = tensors.pop("mean"), tensors.pop("std")
    channels, d = shape[0], shape[1] * shape[2]
    fits = grouping.d == d and len(grouping.index) in (1, channels)
    if not (mean.shape == std.shape == (channels, d) and fits):
        raise ValueError(
            f"mean {tuple(mean.shape)}, std {tuple(std.shape)} and grouping "
            f"{grouping.index.shape} for images of {shape}"
        )
    for name, tensor in (("mean", mean), ("std", std)):
        _require_floats(name, tensor)
    if bool((std < 0).any()):
        raise ValueError("std holds negative numbers")
    return mean, std


def take_axes(tensors: dict[str, Tensor], grouping: Grouping, std: Tensor) -> Axes | None:
    """Take the axes of groups out of the tensors; None where there are none.

    Raises:
        ValueError: an axis is of a group that there is not, of another size, or no finite float.
    """
    names = [name for name in tensors if name.startswith("axes.") and name != "axes.std"]
    if "axes.std" not in tensors:
        if names:
            raise ValueError(f"{names[0][:80]!r} is there without axes.std")
        return None
    along = tensors.pop("axes.std")
    _require_floats("axes.std", along)
    if along.shape != std.shape or not bool((along > 0).all()):
        raise ValueError(f"axes.std {tuple(along.shape)} must be {tuple(std.shape)} and positive")
    sizes = grouping.sizes()
    times = 1 if grouping.per_channel else std.shape[0]
    rotations = {}
    for name in names:
        found, rotation = _AXES.fullmatch(name), tensors.pop(name)
        group = int(found[1]) if found else grouping.k
        if group >= grouping.k:
            raise ValueError(f"{name[:80]!r} is no group's; there are {grouping.k}")
        _require_floats(name, rotation)
        side = sizes[group] * times
        if rotation.shape != (side, side):
            raise ValueError(f"{name} {tuple(rotation.shape)} must be {(side, side)}")
        rotations[group] = rotation
    return Axes(grouping, std, rotations, along)


def network_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's weights by their names in the network; all other tensors are taken.

    Raises:
        ValueError: a tensor is nobody's, or weights are integers.
    """
    for name, tensor in tensors.items():
        if not name.startswith(_NETWORK):
            raise ValueError(f"the tensor {name[:80]!r} is unknown")
        if not tensor.is_floating_point():
            raise ValueError(f"the tensor {name[:80]!r} is {tensor.dtype}; weights are floats")
    return {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items()}


@contextmanager
def no_larger_than(weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> Iterator[None]:
    """Stop a network's building once its parameters are far more than the weights at hand.

    A parameter is looked at before numbers are put into it, and memory that nothing was put into
    is none yet.

    Args:
        weights: of the network.
        options: the network's.

    Raises:
        ValueError: an option is larger than any that such weights can have; or, from within, the
            network outgrows the weights.
    """
    most, most_numbers = len(weights), sum(weight.numel() for weight in weights.values())
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(each, int) and each > most_numbers + _SPARE_OPTION for each in values):
            raise ValueError(
                f"model.network.{name}={str(value)[:80]} is more than the {most_numbers} numbers "
                "that are there"
            )
    thread, count, numbers = threading.get_ident(), 0, 0

    def look(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count, numbers
        if threading.get_ident() != thread or parameter is None:
            return
        count, numbers = count + 1, numbers + parameter.numel()
        if count > most + _SPARE_TENSORS or numbers > 2 * most_numbers + _SPARE_NUMBERS:
            raise ValueError(
                f"model.network asks for a larger network than the {most} tensors of "
                f"{most_numbers} numbers that are there"
            )

    handle = register_module_parameter_registration_hook(look)
    try:
        yield
    finally:
        handle.remove()


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 2**62


def _require_floats(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise ValueError(f"{name} is {tensor.dtype}; it must be floats")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} holds numbers that are not finite")
