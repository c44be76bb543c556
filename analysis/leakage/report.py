"""Which latents move which data: ``python -m gdm_repr.analysis.leakage`` (Prop. 3.3).

See :mod:`gdm_repr.analysis.leakage.matrix` for the matrix and
:mod:`gdm_repr.analysis.leakage.noise_dependence` for what one evaluation of u looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import Field

from gdm_repr.analysis.options import AnalysisConfig, first_latent
from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.config import MANY
from gdm_repr.tracking.facts import LEAKAGE, LEAKAGE_FORBIDDEN, NOISE_DEPENDENCE, band_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.leakage.matrix import Leakage
    from gdm_repr.analysis.leakage.noise_dependence import NoiseDependence
    from gdm_repr.analysis.report.page import Picture, Report, Table
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.coordinates import Flow

ORACLE_ELEMENTS = 512  # at most; a Gaussian of more takes a while and many images
ORACLE_IMAGES = 4096


class LeakageConfig(AnalysisConfig):
    """Measure which latent groups move which data groups (Prop. 3.3).

    Every latent group is drawn afresh, and moved infinitely little, and the change of every data
    group is measured; so is how far the network looks at groups that are still noise. The control
    is the Gaussian that has the images' mean and covariance, for which the answer is known.

    Example:
      python -m gdm_repr.analysis.leakage --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/leakage
    """  # noqa: E501

    images: int = Field(64, ge=2, le=MANY, description="Encoded images whose latents are changed.")

    def most(self) -> Mapping[str, tuple[int, int]]:
        """All are images of the store."""
        return {"--images": (self.images, 0)}


def check(config: LeakageConfig, subject: Subject) -> None:
    """Refuse more images than there are, and images that are away."""
    subject.rows(config.images, seed=config.seed)
    subject.require_images()


def analyse(config: LeakageConfig, subject: Subject, journal: Journal) -> Report:
    """Measure, and write down what was found.

    Raises:
        ValueError: for more images than the store has, or a network without the derivative.
    """
    from gdm_repr.analysis.intervals.estimate import number
    from gdm_repr.analysis.leakage.matrix import WAYS
    from gdm_repr.analysis.report.page import Report

    matrices, dependence = _measure(config, subject, journal)
    model = {way: matrices[f"model {way}"] for way in WAYS}
    names = model["redraw"].names
    if len(names) == 1:
        answer = ["The model has one group, so that nothing is made before any other."]
    else:
        answer = [_forbidden(model), _allowed(model["redraw"]), _looked_at(dependence["model"])]
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
        pictures=_pictures(matrices, dependence),
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


def _measure(
    config: LeakageConfig, subject: Subject, journal: Journal
) -> tuple[dict[str, Leakage], dict[str, list[NoiseDependence]]]:
    """Measure what the journal does not have, of the model and of the Gaussian."""
    from tqdm import tqdm

    from gdm_repr.analysis.leakage.matrix import WAYS, measure_leakage
    from gdm_repr.analysis.leakage.noise_dependence import noise_dependence
    from gdm_repr.generation import Generation

    n, model = config.images, subject.model
    rows = subject.rows(n, seed=config.seed)
    settings: dict[str, Any] = {"seed": config.seed, "batch_size": config.batch_size}
    flows: dict[str, tuple[Flow, Any]] = {"model": (model.flow, subject.z(rows))}
    if model.shape[0] * model.grouping.d <= ORACLE_ELEMENTS:
        z = model.noise(n, seed=first_latent(config.seed)).double().cpu()
        flows["Gaussian"] = (_gaussian(subject, config.seed), z)
    matrices, dependence = {}, {}
    units = [(who, way) for who in flows for way in WAYS]
    each = n * (model.grouping.k + 1)
    with tqdm(total=each * len(units), unit="img", desc="leakage") as bar:
        for who, way in units:
            key = f"{who} {way}"
            if key in journal:
                bar.update(each)
            else:
                flow, z = flows[who]
                generation = Generation(flow, subject.plan, strict=False)
                found = measure_leakage(generation, z, way=way, advance=bar.update, **settings)
                journal.add(key, _plain(found))
            matrices[key] = _leakage(journal[key])
    for who, (flow, _) in flows.items():
        if who not in journal:
            x_bar = model.to_basis(subject.images(rows)).to(flow.mean)
            each_row = noise_dependence(flow, x_bar, **settings)
            journal.add(who, [asdict(row) for row in each_row])
        dependence[who] = [_dependence(row) for row in journal[who]]
    return matrices, dependence


def _gaussian(subject: Subject, seed: int) -> Flow:
    """Return the exact flow of the Gaussian that has the images' mean and covariance."""
    import torch

    from gdm_repr.coordinates import Flow
    from gdm_repr.oracle import gaussian_oracle

    model = subject.model
    rows = subject.rows(min(len(subject.store), ORACLE_IMAGES), seed=seed + 1)
    x_bar = model.to_basis(subject.images(rows)).double().cpu().flatten(1)
    mean = x_bar.mean(0)
    S = torch.cov(x_bar.T)
    S += 1e-6 * S.diagonal().mean() * torch.eye(len(S), dtype=S.dtype)  # constant elements
    process, shape = model.flow.process, tuple(model.flow.mean.shape)
    oracle = gaussian_oracle(mean, S, model.grouping, process)
    return Flow(
        oracle, model.grouping, process, mean.reshape(shape), S.diagonal().sqrt().reshape(shape)
    )


