"""What single elements do: ``python -m gdm_repr.analysis.traversal`` (Sec. 4.4, Fig. 6).

All elements of a band are traversed, ranked and shown, so that no row is picked by hand; see
:mod:`gdm_repr.analysis.traversal.paths` for what is measured,
:mod:`gdm_repr.analysis.traversal.directions` for what they are compared with, and
:mod:`gdm_repr.analysis.traversal.atlas` for the ranking and its tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from gdm_repr.analysis.options import FeatureConfig, Needs
from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.config import MANY
from gdm_repr.edit.options import Numbers, Words

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import Extractor
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.subject import Anchors, Subject
    from gdm_repr.analysis.traversal.directions import Direction
    from gdm_repr.analysis.traversal.paths import Measures

BLOCK = 32  # anchors whose features are held at a time; "other anchors" are those of the block
LEAST = 6  # anchors: of fewer, no p of Wilcoxon's test is below .02
PAIRED = 64  # images whose distances give the unit


class TraversalConfig(FeatureConfig):
    """Traverse single elements of a band and rank them by what they do to images (Fig. 6).

    An element is set to values over a range, on encoded images or samples, and the path that the
    image takes is measured. It is compared with random directions of the same band, and with the
    same moves of the images' own coefficients. A run that was stopped goes on when it is started
    again.

    Example:
      python -m gdm_repr.analysis.traversal --checkpoint runs/digits --latents runs/digits/latents --features pixels --out runs/digits/traversal
      python -m gdm_repr.analysis.traversal --checkpoint runs/faces --latents runs/faces/latents --elements 0-9 --values -3:3:9 --out runs/faces/traversal
    """  # noqa: E501

    band: str | None = Field(
        None,
        description="By name, number or indices 0-29; + joins several. The band of --elements, or "
        "the first one generated, by default.",
    )
    elements: Words = Field(
        (),
        description="Index in all channels, 7, or in one, 7:1, or 0-5; all of the band by default.",
    )
    anchors: int = Field(
        16, ge=LEAST, le=MANY, description="Images that the effects are measured on."
    )
    source: Literal["both", "images", "samples"] = Field(
        "both",
        description="Anchors: encoded images, or latents drawn from N(0, I). Both: sheets of both, "
        "effects on images.",
    )
    values: Numbers = Field(
        (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
        min_length=3,
        description="In units of the latents' std, rising: -3:3:7 (7 steps), or -2,0,2.",
    )
    directions: int = Field(12, ge=2, le=MANY, description="Random directions to compare with.")

    def needs(self) -> Needs:
        """Six anchors are needed for a test, two images for the unit."""
        if self.source == "samples":
            return Needs(2, "the unit is the distance of two images")
        return Needs(LEAST, f"a test of effects over images takes {LEAST}")

    def most(self) -> Mapping[str, tuple[int, int]]:
        """Anchors are images of the store, unless samples."""
        return {} if self.source == "samples" else {"--anchors": (self.anchors, 0)}

    @field_validator("values")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise(values)):
            raise ValueError("values must rise, such as -3:3:7")
        return values


def check(config: TraversalConfig, subject: Subject) -> None:
    """Refuse bands, elements and features that can't be had, and more anchors than images."""
    from gdm_repr.analysis.traversal.directions import choose_pool

    grouping, channels = subject.model.grouping, subject.model.shape[0]
    choose_pool(grouping, channels, band=config.band, elements=config.elements)
    if config.source != "samples":
        subject.rows(config.anchors, seed=config.seed)
    config.require_features(subject)


def analyse(config: TraversalConfig, subject: Subject, journal: Journal) -> Report:
    """Measure, and write down what was found.

    Raises:
        ValueError: for bands, elements or features that can't be had, or too few images.
    """
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.traversal import report as parts
    from gdm_repr.analysis.traversal.atlas import build_atlas
    from gdm_repr.analysis.traversal.directions import (
        choose_pool,
        element_directions,
        random_directions,
    )

    pool = choose_pool(
        subject.model.grouping, subject.model.shape[0], band=config.band, elements=config.elements
    )
    elements = element_directions(pool)
    random = random_directions(pool, config.directions, seed=config.seed)
    kind: Literal["images", "samples"] = "samples" if config.source == "samples" else "images"
    anchors = subject.anchors(config.anchors, kind, seed=config.seed)
    extractors = config.extractors()
    measured = _measure(config, subject, journal, anchors, [*elements, *random], extractors)
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
    main = atlases[config.features[0]]
    by_name = {each.name: each for each in elements}
    ranked = [by_name[entry.name] for entry in main.entries]
    who = "encoded images" if kind == "images" else "samples"
    return Report(
        title="Traversals",
        question="What does each single element do, and is it more than any other direction does?",
        answer=parts.answer(main, pool, subject, who),
        pictures=parts.pictures(config, subject, main, pool, ranked, anchors, who),
        tables=parts.tables(atlases, subject.model.grouping),
        method={
            "anchors": f"{config.anchors} {who}, chosen at random",
            "elements": pool.count,
            "places": list(config.values),
            "random directions": f"{config.directions}, from random orthonormal bases of the band",
            "unit": f"mean distance of two of {min(PAIRED, len(subject.store))} decoded images",
            "seed": config.seed,
            "features": [each.fingerprint() for each in extractors.values()],
        },
        controls=[
            "Random directions of the same band, traversed at the same pace: what any direction "
            "does. Each takes an element's test, too.",
            "The same moves, in stds, of the images' own coefficients, without the model.",
        ],
        limits=[
            "One element is not one attribute: a number says how much changes and how steadily, "
            "not what, nor that nothing else does. Look at the sheets.",
            "An element may pass the test as any fixed direction may that does more than average; "
            "only beside the random directions that pass does it say something of elements.",
            "Values beyond 2 are rare among latents of images; straightness, monotonicity and "
            "drift are over the whole range.",
            "Intervals and tests are over images; they leave out another training seed.",
        ],
        metrics=[(0, parts.metrics(main))],
    )


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


ANALYSIS = Analysis("traversal", TraversalConfig, analyse, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse traversal``."""
    return run_analysis(ANALYSIS, argv)
