"""One list of bases through the same laws, and the known facts of the DCT and of the blur."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor

from gdm_repr.basis import BASES, Basis, blur, build_basis, dct

Shape = tuple[int, int]

CASES: list[tuple[str, Shape, dict[str, Any]]] = [
    ("identity", (5, 7), {}),
    ("dct", (8, 8), {}),
    ("dct", (5, 7), {}),
    ("dct", (1, 6), {}),
    ("dct", (1, 1), {}),
    ("blur", (8, 8), {}),
    ("blur", (16, 9), {"sigma": 0.6}),
    ("blur", (9, 12), {"kernel_size": 5}),
    ("blur", (1, 6), {}),
    ("blur", (8, 8), {"padding": "reflect"}),
    ("blur", (7, 10), {"padding": "reflect", "sigma": 1.0}),
    ("blur", (64, 64), {}),
]


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0]}-{c[1]}-{c[2]}")
def basis(request: pytest.FixtureRequest) -> Basis:
    name, shape, options = request.param
    return build_basis(name, shape, **options)


def images(shape: Shape, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64).to(dtype)


def kernel(sigma: float, taps: int) -> NDArray[np.float64]:
    weight = np.exp(-0.5 * (np.arange(taps) - taps // 2) ** 2 / sigma**2)
    normalised: NDArray[np.float64] = weight / weight.sum()
    return normalised


def tie_groups(basis: Basis, frequency: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Return the positions of elements of equal frequency, in the basis's order."""
    total = frequency[basis.positions].sum(1)
    return np.split(basis.positions, np.flatnonzero(np.diff(total) > 1e-12) + 1)


def test_every_basis_is_in_the_list() -> None:
    assert {name for name, _, _ in CASES} == set(BASES)


def test_columns_are_orthonormal(basis: Basis) -> None:
    for U in (basis.vertical, basis.horizontal):
        assert np.abs(U.T @ U - np.eye(len(U))).max() < 1e-12


def test_inverse_undoes_forward(basis: Basis) -> None:
    x = images(basis.shape)
    x_bar = basis.forward(x)
    assert x_bar.shape == (2, 3, x[0, 0].numel())
    assert torch.allclose(basis.inverse(x_bar), x, rtol=0, atol=1e-12)
    assert torch.allclose(basis.forward(basis.inverse(x_bar)), x_bar, rtol=0, atol=1e-12)
    assert torch.allclose(x_bar.square().sum(), x.square().sum())
    single = x.float()
    assert torch.allclose(basis.inverse(basis.forward(single)), single, rtol=0, atol=1e-5)


def test_order_is_a_permutation_of_positions(basis: Basis) -> None:
    height, width = basis.shape
    assert sorted(basis.order) == list(range(height * width))
    assert np.array_equal(basis.positions @ [width, 1], basis.order)


def test_layout_puts_every_element_at_its_position(basis: Basis) -> None:
    height, width = basis.shape
    values = torch.arange(2 * height * width).reshape(2, -1)
    grid = basis.layout(values)
    assert grid.shape == (2, height, width)
    rows, cols = torch.from_numpy(basis.positions).unbind(1)
    assert torch.equal(grid[:, rows, cols], values)
    assert torch.equal(basis.elements(grid), values)


def test_element_is_the_inner_product_with_its_basis_image(basis: Basis) -> None:
    d = basis.shape[0] * basis.shape[1]
    for n in {0, d // 3, d - 1}:
        unit = torch.zeros(1, 1, d, dtype=torch.float64)
        unit[..., n] = 1
        a, b = basis.positions[n]
        expected = np.outer(basis.vertical[:, a], basis.horizontal[:, b])
        assert np.allclose(basis.inverse(unit)[0, 0].numpy(), expected, atol=1e-12)


def test_first_components_are_positive(basis: Basis) -> None:
    if basis.name != "identity":
        assert (basis.vertical[0] > 0).all()
        assert (basis.horizontal[0] > 0).all()


def test_lowest_frequency_comes_first(basis: Basis) -> None:
    if basis.name != "identity":
        assert basis.positions[0].tolist() == [0, 0]
        # along either axis alone, frequencies ascend
        for axis in (0, 1):
            along = basis.positions[basis.positions[:, 1 - axis] == 0, axis]
            assert (np.diff(along) > 0).all()


def test_identity_is_raster_order() -> None:
    x = images((5, 7))
    assert torch.equal(build_basis("identity", (5, 7)).forward(x), x.flatten(2))


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (1, 6), (32, 32)])
def test_dct_is_scipy_s(shape: Shape) -> None:
    basis, x = build_basis("dct", shape), images(shape)
    expected = torch.from_numpy(fft.dctn(x.numpy(), axes=(2, 3), norm="ortho"))
    assert torch.allclose(basis.layout(basis.forward(x)), expected, rtol=0, atol=1e-12)


def test_dct_orders_by_cycles_per_pixel() -> None:
    height, width = 6, 9
    positions = build_basis("dct", (height, width)).positions
    cycles = (positions[:, 0] / (2 * height)) ** 2 + (positions[:, 1] / (2 * width)) ** 2
    assert (np.diff(cycles) > -1e-12).all()