def _plain(leakage: Leakage) -> dict[str, Any]:
    arrays = {key: getattr(leakage, key).tolist() for key in ("value", "low", "high")}
    return {**asdict(leakage), **arrays}


def _leakage(entry: Mapping[str, Any]) -> Leakage:
    """Read back what :func:`_plain` gave."""
    import numpy as np

    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.analysis.leakage.matrix import Leakage

    arrays = {key: np.array(entry[key]) for key in ("value", "low", "high")}
    control = tuple(Estimate(**estimate) for estimate in entry["control"])
    return Leakage(**{**entry, **arrays, "names": tuple(entry["names"]), "control": control})


def _dependence(entry: Mapping[str, Any]) -> NoiseDependence:
    from gdm_repr.analysis.intervals.estimate import Estimate
    from gdm_repr.analysis.leakage.noise_dependence import NoiseDependence

    estimates = {key: Estimate(**entry[key]) for key in ("moving", "undiffused")}
    return NoiseDependence(**{**entry, **estimates})


def _forbidden(model: Mapping[str, Leakage]) -> str:
    parts = []
    for way, leakage in model.items():
        worst = leakage.largest_forbidden
        assert worst is not None  # more than one group, zeros measured
        what = "redrawing" if way == "redraw" else "an infinitely small move of"
        parts.append(f"{what} latents {worst.latent} moves data {worst.data} by {worst.estimate}")
    return (
        "Data generated before a latent group should not move with it. The largest such change: "
        f"{' stds; '.join(parts)} stds a unit (n = {model['redraw'].n})."
    )


def _allowed(leakage: Leakage) -> str:
    from gdm_repr.analysis.intervals.estimate import Estimate

    k = len(leakage.names)
    parts = [
        f"{leakage.names[j]} moves its own data by "
        f"{Estimate(leakage.value[j, j], leakage.low[j, j], leakage.high[j, j])}"
        + (f" and later data by up to {leakage.value[j + 1 :, j].max():.2g}" if j < k - 1 else "")
        for j in range(min(k, 6))
    ]
    return f"Redrawing a group, in stds of the data group: {'; '.join(parts)}."


def _looked_at(rows: Sequence[NoiseDependence]) -> str:
    worst = max(rows, key=lambda row: row.moving.value)
    return (
        "Of the mean-free u of a moving group, the part that depends on groups still noise is at "
        f"most {worst.moving} (group {worst.group}, s = {worst.s}); the optimal u has 0."
    )


