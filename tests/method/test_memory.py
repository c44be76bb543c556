"""Memory that training takes: counted without taking it, beside what autograd really keeps."""

from __future__ import annotations

import pytest
import torch

from gdm_repr.config import TrainConfig
from gdm_repr.memory import KEPT, STATES, count_memory, free_memory
from gdm_repr.models import build_network

NETWORKS = (
    {"name": "mlp", "width": 32, "depth": 2},
    {"name": "ddpmpp", "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [8]},
)


@pytest.mark.parametrize("network", NETWORKS, ids=["mlp", "ddpmpp"])
def test_what_is_counted_is_what_autograd_keeps(network: dict[str, object]) -> None:
    model = {"network": network, "grouping": {"name": "bands", "cuts": [4]}}
    config = TrainConfig.model_validate({"data": "digits", "out": "run", "model": model})
    shape, n = (2, 16, 16), 3
    found = count_memory(config, shape, 2)
    real = build_network(network, in_channels=2, out_channels=2, shape=shape[1:], levels=2)
    assert found.parameters == sum(each.numel() for each in real.parameters())
    kept: dict[int, torch.Tensor] = {}
    own = {each.data_ptr() for each in real.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        real(torch.randn(n, *shape), torch.rand(n, 2))
    really = sum(each.untyped_storage().nbytes() for each in kept.values())
    counted = n * (found.image - STATES * 4 * 2 * 16 * 16) / KEPT
    assert counted == pytest.approx(really, rel=0.25)


def test_a_batch_in_parts_takes_less() -> None:
    config = TrainConfig.model_validate({"data": "digits", "out": "run"})
    found = count_memory(config, (3, 32, 32), 1)
    assert found.total(256) > found.total(256, 2) > found.total(256, 256) > found.model
    assert free_memory() > 0
