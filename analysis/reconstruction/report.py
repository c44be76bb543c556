"""What a report says of partial reconstruction: sentences, tables, metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import numpy as np

from gdm_repr.analysis.intervals.estimate import Estimate, place_text, with_ends
from gdm_repr.analysis.reconstruction import figures
from gdm_repr.analysis.reconstruction.measure import Reconstruction
from gdm_repr.analysis.reconstruction.summary import LEVEL, WAYS, ImageValues, Summary
from gdm_repr.analysis.report.page import Picture, Report, Table
from gdm_repr.boundary.names import metric_key
from gdm_repr.tracking.keys import RECONSTRUCTION, RECONSTRUCTION_ENOUGH

HALF, SINGLE = 2, 4  # bytes of a float16 and of a float32
BANDS = 3  # that the answer speaks of, at most


_count = partial(place_text, beyond="more than was measured")


def report(found: Reconstruction) -> Report:
    """Write down what was found."""
    config, subject, rows = found.config, found.subject, found.rows
    measured, summary, controls = found.measured, found.summary, found.controls
    n = f"n = {len(rows)} images; 95 % bootstrap intervals over them"
    # Spread over the store, whose order may be one of classes.
    even = np.linspace(0, len(rows) - 1, min(config.shown, len(rows)))
    shown = [sorted(rows)[round(place)] for place in even.tolist()]
    ids = subject.store.ids
    limits = [
        "Zero is the mode of N(0, 1): zeros give one central picture, which is not the mean of all "
        "that agree with the kept latents. Noise is a typical point and gives a typical picture, "
        "whose details are not the image's: even of a perfect model its squared error is twice "
        "that of the best guess.",
        "The model may have been trained on these images; the PCA was fitted without them.",
        "Bytes are those of plain numbers; no entropy coding was tried, of latents or controls.",
        "The intervals are over images; they leave out another training seed.",
    ]
    if not any(name.startswith("lpips") for name in summary.curves):
        limits.append(
            "LPIPS was not measured: its weights are not at hand; --features lpips-alex tells how "
            "to get them."
        )
    return Report(
        title="Partial reconstruction",
        question="How much of an image do its first latents keep?",
        answer=_answer(found),
        pictures=[
            Picture(
                "reconstruction",
                f"Images rebuilt from their first m latents, against the originals ({n}; "
                f"{measured.draws} draws of noise). Distances are relative to that of unrelated "
                f"images; gray line: {100 * LEVEL:.0f} % of it. "
                f"{HALF * measured.values[-1] // measured.kept[-1]} bytes a latent as float16. "
                "Dashed: controls that keep as many values. "
                "PSNR leaves its scale where everything is kept.",
                figures.draw_curves(summary, found.ends),
            ),
            Picture(
                "paired",
                f"The model's reconstructions less the controls', image by image ({n}). The rest "
                "is of the same kind in both: a guess, or a draw. Shaded: the model is better.",
                figures.draw_gaps(summary, found.ends),
            ),
            Picture(
                "sheet",
                "Images chosen at random, and what is rebuilt from m latents or as many values of "
                f"a control: {', '.join(ids[row] for row in shown)}.",
                figures.draw_sheet(found, shown),
            ),
        ],
        tables=make_tables(measured, summary),
        method={
            "images": f"{len(rows)}, chosen at random",
            "draws": f"{measured.draws} an image, of noise and of other images",
            "seed": config.seed,
            "PCA": f"{controls.codes['pca'].size} components, fitted to {len(controls.pool)} other "
            "images",
            "DCT": "lowest frequencies first, in all channels; the rest is the mean of those "
            "other images, or one of them",
            "mean latent": f"of all {len(subject.store)} images of the store",
            "before comparing": "reconstructions are clipped to [-1, 1]",
            "distances": found.fingerprints,
        },
        controls=[
            "PCA of as many values: no linear code has a smaller squared error on the images it "
            "was fitted to. None of the rebuilt images is among them.",
            "The DCT of as many values, as a thumbnail keeps low frequencies too. Where the "
            "latents' rest is noise, the DCT's is another image's: both are whole pictures then.",
        ],
        limits=limits,
        metrics=make_metrics(measured, summary),
    )


def _answer(found: Reconstruction) -> list[str]:
    measured, summary, main = found.measured, found.summary, found.config.features[0]
    total, values = measured.kept[-1], measured.values[-1]
    psnr, place = summary.curves["psnr"], summary.enough[main]
    inner = list(found.ends.items())[:-1]
    answer = []
    for band, m in inner[:BANDS]:
        some = measured.values[measured.kept.index(m)]
        at = {way: curve.at(m) for way, curve in psnr.items()}
        # a PCA has no more components than images it was fitted on
        others = [
            f"of {name} give {at[way]} dB"
            for name, way in (("PCA", "pca"), ("the DCT", "dct"))
            if not math.isnan(at[way].value)
        ]
        answer.append(
            f"Up to band {band}, the first {m} latents with zeros for the rest rebuild images at "
            f"{at['zero']} dB PSNR. With noise for the rest it is {at['noise']} dB. As many "
            f"values {', '.join(others)}. These are {some} values, {HALF * some} bytes as float16."
        )
    answer.append(
        "Latents needed to come within a tenth of the distance between unrelated images, in "
        f"{main}: {_count(place['zero'])} with zeros for the rest, {_count(place['noise'])} with "
        f"noise. PCA takes {_count(place['pca'])}. The DCT takes {_count(place['dct'])} with the "
        f"mean for the rest, {_count(place['dct_other'])} with another image's. Between the "
        f"{len(measured.kept)} values of m that were measured, curves are read on straight lines."
    )
    for band, m in inner[:1]:
        i = measured.kept.index(m)
        answer.append(
            f"Image by image, up to band {band}, in {main}. "
            + " ".join(
                _closer(a, b, each[i])
                for (a, b), each in summary.gaps[main].items()
                if not math.isnan(each[i].value)
            )
            + " Differences are shares of the distance between unrelated images."
        )
    answer.append(
        f"All {values} values rebuild images at {psnr['zero'].at(total)} dB. Kept as float16, in "
        f"{HALF * values} bytes, they give {summary.float16['psnr']} dB. A PNG of such an image "
        f"takes {summary.png} bytes."
    )
    return answer


def _closer(way: str, other: str, gap: Estimate) -> str:
    """Say which of two ways comes closer to the image."""
    word = "closer than" if gap.high < 0 else "farther than" if gap.low > 0 else "not told from"
    return f"'{WAYS[way]}' is {word} '{WAYS[other]}' ({gap.percent()})."


def make_tables(measured: ImageValues, summary: Summary) -> list[Table]:
    """Return the curves, the paired differences, and how many latents suffice."""
    return [_curves(measured, summary), _gaps(measured, summary), _enough(measured, summary)]


def _curves(measured: ImageValues, summary: Summary) -> Table:
    rows = [
        {
            "measure": name,
            "from": WAYS[way],
            "m": m,
            "values": measured.values[i],
            "bytes, float16": HALF * measured.values[i],
            "bytes, float32": SINGLE * measured.values[i],
            **with_ends("value", curve.at(m)),
        }
        for name, by_way in summary.curves.items()
        for way, curve in by_way.items()
        for i, m in enumerate(measured.kept)
    ]
    return Table.of_rows(
        "curves",
        "Mean over images of likeness, or of distance relative to unrelated images, with its "
        "95 % interval, when the first m latents or as many values of a control are kept.",
        rows,
    )


def _gaps(measured: ImageValues, summary: Summary) -> Table:
    rows = [
        {
            "measure": name,
            "from": WAYS[a],
            "less": WAYS[b],
            "m": m,
            **with_ends("difference", each[i]),
        }
        for name, pairs in summary.gaps.items()
        for (a, b), each in pairs.items()
        for i, m in enumerate(measured.kept)
    ]
    return Table.of_rows(
        "paired", "Paired differences, in the same units, with 95 % intervals.", rows
    )


def _enough(measured: ImageValues, summary: Summary) -> Table:
    rows = [
        {
            "distance": name,
            "from": WAYS[way],
            **with_ends("m", place),
            "bytes, float16": HALF * place.value * measured.values[-1] / measured.kept[-1],
        }
        for name, by_way in summary.enough.items()
        for way, place in by_way.items()
    ]
    return Table.of_rows(
        "enough",
        f"The m from which on the distance stays below {100 * LEVEL:.0f} % of that between "
        f"unrelated images, read between the {len(measured.kept)} measured m on straight lines.",
        rows,
    )


def make_metrics(measured: ImageValues, summary: Summary) -> list[tuple[int, dict[str, float]]]:
    """Return the curves with m as step, and at step 0 how many latents suffice."""

    def finite(values: Iterable[tuple[str, float]]) -> dict[str, float]:
        return {metric_key(key): value for key, value in values if not math.isnan(value)}

    metrics = [
        (
            m,
            finite(
                (f"{RECONSTRUCTION}/{name}_{way}", curve.value[i])
                for name, by_way in summary.curves.items()
                for way, curve in by_way.items()
            ),
        )
        for i, m in enumerate(measured.kept)
    ]
    places = finite(
        (f"{RECONSTRUCTION_ENOUGH}/{name}_{way}", place.value)
        for name, by_way in summary.enough.items()
        for way, place in by_way.items()
    )
    return [(0, places), *metrics]
