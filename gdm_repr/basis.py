"""The orthogonal basis U in which groups are formed (Sec. 3.4, A.4).

U is separable, U = U_h (x) U_w, and acts on each channel: coefficients are U_h^T X U_w, two small
matrix products and never a d x d matrix. Coefficients are then put in the basis's *order*, lowest
frequency first, so that "index n" means the same pair (vertical, horizontal frequency) on every
machine. Frequencies that differ by rounding error alone are ties; ties, such as (a, b) and (b, a),
go to the smaller vertical frequency, and the first component of each 1-D basis vector is positive.
All of it is in the fingerprint.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.boundary.isolation import isolated

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """A 1-D basis: orthonormal columns (n, n) and one frequency value each, ascending."""

    vectors: Array
    frequency: Array


@dataclass(frozen=True, eq=False)
class Basis:
    """A separable orthogonal basis of H x W images with a fixed order of its elements.

    Attributes:
        name: key in :data:`BASES`.
        vertical: U_h, shape (H, H), one basis vector a column, float64.
        horizontal: U_w, shape (W, W).
        order: position a*W + b of the n-th element in the (H, W) grid of coefficients, shape (d,).
    """

    name: str
    vertical: Array
    horizontal: Array
    order: NDArray[np.int64]
    _cache: dict[Any, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return len(self.vertical), len(self.horizontal)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Row and column (vertical and horizontal frequency) of each element, shape (d, 2)."""
        return np.stack(np.divmod(self.order, self.shape[1]), axis=1)

    @isolated
    def forward(self, x: Tensor) -> Tensor:
        """Return U^T x in the basis's order: (B, C, H, W) to (B, C, d)."""
        vertical, horizontal, order, _ = self._matrices(x)
        if self.name != "identity":
            x = vertical.T @ x @ horizontal
        x_bar: Tensor = x.flatten(-2)[..., order]
        return x_bar

    @isolated
    def inverse(self, x_bar: Tensor) -> Tensor:
        """Return U x_bar: (B, C, d) in the basis's order to (B, C, H, W)."""
        vertical, horizontal, _, rank = self._matrices(x_bar)
        x = x_bar[..., rank].reshape(*x_bar.shape[:-1], *self.shape)
        if self.name == "identity":
            return x
        pixels: Tensor = vertical @ x @ horizontal.T
        return pixels

    @isolated
    def layout(self, values: Tensor) -> Tensor:
        """Arrange per-element values (.., d) on the grid (.., H, W) where each element lies."""
        rank = self._matrices(values)[3]
        return values[..., rank].reshape(*values.shape[:-1], *self.shape)

    @isolated
    def elements(self, grid: Tensor) -> Tensor:
        """Return values on the grid (.., H, W) in the basis's order (.., d): undo layout."""
        return grid.flatten(-2)[..., self._matrices(grid)[2]]

    def _matrices(self, like: Tensor) -> tuple[Tensor, ...]:
        key = (like.dtype, like.device)
        if key not in self._cache:
            order = torch.from_numpy(self.order).to(like.device)
            self._cache[key] = (
                torch.from_numpy(self.vertical).to(like.device, like.dtype),
                torch.from_numpy(self.horizontal).to(like.device, like.dtype),
                order,
                order.argsort(),
            )
        return self._cache[key]

    @isolated
    def fingerprint(self) -> str:
        """Return a SHA-256 of order, signs and vectors, equal on every machine.

        Vectors count to 2^-14: eigenvectors differ between linear-algebra libraries by up to 1e-11.
        """
        digest = hashlib.sha256(repr((self.name, self.shape)).encode())
        digest.update(self.order.astype("<i8").tobytes())
        for vectors in (self.vertical, self.horizontal):
            digest.update(np.rint(vectors * 2**14).astype("<i8").tobytes())
        return digest.hexdigest()


MOST_TAPS = 99_999  # of a blur's kernel


def identity(n: int) -> Axis:
    """Return the pixel basis, whose order is raster order."""
    return Axis(np.eye(n), np.zeros(n))


def dct(n: int) -> Axis:
    """Return the orthonormal DCT-II; frequency is 4 times the squared cycles per pixel."""
    place, frequency = np.arange(n) + 0.5, np.arange(n)
    vectors = np.cos(math.pi / n * place[:, None] * frequency[None, :]) * math.sqrt(2 / n)
    vectors[:, 0] /= math.sqrt(2)
    return Axis(vectors, (frequency / n) ** 2)


