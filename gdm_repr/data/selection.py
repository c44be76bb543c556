"""Which items a limit leaves: a sample spread over the source, the same on every machine.

The items are put in order by their class, and by chance within it; then N evenly spaced ones are
taken. So every class gives as many as its share of the source says, rounded up or down. Without
classes it is a plain random sample. Chance is a fixed stream of PCG64 and depends on the number of
items alone, so that train and encode take the same N of one source; no ``--seed`` changes it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gdm_repr.data.labels import Label, Labels

CLASSES = "label"  # the column of that name comes before all others
_SEED = 0x67646D  # of the one stream; another would change every sample


def spread(count: int, n: int, classes: list[Label] | None) -> npt.NDArray[np.int64]:
    """Choose n of ``count`` items, as the module says.

    Args:
        count: number of items.
        n: how many are wanted.
        classes: the class of each item; None where there are none.

    Returns:
        Their numbers, ascending; all where n is as many or more.

    >>> spread(8, 4, ["a", "a", "a", "a", "b", "b", "b", "b"]).tolist()
    [0, 1, 6, 7]
    """
    if n >= count:
        return np.arange(count)
    chance = np.random.PCG64(_SEED).random_raw(count)  # raw: the same in every version of NumPy
    codes = np.zeros(count, np.int64)
    if classes is not None:
        known = sorted({repr(each) for each in classes})
        place = {name: code for code, name in enumerate(known)}
        codes[:] = [place[repr(each)] for each in classes]
    order = np.lexsort((chance, codes))
    even = (2 * np.arange(n) + 1) * count // (2 * n)
    chosen: npt.NDArray[np.int64] = np.sort(order[even])
    return chosen


def find_classes(labels: Labels) -> list[Label] | None:
    """Return the column that a sample is spread over, if there is one.

    It is ``label``; else the only column there is, such as ``digit``. It must hold classes: texts
    or whole numbers, at least two of them and two items of each on average. Of several factors, or
    of amounts, none is.

    >>> find_classes({"digit": [3, 3, 7, 7]}), find_classes({"size": [0.5, 0.25]})
    ([3, 3, 7, 7], None)
    """
    column = labels.get(CLASSES)
    if column is None and len(labels) == 1:
        (column,) = labels.values()
    if column is None or any(isinstance(each, float) for each in column):
        return None
    return column if 2 <= len(set(column)) <= len(column) // 2 else None
