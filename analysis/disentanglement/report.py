"""The report of disentanglement: the answer, tables of scores, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gdm_repr.analysis.columns.names import LATENTS, RAW
from gdm_repr.analysis.disentanglement.estimate import LatentScore
from gdm_repr.analysis.disentanglement.figures import draw_scores
from gdm_repr.analysis.disentanglement.measure import ALL, Disentanglement
from gdm_repr.analysis.disentanglement.options import LEAST
from gdm_repr.analysis.intervals.estimate import in_twos, number, with_ends
from gdm_repr.analysis.report.page import Picture, Report, Table
from gdm_repr.boundary.names import key_part, metric_key
from gdm_repr.tracking.keys import DISENTANGLEMENT


def report(found: Disentanglement) -> Report:
    """Write down what was found."""
    config, scores = found.config, found.scores
    table = [
        {"of": of, "band": band} | _row(score)
        for (of, band), each in scores.items()
        for score in each
    ]
    return Report(
        title="Disentanglement",
        question="How well do the latents separate the known factors?",
        answer=_answer(scores, found.factors),
        pictures=[
            Picture(
                "scores",
                "Scores with 95 % intervals over images, latents beside the images' own "
                "coefficients of the same band and other models, if any; gray: 95 % of what "
                "unrelated factors give.",
                draw_scores(scores),
            )
        ]
        if table
        else [],
        tables=[
            Table.of_rows(
                "scores",
                "Scores with 95 % intervals; the null (mean, 95 %, p); drift is the change from "
                "n/2 to n images; code length is the number of latents. From 19 permutations on, "
                "the interval lies above the null's mean exactly where p is .05 or less.",
                table,
            )
        ]
        if table
        else [],
        method={
            "images": found.n,
            "factors": list(found.factors) or "none",
            "labels left out": found.left_out or "none",
            "permutations": config.permutations,
            "half-samples": config.resamples,
            "seed": config.seed,
        },
        controls=[
            "The images' own coefficients at the same elements.",
            "Other models of the same images (--baseline); codes have no bands, and a length of "
            "their own.",
            "The same scores after the factors were permuted over the images.",
        ],
        limits=[
            "DCI and MIG depend on the number of latents: compare scores of one code length only.",
            "A score says how factors lie in latents, not whether a band generates them.",
        ],
        metrics=[(0, _metrics(scores))],
    )


def _answer(
    found: Mapping[tuple[str, str], Sequence[LatentScore]], names: Sequence[str]
) -> list[str]:
    """Say the scores of every band, with the control's and the null's beside."""
    if not found:
        return [
            f"Nothing could be scored: it takes {LEAST} images, and most scores take labels that "
            "are factors."
        ]
    bands = [band for of, band in found if of == LATENTS]
    others = {(of, band, s.name): s for (of, band), each in found.items() for s in each}
    sources = [of for of in dict.fromkeys(of for of, _ in found) if of != LATENTS]
    kinds = list(dict.fromkeys(s.name for band in bands for s in found[LATENTS, band]))
    lines = []
    for kind in kinds:
        by_band = {b: s for b in bands for s in found[LATENTS, b] if s.name == kind}
        band, best = max(by_band.items(), key=lambda item: item[1].value)
        beside = [
            f"of {of} it is {number(other.value, 2)}"
            for of in sources  # codes have no bands
            if (other := others.get((of, band, kind)) or others.get((of, ALL, kind)))
        ]
        where = f"is largest in {band}" if len(by_band) > 1 else f"of {band}"
        lines.append(
            f"Score {kind} {where}: {best.estimate}. Unrelated factors give up to "
            f"{number(best.null_high, 2)} there. {in_twos(beside)}".rstrip()
        )
    n = found[LATENTS, bands[0]][0].n
    known = f"The factors are {', '.join(names[:12])}." if names else "No factors are known."
    return [
        *lines,
        *["The table has the other bands."] * (len(bands) > 1),
        f"n = {n} images, 95 % intervals. {known}",
    ]


def _row(score: LatentScore) -> dict[str, object]:
    return {
        "score": score.name,
        **with_ends("value", score.estimate),
        "null mean": score.null_mean,
        "null 95 %": score.null_high,
        "p": score.p,
        "drift": score.drift,
        "code length": score.code_length,
        "n": score.n,
        "complete": score.complete,
        "best": score.best,
    }


def _metrics(found: Mapping[tuple[str, str], Sequence[LatentScore]]) -> dict[str, float]:
    metrics: dict[str, Any] = {}
    for (of, band), scores in found.items():
        kind = DISENTANGLEMENT + ("" if of == LATENTS else "_control")
        if of not in (LATENTS, RAW):
            kind += f"/{key_part(of)}"
        for score in scores:
            metrics[metric_key(f"{kind}/{score.name}/{band}")] = score.value
    return metrics
