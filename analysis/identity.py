"""What makes an analysis's results: its options by content, files by their digests, not by paths.

Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.identity import free

if TYPE_CHECKING:
    from pydantic import BaseModel

    from gdm_repr.latents.format import Manifest

# Free, but always in what is compared: what is fetched is what is there, and no journal says so.
FETCHED = {"download": False}


def identity(options: BaseModel) -> dict[str, Any]:
    """Return the options that decide a result, plain; those that name files by their content."""
    found = spelled(options)
    for key, digest in BY_CONTENT.items():
        if value := getattr(options, key, None):
            found[key] = digest(value)
    return {**found, **{key: value for key, value in FETCHED.items() if key in found}}


def spelled(options: BaseModel) -> dict[str, Any]:
    """Return the same with files by their paths, as they were compared once."""
    return options.model_dump(mode="json", exclude=free(options) - {*FETCHED})


def names(options: BaseModel) -> dict[str, str]:
    """Return what the user calls the options that are known by content."""
    given = {key: getattr(options, key, None) for key in ("latents", *BY_CONTENT)}
    return {
        key: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in given.items()
        if value
    }


def store_names(manifest: Manifest) -> dict[str, str | None]:
    """Return what the user calls the model and the data of a latent store, where it is known."""
    settings = manifest.settings
    return {"checkpoint": settings.get("checkpoint"), "data": settings.get("source")}


def store_digest(fingerprint: Mapping[str, str]) -> str:
    """Return the digest of everything that made some latents."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def _file(path: Path) -> str:
    """Return a file's digest; its path where it is not there, which is told when it is read."""
    if not path.is_file():
        return str(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _latents(path: Path) -> str:
    """Return the digest of a latent store, or of a file of codes and the ids beside it."""
    if path.is_dir():
        from gdm_repr.latents.format import read_manifest

        return store_digest(read_manifest(path).fingerprint)
    ids = path.with_suffix(".txt")
    beside = [_file(ids)] if path.suffix == ".npy" and ids.is_file() else []
    return " ".join([_file(path), *beside])


def _baselines(given: Path | tuple[str, ...]) -> str | list[str]:
    from gdm_repr.analysis.columns.baselines import named_paths

    if isinstance(given, Path):
        return _latents(given)
    return [f"{name}={_latents(path)}" for name, path in named_paths(given)]


def _ids(path: Path) -> str:
    from gdm_repr.latents.ids import ids_digest

    return ids_digest(path)


BY_CONTENT: dict[str, Callable[[Any], object]] = {
    "weights": _file,
    "baseline": _baselines,
    "ids": _ids,
}
"""Options that name files, with what makes a digest of each."""
