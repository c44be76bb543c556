"""How much each analysis measures in the time there is.

Every analysis gets an equal part of the time; what those leave that need less goes to the others.
What is chosen is written before anything is measured, and kept: a run that goes on has the options
that it began with, on whatever machine. A folder that holds results already keeps their options.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.cost import Rates, measure_rates
from gdm_repr.analysis.journal import JOURNAL, read_head
from gdm_repr.analysis.options import AnalysisConfig, FeatureConfig
from gdm_repr.files import parse_json, read_bytes, write_text

if TYPE_CHECKING:
    from gdm_repr.analysis.runner import Analysis
    from gdm_repr.analysis.subject import Subject

CHOSEN = "chosen.json"  # in the folder of the command
TRIES = 12  # halvings in which a share is found
MORE = 4  # times as many images halve an interval
Part = tuple["Analysis", Any]


@dataclass(frozen=True)
class Choice:
    """What was chosen for one analysis.

    Attributes:
        options: by name.
        seconds: that it will take.
        more: seconds it takes with four times as many of the first; None where there are no more.
    """

    options: dict[str, Any]
    seconds: float
    more: float | None = None


def choose(
    parts: Sequence[Part],
    subject: Subject,
    minutes: float | None,
    out: Path,
    *,
    check: Callable[[Sequence[Part]], object],
    write: bool,
) -> list[Part]:
    """Return the analyses with options for the time there is, and say which.

    Args:
        parts: analyses, with the options that were given.
        subject: what is measured.
        minutes: for all of them; None leaves the options as they are.
        out: folder whose file keeps the choice.
        check: refuses what can't be done, before anything is tried.
        write: whether to keep it.

    Raises:
        ValueError: if the folder was begun for other minutes or images, or the file is damaged.
    """
    if minutes is None:
        check(parts)
        return list(parts)
    overwrite = any(options.overwrite for _, options in parts)
    kept = {} if overwrite else _read(out / CHOSEN, minutes, len(subject.store))
    begun = {} if overwrite else {a.name: _begun(options) for a, options in parts}
    known = {name: Choice(values, 0.0) for name, values in begun.items() if values} | {
        analysis.name: kept[analysis.name] for analysis, _ in parts if analysis.name in kept
    }
    new = [(analysis, options) for analysis, options in parts if analysis.name not in known]
    found = dict(known)
    check(
        [
            (a, _set(options, known[a.name]) if a.name in known else options.dialled(0.0, subject))
            for a, options in parts
        ]
    )
    if new:
        left = 60 * minutes - sum(choice.seconds for choice in known.values())
        began = time.monotonic()
        rates = _try_work(new, subject)
        found |= _choose_new(new, subject, rates, left - (time.monotonic() - began))
        if write:
            out.mkdir(parents=True, exist_ok=True)
            choices = {**kept, **{a.name: found[a.name] for a, _ in new}}
            _write(out / CHOSEN, minutes, len(subject.store), choices)
    for line in _told(parts, found, minutes):
        print(line, file=sys.stderr)
    return [(analysis, _set(options, found[analysis.name])) for analysis, options in parts]


def _set(options: AnalysisConfig, choice: Choice) -> AnalysisConfig:
    """Lay a choice below what was given."""
    free = {k: v for k, v in choice.options.items() if k not in options.model_fields_set}
    return options.model_copy(update={**free, "minutes": None})


def _begun(options: AnalysisConfig) -> dict[str, Any]:
    """Return the options of results that a folder holds."""
    before = read_head(options.out / JOURNAL).get("settings", {})
    return {
        name: tuple(before[name]) if isinstance(before[name], list) else before[name]
        for name in options.dials
        if name in before
    }


def _try_work(parts: Sequence[Part], subject: Subject) -> dict[str, Rates]:
    """Try each kind of work that analyses do."""
    print("trying how long each kind of work takes here", file=sys.stderr)
    return {analysis.name: _rates(options, subject) for analysis, options in parts}


def _choose_new(
    parts: Sequence[Part], subject: Subject, rates: Mapping[str, Rates], seconds: float
) -> dict[str, Choice]:
    """Share the time out."""

    def takes(part: Part, share: float) -> float:
        analysis, options = part
        return rates[analysis.name].seconds(analysis.cost(options.dialled(share, subject), subject))

    shares = share_out([(takes(part, 0.0), takes(part, 1.0)) for part in parts], seconds)
    found = {}
    for part, given in zip(parts, shares, strict=True):
        analysis, options = part
        share = _largest(lambda share, part=part: takes(part, share), given)
        dialled = options.dialled(share, subject)
        values = {name: getattr(dialled, name) for name in options.dials}
        found[analysis.name] = Choice(
            {name: v for name, v in values.items() if name not in options.model_fields_set},
            takes(part, share),
            _more(analysis, dialled, subject, rates[analysis.name]),
        )
    return found


def _rates(options: AnalysisConfig, subject: Subject) -> Rates:
    key = ",".join(options.features) if isinstance(options, FeatureConfig) else ""
    if key not in subject.rates:
        extractors = options.extractors() if isinstance(options, FeatureConfig) else {}
        subject.rates[key] = measure_rates(subject, list(extractors.values()), options.batch_size)
    return subject.rates[key]


def share_out(ends: Sequence[tuple[float, float]], seconds: float) -> list[float]:
    """Return each one's part of the time, by the seconds that it takes at least and at most.

    >>> share_out([(1, 2), (1, 100), (1, 100)], 42)
    [2, 20.0, 20.0]
    >>> share_out([(30, 99), (1, 99)], 42)
    [30, 12.0]
    """
    given: dict[int, float] = {}
    while len(given) < len(ends):
        open_ = [i for i in range(len(ends)) if i not in given]
        each = (seconds - sum(given.values())) / len(open_)
        least = {i: ends[i][0] for i in open_ if ends[i][0] >= each}
        most = {i: ends[i][1] for i in open_ if ends[i][1] <= each}
        if not least and not most:
            given |= dict.fromkeys(open_, each)
        given |= least or most
    return [given[i] for i in range(len(ends))]


def _largest(takes: Any, seconds: float) -> float:  # noqa: ANN401
    """Return the largest share that takes no longer, 0 where none does."""
    if takes(1.0) <= seconds:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(TRIES):
        middle = (low + high) / 2
        low, high = (middle, high) if takes(middle) <= seconds else (low, middle)
    return low


def _more(
    analysis: Analysis, options: AnalysisConfig, subject: Subject, rates: Rates
) -> float | None:
    """Return the seconds of four times as many, None where the store has not so many."""
    first = next(iter(options.dials))
    value = getattr(options, first)
    if not isinstance(value, int):
        return None
    more = options.fitted({first: MORE * value}, subject)
    if getattr(more, first) < MORE * value:
        return None
    return rates.seconds(analysis.cost(more, subject))


def _told(parts: Sequence[Part], found: Mapping[str, Choice], minutes: float) -> list[str]:
    """Say what was chosen, a line for each analysis."""
    total = sum(found[analysis.name].seconds for analysis, _ in parts) / 60
    lines = []
    if total > minutes:
        lines.append(
            f"{minutes:g} minutes are not enough for the least of each analysis, which takes "
            f"{total:.1f}; that is done"
        )
    width = max(len(analysis.name) for analysis, _ in parts)
    for analysis, options in parts:
        choice = found[analysis.name]
        given = options.model_fields_set
        chosen = [f"{k} {_shown(v)}" for k, v in choice.options.items() if k not in given]
        took = _time(choice.seconds) if choice.seconds else "begun before"
        line = f"{analysis.name:<{width}}  {took}: {', '.join(chosen) or 'as given'}"
        if choice.more is not None:
            first = next(iter(options.dials))
            more = _time(choice.more)
            line += f"; {MORE} times the {first} would halve the intervals ({more})"
        lines.append(line)
    return lines


def _time(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return str(len(value)) if value else "all"
    return str(value)


def _write(path: Path, minutes: float, images: int, choices: Mapping[str, Choice]) -> None:
    plain = {name: vars(choice) for name, choice in choices.items()}
    facts = {"minutes": minutes, "images": images, "analyses": plain}
    write_text(path, json.dumps(facts, indent=1) + "\n")


def _read(path: Path, minutes: float, images: int) -> dict[str, Choice]:
    """Read what was chosen before; nothing where nothing was.

    Raises:
        ValueError: if it was for other minutes or images, or the file is damaged.
    """
    if not path.exists():
        return {}
    facts = parse_json(read_bytes(path, "choice"), f"choice {str(path)!r}")
    try:
        before, looked_at = float(facts["minutes"]), int(facts["images"])
        found = {
            name: Choice(
                {k: tuple(v) if isinstance(v, list) else v for k, v in each["options"].items()},
                float(each["seconds"]),
                None if each["more"] is None else float(each["more"]),
            )
            for name, each in facts["analyses"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError(
            f"--out: {str(path)!r} holds no choice of options; remove it, or add --overwrite"
        ) from None
    if before != minutes:
        raise ValueError(
            f"--minutes {minutes:g}: {str(path.parent)!r} was begun for {before:g} minutes; give "
            "these, choose another folder, or add --overwrite"
        )
    if looked_at != images:
        raise ValueError(
            f"--out {str(path.parent)!r}: was begun on {looked_at} images, not on {images}; give "
            "the same --part and --latents, choose another folder, or add --overwrite"
        )
    return found
