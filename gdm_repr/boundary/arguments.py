"""What callers hand to public functions: counts, seeds and rows, read by one rule each.

Python and NumPy would take ``True`` for 1, cut 2.7 to 2 and read a boolean mask as row numbers 0
and 1. Here whatever is not surely what was meant is refused: a ValueError names the argument.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Rows = slice | NDArray[np.integer[Any]] | NDArray[np.bool_] | Sequence[int] | None
"""Some of n rows: None for all, a slice, row numbers, or a boolean mask of n."""

SEEDS = 2**64  # seeds of torch's and NumPy's generators are below


class RowError(ValueError, IndexError):
    """A row number out of range, for those who expect either."""


def integer(value: object, name: str, rule: str = "must be a whole number") -> int:
    """Return an integer of Python's or NumPy's as int; bools and floats are none.

    Raises:
        ValueError: for anything else; it names the argument and the rule.
    """
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r}: {rule}, not a bool")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        shown = repr(value) if isinstance(value, float | str | np.floating) else ""
        kind = type(value).__name__
        raise ValueError(f"{name}={shown or kind}: {rule}, such as 8, not {kind}") from None


def count(value: object, name: str, least: int = 1) -> int:
    """Return a count as int.

    Raises:
        ValueError: if it is no integer, or less than ``least``.
    """
    number = integer(value, name)
    if number < least:
        raise ValueError(f"{name}={number}: must be at least {least}")
    return number


def seed(value: object, name: str = "seed", draws: int = 1) -> int:
    """Return a seed as int, from which ``draws`` seeds count up.

    Raises:
        ValueError: if it is no integer, or one of them is not in 0 .. 2^64 - 1.
    """
    number = integer(value, name)
    if not 0 <= number <= SEEDS - draws:
        more = "" if draws == 1 else f", for {draws} draws from {name} on"
        raise ValueError(f"{name}={number}: must be in 0 .. 2**64 - {draws}{more}")
    return number


def integers(values: object, name: str) -> tuple[int, ...]:
    """Return a sequence of integers, such as steps or an order of groups.

    Raises:
        ValueError: if it is none, or holds anything else.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"{name}={values!r}: must be whole numbers, such as [4, 8]")
    return tuple(integer(value, name) for value in values)


def table(values: ArrayLike, name: str, rule: str, rows: str = "samples") -> NDArray[np.float64]:
    """Return a table of real numbers (n, columns) as float64; its shape is for the caller to check.

    Args:
        values: the table.
        name: of the argument, for errors.
        rule: what it must be, for errors.
        rows: what a row is, for errors.

    Raises:
        ValueError: for anything but integers and floats (bools and objects too), or values that are
            not finite.
    """
    array = _array(values, name, rule)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: dtype {array.dtype} holds no real numbers; {rule}")
    array = array.astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        wrong = int((~np.isfinite(array)).sum())
        raise ValueError(f"{name}: {wrong} values are not finite; drop those {rows}")
    return array


def row_numbers(rows: Rows, n: int, name: str = "rows", owner: str = "") -> Ints:
    """Return row numbers of what ``rows`` selects from n rows.

    Args:
        rows: None for all, a slice, numbers in 0 .. n - 1 in any order and as often as wanted, or a
            boolean mask of n values; arrays, tensors and sequences are taken.
        n: how many rows there are.
        name: of the argument, for errors.
        owner: of the rows, for errors.

    Returns:
        Row numbers, int64, shape (m,).

    Raises:
        RowError: for numbers out of range.
        ValueError: for a mask of another length, other dtypes than integers
            and bools (floats and objects too, whatever they hold), or another shape.

    Example:
        >>> row_numbers([2, 0], 3).tolist(), row_numbers([True, False, True], 3).tolist()
        ([2, 0], [0, 2])
    """
    if rows is None:
        return np.arange(n)
    if isinstance(rows, slice):
        try:
            return np.arange(n)[rows]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}={rows}: not a slice of {n} rows ({error})") from None
    fix = f"give numbers in 0 .. {n - 1}, or a mask of {n} bools"
    values = _array(rows, name, fix)
    if values.ndim != 1:
        raise ValueError(f"{name}: shape {values.shape} has not one dimension; {fix}")
    if values.dtype == bool:
        if len(values) != n:
            raise ValueError(f"{name}: a mask of {len(values)} bools for {n} rows; {fix}")
        return np.flatnonzero(values)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name}: dtype {values.dtype} is not one of row numbers; {fix}")
    if values.size and (values.min() < 0 or values.max() >= n):
        dots = " .. " if owner else ".."
        given, there = f"{values.min()}{dots}{values.max()}", f"0{dots}{n - 1}"
        raise RowError(f"{name} {given} leave {owner}{there}")
    return values.astype(np.int64)


def _array(rows: object, name: str, fix: str) -> NDArray[Any]:
    """Turn what may be rows into an array, without a cast between kinds."""
    if isinstance(rows, str | bytes):
        raise ValueError(f"{name}={rows!r}: is text; {fix}")
    if not isinstance(rows, np.ndarray) and isinstance(rows, Collection):
        if not len(rows):
            return np.empty(0, np.int64)
        if isinstance(rows, Sequence):
            kinds = {isinstance(value, bool | np.bool_) for value in rows}
            if len(kinds) > 1:
                raise ValueError(f"{name}: mixes bools and numbers; {fix}")
    try:
        return np.asarray(rows)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{name}: is no array ({' '.join(str(error).split())}); {fix}") from None
