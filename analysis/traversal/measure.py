"""What single elements do: ``python -m gdm_repr.analysis.traversal`` (Sec. 4.4, Fig. 6).

All elements of a band are traversed, ranked and shown, so that no row is picked by hand; see
:mod:`gdm_repr.analysis.traversal.paths` for what is measured,
:mod:`gdm_repr.analysis.traversal.directions` for what they are compared with, and
:mod:`gdm_repr.analysis.traversal.atlas` for the ranking and its tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from gdm_repr.analysis.cost import DRAWN, Cost, share_left
from gdm_repr.analysis.features.extractors import Extractor
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.intervals.estimate import rounded
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.subject import Anchors, Subject
from gdm_repr.analysis.traversal.atlas import Atlas, build_atlas
from gdm_repr.analysis.traversal.directions import (
    Direction,
    Pool,
    choose_pool,
    element_directions,
    move_coefficients,
    random_directions,
    traverse,
)
from gdm_repr.analysis.traversal.options import TraversalConfig
from gdm_repr.analysis.traversal.paths import Measures, Ruler, measure_paths, typical_distance
from gdm_repr.masks import untouched_groups
from gdm_repr.progress import progress

BLOCK = 32  # anchors whose features are held at a time; "other anchors" are those of the block
PATH_FLOPS = 3000  # of what a path changes, a number of an image
PAIRED = 64  # images whose distances give the unit


@dataclass(frozen=True, eq=False)
class Traversal(Found):
    """What was measured.

    Attributes:
        pool: the elements, and the latents that they are of.
        elements: their directions, in the order of the pool.
        anchors: what was moved.
        paired: images whose distances give the unit.
        features: fingerprints of the features.
        atlases: the elements ranked, by feature; the first one's ranks are shown.
    """

    pool: Pool
    elements: Sequence[Direction]
    anchors: Anchors
    paired: int
    features: Sequence[Mapping[str, Any]]
    atlases: Mapping[str, Atlas]


def check(config: TraversalConfig, subject: Subject) -> None:
    """Refuse bands, elements and features that can't be had, and more anchors than images."""
    _pool(config, subject)
    if config.source != "samples":
        subject.rows(config.anchors, seed=config.seed)
    config.require_features(subject)


def cost(config: TraversalConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    pool = _pool(config, subject)
    done = untouched_groups(subject.model.grouping, pool.mask)
    n, E = config.anchors, len(pool.elements)
    moved = n * len(config.values)
    directions = E + config.directions
    share = share_left(subject, done)
    return Cost(
        decoded=PAIRED + n + moved * directions * share,
        batches=2 + -(-moved // config.batch_size) * directions * share,  # a direction, a batch
        featured=PAIRED + (n + moved) * (directions + E),  # the control moves elements, too
        flops=moved * (directions + E) * math.prod(subject.model.shape) * PATH_FLOPS,
        seconds=DRAWN,
    )


def measure(config: TraversalConfig, subject: Subject, journal: Journal) -> Traversal:
    """Traverse elements and random directions, and rank the elements.

    Raises:
        ValueError: for bands, elements or features that can't be had, or too few images.
    """
    pool = _pool(config, subject)
    elements = element_directions(pool)
    random = random_directions(pool, config.directions, seed=config.seed)
    kind: Literal["images", "samples"] = "samples" if config.source == "samples" else "images"
    anchors = subject.anchors(config.anchors, kind, seed=config.seed)
    extractors = config.extractors()
    paired = min(PAIRED, len(subject.store))
    scale = _scale(config, subject, journal, extractors, paired)
    ruler = Ruler(subject.model.flow, subject.model.basis, extractors, scale, config.values)
    measured = _measures(config, subject, journal, anchors, [*elements, *random], ruler)
    atlases = {
        name: build_atlas(
            name,
            {each.name: measured[each.name] for each in elements},
            {each.name: measured[f"raw {each.name}"] for each in elements},
            {each.name: measured[each.name] for each in random},
            seed=config.seed,
        )
        for name in config.features
    }
    features = [each.fingerprint() for each in extractors.values()]
    return Traversal(config, subject, pool, elements, anchors, paired, features, atlases)


def _pool(config: TraversalConfig, subject: Subject) -> Pool:
    grouping, channels = subject.model.grouping, subject.model.shape[0]
    return choose_pool(grouping, channels, band=config.band, elements=config.elements)


def _measures(
    config: TraversalConfig,
    subject: Subject,
    journal: Journal,
    anchors: Anchors,
    directions: Sequence[Direction],
    ruler: Ruler,
) -> dict[str, Measures]:
    """Measure the directions that the journal does not have, in blocks of anchors."""
    generation, size, values = subject.generation, config.batch_size, config.values
    blocks = torch.split(anchors.z, BLOCK)
    total = len(anchors.z) * len(values) * len(directions)
    parts: dict[str, list[Measures]] = {}
    with progress(total, desc="traversal") as bar:

        @lru_cache(1)  # of one block at a time, and not where all of it is measured
        def started(b: int) -> tuple[list[Tensor], Tensor]:
            return generation.generate(blocks[b], size)

        def measured(b: int, direction: Direction) -> dict[str, Measures]:
            states, origin = started(b)
            given = (generation, blocks[b], states, direction, values)
            paths = traverse(*given, batch_size=size, advance=bar.update)
            found = {"latents": measure_paths(ruler, direction, paths)}
            if not direction.name.startswith("random"):
                paths = move_coefficients(ruler.flow, origin, direction, values)
                found["raw"] = measure_paths(ruler, direction, paths)
            return {of: replace(each, map=rounded(each.map, 5)) for of, each in found.items()}

        for b, z in enumerate(blocks):
            for direction in directions:
                key = f"block {b}, direction {direction.name}"
                if key in journal:
                    bar.update(len(z) * len(values))
                found = journal.once(key, dict[str, Measures], measured, b, direction)
                for of, each in found.items():
                    name = f"raw {direction.name}" if of == "raw" else direction.name
                    parts.setdefault(name, []).append(each)
    return {name: Measures.join(each) for name, each in parts.items()}


def _scale(
    config: TraversalConfig,
    subject: Subject,
    journal: Journal,
    extractors: Mapping[str, Extractor],
    n: int,
) -> dict[str, float]:
    """Return the mean distance of two of n images of the store, as the model decodes them."""

    def scale() -> dict[str, float]:
        if n < 2:
            raise ValueError(f"--latents: {n} images; distances need at least 2")
        z = subject.z(subject.rows(n, seed=config.seed + 1))
        x = [
            subject.model.basis.inverse(subject.generation.decode(part))
            for part in torch.split(z, config.batch_size)
        ]
        return {name: typical_distance(each, x) for name, each in extractors.items()}

    return journal.once("scale", dict[str, float], scale)
