"""What training will train, built without weights: whether all parts fit the images and each other.

It takes well under a second and next to no memory, whatever the network's size: the network is
built on PyTorch's ``meta`` device, which knows shapes alone, and a tiny one stands in for it.
"""

from __future__ import annotations

import torch

from gdm_repr.api import choose_device
from gdm_repr.checkpoint import Checkpoint, build_denoiser
from gdm_repr.config import TrainConfig
from gdm_repr.denoiser import Denoiser
from gdm_repr.grouping import Shape
from gdm_repr.models import build_network, network_config
from gdm_repr.trainer import Levels

MOST_PARAMETERS = 10**10
_STAND_IN = network_config({"name": "mlp", "width": 1, "depth": 1})


def build_untrained(config: TrainConfig, shape: Shape) -> Checkpoint:
    """Build all parts of a model for images of a shape (C, H, W), with a network that stands in.

    Raises:
        ValueError: for parts that are not there, or do not fit the images or each other.
    """
    choose_device(config.device)
    if config.batch_size % config.accumulate:
        raise ValueError(
            f"--accumulate {config.accumulate}: must divide --batch-size {config.batch_size}"
        )
    flat = (shape[0], shape[1] * shape[2])
    small = config.model.model_copy(update={"network": _STAND_IN})
    with torch.random.fork_rng(devices=[]):  # weights of no meaning must not cost others theirs
        denoiser = build_denoiser(small, shape, torch.zeros(flat), torch.ones(flat))
        _check_network(config, shape, denoiser.grouping.k)
    Levels(config, denoiser)
    record = {"orders": config.orders}
    return Checkpoint(denoiser, shape, config.model, config.preprocess, record, 0, "")


def _check_network(config: TrainConfig, shape: Shape, k: int) -> None:
    """Build the network itself where it takes no memory."""
    with torch.device("meta"):
        network = build_network(
            config.model.network,
            shape=shape[1:],
            **Denoiser.network_inputs(config.model.denoiser, shape[0], k),
        )
    count = sum(each.numel() for each in network.parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(
            f"model.network: has {count:,} parameters for images of {shape}; at most "
            f"{MOST_PARAMETERS:,} are built: make it smaller"
        )
