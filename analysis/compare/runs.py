"""From stored runs, whoever made them, to choices with one run for each seed.

A choice is what was varied on purpose: the params that differ between runs, apart from seeds and
from names of files and folders; or the label in the tag ``study.choice``, with the params that
still differ below it. Nothing is pooled in silence: runs that do not count are listed with the
reason, and two runs of one choice and seed that differ in anything else are refused.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from gdm_repr.analysis.compare.tags import CHOICE_TAG, FINGERPRINT_TAG, PLACE_TAG, SEED_TAG, is_free
from gdm_repr.boundary import numerals
from gdm_repr.tracking.query import FINISHED, StoredRun

SEED_KEYS = ("seed", "train.seed")
ONE_CHOICE = "all runs"
NONE = "-"  # value of a param that a run has not

_SEED = re.compile(r"(^|[./_-])(seed|random_state)$", re.IGNORECASE)
# Params that say where things lie, by the last word of their key or by their value.
_PLACE_KEY = re.compile(
    r"(^|[./_-])(out|output|path|dir|directory|folder|file|log|logs|uri|url|checkpoint|ckpt|latents)$",
    re.IGNORECASE,
)
_DATA_KEY = re.compile(r"(^|[./_-])(data|dataset)$", re.IGNORECASE)  # what, wherever it lies
_PLACE_VALUE = re.compile(
    # one slash may stand in a model's name, two are a path
    r"^(\.{0,2}/|~|[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]*://|[^\s/]+/[^\s/]+/[^\s/])"
)


class LeftOut(NamedTuple):
    """A run that does not count, and why."""

    run: StoredRun
    reason: str


@dataclass(frozen=True)
class ChoiceRuns:
    """One choice and the runs that made it.

    Attributes:
        label: the values that make it.
        params: by key.
        runs: by seed; by the run's id where the run names no seed.
    """

    label: str
    params: Mapping[str, str]
    runs: Mapping[str, StoredRun]

    def values(self, metric: str) -> dict[str, float]:
        """Return a metric's finite values by seed."""
        found = {seed: run.metrics.get(metric, math.nan) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Choices:
    """The choices of a comparison.

    Attributes:
        every: in the order they are shown.
        tagged: whether the label of a study makes a choice.
        keys: params that make it, or tell runs of one label apart.
        ignored: params that differ, too, and were not taken for a choice.
        seeded: whether all runs name their seed.
        left_out: runs that do not count.
    """

    every: tuple[ChoiceRuns, ...]
    tagged: bool
    keys: tuple[str, ...]
    ignored: tuple[str, ...]
    seeded: bool
    left_out: tuple[LeftOut, ...]


def gather(
    runs: Sequence[StoredRun], choice: Sequence[str] = (), seed_key: str | None = None
) -> Choices:
    """Sort runs into choices.

    Args:
        runs: the newest first, as from `find_runs`.
        choice: keys or patterns of the params (or tags) that make a choice, instead of those found.
        seed_key: param (or tag) that holds the seed.

    Raises:
        ValueError: No run counts; a key that no run has; runs that only something else tells apart.
    """
    left_out = [LeftOut(run, reason) for run in runs if (reason := _why_not(run, runs))]
    dropped = {each.run.id for each in left_out}
    counted = [run for run in runs if run.id not in dropped]
    if not counted:
        raise ValueError(_none_counts(left_out))
    if seed_key is not None and seed_key not in _matching("--seed-key", [seed_key], counted):
        raise ValueError(f"--seed-key {seed_key}: must be one key, not a pattern")
    differing = _differing(counted)
    places = [key for key in differing if _names_place(key, [r.params.get(key) for r in counted])]
    seeds = [key for key in differing if _SEED.search(key) or key == seed_key]
    tagged = not choice and all(CHOICE_TAG in run.tags for run in counted)
    places += [key for key in differing if tagged and is_free(key) and key not in places]
    open_keys = [key for key in differing if key not in {*places, *seeds}]
    if choice:
        keys = _matching("--choice", choice, counted)
    else:
        keys = [key for key in open_keys if not tagged or _splits_a_label(key, counted)]
    groups: dict[tuple[str, ...], list[StoredRun]] = {}
    for run in counted:
        own = [run.tags[CHOICE_TAG]] if tagged else []
        groups.setdefault((*own, *(_value(run, key) for key in keys)), []).append(run)
    short = _short(keys)
    every = []
    for parts, members in groups.items():
        tag, values = parts[:tagged], parts[tagged:]
        named = (f"{name}={value}" for name, value in zip(short, values, strict=True))
        label = ", ".join((*tag, *named)) or ONE_CHOICE
        by_seed, older = _one_a_seed(label, members, seed_key, open_keys, seeds)
        left_out += older
        every.append(ChoiceRuns(label, dict(zip(keys, values, strict=True)), by_seed))
    if tagged:
        every.sort(
            key=lambda each: min(
                (_natural(run.tags.get(PLACE_TAG, "")), run.start) for run in each.runs.values()
            )
        )
    else:
        every.sort(key=lambda each: [_natural(value) for value in each.params.values()])
    return Choices(
        every=tuple(every),
        tagged=tagged,
        keys=tuple(keys),
        ignored=tuple(key for key in (open_keys if choice else places) if key not in keys),
        seeded=all(_seed(run, seed_key) is not None for run in counted),
        left_out=tuple(left_out),
    )


def _why_not(run: StoredRun, runs: Sequence[StoredRun]) -> str:
    """Return why a run does not count; empty if it does."""
    if run.status != FINISHED:
        return f"{run.status}, not {FINISHED}"
    if any(other.parent == run.id for other in runs):
        return "the parent of other runs"
    return "" if run.metrics else "has no metrics"


def _none_counts(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return (
            "--filter: no run is there to be compared; give another --experiment, --parent or "
            "--filter"
        )
    reasons: dict[str, int] = {}
    for each in left_out:
        reasons[each.reason] = reasons.get(each.reason, 0) + 1
    told = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    return f"--filter: none of {len(left_out)} runs counts ({told}); only finished runs do"


def _differing(runs: Sequence[StoredRun]) -> list[str]:
    """Return the params that differ, in the order of their names."""
    keys = sorted({key for run in runs for key in run.params})
    return [key for key in keys if len({run.params.get(key) for run in runs}) > 1]


def _names_place(key: str, values: Iterable[str | None]) -> bool:
    if _DATA_KEY.search(key):
        return False
    given = [value.strip('"') for value in values if value]
    return bool(_PLACE_KEY.search(key)) or any(_PLACE_VALUE.match(value) for value in given)


def _splits_a_label(key: str, runs: Sequence[StoredRun]) -> bool:
    """Tell whether a param differs between runs of one label."""
    values: dict[str, set[str]] = {}
    for run in runs:
        values.setdefault(run.tags[CHOICE_TAG], set()).add(_value(run, key))
    return any(len(each) > 1 for each in values.values())


def _one_a_seed(
    label: str,
    runs: Sequence[StoredRun],
    seed_key: str | None,
    open_keys: Sequence[str],
    seeds: Sequence[str],
) -> tuple[dict[str, StoredRun], list[LeftOut]]:
    """Return a choice's runs by seed, and those that a newer one stands for."""
    by_seed: dict[str, StoredRun] = {}
    older = []
    for run in runs:  # the newest first
        seed = _seed(run, seed_key)
        newest = by_seed.setdefault(run.id if seed is None else seed, run)
        if newest is run:
            continue
        other = [
            key for key in (*open_keys, *seeds) if run.params.get(key) != newest.params.get(key)
        ]
        if other:
            raise ValueError(
                f"--choice: runs {newest.name!r} ({newest.id}) and {run.name!r} ({run.id}) are "
                f"both {label!r} with seed {seed}, but differ in {', '.join(other)}; add it to "
                "--choice, name it as --seed-key, or leave runs out with --filter"
            )
        same = run.tags.get(FINGERPRINT_TAG) == newest.tags.get(FINGERPRINT_TAG)
        differs = "" if same else " (of another fingerprint)"
        older.append(LeftOut(run, f"older than {newest.id} of the same choice and seed{differs}"))
    if all(numerals.whole(seed) is not None for seed in by_seed):
        by_seed = {seed: by_seed[seed] for seed in sorted(by_seed, key=int)}
    return by_seed, older


def _seed(run: StoredRun, seed_key: str | None) -> str | None:
    if seed_key is not None:
        return run.params.get(seed_key, run.tags.get(seed_key))
    found = (run.tags.get(SEED_TAG), *(run.params.get(key) for key in SEED_KEYS))
    return next((seed for seed in found if seed is not None), None)


def _value(run: StoredRun, key: str) -> str:
    return run.params.get(key, run.tags.get(key, NONE))


def _matching(flag: str, wanted: Sequence[str], runs: Sequence[StoredRun]) -> list[str]:
    """Return the params, or else the tags, that patterns name."""
    params = sorted({key for run in runs for key in run.params})
    tags = sorted({key for run in runs for key in run.tags})
    return expand(flag, wanted, params, tags)


def expand(flag: str, wanted: Sequence[str], *known: Sequence[str]) -> list[str]:
    """Return the keys that patterns name, those of the first list that has any for each.

    Raises:
        ValueError: A pattern names none; ``flag`` is the option it came from.
    """
    found: list[str] = []
    for pattern in wanted:
        hits = next((h for keys in known if (h := [k for k in keys if _fits(k, pattern)])), None)
        if hits is None:
            every = [key for keys in known for key in keys]
            close = difflib.get_close_matches(pattern, every, n=3) or every[:8]
            raise ValueError(
                f"{flag} {pattern}: no run has it; give a key or a pattern such as 'model.*'; "
                f"there are {', '.join(close) or 'none'}"
            )
        found += [key for key in hits if key not in found]
    return found


def _fits(key: str, pattern: str) -> bool:
    return key == pattern or fnmatchcase(key, pattern)


def _short(keys: Sequence[str]) -> list[str]:
    """Return each key's last parts, as many as tell it from the others; ``name`` says nothing."""
    short = []
    for key in keys:
        parts = key.split(".")
        for n in range(1, len(parts) + 1):
            own = ".".join(parts[-n:])
            if own != "name" and sum(f".{other}".endswith(f".{own}") for other in keys) == 1:
                break
        short.append(own)
    return short


def _natural(value: str) -> tuple[int, float, str]:
    """Order numbers by value, before texts."""
    number = numerals.real(value)
    return (1, 0.0, value) if number is None else (0, number, value)
