"""Checkpoints: one safetensors file with the model, and a second one with the training state.

``model.safetensors`` holds the averaged weights of the network, the data's mean and std of every
element, the axes of groups that have some, and the group of every element; its metadata hold, as
JSON under the key ``gdm_repr``, the resolved configuration, the image shape, the images seen and
the version. Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gdm_repr.axes import Axes
from gdm_repr.basis import build_basis
from gdm_repr.boundary.isolation import isolated, own_random_state
from gdm_repr.boundary.tensor_file import DIGEST, FACTS, digest, read_facts, read_metadata
from gdm_repr.checkpoint_check import (
    check_basis,
    network_weights,
    no_larger_than,
    read_images,
    read_shape,
    take_axes,
    take_grouping,
    take_statistics,
)
from gdm_repr.config import MODEL_FILE, SHIPPED, ModelConfig
from gdm_repr.data.images import Preprocess
from gdm_repr.denoiser import Denoiser
from gdm_repr.files import user_path, write_atomically
from gdm_repr.grouping import Grouping, Shape, build_grouping
from gdm_repr.models import build_network
from gdm_repr.process import PROCESSES
from gdm_repr.version import __version__

FORMAT = 1
ASSETS = Path(__file__).parent / "assets"  # the models that come with the package
IN_MLFLOW = ("models:/", "runs:/")  # begin the names of models there


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as read from its file.

    Attributes:
        denoiser: u(x_t, A) with averaged weights, in evaluation mode, on the CPU.
        shape: (C, H, W) of the images.
        model: the method's parts and the network.
        preprocess: how images were made into x for training.
        training: the resolved training options, for the record, and the number of ``items``.
        images: images seen in training.
        fingerprint: SHA-256 of the file.
    """

    denoiser: Denoiser
    shape: Shape
    model: ModelConfig
    preprocess: Preprocess
    training: dict[str, Any]
    images: int
    fingerprint: str

    @property
    def hold_out(self) -> float | None:
        """Share of the images that training held out (:mod:`gdm_repr.data.hold_out`), if any."""
        share = self.training.get("hold_out")
        return share if isinstance(share, float) and 0 < share < 1 else None


@isolated
def build_denoiser(
    model: ModelConfig,
    shape: Shape,
    mean: Tensor,
    std: Tensor,
    grouping: Grouping | None = None,
    axes: Axes | None = None,
) -> Denoiser:
    """Build a denoiser with fresh weights.

    Args:
        model: the method's parts and the network.
        shape: (C, H, W) of the images.
        mean: data mean in the basis, shape (C, d).
        std: data std in the basis, shape (C, d).
        grouping: the groups; built from ``model`` when None.
        axes: along which it whitens; the elements when None.

    Raises:
        ValueError: for an unknown name or an option that does not fit the shape.
    """
    if model.process not in PROCESSES:
        raise ValueError(f"model.process={model.process!r}: choose from {', '.join(PROCESSES)}")
    groups = build_model_grouping(model, shape) if grouping is None else grouping
    network = build_network(
        model.network,
        shape=shape[1:],
        **Denoiser.network_inputs(model.denoiser, shape[0], groups.k),
    )
    basis = build_basis(model.basis.name, shape[1:], **model.basis.options())
    process = PROCESSES[model.process]
    return Denoiser(network, basis, groups, process, model.denoiser, mean, std, axes)


def build_model_grouping(model: ModelConfig, shape: Shape) -> Grouping:
    """Build a configuration's grouping for images of a shape (C, H, W)."""
    spec = model.grouping
    return build_grouping(
        spec.name, shape, per_channel=spec.per_channel, order=spec.order, **spec.options()
    )


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a safetensors file whole or not at all; ``facts`` go to its metadata as JSON.

    A digest of all tensors and facts goes there, too (:mod:`gdm_repr.boundary.tensor_file`).
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts, sort_keys=True)
    metadata = {FACTS: text, DIGEST: digest(plain, text)}

    def write(temporary: Path) -> None:
        save_file(plain, temporary, metadata=metadata)
        temporary.chmod(0o644)  # safetensors makes its files private

    write_atomically(path, write)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`save_tensors` wrote.

    Raises:
        ValueError: if the file is missing, damaged, changed since, or not one of ours.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {str(path)!r}: no such file; train one or check the path")
    try:
        metadata = read_metadata(path)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        detail = " ".join(str(error).split())[:300]
        raise ValueError(
            f"checkpoint {str(path)!r}: not a whole safetensors file ({detail}); copy or train it "
            "again"
        ) from error
    try:
        facts = read_facts(metadata, tensors)
    except ValueError as error:
        raise ValueError(f"checkpoint {str(path)!r}: {error}; copy or train it again") from None
    if "format" not in facts:
        raise ValueError(
            f"checkpoint {str(path)!r}: has no {FACTS} metadata; only models trained by gdm-repr "
            "can be read"
        )
    found = facts["format"]
    if found != FORMAT:
        raise ValueError(
            f"checkpoint {str(path)!r}: format {str(found)[:40]}, this version reads {FORMAT}; "
            "install a matching version of gdm-repr"
        )
    return tensors, facts


