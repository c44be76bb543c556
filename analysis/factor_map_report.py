"""What the factor map asks of which columns, and its sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gdm_repr.analysis.estimate import Estimate
from gdm_repr.analysis.factor_scores import Score, enough
from gdm_repr.analysis.factors import Factor
from gdm_repr.analysis.report import Table

LATENTS, RAW = "latents", "raw coefficients"
ALL = "all"
MOST_BANDS = 12  # of more, neighbours are looked at together
MOST_TOLD = 12  # factors in the answer
HARDLY = 0.1  # of the way from chance to 1; a best band below that is hardly one


@dataclass(frozen=True)
class Columns:
    """Columns that factors are predicted from.

    Attributes:
        name: in tables and keys.
        label: for a reader.
        columns: their places in the table of latents.
        bands: how many bands from the first these are; 0 for one that is not the first alone.
        single: whether it is one band.
    """

    name: str
    label: str
    columns: tuple[int, ...]
    bands: int
    single: bool


@dataclass(frozen=True)
class Cell:
    """A score, and what of."""

    factor: str
    probe: str
    source: str
    columns: Columns
    score: Score


Scores = dict[str, dict[str, Score]]  # by factor, then by name of the columns


def column_sets(bands: Mapping[str, tuple[int, int]]) -> list[Columns]:
    """Return each band, the first two bands, the first three .., and all.

    Args:
        bands: first column and one past the last, by name, in the order of generation.

    >>> [columns.name for columns in column_sets({"0_5": (0, 6), "6_9": (6, 10), "10": (10, 11)})]
    ['0_5', '6_9', '10', 'up_to_6_9', 'all']
    """
    runs = np.array_split(np.array(list(bands), dtype=object), min(len(bands), MOST_BANDS))
    ends = {
        run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}": (bands[run[0]][0], bands[run[-1]][1])
        for run in runs
    }
    k = len(ends)
    if k == 1:
        return [Columns(ALL, ALL, tuple(range(*next(iter(ends.values())))), 1, True)]
    sets = [
        Columns(name, name, tuple(range(*span)), int(place == 0), True)
        for place, (name, span) in enumerate(ends.items())
    ]
    for place, (name, (_, stop)) in enumerate(ends.items(), start=1):
        if 1 < place < k:
            wide = tuple(range(stop))
            sets.append(Columns(f"up_to_{name}", f"up to {name}", wide, place, False))
        elif place == k:
            sets.append(Columns(ALL, ALL, tuple(range(stop)), place, False))
    return sets


def scores(cells: Sequence[Cell], source: str, probe: str, *, prefixes: bool = False) -> Scores:
    """Return scores by factor and columns: single bands and all, or the first bands."""
    found: Scores = {}
    for cell in cells:
        wanted = cell.columns.bands if prefixes else cell.columns.single or cell.columns.name == ALL
        if (cell.source, cell.probe) == (source, probe) and wanted:
            found.setdefault(cell.factor, {})[cell.columns.label] = cell.score
    return found


def sufficient(cells: Sequence[Cell], source: str, probe: str) -> dict[str, str | None]:
    """Return the fewest first bands that suffice, by factor; None where all tell nothing."""
    return {
        factor: enough(by_columns)
        for factor, by_columns in scores(cells, source, probe, prefixes=True).items()
    }


def sentences(
    cells: Sequence[Cell],
    refused: Mapping[str, str],
    factors: Sequence[Factor],
    probes: Sequence[str],
) -> list[str]:
    """Say where each factor is, how few bands suffice, and where latents differ from raw ones.

    The first probe's sentences come first; of the others it is not said how few bands suffice.
    """
    if not factors:
        why = "; ".join(f"{name} {reason}" for name, reason in refused.items())
        return [f"There is no factor to predict: {why or 'the store has no labels'}."]
    said = []
    for place, probe in enumerate(probes):
        own, raw = scores(cells, LATENTS, probe), scores(cells, RAW, probe)
        names = list(own)[:MOST_TOLD]
        told = "; ".join(_place(name, own[name], raw.get(name)) for name in names)
        more = f"; {len(own) - MOST_TOLD} more in the table" if len(own) > MOST_TOLD else ""
        how = ""
        if place == 0:
            n = sorted({factor.rows.size for factor in factors})
            span = str(n[0]) if len(n) == 1 else f"{n[0]} to {n[-1]}"
            how = f" (n = {span}; R^2, or balanced accuracy above chance, ba; 95 % intervals)"
        said.append(f"Best band by {probe} probe{how}: {told}{more}.")
        if place == 0:
            said += _suffice(cells, probe, names)
        if raw:
            said.append(f"By {probe} probe, {_compared(own, raw)}")
    if refused:
        why = "; ".join(f"{name} {reason}" for name, reason in list(refused.items())[:4])
        said.append(f"Not predicted: {why}.")
    return said


def _place(name: str, own: Mapping[str, Score], raw: Mapping[str, Score] | None) -> str:
    """Say in which band a factor is."""
    single = {band: score for band, score in own.items() if band != ALL} or own
    band, best = max(single.items(), key=lambda item: item[1].above_chance.value)
    beside = f"raw {_short(raw[band].above_chance.value)}" if raw and band in raw else "no control"
    value = f"{'ba' if best.classes else 'R^2'} {_interval(best.above_chance)}"
    if not best.found:
        return f"{name} in none (at most {value}, null up to {_short(best.null_top)}; {beside})"
    hardly = "hardly in " if best.above_chance.value < HARDLY else "in "
    return f"{name} {hardly}{band} ({value}; {beside})"


def _suffice(cells: Sequence[Cell], probe: str, names: Sequence[str]) -> list[str]:
    """Say which first bands tell as much as all."""
    if len({cell.columns.name for cell in cells}) == 1:
        return []
    own, raw = sufficient(cells, LATENTS, probe), sufficient(cells, RAW, probe)
    by_prefix: dict[str, list[str]] = {}
    for name in names:
        if own[name]:
            other = raw.get(name)
            differs = f" (raw {other or 'nothing'})" if raw and other != own[name] else ""
            by_prefix.setdefault(str(own[name]), []).append(name + differs)
    parts = [f"{prefix}: {', '.join(each)}" for prefix, each in by_prefix.items()]
    return [f"First bands that tell as much as all, within 5 %: {'; '.join(parts)}."] * bool(parts)


def _compared(own: Scores, raw: Scores) -> str:
    """Count the cells where latents tell more, and less, than raw coefficients."""
    more, less, total = [], [], 0
    for name, by_columns in own.items():
        for band, score in by_columns.items():
            if band not in raw.get(name, {}):
                continue
            total += 1
            gap = score.minus(raw[name][band])
            sign = score.differs(raw[name][band])
            if sign > 0:
                more.append((gap.value, f"{name} in {band}, by {_interval(gap)}"))
            elif sign < 0:
                less.append((-gap.value, f"{name} in {band}, by {_interval(gap)}"))
    text = f"latents tell more than raw coefficients in {len(more)} of {total} cells"
    text += f" (most: {max(more)[1]})" if more else ""
    text += f", less in {len(less)}"
    return text + (f" (most: {max(less)[1]})." if less else ".")


def tables(
    cells: Sequence[Cell], factors: Sequence[Factor], refused: Mapping[str, str]
) -> list[Table]:
    """Return the scores, the first bands that suffice, and why labels were refused."""
    by_name = {factor.name: factor for factor in factors}
    raw = {(c.factor, c.probe, c.columns.name): c.score for c in cells if c.source == RAW}
    rows = []
    for cell in cells:
        score, factor = cell.score, by_name[cell.factor]
        control = raw.get((cell.factor, cell.probe, cell.columns.name))
        gap = score.minus(control) if control and cell.source != RAW else None
        rows.append(
            {
                "factor": cell.factor, "columns": cell.columns.label, "source": cell.source,
                "probe": cell.probe, "measure": factor.measure, "n": score.n,
                "number of columns": len(cell.columns.columns),
                "score": score.value, "low": score.estimate.low, "high": score.estimate.high,
                "null mean": score.null_mean, "null highest": max(score.null),
                "p": score.p_value, "above chance": score.above_chance.value,
                "above raw": gap and gap.value, "above raw, low": gap and gap.low,
                "above raw, high": gap and gap.high,
            }
        )  # fmt: skip
    made = []
    if rows:
        caption = (
            "How well each factor is predicted, with 95 % intervals of the images; the null is of "
            "permuted labels; above chance is R^2, or (balanced accuracy - null) / (1 - null); "
            "above raw is the difference to the raw coefficients of the same images."
        )
        made.append(Table.of_rows("factor_map", caption, rows))
        made.append(_sufficient_table(cells))
    if notes := {**{f.name: f.note for f in factors if f.note}, **refused}:
        caption = "Labels that were not predicted, or not of all images."
        listed = {"label": list(notes), "why": list(notes.values())}
        made.append(Table("factors_left_out", caption, listed))
    return made


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