@pytest.mark.parametrize(("padding", "mode"), [("zero", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize(("n", "sigma", "taps"), [(8, 0.4, None), (9, 0.8, 5), (12, 1.0, 15)])
def test_blur_basis_diagonalises_the_blur(
    padding: str, mode: str, n: int, sigma: float, taps: int | None
) -> None:
    if (n, padding) == (9, "zero"):
        sigma = 0.6  # five taps of a wider kernel have eigenvalues below 0
    W = ndimage.correlate1d(np.eye(n), kernel(sigma, taps or 2 * n - 1), axis=0, mode=mode)
    axis = blur(n, sigma=sigma, kernel_size=taps, padding=padding)
    D = np.diag(axis.vectors.T @ W @ axis.vectors)
    assert np.abs(axis.vectors * D @ axis.vectors.T - W).max() < 1e-12  # W = U D U^T (A.4)
    assert (np.diff(D) < 0).all()  # strongest first
    assert np.allclose(axis.frequency, -np.log(D / D[0]), atol=1e-9)


def test_zero_padded_blur_is_no_dct() -> None:
    basis = build_basis("blur", (64, 64))
    energy = basis.forward(torch.ones(1, 1, 64, 64, dtype=torch.float64))[0, 0] ** 2 / 64**2
    assert energy[0] == pytest.approx(0.677, abs=5e-4)
    assert energy[:500].sum() == pytest.approx(0.991, abs=5e-4)
    place = np.pi / 65 * np.arange(1, 65)
    sine = np.sin(np.outer(place, np.arange(1, 65))) * np.sqrt(2 / 65)
    assert np.abs(basis.vertical - sine).max() < 0.05  # all but DST-I


def test_reflecting_blur_is_the_dct() -> None:
    for sigma in (0.4, 1.0):
        reflecting = blur(16, sigma=sigma, padding="reflect")
        assert np.array_equal(reflecting.vectors, dct(16).vectors)
    basis = build_basis("blur", (64, 64), padding="reflect")
    energy = basis.forward(torch.ones(1, 1, 64, 64, dtype=torch.float64))[0, 0] ** 2 / 64**2
    assert energy[0] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("n", [64, 256])
@pytest.mark.parametrize(
    ("name", "options"), [("dct", {}), ("blur", {}), ("blur", {"padding": "reflect"})]
)
def test_the_paper_s_cuts_split_no_tie(n: int, name: str, options: dict[str, Any]) -> None:
    basis = build_basis(name, (n, n), **options)
    ties = tie_groups(basis, BASES[name](n, **options).frequency)
    edges = set(np.cumsum([len(tie) for tie in ties]))
    assert {30, 100, 500} <= edges
    assert 700 not in edges


@pytest.mark.parametrize(("name", "options"), [("dct", {}), ("blur", {})])
def test_ties_go_to_the_smaller_vertical_frequency(name: str, options: dict[str, Any]) -> None:
    basis = build_basis(name, (64, 64), **options)
    for tie in tie_groups(basis, BASES[name](64, **options).frequency):
        assert (np.diff(tie[:, 0]) > 0).all()
        # (a, b) and (b, a) tie exactly, whatever else does
        assert {(int(a), int(b)) for a, b in tie} == {(int(b), int(a)) for a, b in tie}


@pytest.mark.parametrize("shape", [(32, 32), (160, 160), (48, 64), (255, 256)])
def test_dct_ties_are_those_of_whole_numbers(shape: Shape) -> None:
    height, width = shape
    whole = np.add.outer((np.arange(height) * width) ** 2, (np.arange(width) * height) ** 2)
    exact = np.argsort(whole.ravel(), kind="stable")
    assert np.array_equal(build_basis("dct", shape).order, exact)


FINGERPRINTS = {
    "dct": "565c740fde238d475fba71ecf2f3c785a9789ea6582a09286c98175989083941",
    "blur": "b679acc09cb60225e238dfdc75dfa568fc029d48f3c095bd4c9f66be0d5127c5",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprint_is_the_same_on_every_machine_and_for_every_dtype(name: str) -> None:
    basis = build_basis(name, (8, 12))
    for dtype in (torch.float32, torch.float64):
        basis.inverse(basis.forward(images((8, 12), dtype)))
        assert basis.fingerprint() == FINGERPRINTS[name]


def test_fingerprints_tell_bases_apart() -> None:
    bases = [build_basis(name, shape, **options) for name, shape, options in CASES]
    bases += [build_basis("dct", (7, 5)), build_basis("blur", (8, 8), sigma=0.41)]
    assert len({basis.fingerprint() for basis in bases}) == len(bases)


def test_large_images_need_no_d_by_d_matrix() -> None:
    basis = build_basis("blur", (256, 192))
    x = torch.ones(1, 3, 256, 192)
    assert torch.allclose(basis.inverse(basis.forward(x)), x, atol=1e-4)
    assert basis.vertical.shape == (256, 256)
    assert basis.horizontal.shape == (192, 192)
    assert basis.order.shape == (256 * 192,)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wavelet", {}, r"basis\.name='wavelet'.*identity, dct, blur"),
        ("dct", {"sigma": 1}, r"basis\.sigma.*'dct'.*no option"),
        ("blur", {"width": 1}, r"basis\.width.*sigma, kernel_size, padding"),
        ("blur", {"sigma": 0}, r"basis\.sigma=0: must be positive"),
        ("blur", {"sigma": float("nan")}, r"basis\.sigma=nan"),
        ("blur", {"kernel_size": 4}, r"basis\.kernel_size=4: must be odd"),
        ("blur", {"kernel_size": -1}, r"basis\.kernel_size=-1"),
        ("blur", {"padding": "wrap"}, r"basis\.padding='wrap': must be zero or reflect"),
        ("blur", {"kernel_size": 1}, "eigenvalues .* order is not defined"),
        ("blur", {"sigma": 4.0}, "eigenvalues"),
        ("blur", {"sigma": 2.0, "kernel_size": 3}, "eigenvalues of the blur are not positive"),
    ],
)
def test_impossible_bases_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_basis(name, (16, 16), **options)
