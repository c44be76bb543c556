"""A number with its interval, how interval and test agree, and how numbers are written.

*One rule.* An interval and a p value that stand beside each other answer one question, so that an
interval must not hold what the test excludes, nor the other way. Where both come from one
statistic (Student's t) they agree by themselves. Where the interval is of resampled images and the
test of a null that was drawn, the null is what is known exactly, of one value: chance. So the test
decides whether chance lies in the interval, and nothing else of it changes (:func:`agreeing`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import PlainValidator


def _array(values: object) -> NDArray[np.float64]:
    array = np.array(values)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"holds {array.dtype}, not numbers")
    return array.astype(np.float64)


Floats = Annotated[NDArray[np.float64], PlainValidator(_array)]
"""An array, which a journal reads from lists."""

LEVEL = 0.05  # of a test, and of what an interval may miss


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    >>> print(Estimate(0.5, 0.4123, 0.6))
    0.5 [0.412, 0.6]
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return value and interval."""
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"

    def percent(self) -> str:
        """Return value and interval in percent.

        >>> Estimate(0.5, 0.4123, 0.6).percent()
        '50 % [41, 60]'
        """
        return f"{number(100 * self.value, 2)} % [{number(100 * self.low, 2)}, " + (
            f"{number(100 * self.high, 2)}]"
        )


def p_value(value: float, null: ArrayLike) -> float:
    """Return how rarely a null's draws reach a value, which is counted among them; one-sided.

    >>> p_value(3.0, [1.0, 2.0, 3.0])
    0.5
    """
    draws = np.asarray(null)
    return float(1 + (draws >= value).sum()) / (1 + len(draws))


def agreeing(found: Estimate, p: float, draws: int, chance: float = 0.0) -> Estimate:
    """Return a value's interval, above chance exactly where the test says so (p up to LEVEL).

    Coverage of any other value stays what it was; that of chance becomes the test's. Where the test
    excludes chance and the interval holds it, the lower end moves to where the test would just not
    exclude it, were the error normal: chance + (value - chance) (1 - z(.05) / z(p)).

    Args:
        found: value and interval.
        p: one-sided, that chance gives as much (:func:`p_value`).
        draws: of the null. Where there are too few to exclude anything, the interval stays.
        chance: the value by chance.

    >>> print(agreeing(Estimate(0.02, -0.01, 0.05), 0.01, 99))
    0.02 [0.00723, 0.05]
    >>> print(agreeing(Estimate(0.02, 0.001, 0.05), 0.2, 99))
    0.02 [0, 0.05]
    """
    from statistics import NormalDist

    if 1 / (1 + draws) > LEVEL or not math.isfinite(found.low) or not math.isfinite(found.value):
        return found
    if p > LEVEL:
        return replace(found, low=min(found.low, chance))
    if found.low > chance or found.value <= chance:
        return found
    z = -NormalDist().inv_cdf(p - 0.5 / (1 + draws))  # half a draw less: p can be LEVEL itself
    share = 1 + NormalDist().inv_cdf(LEVEL) / z
    return replace(found, low=chance + (found.value - chance) * share)


def with_ends(name: str, found: Estimate | None, ends: str = "{}") -> dict[str, object]:
    """Return a value and its interval as cells of a table's row, by heading; of None, empty ones.

    Args:
        name: heading of the value.
        found: what has an interval.
        ends: heading of an end of it, of ``low`` or ``high`` and of the ``name``.

    >>> with_ends("share", Estimate(0.5, 0.4, 0.6), "{} of it")
    {'share': 0.5, 'low of it': 0.4, 'high of it': 0.6}
    """
    cells = (None,) * 3 if found is None else (found.value, found.low, found.high)
    heads = (name, *(ends.format(end, name=name) for end in ("low", "high")))
    return dict(zip(heads, cells, strict=True))


def place_text(place: Estimate, beyond: str) -> str:
    """Write a number of latents with its interval, of which NaN lie beyond what was looked at.

    >>> place_text(Estimate(12.0, 9.0, math.nan), "more than all")
    '12 [9, more]'
    """
    if math.isnan(place.value):
        return beyond
    low, high = ("more" if math.isnan(end) else f"{end:.0f}" for end in (place.low, place.high))
    return f"{place.value:.0f} [{low}, {high}]"


def span(counts: Iterable[int]) -> str:
    """Write one number, or from which to which they reach: ``4 to 9``."""
    low, high = min(counts := set(counts)), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def listed(parts: Sequence[str], most: int) -> str:
    """Join the first parts of a sentence, and say how many more are in the table.

    >>> listed(["a 1", "b 2", "c 3"], 2)
    'a 1; b 2; 1 more in the table'
    """
    left = len(parts) - most
    return "; ".join(parts[:most]) + (f"; {left} more in the table" if left > 0 else "")


def in_twos(parts: Sequence[str]) -> str:
    """Write parts, which hold one number each, as sentences of two.

    >>> in_twos(["of a it is 1", "of b 2", "of c 3"])
    'Of a it is 1, of b 2. Of c 3.'
    """
    pairs = [", ".join(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return " ".join(f"{pair[:1].upper()}{pair[1:]}." for pair in pairs)


def number(value: object, digits: int = 3) -> str:
    """Write a value as a reader wants it: some digits, a dash for what is not there.

    >>> [number(v) for v in (0.12345, 12345.6, 999.9, 1797, float("nan"), True, "a")]
    ['0.123', '12346', '1000', '1797', '-', 'yes', 'a']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        rounded = float(f"{value:.{digits}g}")
        return f"{value:.0f}" if 10**digits <= abs(rounded) < 1e6 else f"{value:.{digits}g}"
    return str(value)


def rounded(values: Floats, digits: int) -> Floats:
    """Round to significant digits, so that a file of many values is small.

    >>> rounded(np.array([[0.123456, 123456.0]]), 3).tolist()
    [[0.123, 123000.0]]
    """
    return np.reshape([float(f"{value:.{digits}g}") for value in values.ravel()], values.shape)


NOTHING = Estimate(math.nan, math.nan, math.nan)
