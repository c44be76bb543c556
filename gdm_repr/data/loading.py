"""Images as x in [-1, 1] with ids and labels; what can't be read goes to the quarantine.

`open_data` finds a source (`gdm_repr.data.sources.registry`), `ImageDataset.batch` gives any of its
items, `load` does so ahead of the consumer, in worker processes. Every item is a pure function of
the data, the settings, the seed and the draw: neither batching, nor order, nor workers change a bit
of it.

>>> digits = open_data("digits", Preprocess(dequantize=True), limit=100)
>>> digits.shape, digits.label_names, digits.quantum == 2 / 17
((1, 8, 8), ['digit'], True)
>>> [tuple(batch.x.shape) for batch in load(digits, [[0, 1, 2], [99]], workers=0)]
[(3, 1, 8, 8), (1, 1, 8, 8)]
"""

from __future__ import annotations

import pickle
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gdm_repr.boundary.arguments import integer
from gdm_repr.boundary.isolation import isolated
from gdm_repr.data.dataset import Batch, ImageDataset, Indices
from gdm_repr.data.hold_out import HELD_OUT, Part
from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.labels import read_labels
from gdm_repr.data.sources.registry import open_source
from gdm_repr.progress import progress
from gdm_repr.tracking.record import warn

Key = TypeVar("Key")
Result = TypeVar("Result")

_AT_ONCE, _FEW = 256, 2048  # images that a worker hashes at a time; that need no worker
_PREFETCH = 4  # batches a worker prepares ahead: rides out a slow image without filling memory
_DIED = re.compile(r"DataLoader worker \(pid")  # how torch says it


@isolated
def open_data(
    data: str | Path,
    preprocess: Preprocess,
    *,
    labels: str | Path | None = None,
    limit: int | None = None,
    first: int | None = None,
    seed: int = 0,
    part: Part = "all",
    hold_out: float | None = None,
) -> ImageDataset:
    """Open images from a path or a built-in name.

    `limit` takes a sample that is spread over the source (`gdm_repr.data.selection`): in proportion
    over the classes of the column `label`, or of the only column, where that holds classes; else by
    chance alone. It depends on the source, its labels and `limit`, not on `seed`, and is in the
    source's order. With tiles the items are tiles, of any image.

    Args:
        data: A folder, an image, a `.zip`, `.npy`, `.npz`, `.parquet` or `.tar`, or a built-in name
            such as "digits", "cifar10:FOLDER" or "torchvision:MNIST:FOLDER"
            (`gdm_repr.data.sources.registry.BUILT_IN`).
        preprocess: How images become x.
        labels: CSV whose first column holds ids or file names and whose header names the columns,
            or a list like CelebA's; its columns take the place of the source's own of that name.
        limit: Use a sample of so many items.
        first: Use the first items only; not beside `limit`.
        seed: Seed of the dequantisation.
        part: Which of the items; `limit` and `first` count among these.
        hold_out: Share that training held out; batches say which those are.

    Raises:
        ValueError: The data or labels can't be opened, or not a single item can be used.
    """
    for name, value in (("limit", limit), ("first", first)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} leaves no items; give 1 or more, or none for all")
    if limit is not None and first is not None:
        raise ValueError(
            f"limit={limit}, first={first}: both given; give limit for a sample, or first for the "
            "first items"
        )
    source = open_source(data)
    columns = dict(source.labels)
    if labels is not None:
        columns.update(read_labels(labels, source.ids))
    if part == "all":
        dataset = ImageDataset(source, preprocess, columns, seed, limit=limit, first=first)
        return dataset if hold_out is None else dataset.marking(hold_out)
    if hold_out is None:
        raise ValueError(
            f"part={part!r}: training held nothing out; use all, or train with hold_out"
        )
    whole = ImageDataset(source, preprocess, columns, seed)
    rows = np.flatnonzero(find_held_out(whole, hold_out) == (part == HELD_OUT))[:first]
    if not len(rows):
        raise ValueError(
            f"part={part!r}: none of the {len(whole)} images is, with hold_out={hold_out:g}; use "
            "all, or give more images"
        )
    dataset = whole.take(rows)
    return (dataset if limit is None else dataset.sample(limit)).marking(hold_out)


def find_held_out(
    dataset: ImageDataset, share: float, *, workers: int = 1
) -> npt.NDArray[np.bool_]:
    """Tell which items are held out where training has ``hold_out=share``, (n,).

    Every image is read once. One that can't be read is not held out.
    """
    held_out = np.zeros(len(dataset), bool)
    parts = [range(i, min(i + _AT_ONCE, len(dataset))) for i in range(0, len(dataset), _AT_ONCE)]
    few = len(dataset) <= _FEW or dataset.is_in_memory
    with progress(len(dataset), desc="which are held out") as bar:
        found = work_ahead(_Below(dataset, share), parts, workers=0 if few else workers)
        for rows, below in zip(parts, found, strict=True):
            held_out[rows.start : rows.stop] = below
            bar.update(len(rows))
    return held_out


def open_begun(
    data: str | Path,
    preprocess: Preprocess,
    *,
    begun: str | None,
    labels: Path | None = None,
    limit: int | None = None,
    first: int | None = None,
    seed: int = 0,
    part: Part = "all",
    hold_out: float | None = None,
) -> ImageDataset:
    """Open images for work that may have begun already, as `open_data` does.

    In earlier versions a limit took the first items. Work that began so goes on so.

    Args:
        data: As for `open_data`, and so are the others.
        preprocess: How images become x.
        begun: Fingerprint of the data that the work began with; None where it has not begun.
        labels: File of labels.
        limit: Use a sample of so many items, or as many first ones if the work began with these.
        first: Use the first items only.
        seed: Seed of the dequantisation.
        part: Which of the items.
        hold_out: Share that training held out.

    Raises:
        ValueError: As `open_data`.
    """
    dataset = open_data(
        data,
        preprocess,
        labels=labels,
        limit=limit,
        first=first,
        seed=seed,
        part=part,
        hold_out=hold_out,
    )
    if part != "all" or limit is None or begun is None or begun == dataset.fingerprint():
        return dataset
    before = open_data(data, preprocess, labels=labels, first=limit, seed=seed)
    if before.fingerprint() != begun:
        return dataset
    print(
        f"this work was begun with the first {limit} items and goes on with them; --limit now "
        f"takes a sample, --first {limit} says the same as before",
        file=sys.stderr,
    )
    return before