@isolated
def save_checkpoint(
    path: Path,
    denoiser: Denoiser,
    *,
    shape: Shape,
    model: ModelConfig,
    preprocess: Preprocess,
    training: Mapping[str, Any],
    images: int,
) -> None:
    """Write a model, whole or not at all."""
    tensors = {f"network.{k}": v for k, v in denoiser.network.state_dict().items()}
    tensors |= {"mean": denoiser.mean, "std": denoiser.std, "grouping": denoiser.index}
    if denoiser.axes.groups:
        tensors["axes.std"] = denoiser.axes.std
        tensors |= {
            f"axes.{group}": denoiser.axes.rotation(group) for group in denoiser.axes.groups
        }
    facts = {
        "format": FORMAT,
        "version": __version__,
        "shape": shape,
        "images": images,
        "model": model.model_dump(mode="json"),
        "preprocess": preprocess.model_dump(mode="json"),
        "training": dict(training),
        "order": denoiser.grouping.order,
        "names": denoiser.grouping.names,
        "basis_fingerprint": denoiser.basis.fingerprint(),
    }
    save_tensors(path, tensors, facts)


@isolated
def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a model.

    Args:
        path: a safetensors file.

    Raises:
        ValueError: if the file is missing, damaged or of another format, has weights that are not
            finite, or was made with a basis that this version builds differently.
    """
    file = user_path(path)
    tensors, facts = load_tensors(file)
    try:
        model = ModelConfig.model_validate(facts["model"])
        preprocess = Preprocess.model_validate(facts["preprocess"])
        shape, images = read_shape(facts), read_images(facts)
        grouping = take_grouping(tensors, facts)
        mean, std = take_statistics(tensors, shape, grouping)
        axes = take_axes(tensors, grouping, std)
        weights = network_weights(tensors)
        check_basis(model.basis.options())
        with no_larger_than(weights, model.network.model_dump()), own_random_state():
            denoiser = build_denoiser(model, shape, mean, std, grouping, axes)
        denoiser.network.load_state_dict(weights)
        expected, training = facts["basis_fingerprint"], facts["training"]
        if not isinstance(training, dict) or not isinstance(expected, str):
            raise ValueError("training is no mapping, or basis_fingerprint no text")
    except (
        KeyError, TypeError, IndexError, AttributeError, RuntimeError, ValueError, OverflowError,
        MemoryError,
    ) as error:  # fmt: skip
        detail = " ".join(str(error).split())[:200]
        raise ValueError(
            f"checkpoint {str(file)!r}: its parts do not fit together ({detail}); "
            "train it again or install the version that wrote it"
        ) from error
    if not all(bool(torch.isfinite(p).all()) for p in denoiser.state_dict().values()):
        raise ValueError(f"checkpoint {str(file)!r}: holds weights that are not finite")
    if denoiser.basis.fingerprint() != expected:
        raise ValueError(
            f"checkpoint {str(file)!r}: its basis {model.basis.name!r} has another fingerprint "
            "than the one built here, so elements would change meaning; install the version that "
            "wrote it"
        )
    denoiser.eval().requires_grad_(False)
    with file.open("rb") as stream:
        fingerprint = hashlib.file_digest(stream, "sha256").hexdigest()
    return Checkpoint(denoiser, shape, model, preprocess, training, images, fingerprint)


def find_checkpoint(name: str | Path) -> Path:
    """Resolve a shipped model's name, a file, a folder of one, a model in MLflow, or a hub id.

    Args:
        name: ``"scenes"`` (write ``./scenes`` for a folder of that name), a path, a name in MLflow
            as ``models:/NAME@ALIAS``, or ``user/model`` on the hub.

    Raises:
        ValueError: if nothing is found under that name.
    """
    if str(name).startswith(IN_MLFLOW):
        from gdm_repr.tracking.registry import fetch_checkpoint

        return fetch_checkpoint(str(name))
    path = user_path(name)
    if name == SHIPPED:
        return ASSETS / f"{SHIPPED}.safetensors"
    if path.is_dir():
        return path / MODEL_FILE
    if path.exists() or path.parent.exists() or path.suffix or str(name).count("/") != 1:
        return path  # a mistyped path is not worth a question to the hub
    try:
        from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise ValueError(
            f"checkpoint {str(name)!r}: no such file or folder; to fetch it as a hub id, "
            "install gdm-repr[hub]"
        ) from error
    try:
        if try_to_load_from_cache(str(name), MODEL_FILE) is None:
            # fails at once without a network, where a download tries for half a minute
            HfApi().model_info(str(name), timeout=10)
        return Path(hf_hub_download(str(name), MODEL_FILE))
    except Exception as error:  # the hub's client raises many kinds; all mean "not there"
        raise ValueError(
            f"checkpoint {str(name)!r}: no such file or folder, and the hub does not give it "
            f"({type(error).__name__}); check the name and the network"
        ) from error
