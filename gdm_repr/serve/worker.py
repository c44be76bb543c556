"""One thread that owns the device, and joins what is asked into batches.

A job is rows of one tensor and what to compute of them. Jobs of one key are computed together: the
oldest job chooses the key, and others of that key join it in the order they came, until the batch
is full. While one batch is computed the next one gathers; an idle device waits a moment for more.
A row's result goes to the job that brought the row, and to no other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Results = Mapping[str, "Tensor"]
"""Tensors of one row for each row that was given, by name."""


class Closed(Exception):
    """Nothing is accepted any more."""


class Busy(Exception):
    """So much is asked already that a job would wait too long.

    Attributes:
        seconds: after which it can be tried again.
    """

    def __init__(self, seconds: float) -> None:
        """Keep the seconds."""
        super().__init__(f"too much is asked at once; try again in {seconds:.0f} seconds")
        self.seconds = seconds

    @property
    def retry_after(self) -> str:
        """Whole seconds, as HTTP has them."""
        return str(round(self.seconds + 0.5))


@dataclass(eq=False)
class _Job:
    key: Hashable
    compute: Callable[[Tensor], Results]
    rows: Tensor
    seconds: float
    done: Future[dict[str, Tensor]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Worker:
    """The thread and its queue."""

    def __init__(
        self,
        *,
        batch_size: int = 64,
        wait: float = 0.004,
        queue_seconds: float = 30.0,
        seen: Callable[[int, float], object] = lambda rows, seconds: None,
    ) -> None:
        """Start the thread.

        Args:
            batch_size: rows of a batch at most; a job of more is a batch of its own.
            wait: seconds in which an idle device waits for more rows.
            queue_seconds: of work that may wait; what would come after is refused.
            seen: called after each batch, with its rows and seconds.
        """
        self._size, self._wait, self._most, self._seen = batch_size, wait, queue_seconds, seen
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closed, self._running = False, 0.0
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> tuple[int, float]:
        """How many jobs wait, and the seconds that they and the running batch take."""
        with self._changed:
            return len(self._jobs), self._left()

    @property
    def is_alive(self) -> bool:
        """Whether jobs are taken and computed."""
        return self._thread.is_alive() and not self._closed

    def _left(self) -> float:
        return self._running + sum(job.seconds for job in self._jobs)

    def submit(
        self, key: Hashable, compute: Callable[[Tensor], Results], rows: Tensor, seconds: float
    ) -> Future[dict[str, Tensor]]:
        """Queue a job.

        Args:
            key: of what is computed: jobs of equal keys may be joined.
            compute: makes results of rows, the same for all jobs of the key; a row's result must
                not depend on the rows beside it.
            rows: (n, ...), on any device.
            seconds: that it takes, as far as is known.

        Returns:
            The results of these rows. Cancelled before its batch begins, it is not computed.

        Raises:
            Busy: if what waits takes longer than it may.
            Closed: after :meth:`close`.
        """
        job = _Job(key, compute, rows, seconds)
        with self._changed:
            if self._closed:
                raise Closed("the service is being stopped")
            self._jobs = [each for each in self._jobs if not each.done.cancelled()]
            if (left := self._left()) and left + seconds > self._most:
                raise Busy(max(1.0, left + seconds - self._most))
            self._jobs.append(job)
            self._changed.notify()
        return job.done

    def close(self) -> None:
        """Finish what was accepted, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            began = time.monotonic()
            _compute(batch)
            with self._changed:
                self._running = 0.0
            self._seen(sum(len(job.rows) for job in batch), time.monotonic() - began)

    def _next(self) -> list[_Job]:
        """Wait for jobs and take those of the next batch; none after the last one."""
        with self._changed:
            while True:
                self._jobs = [job for job in self._jobs if not job.done.cancelled()]
                if not self._jobs:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                found = self._joined()
                rest = self._jobs[0].since + self._wait - time.monotonic()
                full = sum(len(job.rows) for job in found) >= self._size
                if rest > 0 and not full and not self._closed:
                    self._changed.wait(rest)
                    continue
                self._jobs = [job for job in self._jobs if job not in found]
                if taken := [job for job in found if job.done.set_running_or_notify_cancel()]:
                    self._running = sum(job.seconds for job in taken)
                    return taken

    def _joined(self) -> list[_Job]:
        """Return the oldest job and those that fit into a batch with it."""
        first, found, rows = self._jobs[0], [], 0
        for job in self._jobs:
            if job.key == first.key and (job is first or rows + len(job.rows) <= self._size):
                found.append(job)
                rows += len(job.rows)
        return found


def _compute(batch: list[_Job]) -> None:
    """Compute jobs together; where that fails, each alone, so that one harms no other."""
    import torch

    try:
        each = [len(job.rows) for job in batch]
        results = batch[0].compute(torch.cat([job.rows for job in batch]))
        parts = {name: torch.split(value, each) for name, value in results.items()}
        for i, job in enumerate(batch):
            job.done.set_result({name: part[i] for name, part in parts.items()})
    except Exception as error:
        if len(batch) == 1:
            batch[0].done.set_exception(error)
            return
        for job in batch:
            if not job.done.done():
                _compute([job])
