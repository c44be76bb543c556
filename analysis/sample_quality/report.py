"""The report of sample quality: sentences, tables, and what the numbers do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.intervals.estimate import in_twos, number, with_ends
from gdm_repr.analysis.intervals.jackknife import Score
from gdm_repr.analysis.options import RAW
from gdm_repr.analysis.report.page import Picture, Report, Table
from gdm_repr.analysis.sample_quality import figures
from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
from gdm_repr.analysis.sample_quality.image_sets import BLOCK
from gdm_repr.analysis.sample_quality.measure import SampleQuality, Scores
from gdm_repr.analysis.sample_quality.neighbour_scores import NAMES
from gdm_repr.boundary.names import metric_key
from gdm_repr.latents.summary import as_columns
from gdm_repr.tracking.keys import (
    DENOISING_LOSS,
    EVALUATIONS_PER_SAMPLE,
    SAMPLE_QUALITY,
    SAMPLE_QUALITY_FLOOR,
    SECONDS_PER_SAMPLE,
    band_metric,
)

GROUPS = 6  # that the answer speaks of


def report(found: SampleQuality) -> Report:
    """Write down what was found."""
    config, subject = found.config, found.subject
    n, first = found.n, first_latent(config.seed)
    trained = subject.model.checkpoint.training.get("data")
    held_out = subject.held_out
    ends = f"n = {n} in each set; 95 % intervals by leaving out {min(config.groups, n)} groups"
    features = {name: found.scores[name] for name in config.features}
    return Report(
        title="Sample quality",
        question="How far are samples from real images?",
        answer=_answer(found, held_out),
        pictures=[
            Picture(
                "scores",
                f"Samples, controls and the floor, real images against real ones ({ends}). "
                "Frechet distance relative to the floor; KID in units of half the floor's interval "
                "on a scale that is linear from -1 to 1.",
                figures.draw_scores(features),
            ),
            Picture(
                "sheet",
                "Samples in the order of their seeds, none left out, beside real images and the "
                "controls; all clipped to [-1, 1].",
                figures.draw_sheet(found.images, config.shown, first),
            ),
            Picture(
                "sliced",
                f"Sliced Wasserstein distance to real images over that between real ones ({ends}). "
                f"It is a mean over {config.directions} directions.",
                figures.draw_sliced(found.sliced),
            ),
            Picture(
                "denoising",
                f"Denoising loss on {found.losses[0].n} real images while one group moves from "
                "data to noise; 1 is a Gaussian that is independent along the model's axes. 95 % "
                "intervals over images.",
                figures.draw_losses(found.losses),
            ),
        ],
        tables=[_score_table(found.scores), _loss_table(found.losses), _latent_table(found)],
        method={
            "samples": f"{n}, from seeds {first} to {first + n - 1}, clipped to [-1, 1]",
            "real images": f"{n} of the store, chosen at random; {n} others for the floor",
            "trained on": trained,
            "real images are made by": subject.store.manifest.settings.get("preprocess"),
            "gaussian control": f"mean and covariance of {len(found.halves.fit)} images of the "
            "store, none of them among those compared to",
            "intervals": f"delete-a-group jackknife, {min(config.groups, n)} groups, t quantiles",
            "sliced Wasserstein": f"{config.directions} directions, the same for all",
            "neighbours": f"{config.precision_neighbours} for precision and recall, "
            f"{config.density_neighbours} for density and coverage",
            "seconds an image": f"{number(found.seconds)}, blocks {_spread(found)}",
            "evaluations an image": found.cost[0][2],
            "seed": config.seed,
            "features": [each.fingerprint() for each in found.extractors],
        },
        controls=[
            "The floor: the same score between real images and as many other real ones. A perfect "
            "model reaches it, on average; precision and density can be better than it.",
            "A Gaussian that has the images' mean and covariance, clipped as all are: a distance "
            "that it comes near to 0 in does not see more than these two.",
            "Noise: how bad a score can be.",
        ],
        limits=_limits(found, held_out),
        metrics=[(0, _metrics(found))],
    )


def _answer(found: SampleQuality, held_out: bool) -> list[str]:
    config, real = found.config, "held-out images" if held_out else "images"
    lines = worse_than_gaussian({name: found.scores[name] for name in config.features})
    for name in config.features:
        by = found.scores[name]
        lines.append(
            f"Frechet distance of samples to real {real} in {name}: {_beside(by['frechet'])}"
        )
        lines.append(f"KID in {name}: {_beside(by['kid'])}")
        shares = [
            f"{score} {by[score]['samples']}, of real {real} {by[score]['samples'].floor}."
            for score in NAMES
        ]
        lines.append(" ".join([f"Neighbours in {name}.", *map(_capital, shares)]))
    each = " ".join(
        f"Of {name} it is {_over(by['samples'])}, of a Gaussian {_over(by['gaussian'])}."
        for name, by in found.sliced.items()
    )
    lines.append(
        f"Sliced Wasserstein distance as a multiple of the floor, which is 1 for real {real}. "
        f"{each}"
    )
    losses = [f"group {each.group} has {each.mean}" for each in found.losses[:GROUPS]]
    lines.append(
        "Denoising loss, where 1 is a Gaussian that is independent along the model's axes "
        f"(n = {found.losses[0].n}). {in_twos(losses)}"
    )
    worst = max(found.latents, key=lambda row: row.ks)
    lines.append(
        f"Latents of the store are farthest from N(0, 1) in band {worst.band}: their "
        f"Kolmogorov-Smirnov distance is {number(worst.ks)} (95 % null {number(worst.ks_null)}). "
        f"Their std is {number(worst.std)} +- {number(worst.std_se, 1)} (n = {worst.n})."
    )
    lines.append(
        f"A sample takes {found.cost[0][2]} evaluations of the network and "
        f"{number(found.seconds, 2)} s on this machine. Blocks took {_spread(found)} s a "
        f"sample. Batches had {min(config.batch_size, BLOCK)}."
    )
    lines.append(f"n = {found.n} samples, beside as many real {real}.")
    return lines


def worse_than_gaussian(scores: Scores) -> list[str]:
    """Say by what a Gaussian scores better than the samples, beyond both intervals.

    Frechet distances of raw numbers compare mean and covariance, which the Gaussian has by
    construction, so that they judge nothing here.
    """
    lines = []
    for name, by in scores.items():
        for key, words in (("frechet", "Frechet distance"), ("kid", "KID")):
            samples, gaussian = (by[key][of] for of in ("samples", "gaussian"))
            if key == "frechet" and name in RAW:
                continue
            if gaussian.high < samples.low:
                lines.append(
                    f"A Gaussian of the images' mean and covariance scores better than the samples "
                    f"by {words} in {name}: {gaussian} against {samples}."
                )
    advice = "The model is not good yet: train longer, or widen the network."
    return [*lines, advice] if lines else []


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _spread(found: SampleQuality) -> str:
    """Write the fastest and the slowest block, in seconds an image."""
    each = [seconds / images for images, seconds, _ in found.cost]
    return f"{number(min(each), 2)} to {number(max(each), 2)}"


def _beside(by: Mapping[str, Score]) -> str:
    """Write a score beside its floor and the controls."""
    own = by["samples"]
    text = f"{own}, where real ones have {own.floor}."
    if own.ratio is not None:
        text += f" That is {own.ratio} times as far."
    elif own.excess is not None:
        text += f" The difference is {own.excess}."
    if own.corrected is not None:
        text += f" Without the bias of this n it is {own.corrected}."
    return f"{text} A Gaussian has {by['gaussian']}, noise {by['noise']}."


def _over(score: Score) -> str:
    return str(score.ratio) if score.ratio is not None else f"{score} (no ratio)"


def _limits(found: SampleQuality, held_out: bool) -> list[str]:
    limits = [
        "Scores depend on n, on the features and on how images are resized; they compare with each "
        "other, not with published ones.",
        "The interval is over images; it leaves out another training seed.",
    ]
    if any("frechet" in by and by["frechet"]["samples"].corrected is None
           for by in found.scores.values()):  # fmt: skip
        limits.append(
            "Where no value without the bias of this n is given, n is below twice the number of "
            "features, and most of a Frechet distance can be bias: read its ratio to the floor."
        )
    if any(each.weights is not None for each in found.extractors):
        limits.append(
            "The network was trained on photographs, larger ones; it may not see what matters in "
            "other images."
        )
    if not held_out:
        limits.append(
            "The model may have been trained on these images: one that repeats them would score "
            "well."
        )
    return limits


def _score_table(scores: Scores) -> Table:
    rows = [
        {
            "of": of,
            "in": feature,
            "score": score,
            **with_ends("value", value),
            **with_ends("floor", value.floor, "{} floor"),
            **with_ends("ratio", value.ratio, "{} ratio"),
            **with_ends("difference", value.excess, "{} difference"),
            **with_ends("corrected", value.corrected, "{} corrected"),
        }
        for feature, by_score in scores.items()
        for score, by_set in by_score.items()
        for of, value in by_set.items()
    ]
    caption = (
        "Scores against real images, the same between real images (floor), their ratio and "
        "difference, and the value without the bias of order 1/n; each with its 95 % interval."
    )
    return Table.of_rows("scores", caption, rows)


def _loss_table(losses: Sequence[GroupLoss]) -> Table:
    rows = [
        {
            "group": each.group,
            "theta": "mean" if theta is None else number(theta),
            **with_ends("loss", at, "{} loss"),
            "independent Gaussian": each.control.value if theta is None else None,
            "n": each.n,
        }
        for each in losses
        for theta, at in [(None, each.mean), *zip(each.theta, each.at, strict=True)]
    ]
    caption = "Denoising loss while a group moves, by its angle (0 data, 1.57 noise)."
    return Table.of_rows("denoising", caption, rows)


def _latent_table(found: SampleQuality) -> Table:
    caption = (
        "Latents of the store against N(0, 1), and the round trip decode(encode(x)) - x; _se is a "
        "standard error over images."
    )
    return Table("latents", caption, as_columns(list(found.latents)))


def _metrics(found: SampleQuality) -> dict[str, float]:
    metrics = {
        SECONDS_PER_SAMPLE: found.seconds,
        EVALUATIONS_PER_SAMPLE: float(found.cost[0][2]),
    }
    for feature, by_score in found.scores.items():
        for score, by_set in by_score.items():
            own = by_set["samples"]
            metrics[metric_key(f"{SAMPLE_QUALITY}/{score}/{feature}")] = own.value
            if own.floor is not None:
                metrics[metric_key(f"{SAMPLE_QUALITY_FLOOR}/{score}/{feature}")] = own.floor.value
    for each in found.losses:
        metrics[band_metric(DENOISING_LOSS, each.group)] = each.mean.value
    return metrics
