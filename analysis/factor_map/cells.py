"""Which columns the factor map predicts factors from, and what its scores say of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gdm_repr.analysis.columns.names import LATENTS
from gdm_repr.analysis.factor_map.scores import ProbeScore, enough
from gdm_repr.boundary.isolation import isolated

ALL = "all"
MOST_BANDS = 12  # of more, neighbours are looked at together
HARDLY = 0.1  # of the way from chance to 1; a band that tells less hardly has a factor

Kind = Literal["band", "prefix", "first", "all"]
State = Literal["in", "hardly", "not", "unclear"]


@dataclass(frozen=True)
class ColumnSet:
    """Columns that factors are predicted from.

    Attributes:
        name: in tables and keys.
        label: for a reader.
        columns: their places in the table of latents.
        bands: how many bands from the first these are; 0 for others.
        kind: one band, the first bands, as many columns as a code has, or all that there are.
        whole: how many columns there are where these are; of some that were left out, more.
    """

    name: str
    label: str
    columns: tuple[int, ...]
    bands: int
    kind: Kind
    whole: int = 0

    @property
    def count(self) -> str:
        """Say how many columns these are, and of how many, as in ``256 of 2,772 columns``."""
        n = len(self.columns)
        of = f" of {self.whole:,}" if self.whole > n else ""
        return f"{n:,}{of} column{'s' * (n != 1)}"


@dataclass(frozen=True)
class Cell:
    """A score, and what of."""

    factor: str
    probe: str
    source: str
    columns: ColumnSet
    score: ProbeScore


Scores = dict[str, dict[str, ProbeScore]]  # by factor, then by label of the columns


def column_sets(
    bands: Mapping[str, tuple[int, int]],
    lengths: Sequence[int] = (),
    left_out: Mapping[str, int] | None = None,
) -> list[ColumnSet]:
    """Return each band, the first two bands, the first three .., as many as codes have, and all.

    Where columns of bands are left out, the last set is not called all: its name and label count.

    Args:
        bands: first column and one past the last, by name, in the order of generation.
        lengths: of codes to compare with.
        left_out: columns of each band that are not among these, by name.

    >>> [columns.name for columns in column_sets({"0_5": (0, 6), "6_9": (6, 10), "10": (10, 11)})]
    ['0_5', '6_9', '10', 'up_to_6_9', 'all']
    """
    runs = np.array_split(np.array(list(bands), dtype=object), min(len(bands), MOST_BANDS))
    ends = {
        run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}": (bands[run[0]][0], bands[run[-1]][1])
        for run in runs
    }
    k, total = len(ends), max(stop for _, stop in ends.values())
    lost = {
        name: sum((left_out or {}).get(band, 0) for band in run)
        for name, run in zip(ends, runs, strict=True)
    }
    before = dict(zip(ends, np.cumsum(list(lost.values())).tolist(), strict=True))
    sets = []
    if k > 1:
        sets += [
            ColumnSet(
                name,
                _plain(name),
                tuple(range(*span)),
                int(place == 0),
                "band",
                span[1] - span[0] + lost[name],
            )
            for place, (name, span) in enumerate(ends.items())
        ]
    for place, (name, (_, stop)) in enumerate(ends.items(), start=1):
        if 1 < place < k:
            label = f"up to {_plain(name)}"
            here = tuple(range(stop))
            sets.append(
                ColumnSet(f"up_to_{name}", label, here, place, "prefix", stop + before[name])
            )
    known = {len(each.columns) for each in sets if each.bands} | {total}
    for n in sorted({n for n in lengths if n < total} - known):
        sets.append(ColumnSet(f"first_{n}", f"first {n}", tuple(range(n)), 0, "first"))
    whole = total + sum(lost.values())
    name, label = (
        (ALL, ALL)
        if whole == total
        else (f"{total}_of_{whole}_columns", f"{total:,} of {whole:,} columns")
    )
    return [*sets, ColumnSet(name, label, tuple(range(total)), k, "all", whole)]


def code_columns(length: int) -> list[ColumnSet]:
    """Return what is asked of codes, which have no bands."""
    return [ColumnSet(ALL, ALL, tuple(range(length)), 0, "all")]


def is_code(columns: ColumnSet) -> bool:
    """Tell whether columns are codes, which lie in no band."""
    return columns.kind == "all" and not columns.bands


def _plain(name: str) -> str:
    """Write ``0_29`` as ``[0, 29]``."""
    return re.sub(r"\b(\d+)_(\d+)\b", r"[\1, \2]", name)


@isolated
def scores(cells: Sequence[Cell], source: str, probe: str, *kinds: Kind) -> Scores:
    """Return scores by factor and columns: of some kinds, or of the first bands."""
    found: Scores = {}
    for cell in cells:
        wanted = cell.columns.kind in kinds if kinds else cell.columns.bands
        if (cell.source, cell.probe) == (source, probe) and wanted:
            found.setdefault(cell.factor, {})[cell.columns.label] = cell.score
    return found


@isolated
def sufficient(cells: Sequence[Cell], source: str, probe: str) -> dict[str, str | None]:
    """Return the fewest first bands that suffice, by factor; None where all tell nothing."""
    return {
        factor: enough(by_columns) for factor, by_columns in scores(cells, source, probe).items()
    }


@isolated
def counterparts(cells: Sequence[Cell], source: str) -> list[tuple[Cell, Cell]]:
    """Return cells of latents and those of another source at the same columns.

    Codes are compared with as many first latents as they are long, or with all.
    """
    own = [cell for cell in cells if cell.source == LATENTS]
    by_name = {(c.factor, c.probe, c.columns.name): c for c in own}
    most = {(c.factor, c.probe): c for c in own if c.columns.kind == "all"}
    by_columns = {(c.factor, c.probe, c.columns.columns): c for c in own}
    pairs = []
    for cell in cells:
        if cell.source != source:
            continue
        key = (cell.factor, cell.probe)
        match = by_name.get((*key, cell.columns.name))
        if is_code(cell.columns):
            match = by_columns.get((*key, cell.columns.columns), most.get(key))
        if match is not None:
            pairs.append((match, cell))
    return pairs


@isolated
def states(cells: Sequence[Cell], source: str) -> dict[tuple[str, str], State]:
    """Say of each factor and columns whether the factor is there, by all probes together.

    It is *in* where the interval of one probe lies above a tenth of the way from chance to 1, and
    its score above every null; *not* where those of all probes end below that, and none is above
    chance; *hardly* where one is; otherwise *unclear*.
    """
    by_place: dict[tuple[str, str], list[ProbeScore]] = {}
    for cell in cells:
        if cell.source == source:
            by_place.setdefault((cell.factor, cell.columns.label), []).append(cell.score)
    return {place: _state(each) for place, each in by_place.items()}


def _state(each: Sequence[ProbeScore]) -> State:
    if any(score.found and score.above_chance.low >= HARDLY for score in each):
        return "in"
    if any(score.above_chance.high >= HARDLY for score in each):
        return "unclear"
    return "hardly" if any(score.found for score in each) else "not"
