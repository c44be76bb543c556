"""Partial generation gives what whole generation gives, at a lower cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gdm_repr.coordinates import Flow
from gdm_repr.generation import Generation
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.masks import first_elements, generation_order, group_elements, shared_groups
from gdm_repr.ode import Plan, decode
from gdm_repr.oracle import gaussian_oracle
from gdm_repr.process import PROCESSES

GROUPS = Grouping(np.array([[0, 1, 0, 2, 1]]), (1, 2, 0), ("a", "b", "c"))
PLAN = Plan("ab2", "whitened", (4, 4, 4))


def gaussian() -> Flow:
    root = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    S = root @ root.T / 5 + 0.3 * torch.eye(5, dtype=torch.float64)
    mean = torch.zeros(5, dtype=torch.float64)
    oracle = gaussian_oracle(mean, S, GROUPS)
    return Flow(oracle, GROUPS, PROCESSES["linear"], mean[None], S.diagonal().sqrt()[None])


def latents(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 1, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_elements_are_counted_as_they_are_generated() -> None:
    assert generation_order(GROUPS).tolist() == [1, 4, 3, 0, 2]
    assert generation_order(build_grouping("bands", (3, 2, 4), cuts=[3])).tolist() == [*range(8)]
    assert np.flatnonzero(first_elements(GROUPS, 3)).tolist() == [1, 3, 4]
    apart = build_grouping("bands", (2, 1, 3), cuts=[1], per_channel=True)
    assert np.flatnonzero(first_elements(apart, 2)).tolist() == [0, 3]
    for m in (-1, 6):
        with pytest.raises(ValueError, match=f"m={m}: must be between 0 and 5"):
            first_elements(GROUPS, m)


def test_groups_are_found_by_name_and_number() -> None:
    assert np.flatnonzero(group_elements(GROUPS, ["a", 2])).tolist() == [0, 2, 3]
    for unknown in (3, "d"):
        with pytest.raises(ValueError, match=f"group {unknown!r}: unknown"):
            group_elements(GROUPS, [unknown])


@pytest.mark.parametrize(("m", "shared"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_whole_groups_are_shared(m: int, shared: int) -> None:
    assert shared_groups(GROUPS, first_elements(GROUPS, m)) == shared


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("done", range(4))
def test_sharing_changes_nothing(done: int, strict: bool) -> None:
    flow, z = gaussian(), latents(3)
    generation = Generation(flow, PLAN, strict=strict)
    states = generation.states(z)
    other = torch.where(
        torch.from_numpy(group_elements(GROUPS, GROUPS.order[:done])), z, latents(3, 2)
    )
    before = generation.groups
    shared = min(done, len(states) - 1)
    data = generation.finish(states[shared], other, shared)
    assert torch.allclose(data, decode(flow, other, PLAN).y, atol=1e-12)
    assert generation.groups - before == 3 * (3 - done if strict else 3)


def test_decode_is_decode() -> None:
    flow, z = gaussian(), latents(2)
    whole = Generation(flow, PLAN, strict=True).decode(z)
    assert torch.equal(whole, decode(flow, z, PLAN).y)


@pytest.mark.parametrize("strict", [True, False])
def test_batches_change_nothing(strict: bool) -> None:
    generation, z = Generation(gaussian(), PLAN, strict=strict), latents(5)
    states, data = generation.generate(z)
    parts, batched = generation.generate(z, 2)
    assert len(parts) == len(states)
    for one, other in zip([*states, data], [*parts, batched], strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert torch.allclose(data, generation.decode(z), rtol=0, atol=1e-12)
