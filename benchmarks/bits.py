"""Flip single bits of a checkpoint, a training state, a manifest and shards, and read them again.

    python benchmarks/bits.py --quick

Each flip is *refused* (a ValueError that names the file), *harmless* (all that is read is equal to
the bit), a *traceback* (any other exception) or *silent* (something else is read). The last two are
faults: the exit status then is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FORMATS = Path(__file__).parents[1] / "tests" / "fixtures" / "formats" / "digests"
OUTCOMES = ("refused", "harmless", "traceback", "silent")


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """Flip one bit of a file, and put it back."""
    before = path.read_bytes()
    data = bytearray(before)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def outcome(path: Path, bit: int, read: Callable[[], str], right: str, named: str) -> str:
    """Say what becomes of reading a file with one bit flipped.

    Args:
        path: the file.
        bit: its number, from 0.
        read: reads the file and returns a digest of all that is in it.
        right: the digest without the flip.
        named: what the error must name.
    """
    with flipped(path, bit):
        try:
            return "harmless" if read() == right else "silent"
        except ValueError as error:
            return "refused" if named in str(error) else "traceback"
        except Exception:
            return "traceback"


def read_checkpoint(path: Path) -> str:
    """Return a digest of a model."""
    from gdm_repr.checkpoint import load_checkpoint

    found = load_checkpoint(path)
    sha = hashlib.sha256(repr((found.shape, found.model, found.preprocess)).encode())
    sha.update(repr((found.training, found.images, found.denoiser.grouping.names)).encode())
    sha.update(found.denoiser.grouping.fingerprint().encode())
    for name, tensor in found.denoiser.state_dict().items():
        sha.update(name.encode() + tensor.numpy().tobytes())
    return sha.hexdigest()


def read_state(path: Path) -> str:
    """Return a digest of a training state."""
    from gdm_repr.checkpoint import load_tensors

    tensors, facts = load_tensors(path)
    sha = hashlib.sha256(repr(sorted(facts.items())).encode())
    for name in sorted(tensors):
        sha.update(f"{name} {tensors[name].shape}".encode() + tensors[name].numpy().tobytes())
    return sha.hexdigest()


def read_store(path: Path) -> str:
    """Return a digest of a store's manifest and rows."""
    from gdm_repr.latents import open_store

    store = open_store(path)
    sha = hashlib.sha256(repr(store.manifest).encode() + store.z().tobytes())
    sha.update(repr((store.ids, store.sources, store.index.tolist(), store.quarantined)).encode())
    for name in store.manifest.labels:
        sha.update(repr(store.labels(name).tolist()).encode())
    for name in store.manifest.errors:
        sha.update(store.errors(name).tobytes())
    return sha.hexdigest()


def main() -> int:
    """Flip bits and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 flips of each kind")
    parser.add_argument("--flips", type=int, default=500, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    flips, draw = 60 if options.quick else options.flips, random.Random(options.seed)
    print(" " * 24 + "".join(f"{name:>10}" for name in OUTCOMES))
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(shutil.copytree(FORMATS, Path(folder) / "formats"))
        shard = place / "store" / "shards" / "shard-00001.parquet"
        data = shard.read_bytes()
        tail = 8 * (len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
        store = place / "store"
        cases: dict[str, tuple[Path, Callable[[], str], str, int, int]] = {}
        for name, file, read in (
            ("checkpoint", place / "run" / "model.safetensors", read_checkpoint),
            ("training state", place / "run" / "state.safetensors", read_state),
        ):
            bits = 8 * file.stat().st_size
            header = 8 * (8 + int.from_bytes(file.read_bytes()[:8], "little"))

            def call(file: Path = file, read: Callable[[Path], str] = read) -> str:
                return read(file)

            cases[f"{name} header"] = (file, call, file.name, 0, header)
            cases[f"{name} data"] = (file, call, file.name, header, bits)

        def rows() -> str:
            return read_store(store)

        manifest = store / "manifest.json"
        cases["manifest"] = (manifest, rows, store.name, 0, 8 * manifest.stat().st_size)
        cases["shard pages"] = (shard, rows, shard.name, 0, tail)
        cases["shard footer"] = (shard, rows, shard.name, tail, 8 * len(data))
        for name, (file, call, named, first, last) in cases.items():
            right = call()
            bits = [draw.randrange(first, last) for _ in range(flips)]
            counts = Counter(outcome(file, bit, call, right, named) for bit in bits)
            faults += counts["traceback"] + counts["silent"]
            row = "".join(f"{counts[each]:>10}" for each in OUTCOMES)
            print(f"{name:<24}{row}", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
