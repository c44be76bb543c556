"""PSNR and SSIM equal scikit-image's, which is not a dependency of the package itself."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from gdm_repr.analysis.reconstruction.similarity import CEILING, psnr, ssim


def pair(shape: tuple[int, ...], noise: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(shape, generator=generator) * 2 - 1
    return a, (a + noise * torch.randn(shape, generator=generator)).clamp(-1, 1)


@pytest.mark.parametrize(
    ("height", "width", "sigma"), [(32, 24, 1.5), (11, 40, 1.5), (8, 9, 21 / 22), (3, 4, 9 / 22)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_other_implementation_agrees_on_bytes(
    height: int, width: int, sigma: float, channels: int
) -> None:
    """scikit-image derives its window from sigma: 2 round(3.5 sigma) + 1 pixels."""
    a, b = pair((3, channels, height, width))
    for x, y, own_psnr, own_ssim in zip(a, b, psnr(a, b), ssim(a, b), strict=True):
        bytes_x, bytes_y = (((v.double() + 1) * 127.5).numpy() for v in (x, y))
        assert float(own_psnr) == pytest.approx(
            peak_signal_noise_ratio(bytes_x, bytes_y, data_range=255),  # type: ignore[no-untyped-call]
            rel=1e-9,
        )
        theirs = structural_similarity(  # type: ignore[no-untyped-call]
            bytes_x,
            bytes_y,
            data_range=255,
            channel_axis=0,
            gaussian_weights=True,
            sigma=sigma,
            use_sample_covariance=False,
        )
        assert float(own_ssim) == pytest.approx(theirs, rel=1e-7)


def test_an_image_and_itself() -> None:
    a, b = pair((2, 3, 8, 8))
    assert psnr(a, a).tolist() == [CEILING] * 2
    assert ssim(a, a).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert torch.equal(ssim(a, b), ssim(b, a))
    assert bool((ssim(a, b) < 1).all())
    # neither depends on the other images of the batch
    assert torch.equal(torch.cat([ssim(a[i : i + 1], b[i : i + 1]) for i in range(2)]), ssim(a, b))


def test_less_noise_is_more_alike() -> None:
    similar = [
        (float(psnr(*images)), float(ssim(*images)))
        for images in (pair((1, 1, 12, 12), noise) for noise in (0.5, 0.2, 0.05))
    ]
    assert similar == sorted(similar)


def test_what_cannot_be_compared_is_refused() -> None:
    a, b = pair((1, 1, 8, 8))
    for function in (psnr, ssim):
        with pytest.raises(ValueError, match="must be one and the same"):
            function(a, b[..., 1:])
    with pytest.raises(ValueError, match="2x8 pixels; SSIM needs sides of 3 or more"):
        ssim(a[..., :2, :], b[..., :2, :])
