"""Which elements matter: from a traversal's atlas, or else by a short trial."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from gdm_repr.files import parse_json, read_text
from gdm_repr.masks import element_mask

if TYPE_CHECKING:
    from gdm_repr.api import GDM

ATLAS, FACTORS = "traversal", "element_factors"  # analyses
IMAGES = 6  # of the trial
MOST_ELEMENTS = 64  # that it tries
SHIFT = 1.5  # stds
LEVEL = 0.95
NULL = "random direction"


def read_atlas(reports: Path | None, fingerprint: str) -> dict[str, Any] | None:
    """Return the elements of a traversal of a model, by effect; None where there is none.

    Args:
        reports: folder of analyses, one a folder.
        fingerprint: of the model's checkpoint.

    Raises:
        ValueError: if a file of it is damaged.
    """
    from gdm_repr.analysis.journal import JOURNAL, read_head

    if reports is None:
        return None
    folder = reports / ATLAS
    if not (path := folder / "result.json").is_file():
        return None
    if read_head(folder / JOURNAL).get("of", {}).get("checkpoint") != fingerprint:
        return None
    found = parse_json(read_text(path, "report"), f"report {str(path)!r}", constants=True)
    table = found["tables"]["atlas"]
    first = table["feature"][0]
    factors = _factors(reports / FACTORS / "tables" / "elements.csv")
    elements = [
        {
            "element": str(table["element"][i]),
            "effect": table["effect"][i],
            "low": table["effect low"][i],
            "high": table["effect high"][i],
            "factors": factors.get(str(table["element"][i]), []),
        }
        for i in range(len(table["element"]))
        if table["feature"][i] == first
    ]
    random = found["tables"]["random"]
    null = [e for e, f in zip(random["effect"], random["feature"], strict=True) if f == first]
    return {
        "source": "atlas",
        "unit": f"of the way to another image in {first}, a std",
        "null": float(np.mean(null)) if null else None,
        "elements": elements,
    }


def _factors(path: Path) -> dict[str, list[str]]:
    """Return the factors that elements move, by element, as element_factors found them."""
    if not path.is_file():
        return {}
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            moved = row.get("all it moves", "")
            for factor in filter(None, (each.strip() for each in moved.split(","))):
                element = row["element"].partition(":")[0]
                if factor not in (known := found.setdefault(element, [])):
                    known.append(factor)
    return found


def trial_elements(model: GDM) -> list[str]:
    """Return the elements that a trial tries: the first of the first group."""
    index = model.grouping.index
    first = np.flatnonzero((index == model.grouping.order[0]).any(axis=0))
    return [str(element) for element in first[:MOST_ELEMENTS]]


def trial_latents(model: GDM, elements: Sequence[str]) -> Tensor:
    """Return latents of images as drawn, with each element shifted, and along random directions.

    Returns:
        (IMAGES * (elements + 2), C, d): for each image the unchanged, the elements, a direction.
    """
    z = model.noise(IMAGES, seed=0).cpu()
    masks = [element_mask(each, model.shape[0], model.grouping.d) for each in elements]
    group = np.any([*masks], axis=0)
    shifts = [torch.zeros(z.shape[1:])]
    shifts += [torch.from_numpy(SHIFT * mask.astype(np.float32)) for mask in masks]
    found = []
    for i, one in enumerate(z):
        draw = torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(i))
        draw = torch.where(torch.from_numpy(group), draw, torch.zeros(()))
        # as long as a shift of one element in all channels
        length = SHIFT * math.sqrt(masks[0].sum())
        found += [one + shift for shift in [*shifts, length * draw / draw.norm()]]
    return torch.stack(found)


def trial_effects(x: Tensor, elements: Sequence[str]) -> dict[str, Any]:
    """Return effects of what :func:`trial_latents` gave, decoded (N, C, H, W).

    An effect is the RMS change of pixels a std; its interval is Student's t over the images.
    """
    parts = x.reshape(IMAGES, len(elements) + 2, -1)
    change = (parts[:, 1:] - parts[:, :1]).square().mean(2).sqrt().double().numpy() / SHIFT
    mean = change.mean(0)
    half = stats.t.ppf((1 + LEVEL) / 2, IMAGES - 1) * change.std(0, ddof=1) / math.sqrt(IMAGES)
    rows = [
        {
            "element": name,
            "effect": float(mean[i]),
            "low": float(max(0, mean[i] - half[i])),
            "high": float(mean[i] + half[i]),
            "factors": [],
        }
        for i, name in enumerate(elements)
    ]
    return {
        "source": f"a trial on {IMAGES} samples",
        "unit": "RMS change of pixels a std",
        "null": float(mean[-1]),
        "elements": sorted(rows, key=lambda row: -row["effect"]),
    }
