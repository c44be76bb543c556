"""Fig. 12: the first images of the blur basis and of the DCT, and how near each is to a known one.

python docs/examples/bases.py [--size 8] [--out runs/examples/bases.png]

The blur W of a line is a Gaussian of sigma .4 pixels, and U its eigenvectors, W = U D U^T (A.4).
What lies beyond the edge decides which basis that is: zeros make it very nearly the sine basis
DST-I, a mirror image makes it the cosine basis DCT-II, to rounding.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage

from gdm_repr.analysis.report.figures import WIDTH, new_figure
from gdm_repr.basis import Basis, build_basis

SIGMA = 0.4
SHOWN = 16
SIZES = (8, 16, 32, 64)  # of the table
CUTS = (1, 30, 100, 500)

Array = NDArray[np.float64]


def three_bases(size: int) -> dict[str, Basis]:
    """Return the bases of size x size images by the names they are drawn under."""
    shape = (size, size)
    return {
        "blur, zero padding": build_basis("blur", shape, sigma=SIGMA),
        "blur, reflecting padding": build_basis("blur", shape, sigma=SIGMA, padding="reflect"),
        "DCT-II": build_basis("dct", shape),
    }


def images(basis: Basis) -> Array:
    """Return all basis images in the basis's order, (d, H, W)."""
    d = len(basis.order)
    made: Array = basis.inverse(torch.eye(d, dtype=torch.float64)[None])[0].numpy()
    return made


def orthogonality_error(basis: Basis) -> float:
    """Return the largest |U^T U - I| of the d x d matrix U of the images."""
    U = images(basis).reshape(len(basis.order), -1)
    return float(np.abs(U @ U.T - np.eye(len(U))).max())


def sines(n: int) -> Array:
    """Return the orthonormal DST-I, one vector a column, by scipy."""
    vectors: Array = fft.dst(np.eye(n), type=1, norm="ortho", axis=0)
    return vectors


def cosines(n: int) -> Array:
    """Return the orthonormal DCT-II, one vector a column, by scipy."""
    vectors: Array = fft.dct(np.eye(n), type=2, norm="ortho", axis=0).T
    return vectors


def distance(vectors: Array, known: Array) -> float:
    """Return the largest difference of two bases, each vector up to its sign."""
    signs = np.sign((vectors * known).sum(0))
    return float(np.abs(vectors * signs - known).max())


def diagonality(n: int, mode: str, vectors: Array) -> float:
    """Return the largest entry of V^T W V off its diagonal: 0 for eigenvectors of the blur W.

    Args:
        n: length of the line.
        mode: scipy's name of the padding, ``constant`` (zeros) or ``reflect``.
        vectors: V, one a column, in any order.
    """
    W = ndimage.gaussian_filter1d(np.eye(n), SIGMA, axis=0, mode=mode, cval=0.0, radius=n - 1)
    inside = vectors.T @ W @ vectors
    return float(np.abs(inside - np.diag(np.diag(inside))).max())


def constant_energy(basis: Basis) -> list[float]:
    """Return the share of a constant image's energy in its first elements, at each cut."""
    share = basis.forward(torch.ones(1, 1, *basis.shape, dtype=torch.float64))[0, 0] ** 2
    return [float(share[:cut].sum() / share.sum()) for cut in CUTS]


def measure() -> None:
    """Print the numbers and check what is known."""
    print(
        f"sigma {SIGMA}; W is the blur of a line, V^T W V off its diagonal is 0 for its own basis"
    )
    print("                zero padding              reflecting padding    largest difference")
    print("  size   own V    DST-I   DCT-II    own V   DCT-II    DST-I  zero-DST-I  refl.-DCT-II")
    for n in SIZES:
        zero, mirror, _ = (basis.vertical for basis in three_bases(n).values())
        off = [diagonality(n, "constant", V) for V in (zero, sines(n), cosines(n))]
        off += [diagonality(n, "reflect", V) for V in (mirror, cosines(n), sines(n))]
        gaps = [distance(zero, sines(n)), distance(mirror, cosines(n))]
        print(f"  {n:4d}  " + "  ".join(f"{v:.1e}" for v in off), end="")
        print(f"     {gaps[0]:.1e}       {gaps[1]:.1e}")
        assert max(off[0], off[3], off[4], gaps[1]) < 1e-12  # eigenvectors, float64
        assert off[1] < 1e-5 < 1e-3 < min(off[2], off[5])  # nearly; the other basis is none
        assert gaps[0] < 1e-4
    print("orthogonality, largest |U^T U - I| of all images")
    for n in SIZES[:3]:
        errors = {name: orthogonality_error(basis) for name, basis in three_bases(n).items()}
        print(f"  {n:4d}  " + ", ".join(f"{name} {e:.1e}" for name, e in errors.items()))
        assert max(errors.values()) < 1e-12
    print(f"share of a constant 64 x 64 image in its first {', '.join(map(str, CUTS))} elements")
    for name, basis in three_bases(64).items():
        print(f"  {name:25s}" + "  ".join(f"{100 * e:5.1f} %" for e in constant_energy(basis)))
    assert constant_energy(three_bases(64)["DCT-II"])[0] > 1 - 1e-12
    print("blur with reflecting padding has the DCT's images; its order differs from element")
    for n in SIZES:
        _, mirror_basis, cosine = three_bases(n).values()
        differ = np.flatnonzero(mirror_basis.order != cosine.order)
        print(f"  {n:4d}  {differ[0] if len(differ) else 'none'}, in {len(differ)} of {n * n}")


def draw(size: int, path: Path) -> None:
    """Draw the first images of the three bases, in their order, with the index on each."""
    figure = new_figure(2.55, WIDTH)
    blocks = figure.subfigures(1, 3, wspace=0.04)
    shown = {name: images(basis)[:SHOWN] for name, basis in three_bases(size).items()}
    top = max(float(np.abs(each).max()) for each in shown.values())
    for block, (name, each) in zip(blocks, shown.items(), strict=True):
        block.suptitle(name, fontsize="small")
        for n, axes in enumerate(block.subplots(4, 4).ravel()):
            axes.set_axis_off()
            axes.imshow(each[n], cmap="cividis", vmin=-top, vmax=top)
            axes.set_title(str(n), fontsize=6, pad=1.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    print(f"drew {path}")


def main(size: int = 8, out: Path = Path("runs/examples/bases.png")) -> None:
    """Print the numbers, check what is known, and draw the bases.

    Raises:
        ValueError: for a size that shows too few images.
    """
    if size < 4:
        raise ValueError(f"--size={size}: must be at least 4, for {SHOWN} images to show")
    measure()
    draw(size, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8, help="height and width of the images drawn")
    parser.add_argument("--out", type=Path, default=Path("runs/examples/bases.png"), help="PNG")
    options = parser.parse_args()
    main(options.size, options.out)
