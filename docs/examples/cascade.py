"""Prop. 3.2: the CDM grouping is a two-stage cascade on subsampled pixels; where cascades differ.

python docs/examples/cascade.py

Data are the statistics of 8x8 digits, one Gaussian a class, so that both stages of the cascade have
a closed form of their own: the law of the 4x4 image of every second pixel, and the law of the other
48 pixels given that image. A diffusion model of each (k = 1) is solved by the steps of the GDM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gdm_repr.coordinates import Flow
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.ode import Plan, decode, encode
from gdm_repr.oracle import MixtureOracle, class_mixture
from gdm_repr.process import PROCESSES

CDM = build_grouping("cdm", (1, 8, 8), levels=2)
LOW = torch.from_numpy(CDM.mask(0)[0])
LINEAR = PROCESSES["linear"]
IMAGES = 12


def plan(steps: int, k: int, solver: str = "ab2") -> Plan:
    """Return whitened steps, the same number for every group."""
    return Plan(solver, "whitened", (steps,) * k)


def single(elements: int) -> Grouping:
    """Return the one group of an ordinary diffusion model."""
    return build_grouping("single", (1, 1, elements))


def flow(mixture: MixtureOracle, mean: Tensor, std: Tensor) -> Flow:
    """Return a closed-form flow; mean and std (D,) only scale its steps."""
    return Flow(mixture, mixture.grouping, LINEAR, mean[None], std[None])


def low_resolution(mixture: MixtureOracle) -> MixtureOracle:
    """Return stage one: the law of the subsampled image alone, one group."""
    S = mixture.covariances[:, LOW][:, :, LOW]
    return MixtureOracle(mixture.weights, mixture.means[:, LOW], S, single(int(LOW.sum())))


def given_low_resolution(mixture: MixtureOracle, low: Tensor) -> MixtureOracle:
    """Return stage two: the law of the other pixels given one subsampled image (16,), one group."""
    S, mu = mixture.covariances, mixture.means
    S_ll, S_hl = S[:, LOW][:, :, LOW], S[:, ~LOW][:, :, LOW]
    B = torch.linalg.solve(S_ll, S_hl, left=False)
    r = low - mu[:, LOW]
    square = (r * torch.linalg.solve(S_ll, r[..., None])[..., 0]).sum(1)
    posterior = (mixture.weights.log() - 0.5 * (square + torch.logdet(S_ll))).softmax(0)
    means = mu[:, ~LOW] + (B @ r[..., None])[..., 0]
    schur = S[:, ~LOW][:, :, ~LOW] - B @ S_hl.mT
    return MixtureOracle(posterior, means, (schur + schur.mT) / 2, single(int((~LOW).sum())))


def same_latents(mixture: MixtureOracle, x: Tensor) -> tuple[float, float, float]:
    """Encode and decode images by the GDM and by the cascade, with the same steps.

    Returns:
        Largest difference of the latents of stage one, of those of stage two, and of the
        low-resolution images made from the same latents with other noise in the other group.
    """
    mean, std = x.mean(0), x.std(0)
    whole = flow(mixture, mean, std)
    first = flow(low_resolution(mixture), mean[LOW], std[LOW])
    z = encode(whole, x[:IMAGES, None], plan(16, 2)).y[:, 0]
    z_low = encode(first, x[:IMAGES, None, LOW], plan(16, 1)).y[:, 0]
    stage_one = float((z[:, LOW] - z_low).abs().max())
    stage_two = 0.0
    for image, latent in zip(x[:IMAGES], z, strict=True):
        second = flow(given_low_resolution(mixture, image[LOW]), mean[~LOW], std[~LOW])
        z_high = encode(second, image[None, None, ~LOW], plan(16, 1)).y[0, 0]
        stage_two = max(stage_two, float((latent[~LOW] - z_high).abs().max()))
    other = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=z.dtype)
    made = decode(whole, torch.where(LOW, z, other)[:, None], plan(16, 2)).y[:, 0, LOW]
    alone = decode(first, z_low[:, None], plan(16, 1)).y[:, 0]
    return stage_one, stage_two, float((made - alone).abs().max())


def law_error(gaussian: MixtureOracle, steps: int) -> tuple[float, float]:
    """Compare the law that decoding gives to N(mean, S), the one Gaussian, with S itself.

    Decoding is then linear, x = mean + L z, with L from unit vectors.

    Returns:
        Relative error, in Frobenius norm, of the low resolution's covariance L_l L_l^T against
        S_ll, and of the conditional covariance of the rest against the Schur complement.
    """
    S, mean = gaussian.covariances[0], gaussian.means[0]
    one = flow(gaussian, mean, S.diagonal().sqrt())
    z = torch.cat([torch.zeros(1, 64), torch.eye(64)]).double()
    x = decode(one, z[:, None], plan(steps, 2, "rk4")).y[:, 0]
    L = (x[1:] - x[0]).T
    assert L[LOW][:, ~LOW].abs().max() < 1e-12  # the low resolution knows nothing of the rest
    schur = given_low_resolution(gaussian, mean[LOW]).covariances[0]
    made = L[~LOW][:, ~LOW] @ L[~LOW][:, ~LOW].T
    S_ll = S[LOW][:, LOW]
    low = torch.linalg.norm(L[LOW][:, LOW] @ L[LOW][:, LOW].T - S_ll) / torch.linalg.norm(S_ll)
    return float(low), float(torch.linalg.norm(made - schur) / torch.linalg.norm(schur))


def averages() -> Tensor:
    """Return orthogonal H (64, 64): 2x2 averages (times 2) where CDM has its first group."""
    block = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    H = torch.zeros(64, 64, dtype=torch.float64)
    for row in range(0, 8, 2):
        for col in range(0, 8, 2):
            pixels = torch.tensor([8 * (row + i) + col + j for i in (0, 1) for j in (0, 1)])
            H[pixels[:, None], pixels] = block.double()
    return H


def rotated(mixture: MixtureOracle, H: Tensor) -> MixtureOracle:
    """Return the law of H x."""
    S = H @ mixture.covariances @ H.T
    return MixtureOracle(mixture.weights, mixture.means @ H.T, S, mixture.grouping)


def left_open(gaussian: MixtureOracle, s: float = 0.0) -> float:
    """Return the share of all variance that (1 - s) x_low + s noise leaves open, linearly."""
    S = gaussian.covariances[0]
    noise = (s / (1 - s)) ** 2 * torch.eye(int(LOW.sum()), dtype=S.dtype)
    seen = S[:, LOW] @ torch.linalg.solve(S[LOW][:, LOW] + noise, S[LOW])
    return float((S - seen).trace() / S.trace())


def main() -> None:
    """Print the numbers and check the law."""
    data = open_data("digits", Preprocess(dequantize=True))
    x = data.batch(range(len(data))).x.double().flatten(1)
    mixture = class_mixture(x, torch.tensor(data.labels["digit"]), CDM)
    gaussian = class_mixture(x, torch.zeros(len(x)), CDM)

    H = averages()
    for name, law, images in (
        ("every second pixel", mixture, x),
        ("2x2 averages and details", rotated(mixture, H), x @ H.T),
    ):
        one, two, made = same_latents(law, images)
        print(f"{name}: largest difference between GDM and cascade, {IMAGES} digits, same steps")
        print(f"  latents of stage one     {one:.1e}")
        print(f"  latents of stage two     {two:.1e}")
        print(f"  low resolution decoded   {made:.1e}")
        # float64; rounding grows by the conditioning of the covariances, up to 1e5
        assert max(one, two, made) < 1e-9
    print("one Gaussian: relative error of the decoded law, by rk4 steps a group")
    for steps in (4, 8, 16, 32):
        low, rest = law_error(gaussian, steps)
        print(f"  {steps:3d}  low resolution {low:.1e}  rest given it {rest:.1e}")
    assert max(low, rest) < 1e-4  # the steps' error, which falls with them
    print("share of all variance left open by stage one")
    print(f"  every second pixel            {left_open(gaussian):.3f}")
    print(f"  every second pixel, s = .1    {left_open(gaussian, 0.1):.3f}")
    print(f"  2x2 averages                  {left_open(rotated(gaussian, H)):.3f}")


if __name__ == "__main__":
    main()
