"""Networks that know nothing of the method: pixel space and noise levels in, pixel space out.

Every network is called as ``net(x, levels)``:

- ``x``: (B, C_in, H, W) float, the noisy image and whatever maps are concatenated to it;
- ``levels``: (B, m) float in [0, 1], noise levels for the embedding: 1 is pure data, 0 pure noise;
- returns (B, C_out, H, W) in the dtype of ``x``.

A network is one class taking its config, one config class in `config`, and one row of `NETWORKS`.
Importing this package imports neither torch nor any network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from gdm_repr.models.config import DDPMppConfig, MLPConfig, NetworkConfig

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "NETWORKS",
    "AnyNetworkConfig",
    "DDPMppConfig",
    "MLPConfig",
    "NetworkConfig",
    "NetworkSpec",
    "build_network",
    "network_config",
]


@dataclass(frozen=True)
class NetworkSpec:
    """Say where a network is found, without importing it.

    Attributes:
        config: Class of its options.
        module: Module that defines it.
        builder: Name in that module, called as
            ``builder(config, in_channels=, out_channels=, shape=, levels=)``.
    """

    config: type[NetworkConfig]
    module: str
    builder: str


NETWORKS: dict[str, NetworkSpec] = {
    "ddpmpp": NetworkSpec(DDPMppConfig, "gdm_repr.models.ddpmpp", "DDPMpp"),
    "mlp": NetworkSpec(MLPConfig, "gdm_repr.models.mlp", "MLP"),
}


def network_config(config: Mapping[str, Any] | NetworkConfig) -> NetworkConfig:
    """Check the options of a network.

    Args:
        config: ``{"name": "ddpmpp", ...options}``, or options already checked.

    Returns:
        The options as the network's own config class.

    Raises:
        ValueError: If the name is unknown, an option is unknown or out of range, or it is none.
    """
    if isinstance(config, NetworkConfig):
        return config
    if not isinstance(config, Mapping):  # of a YAML file
        raise ValueError("must be a network's options, as {name: mlp}")
    name = config.get("name")
    if name not in NETWORKS:
        raise ValueError(f"network name {name!r} is unknown; use one of {', '.join(NETWORKS)}")
    cls = NETWORKS[name].config
    try:
        return cls.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f"network {name!r}, option {option!r} = {first['input']!r}: {first['msg']}; "
            f"the options are {', '.join(cls.model_fields)}"
        ) from None


AnyNetworkConfig = Annotated[SerializeAsAny[NetworkConfig], BeforeValidator(network_config)]
"""Field type for the options of any network inside another pydantic model."""


def build_network(
    config: Mapping[str, Any] | NetworkConfig,
    *,
    in_channels: int,
    out_channels: int,
    shape: tuple[int, int],
    levels: int,
) -> nn.Module:
    """Build the network that a config names.

    Args:
        config: Options with the network's name, as for `network_config`.
        in_channels: C_in, channels of the input.
        out_channels: C_out, channels of the output.
        shape: Height and width of input and output.
        levels: m, how many noise levels the network is told (m >= 1).

    Returns:
        The network, in training mode, float32, with random initial weights.

    Raises:
        ValueError: If the config is refused, a count is below 1, or the shape does not fit.
    """
    config = network_config(config)
    counts = {"in_channels": in_channels, "out_channels": out_channels, "levels": levels}
    for argument, value in (counts | {"height": shape[0], "width": shape[1]}).items():
        if value < 1:
            raise ValueError(f"{argument} = {value} must be at least 1; pass a positive count")
    spec = NETWORKS[config.name]
    build = getattr(import_module(spec.module), spec.builder)
    return cast("nn.Module", build(config, shape=shape, **counts))
