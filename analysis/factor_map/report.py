"""What the factor map says: its sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gdm_repr.analysis.columns.names import LATENTS, RAW
from gdm_repr.analysis.factor_map.cells import (
    HARDLY,
    Cell,
    State,
    counterparts,
    is_code,
    scores,
    states,
    sufficient,
)
from gdm_repr.analysis.factor_map.figures import pictures
from gdm_repr.analysis.factor_map.measure import FactorMap
from gdm_repr.analysis.factor_map.scores import ProbeScore
from gdm_repr.analysis.factors.labels import Factor
from gdm_repr.analysis.intervals.estimate import Estimate, listed, span, with_ends
from gdm_repr.analysis.report.page import Report, Table
from gdm_repr.boundary.names import key_part, metric_key
from gdm_repr.tracking.keys import FACTOR_MAP, FACTOR_MAP_CONTROL

MOST_TOLD = 12  # factors in a sentence
MEANING = (
    "A factor is in a band when some probe reads it there clearly: more than a tenth of the way "
    "from guessing to always right. It is not in a band when no probe reads it that well, or "
    "better than guessing. Factors between the two are in the table only."
)


def report(found: FactorMap) -> Report:
    """Write down what was found."""
    config, cells, factors = found.config, found.cells, found.factors
    return Report(
        title="Factor map",
        question="Which band holds which known factor of the images?",
        answer=sentences(cells, found.refused, factors, config.probes),
        pictures=pictures(cells, config.probes) if cells else (),
        tables=tables(cells, factors, found.refused),
        method={
            "images": found.images,
            "factors": [f"{f.name} ({f.kind}, n = {len(f.rows)})" for f in factors],
            "columns": {s.label: s.count for s in found.asked},
            "columns left out (--columns)": found.left_out or "none",
            "length of codes": found.codes or "none",
            "probes": config.probes,
            "folds": config.folds,
            "permutations": config.permutations,
            "resamples": config.resamples,
            "seed": config.seed,
        },
        controls=[
            "Null: probes fitted to permuted labels.",
            "Raw coefficients of the images in the model's basis, at the same elements.",
            "Principal components, fitted to the same folds as the probes; as many as the bands "
            "have columns and in their places.",
            "Other models (--baseline), of the same images: latents at the same elements; codes "
            "beside as many first columns.",
        ],
        limits=[
            "Intervals are of the images alone: predictions are resampled, probes are not fitted "
            "again, and another training seed is left out.",
            "A probe finds what it can express: what a linear one misses may be there.",
            "Of columns that were left out (--columns) nothing is known: a band has or has not a "
            "factor in the columns that were looked at.",
            "A probe of many columns may do worse than one of few, where images are few.",
            "Intervals are of single cells; of twenty without a difference, one excludes 0.",
        ],
        metrics=[(0, _metrics(cells, config.probes[0]))] if cells else (),
    )


def sentences(
    cells: Sequence[Cell],
    refused: Mapping[str, str],
    factors: Sequence[Factor],
    probes: Sequence[str],
) -> list[str]:
    """Say where each factor is and is not, how few bands suffice, and what controls tell.

    Where a factor is, all probes say together. The first probe's numbers come first; of the others
    it is not said how few bands suffice.
    """
    if not factors:
        why = "; ".join(f"{name} {reason}" for name, reason in refused.items())
        return [f"There is no factor to predict: {why or 'the store has no labels'}."]
    said = _held(cells)
    controls = [each for each in dict.fromkeys(c.source for c in cells) if each != LATENTS]
    for place, probe in enumerate(probes):
        own, raw = (_single(cells, source, probe) for source in (LATENTS, RAW))
        said += _best(own, raw, probe)
        if place == 0:
            said.append(f"n = {span(factor.rows.size for factor in factors)} images.")
            said += _suffice(cells, probe, list(own)[:MOST_TOLD])
        said += [_compared(cells, probe, source) for source in controls]
    if refused:
        why = "; ".join(f"{name} {reason}" for name, reason in list(refused.items())[:4])
        said.append(f"Not predicted: {why}.")
    return said


def _held(cells: Sequence[Cell]) -> list[str]:
    """Say which factors each band has and has not, and where raw coefficients differ."""
    found = {source: states(cells, source) for source in (LATENTS, RAW)}
    own, raw = found[LATENTS], found[RAW]
    sets = {c.columns.label: c.columns for c in cells if c.source == LATENTS}
    bands = [label for label, each in sets.items() if each.kind == "band"] or [
        label for label, each in sets.items() if each.kind == "all"
    ]

    def names(band: str, state: State) -> str:
        named = [name for (name, label), each in own.items() if (label, each) == (band, state)]
        more = f" and {len(named) - MOST_TOLD} more" if len(named) > MOST_TOLD else ""
        return ", ".join(named[:MOST_TOLD]) + more

    said = []
    for band in bands:
        has, lacks = names(band, "in"), names(band, "not")
        partly = sets[band].whole > len(sets[band].columns) and sets[band].kind == "band"
        where = f"{band} ({sets[band].count} looked at)" if partly else band
        said.append(
            f"Factors in {where}: {has or 'none'}." + (f" Not in it: {lacks}." if lacks else "")
        )
    said.append(MEANING)
    if not raw:
        return said
    pairs = {
        f"{name} in {band}": (state, raw.get((name, band)))
        for (name, band), state in own.items()
        if band in bands
    }
    only_own = [where for where, each in pairs.items() if each == ("in", "not")]
    only_raw = [where for where, each in pairs.items() if each == ("not", "in")]
    if only_own:
        said.append(f"Latents have, and raw coefficients do not: {listed(only_own, MOST_TOLD)}.")
    if only_raw:
        said.append(f"Raw coefficients have, and latents do not: {listed(only_raw, MOST_TOLD)}.")
    if not only_own and not only_raw:
        said.append(
            "Latents and raw coefficients have the same factors in the same bands, where both are "
            "clear."
        )
    return said


def _single(cells: Sequence[Cell], source: str, probe: str) -> dict[str, dict[str, ProbeScore]]:
    """Return scores of single bands; of all columns where there is one band only."""
    return scores(cells, source, probe, "band") or scores(cells, source, probe, "all")


def _best(
    own: Mapping[str, Mapping[str, ProbeScore]],
    raw: Mapping[str, Mapping[str, ProbeScore]],
    probe: str,
) -> list[str]:
    """Name the best band of each factor; of the factor read best, say how well."""
    best = {
        name: max(each.items(), key=lambda item: item[1].above_chance.value)[0]
        for name, each in own.items()
    }
    scores = {name: own[name][band] for name, band in best.items()}
    ranked = sorted(best, key=lambda name: -scores[name].above_chance.value)
    found = [name for name in ranked if scores[name].found]
    said = []
    if found:
        first = found[0]
        what = "balanced accuracy above chance" if scores[first].classes else "R^2"
        control = raw.get(first, {}).get(best[first])
        beside = f", raw coefficients {_short(control.above_chance.value)}" if control else ""
        said.append(
            f"By {probe} probe, {first} is read best, from {best[first]} ({what} "
            f"{_interval(scores[first].above_chance)}{beside})."
        )
    if len(found) > 1:
        rest = listed([f"{name} {best[name]}" for name in found[1:]], MOST_TOLD)
        said.append(f"Then come, each with its best band: {rest}.")
    if missed := [name for name in ranked if name not in found]:
        said.append(f"By {probe} probe, no band has {listed(missed, MOST_TOLD)}.")
    return [" ".join(said)]


def _suffice(cells: Sequence[Cell], probe: str, names: Sequence[str]) -> list[str]:
    """Say which first bands tell as much as all."""
    if not any(cell.columns.kind == "band" for cell in cells):
        return []
    own, raw = sufficient(cells, LATENTS, probe), sufficient(cells, RAW, probe)
    by_prefix: dict[str, list[str]] = {}
    for name in names:
        if own[name]:
            other = raw.get(name)
            differs = (
                f" (raw coefficients: {other or 'nothing'})" if raw and other != own[name] else ""
            )
            by_prefix.setdefault(str(own[name]), []).append(name + differs)
    if not by_prefix:
        return []
    whole = next(c.columns.label for c in cells if c.columns.kind == "all" and c.source == LATENTS)
    parts = [
        f"{prefix[:1].upper()}{prefix[1:]}: {', '.join(e)}." for prefix, e in by_prefix.items()
    ]
    return [
        f"First bands from which a {probe} probe reads as much as from {whole}, but for a "
        f"twentieth. {' '.join(parts)}"
    ]


def _compared(cells: Sequence[Cell], probe: str, source: str) -> str:
    """Count the cells where latents tell more, and less, than another source."""
    more, less = [], []
    pairs = [pair for pair in counterparts(cells, source) if pair[1].probe == probe]
    for own, other in pairs:
        gap, sign = own.score.minus(other.score), own.score.differs(other.score)
        where = f"{own.factor} in {own.columns.label}, by {_interval(gap)}"
        if sign > 0:
            more.append((gap.value, where))
        elif sign < 0:
            less.append((-gap.value, where))
    text = (
        f"By {probe} probe, latents tell more than {source} in {len(more)} of {len(pairs)} cells."
    )
    text += f" Most: {max(more)[1]}." if more else ""
    text += f" They tell less in {len(less)}."
    text += f" Most: {max(less)[1]}." if less else ""
    if is_code(pairs[0][1].columns):
        ours, theirs = ({len(c.columns.columns) for c in pair} for pair in zip(*pairs, strict=True))
        text += f" A code of {max(theirs)} numbers stands beside our first {max(ours)}."
    return text


def tables(
    cells: Sequence[Cell], factors: Sequence[Factor], refused: Mapping[str, str]
) -> list[Table]:
    """Return scores, where factors are, the first bands that suffice, and why labels were refused.

    The length of a code stands beside each score, since longer codes tell more.
    """
    made = []
    if cells:
        made += [_score_table(cells, factors), _state_table(cells), _sufficient_table(cells)]
    if notes := {**{f.name: f.note for f in factors if f.note}, **refused}:
        caption = "Labels that were not predicted, or not of all images."
        listed = {"label": list(notes), "why": list(notes.values())}
        made.append(Table("factors_left_out", caption, listed))
    return made


def _score_table(cells: Sequence[Cell], factors: Sequence[Factor]) -> Table:
    by_name = {factor.name: factor for factor in factors}
    sources = dict.fromkeys(cell.source for cell in cells if cell.source != LATENTS)
    match = {id(c): own for source in sources for own, c in counterparts(cells, source)}
    rows = []
    for cell in cells:
        score, own = cell.score, match.get(id(cell))
        gap = own.score.minus(score) if own else None
        rows.append(
            {
                "factor": cell.factor, "columns": cell.columns.name, "source": cell.source,
                "probe": cell.probe, "code length": len(cell.columns.columns),
                "measure": by_name[cell.factor].measure, "n": score.n,
                **with_ends("score", score.estimate),
                "null mean": score.null_mean, "null highest": max(score.null),
                "p": score.p_value, "above chance": score.above_chance.value,
                "beside latents": own.columns.name if own else None,
                **with_ends("latents minus this", gap, "minus this, {}"),
            }
        )  # fmt: skip
    caption = (
        "How well each factor is predicted, with 95 % intervals of the images; the null is of "
        "permuted labels; above chance is R^2, or (balanced accuracy - null) / (1 - null); latents "
        "minus this is the difference above chance, of the same images at the same columns, or at "
        "as many first ones as a code is long."
    )
    return Table.of_rows("factor_map", caption, rows)


def _state_table(cells: Sequence[Cell]) -> Table:
    held = {(c.source, c.columns.label): c.columns for c in cells}
    rows = [
        {"factor": factor, "source": source, "columns": label,
         "code length": len(held[source, label].columns),
         "of": max(held[source, label].whole, len(held[source, label].columns)), "has it": state}
        for source in dict.fromkeys(cell.source for cell in cells)
        for (factor, label), state in states(cells, source).items()
    ]  # fmt: skip
    caption = (
        "Which columns have which factor, by all probes together. in: an interval lies above a "
        f"tenth ({HARDLY}) of the way from chance to 1 and the score above every null; not: all "
        "intervals end below that, and none is above chance; hardly: one is; unclear: the rest. "
        "Above chance is a score above every null, whose interval lies above the null's mean. It "
        "is said of the columns looked at, which may be fewer than there are."
    )
    return Table.of_rows("states", caption, rows)


def _sufficient_table(cells: Sequence[Cell]) -> Table:
    pairs = dict.fromkeys((cell.probe, cell.source) for cell in cells)
    rows = [
        {"factor": factor, "probe": probe, "source": source, "first bands": prefix}
        for probe, source in pairs
        for factor, prefix in sufficient(cells, source, probe).items()
    ]
    caption = "First bands that lack at most 5 % of what all tell beyond chance; a dash: nothing."
    return Table.of_rows("enough", caption, rows)


def _short(value: float) -> str:
    """Write two decimals, zero without a sign."""
    return f"{round(value, 2) + 0.0:.2f}"


def _interval(estimate: Estimate) -> str:
    return f"{_short(estimate.value)} [{_short(estimate.low)}, {_short(estimate.high)}]"


def _metrics(cells: Sequence[Cell], main: str) -> dict[str, float]:
    """Return scores above chance by key: the main probe's of latents under the bare name."""
    return {
        metric_key(
            "/".join(
                [
                    FACTOR_MAP
                    if cell.source == LATENTS
                    else f"{FACTOR_MAP_CONTROL}/{key_part(cell.source)}",
                    key_part(cell.factor),
                    cell.columns.name + ("" if cell.probe == main else f"_{cell.probe}"),
                ]
            )
        ): cell.score.above_chance.value
        for cell in cells
    }