def load(
    dataset: ImageDataset,
    batches: Iterable[Indices],
    *,
    workers: int,
    draw: int | Iterable[int] = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """Return the batches in order, prepared ahead in worker processes.

    Args:
        dataset: The data; one in memory is read in this process whatever `workers` says.
        batches: Indices of each batch; may be endless, it is read a few batches ahead.
        workers: Number of processes; 0 reads in this one. It never changes what comes out.
        draw: Number of the dequantisation's noise, for all batches or one for each.
        pin: Put x into page-locked memory, where there is a CUDA device.

    Raises:
        ValueError: `workers` is negative.
    """
    if integer(workers, "workers") < 0:
        raise ValueError(f"workers={workers} is negative; give 0 or more processes")
    import torch

    pin = pin and torch.cuda.is_available()
    keys = zip(batches, repeat(draw) if isinstance(draw, int) else draw, strict=False)
    if workers == 0 or dataset.is_in_memory:
        ready = (dataset.batch(indices, number) for indices, number in keys)
        return (batch.pin_memory() for batch in ready) if pin else ready
    return work_ahead(_Drawn(dataset), keys, workers=workers, pin=pin)


def work_ahead(
    function: Callable[[Key], Result],
    keys: Iterable[Key],
    *,
    workers: int,
    pin: bool = False,
) -> Iterator[Result]:
    """Call a function on keys in worker processes and return what it gives, in order.

    Args:
        function: Of one key; it and its results are sent between processes.
        keys: May be endless, they are read a few calls ahead of the consumer.
        workers: Number of processes; 0 calls it in this one, when a result is asked for.
        pin: Put tensors into page-locked memory.

    Raises:
        ChildProcessError: Workers died twice; once, they are replaced, and make again what was
            lost, so that the results are the same.
    """
    if workers == 0:
        return map(function, keys)
    return _work_ahead(_Indexed(function), iter(keys), workers, pin)


def _work_ahead(
    indexed: _Indexed, keys: Iterator[Any], workers: int, pin: bool
) -> Generator[Any, None, None]:
    lost: list[Any] = []  # keys that workers had when they died
    for last in (False, True):
        asked: deque[Any] = deque()

        def note(keys: Iterator[Any], asked: deque[Any] = asked) -> Iterator[Any]:
            for key in keys:
                asked.append(key)
                yield key

        results = _start_workers(indexed, note(chain(lost, keys)), workers, pin)
        while True:
            try:
                result = next(results)
            except StopIteration:
                return
            except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
                # What a worker sent lies in its memory until it is fetched, which fails variously.
                if isinstance(error, RuntimeError) and not _DIED.search(str(error)):
                    raise
                why = "a data worker was killed or crashed, often for want of (shared) memory"
                if last:
                    raise ChildProcessError(
                        f"{why}, and so did the one in its place; use --workers 0, or fewer"
                    ) from error
                warn(f"{why}; it is replaced")
                lost = list(asked)
                del results
                break
            asked.popleft()
            if isinstance(result, _Failed):
                raise result.error
            yield result


def _start_workers(
    indexed: _Indexed, keys: Iterator[Any], workers: int, pin: bool
) -> Iterator[Any]:
    import torch
    from torch.utils.data import DataLoader

    loader = DataLoader(
        cast(Any, indexed),
        batch_size=None,
        sampler=cast(Any, keys),
        num_workers=workers,
        prefetch_factor=_PREFETCH,
        pin_memory=pin,
        generator=torch.Generator(),  # or the loader would draw from the caller's random numbers
    )
    # The loader would have a worker's death raise wherever the main thread is, amid a step or while
    # a file is written. Asked for its next batch, it finds out by itself.
    child = getattr(signal, "SIGCHLD", None)
    if child is None or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before = signal.getsignal(child)
    try:
        return iter(loader)
    finally:
        signal.signal(child, signal.SIG_DFL if before is None else before)


@dataclass(frozen=True)
class _Failed:
    """What was raised in a worker, with all that it says: the loader would keep its text alone."""

    error: Exception


@dataclass(frozen=True)
class _Indexed:
    """What a worker process holds: it is indexed by a key."""

    function: Callable[[Any], Any]

    def __getitem__(self, key: object) -> object:
        try:
            return self.function(key)
        except Exception as error:
            try:
                pickle.loads(pickle.dumps(error))
            except Exception:  # it can't be sent: the loader tells it its own way
                raise error from None
            return _Failed(error)


@dataclass(frozen=True)
class _Below:
    """Says which of some items' images lie below a share."""

    dataset: ImageDataset
    share: float

    def __call__(self, rows: range) -> list[bool]:
        return [self._is_below(row) for row in rows]

    def _is_below(self, row: int) -> bool:
        try:
            return self.dataset.place(row) < self.share
        except BadImage:
            return False


@dataclass(frozen=True)
class _Drawn:
    """Makes a whole batch of its indices and the number of its noise."""

    dataset: ImageDataset

    def __call__(self, key: tuple[Indices, int]) -> Batch:
        return self.dataset.batch(*key)
