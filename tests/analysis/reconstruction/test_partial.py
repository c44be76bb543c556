"""Partial reconstructions of Gaussian data, whose decoder is linear: errors have closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gdm_repr.analysis.features.extractors import build_extractor
from gdm_repr.analysis.reconstruction.linear_code import dct_code, pca_code
from gdm_repr.analysis.reconstruction.partial import (
    NOISE,
    SIMILARITIES,
    Decoder,
    against,
    feature_distance,
    mean_latent,
    measure_code,
    other_images,
)
from gdm_repr.analysis.reconstruction.similarity import psnr
from gdm_repr.basis import build_basis
from gdm_repr.coordinates import Flow
from gdm_repr.generation import Generation
from gdm_repr.grouping import build_grouping
from gdm_repr.masks import first_elements
from gdm_repr.ode import Plan
from gdm_repr.oracle import gaussian_oracle
from gdm_repr.process import PROCESSES

SHAPE = (1, 3, 4)
D = 12
SCALE = 0.03  # small enough that nothing is clipped
GROUPING = build_grouping("bands", SHAPE, cuts=[3, 7])
BASIS = build_basis("dct", SHAPE[1:])
CUTS = [0, 1, 3, 5, 7, 10, 12]
KEPT = [first_elements(GROUPING, m) for m in CUTS]
FILLS = {"zero": torch.zeros(1, D), "mean": torch.full((1, D), 0.5)}
ITEMS = [4, 9, 2]
SQUARED = {"squared": feature_distance(build_extractor("pixels"))}


def generation(*, strict: bool = True) -> Generation:
    root = torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    S = SCALE**2 * (root @ root.T / D + 0.1 * torch.eye(D, dtype=torch.float64))
    mean = torch.zeros(D, dtype=torch.float64)
    oracle = gaussian_oracle(mean, S, GROUPING)
    flow = Flow(oracle, GROUPING, PROCESSES["linear"], mean[None], S.diagonal().sqrt()[None])
    return Generation(flow, Plan("midpoint", "whitened", (3, 3, 3)), strict=strict)


def decoder(draws: int = 2, *, strict: bool = True) -> Decoder:
    return Decoder(generation(strict=strict), BASIS, KEPT, FILLS, draws, seed=0)


def latents(n: int) -> Tensor:
    return torch.randn(n, 1, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def images(z: Tensor) -> Tensor:
    return BASIS.inverse(generation().decode(z))


def test_errors_have_their_closed_form() -> None:
    """x = L z: what is not kept is missed, exactly for a fill, and on average for noise."""
    z, draws = latents(3), 400
    measured = decoder(draws).measure(SQUARED, images(z), z, ITEMS)
    L = generation().decode(torch.eye(D, dtype=torch.float64)[:, None])[:, 0].T
    for i, keep in enumerate(KEPT):
        free = torch.from_numpy(~keep[0])
        missed = {name: (z - fill)[:, 0] * free @ L.T for name, fill in FILLS.items()}
        error = {name: miss.square().sum(1) for name, miss in missed.items()}
        for name, exact in error.items():
            torch.testing.assert_close(measured[name]["squared"][:, i], exact, rtol=1e-4, atol=1e-9)
        M = L[:, free]
        mean = error["zero"] + M.square().sum()
        # variance of ||m + M e||^2 for e ~ N(0, I)
        spread = 4 * (missed["zero"] @ M).square().sum(1) + 2 * (M.T @ M).square().sum()
        off = (measured[NOISE]["squared"][:, i] - mean).abs()
        assert bool((off <= 4 * (spread / draws).sqrt() + 1e-9).all())


def test_the_result_depends_on_seed_and_number_alone() -> None:
    z = latents(3)
    x = images(z)
    first = decoder().measure(SQUARED, x, z, ITEMS)
    for other in (
        replace(decoder(), batch_size=1),
        replace(decoder(), batch_size=7),
        decoder(strict=False),
    ):
        for fill, by in other.measure(SQUARED, x, z, ITEMS).items():
            torch.testing.assert_close(by["squared"], first[fill]["squared"], rtol=1e-4, atol=1e-8)
    alone = decoder().measure(SQUARED, x[1:2], z[1:2], ITEMS[1:2])
    for fill, by in alone.items():
        torch.testing.assert_close(by["squared"], first[fill]["squared"][1:2], rtol=1e-4, atol=1e-8)
    reseeded = replace(decoder(), seed=1).measure(SQUARED, x, z, ITEMS)
    assert bool((reseeded[NOISE]["squared"] != first[NOISE]["squared"])[:, :-1].all())
    assert torch.equal(reseeded["zero"]["squared"], first["zero"]["squared"])


def test_groups_of_the_image_are_not_made_again() -> None:
    z = latents(3)
    shared, plain = decoder(), decoder(strict=False)
    for each in (shared, plain):
        each.measure(SQUARED, images(z), z, ITEMS)
    # three for the states, then what is left after 0, 1, 3, 5, 7, 10 and 12 latents, 4 times
    assert shared.generation.groups == 3 * (3 + 4 * (3 + 3 + 2 + 2 + 1 + 1 + 0))
    assert plain.generation.groups == 3 * 4 * 3 * len(CUTS)


def test_the_pictures_are_what_was_measured() -> None:
    z = latents(3)
    x = images(z)
    measured = decoder(draws=1).measure(SIMILARITIES, x, z, ITEMS)
    for fill in (*FILLS, NOISE):
        shown = decoder().images(z, ITEMS, fill)
        assert shown.shape == (len(CUTS), 3, *SHAPE)
        for i, picture in enumerate(shown):
            torch.testing.assert_close(
                measured[fill]["psnr"][:, i], psnr(x, picture), rtol=1e-5, atol=1e-4
            )
    assert bool((measured["zero"]["psnr"][:, -1] > 90).all())


def test_reconstructions_are_clipped_as_if_saved() -> None:
    z = 200 * latents(2)
    shown = decoder().images(z, [0, 1], "zero")
    assert float(shown.abs().max()) == 1


def test_a_control_is_measured_as_the_model_is() -> None:
    x, pool = images(latents(3)), images(latents(40)[3:])
    code = dct_code(pool)
    values = measure_code(code, {**SQUARED, **SIMILARITIES}, x, CUTS)
    for i, m in enumerate(CUTS):
        y = code.keep(x, m)
        exact = (x - y).square().flatten(1).sum(1).double()
        torch.testing.assert_close(values["squared"][:, i], exact, rtol=1e-4, atol=1e-9)
    others = list(other_images(pool, ITEMS, 5, seed=0))
    swapped = measure_code(code, SQUARED, x, CUTS, others)["squared"]
    mean = torch.stack([(x - other).square().flatten(1).sum(1) for other in others]).mean(0)
    torch.testing.assert_close(swapped[:, 0], mean.double(), rtol=1e-4, atol=1e-9)
    few = measure_code(pca_code(pool[:6]), SQUARED, x, CUTS)["squared"]
    assert few.isnan().all(0).tolist() == [m > 5 for m in CUTS]


def test_other_images_depend_on_seed_and_number_alone() -> None:
    pool = torch.arange(20.0)[:, None, None, None].expand(-1, *SHAPE)
    drawn = torch.stack(list(other_images(pool, ITEMS, 20, seed=0)))[..., 0, 0, 0]
    assert drawn.sort(0).values.T.tolist() == [list(range(20))] * 3
    alone = torch.stack(list(other_images(pool, ITEMS[1:2], 20, seed=0)))[..., 0, 0, 0]
    assert torch.equal(alone, drawn[:, 1:2])
    with pytest.raises(ValueError, match="draws=21: there are 20 other images only"):
        next(iter(other_images(pool, ITEMS, 21, seed=0)))


def test_the_mean_latent_is_streamed() -> None:
    z = np.random.default_rng(0).standard_normal((10, 2, 3)).astype(np.float32)
    mean = mean_latent(iter([z[:4], z[4:9], z[9:]]))
    np.testing.assert_allclose(mean, z.mean(0), rtol=1e-5)
    assert mean.dtype == torch.float32


def test_an_extractor_s_distance_is_its_own() -> None:
    x, y = torch.rand(3, 1, 8, 8), torch.rand(6, 1, 8, 8)
    extractor = build_extractor("dct", input_size=4)
    torch.testing.assert_close(
        feature_distance(extractor)(x)(y), against(extractor.distance)(x)(y), atol=1e-4, rtol=1e-4
    )
