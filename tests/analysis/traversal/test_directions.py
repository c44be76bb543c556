"""Directions: elements are what edits set, random ones are uniform, and decoding shares groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gdm_repr.analysis.traversal.directions import (
    Direction,
    choose_pool,
    element_directions,
    move_coefficients,
    random_directions,
    traverse,
)
from gdm_repr.coordinates import Flow
from gdm_repr.edit.operations import set_element
from gdm_repr.generation import Generation
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.masks import element_mask
from gdm_repr.ode import Plan
from gdm_repr.oracle import gaussian_oracle
from gdm_repr.process import PROCESSES

SHAPE = (3, 2, 4)
GRAY = build_grouping("bands", (1, 2, 4), cuts=[2, 5])
RGB = build_grouping("bands", SHAPE, cuts=[2, 5])
APART = build_grouping("bands", SHAPE, cuts=[2, 5], per_channel=True)
VALUES = (-3.0, 0.5, 3.0)


def latents(n: int = 5, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, 8, generator=generator, dtype=torch.float64)


def generation(*, strict: bool = True) -> Generation:
    """A Gaussian of one channel, whose three bands depend on each other."""
    root = torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    S = root @ root.T / 8 + 0.1 * torch.eye(8, dtype=torch.float64)
    mean = torch.linspace(-1, 1, 8, dtype=torch.float64)
    oracle = gaussian_oracle(mean, S, GRAY)
    flow = Flow(oracle, GRAY, PROCESSES["linear"], mean[None], S.diagonal().sqrt()[None])
    return Generation(flow, Plan("midpoint", "whitened", (3,) * 3), strict=strict)


@pytest.mark.parametrize("elements", [("3", "4"), ("2:1", "4:0", "2:2")])
def test_an_element_is_set_as_the_edit_sets_it(elements: tuple[str, ...]) -> None:
    z, pool = latents(), choose_pool(RGB, 3, elements=elements)
    for name, direction in zip(elements, element_directions(pool), strict=True):
        mask = element_mask(name, 3, 8)
        for value, there in zip(VALUES, direction.go(z, VALUES).unbind(1), strict=True):
            assert torch.equal(there, set_element(z, mask, value))
        assert (direction.support == mask).all()


@pytest.mark.parametrize("elements", [(), ("0:1",)])
def test_a_random_direction_moves_its_coordinate_only(elements: tuple[str, ...]) -> None:
    z, pool = latents(), choose_pool(RGB, 3, elements=elements)
    for direction in random_directions(pool, 9, seed=3):
        w = direction.w
        assert not (direction.support & ~pool.mask).any()
        over = (-2, -1) if pool.single else -1
        norm = w.square().sum(over)
        torch.testing.assert_close(norm, torch.ones_like(norm))
        for value, there in zip(VALUES, direction.go(z, VALUES).unbind(1), strict=True):
            place = (there * w).sum(over)
            torch.testing.assert_close(place, torch.full_like(place, value))
            torch.testing.assert_close(there - direction.along(there), z - direction.along(z))


def test_random_directions_come_in_bases_and_do_not_depend_on_their_number() -> None:
    pool = choose_pool(RGB, 3, band="2_4")
    seven = torch.stack([each.w[0] for each in random_directions(pool, 7, seed=1)])
    for basis in (seven[:3], seven[3:6]):
        torch.testing.assert_close(basis @ basis.T, torch.eye(3, dtype=torch.float64))
    two = torch.stack([each.w[0] for each in random_directions(pool, 2, seed=1)])
    torch.testing.assert_close(two, seven[:2])
    other = torch.stack([each.w[0] for each in random_directions(pool, 7, seed=2)])
    assert (other - seven).abs().amax(1).min() > 1e-3


def test_random_directions_are_uniform_on_the_sphere() -> None:
    """E w w^T = I / D, within five standard errors."""
    pool = choose_pool(RGB, 3, band="2_4")
    w = torch.stack([each.w[0, 2:5] for each in random_directions(pool, 1500)])
    cosines = (w.T @ w / len(w) - torch.eye(3) / 3).abs().max()
    assert cosines < 5 * 0.3 / len(w) ** 0.5
    assert w.mean(0).abs().max() < 5 * 0.6 / len(w) ** 0.5


@pytest.mark.parametrize(
    ("grouping", "options", "name", "elements"),
    [
        (GRAY, {}, "0_1", ("0", "1")),
        (RGB, {"band": "5_7"}, "5_7", ("5", "6", "7")),
        (RGB, {"band": "0-2"}, "0-2", ("0", "1", "2")),
        (RGB, {"elements": ["1-2", "0"]}, "0_1+2_4", ("1", "2", "0")),
        (RGB, {"elements": ["2:1"]}, "2_4", ("2:1",)),
        (APART, {}, "group0", ("0:0", "1:0")),
        (APART, {"elements": ["3:2"]}, "group5", ("3:2",)),
    ],
)
def test_a_pool_is_of_the_band_or_the_elements(
    grouping: Grouping, options: dict[str, str], name: str, elements: tuple[str, ...]
) -> None:
    channels = 1 if grouping is GRAY else 3
    pool = choose_pool(grouping, channels, **options)
    assert (pool.name, pool.elements) == (name, elements)
    assert pool.single == (":" in elements[0])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"band": "0_1", "elements": ["1", "3"]}, "'3': lies in band 2_4, not in 0_1"),
        ({"elements": ["1", "3:0"]}, "mixes indices in all channels with single ones"),
        ({"elements": ["1", "0-1"]}, "names an element twice"),
        ({"elements": ["4-2"]}, "'4-2': ends before it starts"),
        ({"elements": ["8"]}, "element '8': unknown"),
        ({"elements": ["7-9"]}, "element '8': unknown"),
        ({"band": "none"}, "'none': has no elements"),
        ({"band": "x"}, "band 'x': unknown"),
    ],
)
def test_wrong_bands_and_elements_are_refused(options: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        choose_pool(RGB, 3, **options)
    assert "\n" not in str(caught.value)


def paths(by: Generation, direction: Direction, batch_size: int) -> tuple[Tensor, Tensor]:
    z = latents(channels=1)
    parts = list(traverse(by, z, by.states(z), direction, VALUES, batch_size=batch_size))
    return torch.cat([data for data, _ in parts]), torch.cat([origin for _, origin in parts])


@pytest.mark.parametrize("band", GRAY.names)
def test_a_path_is_decoded_whatever_is_shared_or_batched(band: str) -> None:
    pool, z = choose_pool(GRAY, 1, band=band), latents(channels=1)
    plain = generation(strict=False)
    for direction in (element_directions(pool)[0], random_directions(pool, 1)[0]):
        exact = torch.stack([plain.decode(each) for each in direction.go(z, VALUES)])
        for by, size in ((plain, 64), (generation(), 64), (generation(), 4), (generation(), 1)):
            data, origin = paths(by, direction, size)
            torch.testing.assert_close(data, exact)
            torch.testing.assert_close(origin, plain.decode(z))


def test_groups_made_before_are_not_touched_and_not_made_again() -> None:
    by = generation()
    direction = element_directions(choose_pool(GRAY, 1, elements=["5"]))[0]
    data, origin = paths(by, direction, 64)
    assert torch.equal(data[..., :5], origin[:, None, :, :5].expand_as(data[..., :5]))
    assert (data[..., 5:] != origin[:, None, :, 5:]).any()
    assert by.groups == 5 * 3 + 5 * len(VALUES)  # the states, then the last group of each place


def test_the_control_moves_one_coefficient_in_its_stds() -> None:
    flow, x = generation().flow, latents(channels=1)
    direction = element_directions(choose_pool(GRAY, 1, elements=["3"]))[0]
    parts = list(move_coefficients(flow, x, direction, VALUES))
    data, origin = (torch.cat([part[i] for part in parts]) for i in range(2))
    torch.testing.assert_close(origin, x)
    places = (data[:, :, 0, 3] - flow.mean[0, 3]) / flow.std[0, 3]
    torch.testing.assert_close(places, torch.tensor(VALUES, dtype=torch.float64).expand(5, 3))
    others = np.delete(np.arange(8), 3)
    torch.testing.assert_close(data[..., others], x[:, None][..., others].expand(5, 3, 1, 7))
