"""Published weights: where a file lies, whether it is the right one, and into the network.

Files are read without unpickling objects: ``.safetensors``, or ``torch.load(weights_only=True)``.
Many published names end in the first digits of the file's SHA-256, as in ``vgg19-dcbb9e9d.pth``;
a file whose name makes such a promise must keep it. Nothing is fetched unless asked for.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gdm_repr.files import user_path

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Published:
    """Where weights are published, and where they are looked for.

    Attributes:
        file: name of the file.
        source: its URL, or the package that holds it.
        folder: where the file is looked for.
    """

    file: str
    source: str
    folder: Path

    @classmethod
    def at(cls, url: str, file: str = "") -> Published:
        """Describe a file by URL; it is looked for in the torch hub cache ($TORCH_HOME)."""
        return cls(file or url.rsplit("/", 1)[-1], url, Path(torch.hub.get_dir()) / "checkpoints")


@dataclass(frozen=True)
class Weights:
    """A file of weights, for the record.

    Attributes:
        path: the file.
        sha256: of the whole file, in hex.
        published: whether the hash is the published file's, as far as its name tells.
    """

    path: Path
    sha256: str
    published: bool


class MissingWeights(ValueError):
    """Published weights are not where they are looked for."""

    def __init__(self, published: Published) -> None:
        """Say which, and where they come from."""
        self.published = published
        super().__init__(
            f"weights: {published.file} is not in {published.folder}; fetch it from "
            f"{published.source} and put it there, or name a copy by weights=FILE"
        )


def find_weights(published: Published, file: Path | None, *, download: bool = False) -> Weights:
    """Find and check the file of weights.

    Args:
        published: the file looked for when ``file`` is None.
        file: own file of weights.
        download: whether to fetch a missing published file into its folder.

    Raises:
        MissingWeights: if there is no published file.
        ValueError: if there is no file of one's own, or a hash is not the one its name ends in.
    """
    path = published.folder / published.file if file is None else user_path(file)
    if file is None and download and not path.is_file():
        _download(published)
    if not path.is_file():
        if file is not None:
            raise ValueError(f"weights={str(file)!r}: no such file; check the path")
        raise MissingWeights(published)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    promised = _promised_sha256(path.name)
    if not sha256.startswith(promised):
        raise ValueError(
            f"weights={str(path)!r}: its SHA-256 starts with {sha256[: len(promised)]}, not with "
            f"{promised} as its name says; the file is damaged or not the published one: fetch it "
            "again, or rename it if it is your own"
        )
    known = _promised_sha256(published.file)
    return Weights(path, sha256, bool(known) and sha256.startswith(known))


def load_weights(network: nn.Module, state: StateDict, path: Path) -> None:
    """Put a state dict that was read from ``path`` into a network.

    Raises:
        ValueError: if names or shapes differ from the network's.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        own = network.state_dict()
        found = {
            "missing": own.keys() - state.keys(),
            "unknown": state.keys() - own.keys(),
            "of another shape": {
                key for key in own.keys() & state.keys() if own[key].shape != state[key].shape
            },
        }
        counts = "; ".join(
            f"{len(keys)} {what}, as {min(keys)}" for what, keys in found.items() if keys
        )
        raise ValueError(
            f"weights={str(path)!r}: not this network's: {counts}; use weights of "
            f"{type(network).__name__} in this size"
        ) from error


def read_state(path: Path) -> StateDict:
    """Read a state dict from a ``.safetensors`` file or one of torch.save.

    Raises:
        ValueError: if the file is damaged or holds anything but tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"weights={str(path)!r}: no readable file of tensors "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "save a state dict by safetensors or torch.save"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"weights={str(path)!r}: holds more than tensors by name; save model.state_dict() alone"
        )
    return state


def _promised_sha256(name: str) -> str:
    """Return the hex digits a published name ends in, or nothing."""
    match = re.search(r"-([0-9a-f]{8,64})\.(pth|pt|safetensors)$", name)
    return match[1] if match else ""


def _download(published: Published) -> None:
    if "://" not in published.source:
        return  # it ships in a package; the message that follows says which
    published.folder.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(
        published.source,
        str(published.folder / published.file),
        hash_prefix=_promised_sha256(published.file) or None,
    )
