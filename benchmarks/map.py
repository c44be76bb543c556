"""Time and memory of the map, and of nearest images, on stores of made latents.

    python benchmarks/map.py           # 100,000 and 1,000,000 images
    python benchmarks/map.py --quick   # 2,000 and 5,000, fitted to 1,000

Latents of ten kinds in a first band of 90 numbers; nothing is encoded. Each line is a process of
its own, whose peak of memory is the whole of it:

    write      the store is made
    map        gdm-repr map by the first band, without thumbnails
    nearest    one image's neighbours in both bands and all latents: the first time, with the
               store's own distances, and the second
    counts     what a page asks of the map: rows in a rectangle, by DuckDB
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHAPE = (3, 8, 8)
CUT = 30  # elements of the first band
KINDS = 10
SHARD = 8192
FIT_ROWS = {False: 100_000, True: 1_000}
SIZES = {False: (100_000, 1_000_000), True: (2_000, 5_000)}


def write(folder: Path, n: int, fit_rows: int) -> str:
    """Make a store of n images."""
    from gdm_repr.latents import Band, Manifest, StoreWriter

    channels, d = SHAPE[0], SHAPE[1] * SHAPE[2]
    manifest = Manifest(
        fingerprint={"checkpoint": "made"},
        bands=[Band(f"0_{CUT - 1}", 0, CUT), Band(f"{CUT}_{d - 1}", CUT, d)],
        shape=SHAPE,
        items=n,
        shard_size=SHARD,
        labels={"kind": "int"},
    )
    writer = StoreWriter(folder / "latents", manifest)
    means = np.random.default_rng(0).standard_normal((KINDS, channels, CUT)).astype("f4")
    for shard in writer.pending():
        rows, rng = [*writer.rows(shard)], np.random.default_rng(1 + shard)
        z = rng.standard_normal((len(rows), channels, d), dtype="f4")
        kind = rng.integers(0, KINDS, len(rows))
        z[:, :, :CUT] = 0.8 * means[kind] + 0.6 * z[:, :, :CUT]
        names = [f"{row:07d}" for row in rows]
        writer.write(
            shard, index=rows, ids=names, sources=["made"] * len(rows), z=z, labels={"kind": kind}
        )
    writer.finish()
    return ""


def lay_out(folder: Path, n: int, fit_rows: int) -> str:
    """Make the map."""
    from gdm_repr import map as command

    argv = ["--latents", str(folder / "latents"), "--band", f"0_{CUT - 1}", "--overwrite"]
    argv += ["--fit-rows", str(fit_rows), "--out", str(folder / "map.parquet")]
    if command.main(argv):
        raise SystemExit(1)
    return f"{(folder / 'map.parquet').stat().st_size / 1e6:.1f} MB"


def nearest(folder: Path, n: int, fit_rows: int) -> str:
    """Ask twice for neighbours."""
    from gdm_repr.latents import NearestIndex, open_store

    index = NearestIndex(open_store(folder / "latents"))
    z, told = index.store.z([0])[0], []
    for _ in range(2):
        began = time.perf_counter()
        index.nearest(z, without=0)
        told.append(f"{time.perf_counter() - began:.2f} s")
    return "first {}, then {}".format(*told)


def counts(folder: Path, n: int, fit_rows: int) -> str:
    """Ask what a page asks."""
    import duckdb

    table = f"'{folder / 'map.parquet'}'"
    quantiles = f"select quantile_cont(x, .4), quantile_cont(x, .6) from {table}"
    ((low, high),) = duckdb.sql(quantiles).fetchall()
    began = time.perf_counter()
    found = duckdb.sql(
        f"select kind, count(*) from {table} where x between {low} and {high} group by kind"
    ).fetchall()
    return f"{sum(count for _, count in found)} rows in {time.perf_counter() - began:.2f} s"


STEPS: dict[str, Callable[[Path, int, int], str]] = {
    "write": write,
    "map": lay_out,
    "nearest": nearest,
    "counts": counts,
}


def main() -> None:
    """Run every step at every size, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small stores")
    parser.add_argument("--sizes", type=int, nargs="+", help="images of the stores")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)  # of the process of a step
    options = parser.parse_args()
    fit_rows = FIT_ROWS[options.quick]
    if options.step:
        name, folder, n = options.step
        began = time.perf_counter()
        more = STEPS[name](Path(folder), int(n), fit_rows)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{int(n):>9,}  {name:<8} {seconds:8.1f} s {peak:6.2f} GiB  {more}", flush=True)
        return
    print("   images  step         time   memory")
    quick = ["--quick"] if options.quick else []
    for n in options.sizes or SIZES[options.quick]:
        with tempfile.TemporaryDirectory() as folder:
            for name in STEPS:
                argv = [sys.executable, __file__, *quick, "--step", name, folder, str(n)]
                lines = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
                print(lines.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
