"""Bars that move while a long unit of work is under way.

What computes calls :func:`tick` at each small step: an evaluation of the network, a batch of
features, a draw of a null. The bar that is shown counts these beside its units, and is drawn again
about once a second. Where no bar is shown, a tick does nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS = 1.0  # between two drawings
PATIENCE = 3.0  # seconds in which nothing need be said

_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)


class Progress:
    """A bar, and the steps since its last unit was done.

    Attributes:
        bar: as tqdm draws it.
        steps: since the last unit.
    """

    def __init__(self, bar: tqdm[None]) -> None:
        """Keep the bar."""
        self.bar, self.steps, self._drawn = bar, 0, time.monotonic()

    def update(self, units: int = 1) -> None:
        """Count finished units."""
        if self.steps:
            self.steps = 0
            self.bar.set_postfix_str("", refresh=False)
        self.bar.update(units)

    def step(self) -> None:
        """Count a step of a unit."""
        self.steps += 1
        now = time.monotonic()
        if now - self._drawn >= SECONDS:
            self._drawn = now
            self.bar.set_postfix_str(f"step {self.steps} of this one")


@contextmanager
def progress(
    total: int, *, desc: str, unit: str = "img", initial: int = 0, unit_scale: bool = False
) -> Iterator[Progress]:
    """Show a bar while the block runs; ticks inside move it.

    Args:
        total: units.
        desc: what is done, as in ``band_variance``.
        unit: as in ``img``.
        initial: units done before.
        unit_scale: whether large numbers are shortened.
    """
    from tqdm import tqdm

    given = {"desc": desc, "unit": unit, "initial": initial, "unit_scale": unit_scale}
    with tqdm(total=total, **given) as bar:  # type: ignore[call-overload]
        shown = Progress(bar)
        before = _shown.set(shown)
        try:
            yield shown
        finally:
            _shown.reset(before)


@contextmanager
def notice(what: str, *, after: float = PATIENCE) -> Iterator[None]:
    """Say what is being done on stderr, if the block takes longer than some seconds.

    Args:
        what: as in ``reading the images``.
        after: seconds.
    """
    timer = threading.Timer(after, lambda: print(f"{what} ..", file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def tick() -> None:
    """Tell the bar that is shown of a small step."""
    if (shown := _shown.get()) is not None:
        shown.step()
