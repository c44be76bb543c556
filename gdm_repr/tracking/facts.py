"""What a run was made of: its configuration as MLflow params, its code, its packages.

Also the keys of metrics, in one place, so that runs can be compared.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gdm_repr.boundary.names import MAX_KEY, Key, metric_key
from gdm_repr.boundary.text import printable
from gdm_repr.tracking.keys import MAX_PARAM

CHANGED = "param_changed."  # begins the tag of a param that has another value than at first
_PACKAGES = ("gdm-repr", "torch", "numpy", "mlflow")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn a nested configuration into MLflow params.

    >>> flatten({"model": {"width": 64, "bands": [30, 100]}, "data": "digits"})
    {'model.width': '64', 'model.bands': '[30, 100]', 'data': 'digits'}
    """
    flat: dict[str, str] = {}
    for place, value in _leaves(config, ()):
        key = metric_key(prefix + ".".join(place), MAX_KEY - len(CHANGED))
        if key in flat:  # a name with a dot in it, beside names in names
            key = metric_key(f"{prefix}{json.dumps(place)}", MAX_KEY - len(CHANGED))
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        flat[key] = printable(text, lines=True)[:MAX_PARAM]
    return flat


def _leaves(
    config: Mapping[str, Any], place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*place, str(name)))
        else:
            yield (*place, str(name)), value


def changed_tag(param: str) -> Key:
    """Return the key of the tag that says a param's present value."""
    return Key(f"{CHANGED}{param}")


def recorded_params(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Params as last recorded: the first value of each, or the tag that says it changed."""
    params: dict[str, str] = {}
    for event in events:
        if event["event"] == "params":
            params |= event["values"]
        elif event["event"] == "tags":
            for key, value in event["values"].items():
                if key.startswith(CHANGED):
                    params[key.removeprefix(CHANGED)] = value
    return params


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that make the numbers, as tags."""
    return {"version.python": platform.python_version()} | {
        f"version.{name}": _version(name) for name in _PACKAGES
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def git_state() -> dict[str, str]:
    """Commit of our code and whether it was changed since; empty where git does not hold it."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(Path(__file__).parent), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed copy may lie inside some other project's repository, whose commit says nothing.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {"git.commit": "", "git.dirty": ""}
    dirty = git("status", "--porcelain", "--untracked-files=no")
    return {"git.commit": git("rev-parse", "HEAD") or "", "git.dirty": str(bool(dirty)).lower()}
