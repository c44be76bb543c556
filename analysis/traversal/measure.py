"""What single elements do: ``python -m gdm_repr.analysis.traversal`` (Sec. 4.4, Fig. 6).

All elements of a band are traversed, ranked and shown, so that no row is picked by hand; see
:mod:`gdm_repr.analysis.traversal.paths` for what is measured,
:mod:`gdm_repr.analysis.traversal.directions` for what they are compared with, and
:mod:`gdm_repr.analysis.traversal.atlas` for the ranking and its tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gdm_repr.analysis.traversal.options import TraversalConfig

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import Extractor
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.subject import Anchors, Subject
    from gdm_repr.analysis.traversal.directions import Direction
    from gdm_repr.analysis.traversal.paths import Measures

BLOCK = 32  # anchors whose features are held at a time; "other anchors" are those of the block
PAIRED = 64  # images whose distances give the unit


def check(config: TraversalConfig, subject: Subject) -> None:
    """Refuse bands, elements and features that can't be had, and more anchors than images."""
    from gdm_repr.analysis.traversal.directions import choose_pool

    grouping, channels = subject.model.grouping, subject.model.shape[0]
    choose_pool(grouping, channels, band=config.band, elements=config.elements)
    if config.source != "samples":
        subject.rows(config.anchors, seed=config.seed)
    config.require_features(subject)


def _measure(
    config: TraversalConfig,
    subject: Subject,
    journal: Journal,
    anchors: Anchors,
    directions: Sequence[Direction],
    extractors: Mapping[str, Extractor],
) -> dict[str, Measures]:
    """Measure the directions that the journal does not have, in blocks of anchors."""
    import torch
    from tqdm import tqdm

    from gdm_repr.analysis.traversal.directions import move_coefficients, traverse
    from gdm_repr.analysis.traversal.paths import Measures, Ruler, measure

    generation, flow, size = subject.generation, subject.model.flow, config.batch_size
    scale = _scale(config, subject, journal, extractors)
    ruler = Ruler(flow, subject.model.basis, extractors, scale, config.values)
    blocks = torch.split(anchors.z, BLOCK)
    keys = [
        [f"block {b}, direction {each.name}" for each in directions] for b in range(len(blocks))
    ]
    work = [len(z) * len(config.values) for z in blocks]
    finished = sum(
        n * sum(key in journal for key in own) for n, own in zip(work, keys, strict=True)
    )
    with tqdm(
        total=sum(work) * len(directions), initial=finished, unit="img", desc="traversal"
    ) as bar:
        for z, own in zip(blocks, keys, strict=True):
            if all(key in journal for key in own):
                continue
            parts = [generation.states(part) for part in torch.split(z, size)]
            states = [torch.cat(state) for state in zip(*parts, strict=True)]
            done = len(states) - 1
            pairs = zip(torch.split(states[-1], size), torch.split(z, size), strict=True)
            origin = torch.cat([generation.finish(state, part, done) for state, part in pairs])
            for direction, key in zip(directions, own, strict=True):
                if key in journal:
                    continue
                paths = traverse(
                    generation,
                    z,
                    states,
                    direction,
                    config.values,
                    batch_size=size,
                    advance=bar.update,
                )
                found = {"latents": measure(ruler, direction, paths).plain()}
                if not direction.name.startswith("random"):
                    moved = move_coefficients(flow, origin, direction, config.values)
                    found["raw"] = measure(ruler, direction, moved).plain()
                journal.add(key, found)
    measured = {}
    for i, direction in enumerate(directions):
        entries = [journal[own[i]] for own in keys]
        measured[direction.name] = Measures.join([entry["latents"] for entry in entries])
        if "raw" in entries[0]:
            measured[f"raw {direction.name}"] = Measures.join([entry["raw"] for entry in entries])
    return measured


def _scale(
    config: TraversalConfig,
    subject: Subject,
    journal: Journal,
    extractors: Mapping[str, Extractor],
) -> dict[str, float]:
    """Return the mean distance of two images of the store, as the model decodes them."""
    import torch

    from gdm_repr.analysis.traversal.paths import typical_distance

    if "scale" not in journal:
        n = min(PAIRED, len(subject.store))
        if n < 2:
            raise ValueError(f"--latents: {n} images; distances need at least 2")
        z = subject.z(subject.rows(n, seed=config.seed + 1))
        x = [
            subject.model.basis.inverse(subject.generation.decode(part))
            for part in torch.split(z, config.batch_size)
        ]
        scale = {name: typical_distance(each, x) for name, each in extractors.items()}
        journal.add("scale", scale)
    found: dict[str, float] = journal["scale"]
    return found