def _pictures(
    matrices: Mapping[str, Leakage], dependence: Mapping[str, list[NoiseDependence]]
) -> list[Picture]:
    from gdm_repr.analysis.leakage.matrix import draw_leakage
    from gdm_repr.analysis.report.page import Picture

    pictures = [
        Picture(
            key.lower().replace(" ", "_"),
            f"{key.split()[0].capitalize()}: how far each latent group moves each data group, RMS "
            f"over n = {leakage.n}; the last column is all latents at once.",
            draw_leakage(leakage),
        )
        for key, leakage in matrices.items()
    ]
    if dependence["model"]:
        caption = (
            "Part of u that depends on groups still noise, while one group moves from data (s = 0) "
            "to noise (s = 1); 95 % bootstrap intervals over images."
        )
        pictures.append(Picture("noise_dependence", caption, _draw_dependence(dependence)))
    return pictures


def _draw_dependence(dependence: Mapping[str, list[NoiseDependence]]) -> Figure:
    import numpy as np

    from gdm_repr.analysis.report.figures import COLOURS, MARKERS, new_figure

    figure = new_figure(3.2)
    axes = figure.add_subplot()
    groups = list(dict.fromkeys(row.group for row in dependence["model"]))[:6]
    for who, rows in dependence.items():
        for number, group in enumerate(groups):
            own = [row for row in rows if row.group == group]
            value, low, high = np.array(
                [(r.moving.value, r.moving.low, r.moving.high) for r in own]
            ).T
            colour = COLOURS[number % len(COLOURS)]
            axes.errorbar(
                [row.s for row in own],
                value,
                yerr=np.clip([value - low, high - value], 0, None),
                color=colour,
                marker=MARKERS[number % len(MARKERS)],
                markerfacecolor=colour if who == "model" else "white",
                linestyle="-" if who == "model" else "--",
                capsize=2,
                label=f"{who}, {group} moving",
            )
    axes.set_xlabel("s, share of noise in the moving group")
    axes.set_ylabel("share of u that depends\non groups still noise")
    axes.set_ylim(-0.003, max(axes.get_ylim()[1], 0.1))  # so that rounding does not look large
    axes.legend(frameon=False, fontsize="small")
    return figure


def _matrix_table(matrices: Mapping[str, Leakage]) -> Table:
    from gdm_repr.analysis.report.page import Table

    rows = [
        {
            "of": key,
            "latent group": latent,
            "data group": data,
            "predicted zero": bool(leakage.forbidden[i, j]),
            "change (stds)": float(leakage.value[i, j]),
            "low": float(leakage.low[i, j]),
            "high": float(leakage.high[i, j]),
        }
        for key, leakage in matrices.items()
        for j, latent in enumerate(leakage.names)
        for i, data in enumerate(leakage.names)
    ]
    return Table.of_rows("leakage", "RMS change of a data group, with 95 % intervals.", rows)


def _dependence_table(dependence: Mapping[str, list[NoiseDependence]]) -> list[Table]:
    from gdm_repr.analysis.report.page import Table

    rows = [
        {
            "of": who,
            "moving group": row.group,
            "s": row.s,
            "moving part of u": row.moving.value,
            "low": row.moving.low,
            "high": row.moving.high,
            "all of u": row.undiffused.value,
        }
        for who, each in dependence.items()
        for row in each
    ]
    caption = "Share of u that depends on groups still noise, with 95 % intervals."
    return [Table.of_rows("noise_dependence", caption, rows)] if rows else []


def _metrics(leakage: Leakage, rows: Sequence[NoiseDependence]) -> dict[str, float]:
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


ANALYSIS = Analysis("leakage", LeakageConfig, analyse, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse leakage``."""
    return run_analysis(ANALYSIS, argv)
