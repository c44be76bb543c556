"""Numbers as users write them: the one reading of text as a number, for cells, flags and ranges.

A **numeral** is ASCII: digits with an optional sign, and for a real number a point and an exponent
(``12``, ``-3``, ``+.5``, ``1.50``, ``2e-3``). Python's ``int`` and ``float`` take more: ``1_0``,
other scripts' digits, blanks around it, ``infinity``, ``nan``, and ``1e999`` as infinity. Here
these are no numbers, so that two texts that a reader tells apart never become one number unseen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
INT64_DIGITS = 18  # as many always fit into 64 bits, sign or not
_LONGEST = 400  # characters of a real number: float64's extremes written out have fewer
RULE = "a finite number is written in digits, as 12, -3, 1.5 or 2e-3"
WHOLE_RULE = "a whole number is written in digits, as 12"


def whole(text: str) -> int | None:
    r"""Return a whole number of at most 18 digits; None where the text is none.

    >>> [whole(text) for text in ("12", "-3", "007", "1_0", "\uff11", " 1", "1.0", "9" * 19)]
    [12, -3, 7, None, None, None, None, None]
    """
    digits = len(text.lstrip("+-"))
    return int(text) if _WHOLE.fullmatch(text) and digits <= INT64_DIGITS else None


def is_whole(text: str) -> bool:
    """Say whether a text is a whole number, of any length."""
    return _WHOLE.fullmatch(text) is not None


def place(text: str) -> int | None:
    r"""Return a place or a count, a whole number without sign; None where the text is none.

    >>> [place(text) for text in ("12", "+3", "-3", "\uff17")]
    [12, None, None, None]
    """
    return whole(text) if text[:1] not in ("+", "-") else None


def span(text: str) -> tuple[int, int] | None:
    r"""Return both ends of a range of places, ``0-29``; None where the text is none.

    >>> span("0-29"), span("0-\uff12"), span("0-29-31")
    ((0, 29), None, None)
    """
    first, _, last = text.partition("-")
    low, high = place(first), place(last)
    return None if low is None or high is None else (low, high)


def real(text: str) -> float | None:
    """Return a finite real number; None where the text is none.

    >>> [real(text) for text in ("1.50", "-.5", "2e3", "1e999", "inf", "nan", "1_0.0", "0x1p3")]
    [1.5, -0.5, 2000.0, None, None, None, None, None]
    """
    if len(text) > _LONGEST or not _REAL.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def loose_numbers(given: object, made: object) -> tuple[tuple[str, ...], object, str] | None:
    """Find the first text that became a number without being a numeral.

    It goes beside :mod:`pydantic`, whose numbers read text as Python does.

    Args:
        given: what was validated: text, or lists and mappings of it.
        made: what became of it: numbers, tuples, mappings and models of the same form.

    Returns:
        The names on the way to it, it, and the rule; None where all is well. Of numbers that are
        not finite, as JSON and YAML can give, the same.
    """
    if isinstance(given, float):
        return None if math.isfinite(given) else ((), given, RULE)
    if isinstance(given, str):
        if isinstance(made, bool) or not isinstance(made, int | float):
            return None
        if isinstance(made, int):
            return None if whole(given) is not None else ((), given, WHOLE_RULE)
        return None if real(given) is not None else ((), given, RULE)
    if isinstance(given, Mapping):
        pairs = [(str(name), each, _member(made, str(name))) for name, each in given.items()]
    elif isinstance(given, Sequence):
        if len(given) == 1 and not isinstance(made, Sequence):
            return loose_numbers(given[0], made)  # a flag's list of one, taken for its element
        if not isinstance(made, Sequence) or len(made) != len(given):
            return None
        pairs = [(str(i), *pair) for i, pair in enumerate(zip(given, made, strict=True))]
    else:
        return None
    for name, each, member in pairs:
        if found := loose_numbers(each, member):
            return ((name, *found[0]), *found[1:])
    return None


def _member(made: object, name: str) -> Any:  # noqa: ANN401
    return made.get(name) if isinstance(made, Mapping) else getattr(made, name, None)
