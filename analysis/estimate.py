"""A number with its interval, and how numbers are written for a reader."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
