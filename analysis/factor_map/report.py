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
        names = list(own)[:MOST_TOLD]
        told = listed([_place(name, own[name], raw.get(name)) for name in own], MOST_TOLD)
        how = ""
        if place == 0:
            n = span(factor.rows.size for factor in factors)
            how = f" (n = {n}; R^2, or balanced accuracy above chance, ba; 95 % intervals)"
        said.append(f"Best band by {probe} probe{how}: {told}.")
        if place == 0:
            said += _suffice(cells, probe, names)
        if compared := [_compared(cells, probe, source) for source in controls]:
            said.append(f"By {probe} probe, latents tell {'; '.join(compared)}.")
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

    parts = []
    for band in bands:
        has, lacks = names(band, "in"), names(band, "not")
        partly = sets[band].whole > len(sets[band].columns)
        where = f"{band} ({sets[band].count} looked at)" if partly else band
        parts.append(f"{where} has {has or 'none'}" + (f", not {lacks}" if lacks else ""))
    counts = ", ".join(f"{band} {sets[band].count}" for band in bands)
    said = (
        f"Factors by band: {'; '.join(parts)} (has: by some probe, more than a tenth of the way "
        "from chance to 1; not: by no probe that much, nor more than chance allows; looked at: "
        f"{counts})."
    )
    if not raw:
        return [said]
    differs = [
        f"{name} in {band}: latents {_said(own[name, band])}, raw {_said(raw[name, band])}"
        for name, band in own
        if band in bands and {own[name, band], raw.get((name, band))} == {"in", "not"}
    ]
    if not differs:
        return [said, "Nowhere has one of latents and raw coefficients a factor and the other not."]
    return [said, f"Raw coefficients differ: {'; '.join(differs[:MOST_TOLD])}."]


def _said(state: State) -> str:
    return "yes" if state == "in" else "no"


def _single(cells: Sequence[Cell], source: str, probe: str) -> dict[str, dict[str, ProbeScore]]:
    """Return scores of single bands; of all columns where there is one band only."""
    return scores(cells, source, probe, "band") or scores(cells, source, probe, "all")


def _place(name: str, own: Mapping[str, ProbeScore], raw: Mapping[str, ProbeScore] | None) -> str:
    """Say in which band a factor is."""
    band, best = max(own.items(), key=lambda item: item[1].above_chance.value)
    beside = f"raw {_short(raw[band].above_chance.value)}" if raw and band in raw else "no control"
    value = f"{'ba' if best.classes else 'R^2'} {_interval(best.above_chance)}"
    if not best.found:
        return f"{name} in none (at most {value}, null up to {_short(best.null_top)}; {beside})"
    hardly = "hardly in " if best.above_chance.value < HARDLY else "in "
    return f"{name} {hardly}{band} ({value}; {beside})"


def _suffice(cells: Sequence[Cell], probe: str, names: Sequence[str]) -> list[str]:
    """Say which first bands tell as much as all."""
    if not any(cell.columns.kind == "band" for cell in cells):
        return []
    own, raw = sufficient(cells, LATENTS, probe), sufficient(cells, RAW, probe)
    by_prefix: dict[str, list[str]] = {}
    for name in names:
        if own[name]:
            other = raw.get(name)
            differs = f" (raw {other or 'nothing'})" if raw and other != own[name] else ""
            by_prefix.setdefault(str(own[name]), []).append(name + differs)
    parts = [f"{prefix}: {', '.join(each)}" for prefix, each in by_prefix.items()]
    whole = next(c.columns.label for c in cells if c.columns.kind == "all" and c.source == LATENTS)
    said = f"First bands that tell as much as {whole}, within 5 %: {'; '.join(parts)}."
    return [said] * bool(parts)


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
    ours, theirs = ({len(c.columns.columns) for c in pair} for pair in zip(*pairs, strict=True))
    length = ""
    if is_code(pairs[0][1].columns):
        length = f" ({max(theirs)} numbers, beside our first {max(ours)})"
    text = f"more than {source}{length} in {len(more)} of {len(pairs)} cells"
    text += f" (most: {max(more)[1]})" if more else ""
    text += f", less in {len(less)}"
    return text + (f" (most: {max(less)[1]})" if less else "")


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
