"""By which command, versions and commit a page was made."""

from __future__ import annotations

import json
import shlex

from pydantic import BaseModel


def command_line(name: str, config: BaseModel) -> str:
    """Return the command that has these options.

    >>> from gdm_repr.analysis.options import AnalysisConfig
    >>> config = AnalysisConfig(checkpoint="a b", latents="z", out="o", seed=3, track=False)
    >>> command_line("leakage", config)
    "gdm-repr analyse leakage --checkpoint 'a b' --latents z --out o --no-track --seed 3"
    """
    return shlex.join(["gdm-repr", "analyse", name, *flags(config)])


def flags(config: BaseModel) -> list[str]:
    """Return the flags that give these options, those of a default left out."""
    given: dict[str, list[str]] = {}
    for key, spec in type(config).model_fields.items():
        value = getattr(config, key)
        if key in {"config", "dry_run", "overwrite"} or value == spec.default:
            continue
        name = key.replace("_", "-")
        if isinstance(value, bool):
            given[f"--{name}" if value else f"--no-{name}"] = []
        elif isinstance(value, tuple):
            given[f"--{name}"] = [",".join(map(str, value))]
        else:
            given[f"--{name}"] = [json.dumps(value) if isinstance(value, dict) else str(value)]
    first = [flag for flag in ("--checkpoint", "--latents", "--data", "--out") if flag in given]
    order = [*first, *(flag for flag in given if flag not in first)]
    return [word for flag in order for word in (flag, *given[flag])]


def made_by() -> str:
    """Say which versions and commit make the numbers."""
    from gdm_repr.tracking.facts import git_state, versions

    parts = [f"{key.removeprefix('version.')} {value}" for key, value in versions().items()]
    state = git_state()
    if state["git.commit"]:
        dirty = ", changed since" if state["git.dirty"] == "true" else ""
        parts.append(f"commit {state['git.commit'][:12]}{dirty}")
    return "Made by " + ", ".join(parts)