def blur(
    n: int, *, sigma: float = 0.4, kernel_size: int | None = None, padding: str = "zero"
) -> Axis:
    """Return the eigenvectors of a 1-D Gaussian blur, strongest eigenvalue first (Lee et al. 2022).

    With zero padding and the default sigma U is very nearly the sine basis DST-I; with reflecting
    (half-sample symmetric) padding it is the DCT-II, whatever sigma.

    Args:
        n: length.
        sigma: standard deviation of the kernel in pixels.
        kernel_size: odd number of taps; 2n - 1 when None.
        padding: ``"zero"`` or ``"reflect"``.

    Raises:
        ValueError: for a bad option, or one that leaves the order of eigenvalues undefined.
    """
    taps = 2 * n - 1 if kernel_size is None else kernel_size
    if not 1 <= taps <= MOST_TAPS or taps % 2 == 0:
        raise ValueError(
            f"basis.kernel_size={taps}: must be odd, positive and at most {MOST_TAPS}, such as "
            f"{2 * n - 1}"
        )
    if not sigma > 0:
        raise ValueError(f"basis.sigma={sigma}: must be positive, in pixels; the paper's is 0.4")
    reach = np.arange(-(taps // 2), taps // 2 + 1)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2)
    kernel /= kernel.sum()
    if padding == "reflect":
        vectors = dct(n).vectors
        angle = math.pi / n * np.arange(n)
        values = (kernel[:, None] * np.cos(reach[:, None] * angle[None, :])).sum(0)
    elif padding == "zero":
        distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        reached = distance <= taps // 2
        weight = np.where(reached, kernel[np.where(reached, taps // 2 + distance, 0)], 0)
        values, vectors = np.linalg.eigh(weight)
        values, vectors = values[::-1], vectors[:, ::-1]
    else:
        raise ValueError(f"basis.padding={padding!r}: must be zero or reflect")
    if n > 1 and (values[-1] <= 0 or np.min(-np.diff(values)) < 1e-9):
        raise ValueError(
            f"basis.sigma={sigma}, kernel_size={taps}: eigenvalues of the blur are not positive or "
            f"differ by less than 1e-9 at length {n}, so their order is not defined; use a smaller "
            "sigma or a larger kernel_size"
        )
    # a product of eigenvalues orders the 2-D elements; minus their logarithms add up instead
    return Axis(vectors, -np.log(values / values[0]))


BASES: dict[str, Callable[..., Axis]] = {"identity": identity, "dct": dct, "blur": blur}


@isolated
def build_basis(name: str, shape: tuple[int, int], **options: object) -> Basis:
    """Build a basis for images of (H, W) by name.

    Args:
        name: a key of :data:`BASES`.
        shape: height and width in pixels.
        **options: the basis's own options.

    Raises:
        ValueError: for an unknown basis or option.

    Example:
        >>> build_basis("dct", (2, 3)).positions.tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [1, 2]]
    """
    if name not in BASES:
        raise ValueError(f"basis.name={name!r}: unknown; choose from {', '.join(BASES)}")
    known = [p for p in inspect.signature(BASES[name]).parameters if p != "n"]
    for option in options:
        if option not in known:
            takes = ", ".join(known) or "no option"
            raise ValueError(f"basis.{option}: not an option of {name!r}, which takes {takes}")
    try:
        vertical, horizontal = (BASES[name](n, **options) for n in shape)
    except TypeError as error:
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise ValueError(f"basis {name!r}: {given}: of the wrong type ({error})") from None
    order = _ascending(np.add.outer(vertical.frequency, horizontal.frequency).ravel())
    return Basis(name, _signed(vertical.vectors), _signed(horizontal.vectors), order)


def _ascending(total: Array) -> NDArray[np.int64]:
    """Sort, with neighbours closer than 1e-12 a tie, which raster order decides."""
    by_value = np.argsort(total, kind="stable")
    step = np.empty(total.size, np.int64)
    step[by_value] = np.cumsum(np.diff(total[by_value], prepend=total.min()) > 1e-12)
    return np.argsort(step, kind="stable").astype(np.int64)


def _signed(vectors: Array) -> Array:
    """Make the first component of each column that is not tiny positive."""
    first = np.argmax(np.abs(vectors) > 1e-3 * np.abs(vectors).max(axis=0), axis=0)
    return np.ascontiguousarray(vectors * np.sign(vectors[first, np.arange(vectors.shape[1])]))
