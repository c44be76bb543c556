"""How well latents separate known factors: ``python -m gdm_repr.analysis.disentanglement``.

Scores of every band, and of all latents, beside the images' own coefficients. What each score means
is in :mod:`gdm_repr.analysis.disentanglement.scores`. DCI and MIG depend on the number of latents,
so that none is told without it, nor without what unrelated factors would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import Field

from gdm_repr.analysis.options import AnalysisConfig, Needs, check_names
from gdm_repr.analysis.runner import Analysis, run_analysis
from gdm_repr.boundary import numerals
from gdm_repr.boundary.names import key_part, metric_key
from gdm_repr.config import MANY
from gdm_repr.edit.options import Places, Words
from gdm_repr.tracking.facts import DISENTANGLEMENT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gdm_repr.analysis.columns.baselines import Baseline
    from gdm_repr.analysis.disentanglement.input import Factors, Floats
    from gdm_repr.analysis.disentanglement.scores import Score
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.subject import Subject

LATENTS, RAW = "latents", "raw coefficients"
ALL = "all bands"
CHUNK = 256  # images read at a time
LEAST = 50  # images that a score needs


class DisentanglementConfig(AnalysisConfig):
    """Score how well latents separate the factors that are known of the images.

    Each band and all of them together, beside the images' own coefficients; every score with an
    interval, what unrelated factors would give, and the number of latents. Slow ones can be named:
    dci_linear, dci_forest, dci_boosted, factor_vae, beta_vae, irs, mutual_information, wasserstein.

    Example:
      python -m gdm_repr.analysis.disentanglement --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/disentanglement
    """  # noqa: E501

    of_labels = True

    factors: Words = Field((), description="Labels that are factors; all that can be by default.")
    continuous: Words = Field((), description="Whole-number factors that are amounts, not classes.")
    circular: Words = Field((), description="Factors that come round, with their period: angle=360")
    scores: Words = Field(
        ("mig", "sap", "modularity_explicitness", "gaussian_tc"),
        min_length=1,
        description="Of gdm_repr.analysis.disentanglement.scores.SCORES, joined by commas.",
    )
    baseline: Places = Field(
        (),
        description="Other models, NAME=PATH, joined by commas: latents of the same images, or "
        ".npz of codes (n, D) and ids.",
    )
    images: int = Field(2000, ge=LEAST, le=MANY, description="Images at most, chosen at random.")
    permutations: int = Field(19, ge=1, le=MANY, description="Draws of the null.")
    resamples: int = Field(20, ge=5, le=MANY, description="Half-samples that an interval is from.")

    def check(self) -> None:
        """Refuse unknown names."""
        from gdm_repr.analysis.disentanglement.scores import SCORES

        super().check()
        check_names("scores", self.scores, SCORES)

    def needs(self) -> Needs:
        """Half-samples of fewer say little."""
        return Needs(LEAST, f"scores are of {LEAST} or more")


def check(config: DisentanglementConfig, subject: Subject) -> None:
    """Refuse labels that are no factors though asked for, and images or a baseline not there."""
    _, rows, _, _ = _inputs(config, subject)
    if len(rows) >= LEAST:
        subject.require_images()


def _inputs(
    config: DisentanglementConfig, subject: Subject
) -> tuple[list[Baseline], list[int], Factors | None, dict[str, str]]:
    """Return other models, rows of the store, their factors, and labels that are none."""
    from gdm_repr.analysis.columns.baselines import open_baselines, shared_rows

    baselines = open_baselines(config.baseline, subject)
    rows = subject.rows(min(config.images, len(subject.store)), seed=config.seed)
    rows = shared_rows(baselines, subject, rows)
    return baselines, rows, *_factors(config, subject, rows)


def analyse(config: DisentanglementConfig, subject: Subject, journal: Journal) -> Report:
    """Measure, and write down what was found.

    Raises:
        ValueError: for scores or factors that are not there, or too few images.
    """
    from gdm_repr.analysis.report.page import Picture, Report, Table

    config.check()
    baselines, rows, factors, left_out = _inputs(config, subject)
    found = _measure(config, subject, journal, rows, factors, baselines)
    names = factors.names if factors else ()
    table = [
        {"of": of, "band": band} | _row(score)
        for (of, band), scores in found.items()
        for score in scores
    ]
    return Report(
        title="Disentanglement",
        question="How well do the latents separate the known factors?",
        answer=_answer(found, names),
        pictures=[
            Picture(
                "scores",
                "Scores with 95 % intervals over images, latents beside the images' own "
                "coefficients of the same band and other models, if any; gray: 95 % of what "
                "unrelated factors give.",
                _draw(found),
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
            "images": len(rows),
            "factors": list(names) or "none",
            "labels left out": left_out or "none",
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
        metrics=[(0, _metrics(found))],
    )


def _factors(
    config: DisentanglementConfig, subject: Subject, rows: Sequence[int]
) -> tuple[Factors | None, dict[str, str]]:
    """Read the factors of some rows; without --factors, leave out labels that are none.

    Raises:
        ValueError: for names that are no labels, or labels that are no factors though asked for.
    """
    from gdm_repr.analysis.disentanglement.input import read_factors

    known = list(subject.store.manifest.labels)
    for name in config.factors:
        if name not in known:
            raise ValueError(
                f"--factors {name!r}: the latents carry no such label; they have "
                f"{', '.join(known) or 'none'}"
            )
    periods = {}
    for spec in config.circular:
        name, _, text = spec.partition("=")
        if (period := numerals.real(text)) is None:
            raise ValueError(f"--circular {spec!r}: must be NAME=PERIOD, as angle=360")
        periods[name] = period
    columns = {name: subject.store.labels(name)[list(rows)] for name in config.factors or known}
    left_out: dict[str, str] = {}
    for name in [*columns]:
        try:
            read_factors({name: columns[name]})
        except ValueError as error:
            if config.factors:
                raise ValueError(f"--factors {name}: {error}") from None
            left_out[name] = str(error)
            continue
        texts = columns[name].dtype.kind in "OUS"
        if not config.factors and texts and len(set(columns[name].tolist())) > len(rows) / 2:
            left_out[name] = "most images have a text of their own"
    kept = {name: values for name, values in columns.items() if name not in left_out}
    if not kept:
        return None, left_out
    return read_factors(kept, continuous=config.continuous, circular=periods), left_out


def _measure(
    config: DisentanglementConfig,
    subject: Subject,
    journal: Journal,
    rows: Sequence[int],
    factors: Factors | None,
    baselines: Sequence[Baseline],
) -> dict[tuple[str, str], list[Score]]:
    """Score what the journal does not have; a method that needs more factors or latents is passed.

    Returns:
        Scores by (latents, raw coefficients or a baseline's name, band).
    """
    import hashlib

    from tqdm import tqdm

    from gdm_repr.analysis.disentanglement.scores import SCORES, Score, Settings, score

    if len(rows) < LEAST:
        return {}
    tables = _tables(subject, rows, baselines)
    count = len(factors.names) if factors else 0
    wanted = [
        (of, band, name)
        for (of, band), z in tables.items()
        for name in config.scores
        if SCORES[name].factors <= count and SCORES[name].latents <= z.shape[1]
    ]
    found: dict[tuple[str, str], list[Score]] = {}
    for of, band, name in tqdm(wanted, desc="disentanglement", unit="score"):
        key = f"{name}, {of}, {band}"
        if of not in (LATENTS, RAW):  # another file may lie under the same path
            key += f", {hashlib.sha256(tables[of, band].tobytes()).hexdigest()[:16]}"
        if key not in journal:
            scored = score(
                name,
                tables[of, band],
                factors,
                permutations=config.permutations,
                resamples=config.resamples,
                seed=config.seed,
            )
            journal.add(key, [asdict(each) for each in scored])
        found.setdefault((of, band), []).extend(
            Score(**{**each, "factors": tuple(each["factors"]), "settings": Settings(**s)})
            for each in journal[key]
            for s in [each["settings"]]
        )
    return found


def _tables(
    subject: Subject, rows: Sequence[int], baselines: Sequence[Baseline]
) -> dict[tuple[str, str], Floats]:
    """Return columns by (source, band), in the order of generation; codes are of all bands."""
    import numpy as np

    from gdm_repr.generation import group_elements

    grouping = subject.model.grouping
    parts = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    whole = {
        LATENTS: np.concatenate([subject.z(part).cpu().numpy() for part in parts]),
        RAW: np.concatenate(
            [subject.model.to_basis(subject.images(part)).cpu().numpy() for part in parts]
        ),
    }
    codes = {}
    for baseline in baselines:
        if baseline.length:
            codes[baseline.name, ALL] = baseline.take(subject, rows).astype(np.float64)
        else:
            store, theirs = baseline.latents(subject, rows)
            whole[baseline.name] = store.z(theirs)
    masks = {grouping.names[group]: group_elements(grouping, [group]) for group in grouping.order}
    if len(masks) > 1:
        masks[ALL] = group_elements(grouping, grouping.order)
    return {
        (of, band): values[:, np.broadcast_to(mask, values.shape[1:])].astype(np.float64)
        for band, mask in masks.items()
        for of, values in whole.items()
    } | codes


def _answer(found: Mapping[tuple[str, str], Sequence[Score]], names: Sequence[str]) -> list[str]:
    """Say the scores of every band, with the control's and the null's beside."""
    from gdm_repr.analysis.intervals.estimate import Estimate, number

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
        each = []
        for band in bands:
            for s in found[LATENTS, band]:
                if s.name == kind:
                    beside = [
                        f"{'raw' if of == RAW else of} {number(others[of, band, kind].value, 2)}"
                        for of in sources
                        if (of, band, kind) in others
                    ]
                    each.append(
                        f"{band} {Estimate(s.value, s.low, s.high)} (null "
                        f"{number(s.null_high, 2)}, {', '.join(beside) or 'raw -'})"
                    )
        lines.append(f"{kind}: {'; '.join(each)}.")
    n = found[LATENTS, bands[0]][0].n
    known = f"factors {', '.join(names[:12])}" if names else "no factors are known"
    return [f"n = {n} images, {known}; interval 95 %, null: 95 % of unrelated factors.", *lines]


def _draw(found: Mapping[tuple[str, str], Sequence[Score]]) -> Figure:
    import numpy as np

    from gdm_repr.analysis.report.figures import COLOURS, MARKERS, new_figure

    bands = list(dict.fromkeys(band for _, band in found))
    kinds = list(dict.fromkeys(s.name for scores in found.values() for s in scores))
    sources = list(dict.fromkeys(of for of, _ in found))
    columns = min(3, len(kinds))
    lines = -(-len(kinds) // columns)
    figure = new_figure(0.6 + lines * (1 + 0.35 * len(bands)))
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in panels.ravel()[len(kinds) :]:
        axes.set_visible(False)
    for axes, kind in zip(panels.ravel(), kinds, strict=False):
        for number, of in enumerate(sources):
            for place, band in enumerate(bands):
                for s in found.get((of, band), []):
                    if s.name != kind:
                        continue
                    y = place + (0.6 * (number + 0.5) / len(sources) - 0.3)
                    axes.plot([0, s.null_high], [y, y], color="0.8", linewidth=5, zorder=0)
                    axes.errorbar(
                        s.value,
                        y,
                        xerr=np.clip([[s.value - s.low], [s.high - s.value]], 0, None),
                        fmt=MARKERS[number],
                        color=COLOURS[number],
                        markersize=5,
                        capsize=2,
                        label=of,
                    )
        axes.set_yticks(range(len(bands)), bands)
        axes.set_title(kind, fontsize="medium")
        axes.set_xlabel("nats" if kind in ("gaussian_tc", "mutual_information") else "score")
    panels[0, 0].invert_yaxis()
    drawn = [axes.get_legend_handles_labels() for axes in panels.ravel()]
    legend = {name: handle for pair in drawn for handle, name in zip(*pair, strict=True)}
    figure.legend(
        legend.values(), legend.keys(), loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def _row(score: Score) -> dict[str, object]:
    return {
        "score": score.name,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "null mean": score.null_mean,
        "null 95 %": score.null_high,
        "p": score.p,
        "drift": score.drift,
        "code length": score.code_length,
        "n": score.n,
        "complete": score.complete,
        "best": score.best,
    }


def _metrics(found: Mapping[tuple[str, str], Sequence[Score]]) -> dict[str, float]:
    metrics: dict[str, Any] = {}
    for (of, band), scores in found.items():
        kind = DISENTANGLEMENT + ("" if of == LATENTS else "_control")
        if of not in (LATENTS, RAW):
            kind += f"/{key_part(of)}"
        for score in scores:
            metrics[metric_key(f"{kind}/{score.name}/{band}")] = score.value
    return metrics


ANALYSIS = Analysis("disentanglement", DisentanglementConfig, analyse, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse disentanglement``."""
    return run_analysis(ANALYSIS, argv)
