"""Band variance with shared groups beside the plain way, in one run.

    python benchmarks/analysis.py runs/digits

Latents that differ only in late groups share the generation of early ones (strict models). For
every anchor the variances of all cuts are measured both ways, one after the other, in pixels:

    groups     groups integrated, one for each image, and the saving: plain over shared
    seconds    median over anchors, and plain over shared
    difference largest relative difference of the two ways' variances
    memory     peak of the process with these draws, and with eight times as many

The model's images are drawn from it, so that no data are needed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time

import numpy as np

from gdm_repr import GDM
from gdm_repr.analysis.band_variance.variance import anchor_variances
from gdm_repr.analysis.features.extractors import build_extractor
from gdm_repr.analysis.intervals.curves import cut_grid
from gdm_repr.config import DEFAULT_STEPS
from gdm_repr.generation import Generation
from gdm_repr.masks import first_elements


def measure(name: str, options: argparse.Namespace) -> None:
    """Measure one model and print its lines."""
    model = GDM.from_pretrained(name, device=options.device)
    if not model.checkpoint.model.denoiser.strict:
        print(f"{name}: not strict, so that nothing can be shared")
        return
    grouping = model.grouping
    plan = model.plan(options.steps)
    ways = {
        "shared": Generation(model.flow, plan, strict=True),
        "plain": Generation(model.flow, plan, strict=False),
    }
    kept = [first_elements(grouping, m) for m in cut_grid(grouping.index.size, options.cuts)]
    phi = [build_extractor("pixels", device=model.device)]

    def variances(way: str, anchor: int, draws: int) -> list[list[float]]:
        z = model.noise(1, seed=anchor)
        return anchor_variances(
            ways[way], model.basis, phi, z, kept,
            anchor=anchor, draws=draws, seed=0, batch_size=options.batch_size,
        )  # fmt: skip

    variances("shared", 0, 2)  # warm up
    ways["shared"].groups = 0
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    difference = 0.0
    for anchor in range(options.anchors):
        found = {}
        # By turns first, so that a machine that slows down does so for both.
        for way in sorted(ways, reverse=bool(anchor % 2)):
            started = time.perf_counter()
            found[way] = np.array(variances(way, anchor, options.draws)[0])
            seconds[way].append(time.perf_counter() - started)
        scale = found["plain"].max()
        difference = max(difference, float(abs(found["shared"] - found["plain"]).max() / scale))
    shared, plain = (ways[way].groups for way in ("shared", "plain"))
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    ratios = [p / s for p, s in zip(seconds["plain"], seconds["shared"], strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"{name}: {len(kept)} cuts, {options.anchors} anchors, {options.draws} draws")
    print(f"  groups      shared {shared}, plain {plain}: saving {plain / shared:.2f}")
    print(
        f"  seconds     shared {medians['shared']:.2f}, plain {medians['plain']:.2f} an anchor: "
        f"saving {statistics.median(ratios):.2f} (anchors: {low:.2f} to {high:.2f})"
    )
    print(f"  difference  {difference:.1e} of the free variance")
    before = _peak()
    variances("shared", 0, 8 * options.draws)
    print(f"  memory      {before:.0f} MiB; with {8 * options.draws} draws {_peak():.0f} MiB")


def _peak() -> float:
    """Return the process's peak memory in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    """Measure the models given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["scenes"])
    parser.add_argument("--anchors", type=int, default=16)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a few anchors, draws and steps")
    options = parser.parse_args()
    if options.quick:
        options.anchors, options.draws, options.steps = 2, 16, 12
    for name in options.models:
        measure(name, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
