"""The page of leakage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gdm_repr.analysis.intervals.estimate import number, with_ends
from gdm_repr.analysis.leakage.figures import draw_dependence, draw_leakage
from gdm_repr.analysis.leakage.matrix import WAYS, LeakageMatrix
from gdm_repr.analysis.leakage.measure import ORACLE_ELEMENTS, ORACLE_IMAGES, Leakage
from gdm_repr.analysis.leakage.noise_dependence import NoiseDependence
from gdm_repr.analysis.report.page import Picture, Report, Table
from gdm_repr.tracking.keys import LEAKAGE, LEAKAGE_FORBIDDEN, NOISE_DEPENDENCE, band_metric

GROUPS = 6  # that the answer speaks of


def report(found: Leakage) -> Report:
    """Write down what was found."""
    config, matrices, dependence = found.config, found.matrices, found.dependence
    model = {way: matrices[f"model {way}"] for way in WAYS}
    names = model["redraw"].names
    if len(names) == 1:
        answer = ["The model has one group, so that nothing is made before any other."]
    else:
        answer = [_forbidden(model), *_allowed(model["redraw"]), _looked_at(dependence["model"])]
    gaussian = matrices.get("Gaussian redraw")
    if gaussian and (known := gaussian.largest_forbidden):
        answer.append(
            "Control, the Gaussian of the images' mean and covariance: the largest change where "
            f"none is predicted is {number(known.estimate.value, 2)}."
        )
    return Report(
        title="Leakage",
        question="Does a latent group move only what is generated from it?",
        answer=answer,
        pictures=_pictures(found),
        tables=[_matrix_table(matrices), *_dependence_table(dependence)],
        method={
            "images": f"{config.images} encoded images, chosen at random",
            "redraw": "the group's latents drawn afresh from N(0, I), once an image",
            "jacobian": "forward-mode derivative along one N(0, I) direction of a group, each",
            "zeros": "measured: nothing is shared between decodings",
            "seed": config.seed,
        },
        controls=[
            "All latents redrawn at once (last column): how far a data group can move.",
            "The Gaussian oracle of the images' mean and covariance (of at most "
            f"{ORACLE_IMAGES} images), solved by the same steps."
            if gaussian
            else f"The Gaussian oracle was left out: it needs at most {ORACLE_ELEMENTS} elements.",
        ],
        limits=[
            "What is generated later may depend on a latent group; the triangle below the diagonal "
            "is not leakage but how generation works.",
            "The largest of several noisy entries errs upwards.",
        ],
        metrics=[(0, _metrics(model["redraw"], dependence["model"]))],
    )


def _forbidden(model: Mapping[str, LeakageMatrix]) -> str:
    said = ["Data generated before a latent group should not move with it."]
    for way, leakage in model.items():
        worst = leakage.largest_forbidden
        assert worst is not None  # more than one group, zeros measured
        what = "Redrawing" if way == "redraw" else "An infinitely small move of"
        unit = f"stds (n = {leakage.n})" if way == "redraw" else "stds a unit"
        said.append(
            f"{what} latents {worst.latent} moves data {worst.data} by {worst.estimate} {unit}."
        )
    return " ".join([*said, "These are the largest such changes."])


def _allowed(leakage: LeakageMatrix) -> list[str]:
    k = len(leakage.names)
    said = [
        f"Redrawing latents {leakage.names[j]} moves their own data by {leakage.at(j, j)} stds"
        + (f", and later data by up to {leakage.value[j + 1 :, j].max():.2g}" if j < k - 1 else "")
        + "."
        for j in range(min(k, GROUPS))
    ]
    return [*said, *[f"The table has the other {k - GROUPS} groups."] * (k > GROUPS)]


def _looked_at(rows: Sequence[NoiseDependence]) -> str:
    worst = max(rows, key=lambda row: row.moving.value)
    return (
        "Of the mean-free u of a moving group, the part that depends on groups still noise is at "
        f"most {worst.moving}. It is that for group {worst.group} at s = {worst.s}. The optimal u "
        "has 0."
    )


def _pictures(found: Leakage) -> list[Picture]:
    pictures = [
        Picture(
            key.lower().replace(" ", "_"),
            f"{key.split()[0].capitalize()}: how far each latent group moves each data group, RMS "
            f"over n = {leakage.n}; the last column is all latents at once.",
            draw_leakage(leakage),
        )
        for key, leakage in found.matrices.items()
    ]
    if found.dependence["model"]:
        caption = (
            "Part of u that depends on groups still noise, while one group moves from data (s = 0) "
            "to noise (s = 1); 95 % bootstrap intervals over images."
        )
        pictures.append(Picture("noise_dependence", caption, draw_dependence(found.dependence)))
    return pictures


def _matrix_table(matrices: Mapping[str, LeakageMatrix]) -> Table:
    rows = [
        {
            "of": key,
            "latent group": latent,
            "data group": data,
            "predicted zero": bool(leakage.forbidden[i, j]),
            **with_ends("change (stds)", leakage.at(i, j)),
        }
        for key, leakage in matrices.items()
        for j, latent in enumerate(leakage.names)
        for i, data in enumerate(leakage.names)
    ]
    return Table.of_rows("leakage", "RMS change of a data group, with 95 % intervals.", rows)


def _dependence_table(dependence: Mapping[str, list[NoiseDependence]]) -> list[Table]:
    rows = [
        {
            "of": who,
            "moving group": row.group,
            "s": row.s,
            **with_ends("moving part of u", row.moving),
            "all of u": row.undiffused.value,
        }
        for who, each in dependence.items()
        for row in each
    ]
    caption = "Share of u that depends on groups still noise, with 95 % intervals."
    return [Table.of_rows("noise_dependence", caption, rows)] if rows else []


def _metrics(leakage: LeakageMatrix, rows: Sequence[NoiseDependence]) -> dict[str, float]:
    metrics = {
        band_metric(LEAKAGE, f"{latent}_to_{data}"): float(leakage.value[i, j])
        for j, latent in enumerate(leakage.names)
        for i, data in enumerate(leakage.names)
    }
    if (worst := leakage.largest_forbidden) is not None:
        metrics[LEAKAGE_FORBIDDEN] = worst.estimate.value
    if rows:
        metrics[NOISE_DEPENDENCE] = max(row.moving.value for row in rows)
    return metrics
