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
    given = config.model_dump(exclude={"config", "dry_run", "overwrite"}, exclude_defaults=True)
    first = [key for key in ("checkpoint", "latents", "data", "out") if key in given]
    words = []
    for key in dict.fromkeys([*first, *given]):
        value, name = given[key], key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
            continue
        listed = ",".join(map(str, value)) if isinstance(value, tuple) else value
        words += [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(listed)]
    return words


def made_by() -> str:
    """Say which versions and commit make the numbers."""
    from gdm_repr.tracking.facts import git_state, versions

    parts = [f"{key.removeprefix('version.')} {value}" for key, value in versions().items()]
    state = git_state()
    if state["git.commit"]:
        dirty = ", changed since" if state["git.dirty"] == "true" else ""
        parts.append(f"commit {state['git.commit'][:12]}{dirty}")
    return "Made by " + ", ".join(parts)
