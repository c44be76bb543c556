"""Each job gets its own rows' results, whatever comes beside it."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from gdm_repr.serve.worker import Busy, Closed, Worker


class Device:
    """Doubles rows, and remembers the sizes of batches; rows of nan can't be computed."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.sizes: list[int] = []
        self.seconds = seconds
        self.go = threading.Event()
        self.go.set()

    def double(self, rows: Tensor) -> dict[str, Tensor]:
        self.go.wait(10)
        self.sizes.append(len(rows))
        time.sleep(self.seconds)
        if rows.isnan().any():
            raise ValueError("nan")
        return {"twice": 2 * rows, "sum": rows.sum(1)}

    def triple(self, rows: Tensor) -> dict[str, Tensor]:
        return {"thrice": 3 * rows}


def row(value: float, n: int = 1) -> Tensor:
    return torch.full((n, 2), value)


def test_no_answer_is_lost_or_swapped() -> None:
    """300 jobs of 1 to 5 rows, 16 at once; some fail, some are cancelled, some differ in kind."""
    device = Device(0.001)
    worker = Worker(batch_size=16, wait=0.002, queue_seconds=1e9)
    rng = random.Random(0)
    asked = [(float(i), rng.randint(1, 5), rng.choice("ddddtfc")) for i in range(300)]

    def ask(job: tuple[float, int, str]) -> str:
        value, n, kind = job
        rows = row(float("nan") if kind == "f" else value, n)
        compute = device.triple if kind == "t" else device.double
        done = worker.submit("t" if kind == "t" else "d", compute, rows, 0.0)
        if kind == "c":
            done.cancel()
        if kind == "f":
            with pytest.raises(ValueError, match="nan"):
                done.result(10)
            return kind
        try:
            found = done.result(10)
        except CancelledError:
            assert kind == "c"
            return kind
        if kind == "t":
            assert torch.equal(found["thrice"], row(3 * value, n))
        else:
            assert torch.equal(found["twice"], row(2 * value, n))
            assert torch.equal(found["sum"], row(2 * value, n)[:, 0])
        return kind

    with ThreadPoolExecutor(16) as threads:
        kinds = list(threads.map(ask, asked))
    worker.close()
    assert kinds == [kind for _, _, kind in asked]
    assert max(device.sizes) > 5 and max(device.sizes) <= 16


def queued(worker: Worker, device: Device, sizes: list[int]) -> list[Future[dict[str, Tensor]]]:
    """Queue jobs behind one that is being computed."""
    device.go.clear()
    first = worker.submit("first", device.double, row(0), 0.0)
    while not first.running():
        time.sleep(0.001)
    return [worker.submit("d", device.double, row(n, n), 1.0) for n in sizes]


def test_a_batch_is_filled_in_the_order_of_arrival() -> None:
    device = Device()
    worker = Worker(batch_size=8, wait=0.0, queue_seconds=100)
    jobs = queued(worker, device, [5, 4, 3, 8])
    device.go.set()
    for job in jobs:
        job.result(10)
    assert device.sizes == [1, 8, 4, 8]  # 5 + 3, then what did not fit
    worker.close()


def test_a_cancelled_job_is_not_computed_and_another_takes_its_place() -> None:
    device = Device()
    worker = Worker(batch_size=8, wait=0.0, queue_seconds=2.5)
    jobs = queued(worker, device, [5, 4])
    with pytest.raises(Busy, match="too much is asked at once; try again in 1 seconds"):
        worker.submit("d", device.double, row(1), 1.0)
    assert jobs[0].cancel()
    assert worker.submit("d", device.double, row(1), 1.0) is not None
    device.go.set()
    worker.close()
    assert device.sizes == [1, 5]


def test_closing_finishes_what_was_accepted() -> None:
    device = Device()
    worker = Worker(batch_size=4, wait=0.0, queue_seconds=100)
    jobs = queued(worker, device, [3, 3, 3])
    device.go.set()
    worker.close()
    assert [len(job.result(0)["sum"]) for job in jobs] == [3, 3, 3]
    assert not worker.is_alive
    with pytest.raises(Closed, match="is being stopped"):
        worker.submit("d", device.double, row(1), 0.0)


def test_a_job_alone_is_done_however_long_it_is() -> None:
    """What takes longer than may wait is accepted where nothing waits."""
    worker = Worker(batch_size=2, wait=0.0, queue_seconds=1)
    assert len(worker.submit("d", Device().double, row(1, 3), 5.0).result(10)["sum"]) == 3
    worker.close()
