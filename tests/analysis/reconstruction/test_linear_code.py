"""Linear codes: orthonormal, complete, and PCA the best of them on its own images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gdm_repr.analysis.reconstruction.linear_code import LinearCode, dct_code, pca_code
from gdm_repr.basis import build_basis

SHAPE = (2, 4, 5)
VALUES = 40


def images(n: int, seed: int = 0) -> Tensor:
    """Return images whose pixels depend on each other."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((VALUES, VALUES)) / 6
    x = np.random.default_rng([1, seed]).standard_normal((n, VALUES)) @ mixing + 0.3
    return torch.from_numpy(x).float().reshape(n, *SHAPE)


def codes() -> list[LinearCode]:
    return [dct_code(images(200)), pca_code(images(200))]


@pytest.mark.parametrize("code", codes(), ids=lambda code: code.name)
def test_a_code_is_orthonormal_and_complete(code: LinearCode) -> None:
    x = images(8, seed=1)
    assert code.size == VALUES
    torch.testing.assert_close(code.inverse(code.forward(x)), x, atol=1e-5, rtol=0)
    shift = code.forward(x) - code.forward(code.mean)
    torch.testing.assert_close(shift.norm(dim=1), (x - code.mean).flatten(1).norm(dim=1))


@pytest.mark.parametrize("code", codes(), ids=lambda code: code.name)
def test_what_is_kept_is_the_image_s_and_the_rest_is_not(code: LinearCode) -> None:
    x, other = images(6, seed=1), images(6, seed=2)
    torch.testing.assert_close(code.keep(x, 0), code.mean.expand_as(x))
    torch.testing.assert_close(code.keep(x, 0, other), other, atol=1e-5, rtol=0)
    for rest in (None, other):
        torch.testing.assert_close(code.keep(x, VALUES, rest), x, atol=1e-5, rtol=0)
    mixed = code.forward(code.keep(x, 7, other))
    torch.testing.assert_close(mixed[:, :7], code.forward(x)[:, :7], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed[:, 7:], code.forward(other)[:, 7:], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=f"values=41: {code.name} has 0 to 40 coordinates"):
        code.keep(x, VALUES + 1)


def test_the_dct_counts_frequencies_in_all_channels() -> None:
    x = images(3)
    code, basis = dct_code(x), build_basis("dct", SHAPE[1:])
    kept = basis.forward(code.keep(x, 2 * SHAPE[0]))
    torch.testing.assert_close(kept[:, :, :2], basis.forward(x)[:, :, :2])
    torch.testing.assert_close(
        kept[:, :, 2:], basis.forward(code.mean)[:, :, 2:].expand(3, -1, -1), atol=1e-5, rtol=0
    )


def test_pca_loses_the_smallest_eigenvalues_and_no_code_less() -> None:
    x = images(400)
    dct, pca = dct_code(x), pca_code(x)
    covariance = np.cov(x.flatten(1).double().numpy().T, bias=True)
    lost = np.cumsum(np.linalg.eigvalsh(covariance))
    for values in (1, 5, 20, 39):
        error = [
            float((code.keep(x, values) - x).square().flatten(1).sum(1).double().mean())
            for code in (pca, dct)
        ]
        assert error[0] == pytest.approx(lost[VALUES - values - 1], rel=1e-4)
        assert error[0] < error[1]


def test_few_images_give_few_components() -> None:
    assert pca_code(images(9)).size == 8
    assert pca_code(images(9), most=3).size == 3
    with pytest.raises(ValueError, match="images: 1 given"):
        pca_code(images(1))
