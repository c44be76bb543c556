"""What decides that two runs are the same choice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gdm_repr.analysis.identity import identity
from gdm_repr.analysis.options import AnalysisConfig
from gdm_repr.config import EncodeConfig, TrainConfig
from gdm_repr.identity import Mark, counted

Options = dict[str, Any]
IN_PACKAGE = ("digits", "photos", "scenes")  # data without a path


METHOD = 2  # raised when the same options come to measure something else


def model_fingerprint(config: TrainConfig, data: str) -> str:
    """Return a digest of what a model is made of: its options, and its data's fingerprint."""
    options = _counted(config)
    if config.start_from is not None:
        options["start_from"] = _file_digest(config.start_from)
    some = config.first or config.limit
    return _digest({**options, **_data_identity(config.data, config.labels, some, data)})


def _counted(config: TrainConfig | EncodeConfig) -> Options:
    """Return the options that count.

    Which items a number of them are, the data's fingerprint says; so studies that were made when
    a limit took the first items are found again by ``first``.
    """
    return {**counted(config, Mark.CONTENT), "limit": config.first or config.limit}


def _file_digest(checkpoint: str) -> str:
    from gdm_repr.checkpoint import find_checkpoint, load_checkpoint

    return load_checkpoint(find_checkpoint(checkpoint)).fingerprint


def choice_fingerprint(
    model: str, encode: EncodeConfig, analyses: Iterable[tuple[str, AnalysisConfig]], data: str
) -> str:
    """Return a digest of a choice: its model's, and the options and data it is scored with."""
    return _digest(
        {
            "method": METHOD,
            "model": model,
            "data": data,
            "encode": {
                **_counted(encode),
                **_data_identity(encode.data, encode.labels, None, data),
            },
            "analyses": {name: identity(options) for name, options in analyses},
        }
    )


def _data_identity(
    data: str | None, labels: Path | None, limit: int | None, fingerprint: str
) -> dict[str, str | None]:
    """Return what stands for data in a digest: its fingerprint, which no path enters.

    A built-in set without files has always been known by its name, which says as much.
    """
    named = data in IN_PACKAGE or str(data).startswith("scenes:")
    known = named and labels is None and limit is None
    return {"data": data if known else fingerprint, "labels": None}


def study_fingerprint(choices: Iterable[str]) -> str:
    """Return a digest of a study: of its choices' fingerprints, in any order."""
    return _digest({"choices": sorted(choices)})


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
