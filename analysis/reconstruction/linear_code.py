"""Controls of a representation: what the same number of values keeps without a model.

A linear code turns an image into orthonormal coordinates, the most important first, keeps the first
v of them and takes the others from somewhere else: from the mean image, which is the best guess
where nothing is known of them, or from another image, which gives a typical picture instead of an
average one. Two codes frame what is to be beaten:

    DCT    fitted to nothing but its mean: all channels' coefficients, lowest frequency first.
    PCA    fitted: no other linear code has a smaller squared error on the images of the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from gdm_repr.basis import build_basis
from gdm_repr.boundary.isolation import isolated


@dataclass(frozen=True, eq=False)
class LinearCode:
    """Orthonormal coordinates of images.

    Attributes:
        name: as a figure shows it.
        size: how many coordinates there are; fewer than pixels where the fit had too few images.
        mean: the mean image, (1, C, H, W).
        forward: images (B, C, H, W) to coordinates (B, size).
        inverse: coordinates to images.
    """

    name: str
    size: int
    mean: Tensor
    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]

    @isolated
    def keep(self, x: Tensor, values: int, rest: Tensor | None = None) -> Tensor:
        """Return images that keep the first coordinates only.

        Args:
            x: images (B, C, H, W).
            values: how many coordinates are kept.
            rest: images (B, C, H, W) that the other coordinates are from; the mean when None.

        Returns:
            (B, C, H, W), on x's device.

        Raises:
            ValueError: if there are not so many coordinates.
        """
        if not 0 <= values <= self.size:
            raise ValueError(f"values={values}: {self.name} has 0 to {self.size} coordinates")
        others = (self.mean.expand_as(x) if rest is None else rest).to(x.device)
        kept = torch.arange(self.size, device=x.device) < values
        return self.inverse(torch.where(kept, self.forward(x), self.forward(others)))


@isolated
def dct_code(images: Tensor) -> LinearCode:
    """Return the DCT-II, whose only fit is the mean of images (N, C, H, W).

    Coordinate f * C + c is the coefficient of frequency f and channel c.
    """
    channels, height, width = images.shape[1:]
    basis = build_basis("dct", (height, width))
    return LinearCode(
        "DCT",
        channels * height * width,
        images.mean(0, keepdim=True),
        lambda x: basis.forward(x).transpose(1, 2).flatten(1),
        lambda y: basis.inverse(y.reshape(len(y), -1, channels).transpose(1, 2)),
    )


@isolated
def pca_code(images: Tensor, *, most: int | None = None, seed: int = 0) -> LinearCode:
    """Fit principal components to images (N, C, H, W), all channels together.

    There are N - 1 of them at most, as the mean takes one: beyond that, PCA keeps nothing more.

    Args:
        images: to fit.
        most: components, no more than this.
        seed: of the randomised solver, which scikit-learn takes for large fits.

    Raises:
        ValueError: if there are fewer than 2 images.
    """
    n, shape = len(images), tuple(images.shape[1:])
    if n < 2:
        raise ValueError(f"images: {n} given; principal components need 2 or more to be fitted")
    flat = images.flatten(1).cpu().numpy()
    size = min(n - 1, flat.shape[1], most or n)
    pca = PCA(size, random_state=seed).fit(flat)
    mean = torch.from_numpy(pca.mean_).to(images)
    components = torch.from_numpy(pca.components_).to(images)

    def forward(x: Tensor) -> Tensor:
        return (x.flatten(1) - mean.to(x.device)) @ components.to(x.device).T

    def inverse(y: Tensor) -> Tensor:
        x = y @ components.to(y.device) + mean.to(y.device)
        return x.reshape(len(x), *shape)

    return LinearCode("PCA", size, mean.reshape(1, *shape), forward, inverse)
